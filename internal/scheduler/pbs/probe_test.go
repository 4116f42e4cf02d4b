package pbs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func TestProbeReadsServerNodesAndQueues(t *testing.T) {
	var got hpcsera.Facts
	for i, name := range []string{"server.json", "nodes.json", "queues.json"} {
		calls := Driver{}.Probe()
		for j := range i { // each needs what those before it told
			if _, err := calls[j].Parse(scheduler.Output{Stdout: recorded(t, []string{"server.json", "nodes.json"}[j])}); err != nil {
				t.Fatal(err)
			}
		}
		f, err := calls[i].Parse(scheduler.Output{Stdout: recorded(t, name)})
		if err != nil {
			t.Fatal(err)
		}
		got.Version, got.Cluster = got.Version+f.Version, got.Cluster+f.Cluster
		got.Queues = append(got.Queues, f.Queues...)
		got.LargestArray += f.LargestArray
		if f.Nodes != nil {
			got.Nodes = f.Nodes
		}
		if f.Jobs != nil {
			got.Jobs = f.Jobs
		}
	}
	one := 1
	want := hpcsera.Facts{
		Version: "23.06.06", Cluster: "vm", LargestArray: 10000, Nodes: &hpcsera.Nodes{Total: 1, Up: 1, Idle: 1}, Jobs: &hpcsera.Load{},
		Queues: []hpcsera.Queue{
			{Name: "workq", Default: true, State: "up", Nodes: 1, Idle: &one, CoresPerNode: 64, MemoryPerNode: 24683620 << 10},
			{Name: "batchq", State: "up", Nodes: 1, Idle: &one, CoresPerNode: 64, MemoryPerNode: 24683620 << 10},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	for i, call := range (Driver{}).Probe() {
		for _, out := range []scheduler.Output{{}, {Exit: 1}, {Stdout: []byte("hello\n")}, {Stdout: []byte("{}")}, {Stdout: recorded(t, "live.json")}, {Stdout: recorded(t, "server.json")[:300]}} {
			if f, err := call.Parse(out); err == nil {
				t.Errorf("command %d: got %+v without an error", i, f)
			}
		}
	}
}

func TestQueuesHaveLimitsStatesAndNodesOfTheirOwn(t *testing.T) {
	two, none := 2, 0
	p := probe{defaultQueue: "b", shared: part{nodes: 3}, own: map[string]part{"gpu": {nodes: 2, idle: 2, gpus: 4}}}
	f, err := p.queues(scheduler.Output{Stdout: []byte(`{"pbs_version":"23","Queue":{
		"gpu":{"enabled":"True","started":"False","max_queued":"[u:PBS_GENERIC=2]","max_queued":"[o:PBS_ALL=9]"},
		"b":{"enabled":"True","started":"True","acl_group_enable":"True","resources_max":{"walltime":"24:00:00","ncpus":4,"nodect":2},"resources_default":{"walltime":"01:00:00"}},
		"r":{"queue_type":"Route","enabled":"True","started":"True"},
		"1":{"enabled":"False","started":"True","resources_max":{"walltime":90}}}}`)})
	want := []hpcsera.Queue{
		{Name: "gpu", State: "stopped", Nodes: 2, Idle: &two, GPUsPerNode: 4},
		{Name: "b", Default: true, State: "up", Restricted: true, Nodes: 3, Idle: &none, MaxNodes: 2, MaxDuration: hpcsera.Duration(24 * time.Hour), DefaultDuration: hpcsera.Duration(time.Hour)},
		{Name: "r", State: "up"},
		{Name: "1", State: "disabled", Closed: true, Nodes: 3, Idle: &none, MaxDuration: hpcsera.Duration(90 * time.Second)},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
}

func TestHostsAreCountedNotVnodes(t *testing.T) {
	var p probe
	f, err := p.nodes(scheduler.Output{Stdout: []byte(`{"pbs_version":"23","nodes":{"n1":{"state":"free","resources_available":{"host":"n1","ncpus":4,"mem":"8gb"}},
		"n1[0]":{"state":"free","jobs":["1.s"],"resources_available":{"host":"n1","ncpus":"8","mem":"16777216kb"}},
		"n2":{"state":"free","queue":"gpu","resources_available":{"host":"n2","ngpus":4}},"n3":{"state":"down,offline"}}}`)})
	if want := (part{nodes: 2, cores: 12, memory: 24 << 30}); err != nil || p.shared != want || p.own["gpu"] != (part{nodes: 1, idle: 1, gpus: 4}) {
		t.Errorf("got %+v, %v", p, err)
	}
	if want := (hpcsera.Nodes{Total: 3, Up: 2, Idle: 1}); f.Nodes == nil || *f.Nodes != want {
		t.Errorf("got %+v, want %+v", f.Nodes, want)
	}
	if _, err := p.nodes(scheduler.Output{Stderr: []byte("pbsnodes: Server has no node list\n"), Exit: 1}); err != nil || p.shared != (part{}) {
		t.Errorf("a server without nodes: got %+v, %v", p, err)
	}
}
