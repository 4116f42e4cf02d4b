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
	}
	want := hpcsera.Facts{Version: "23.06.06", Cluster: "vm", Queues: []hpcsera.Queue{
		{Name: "workq", Default: true, State: "up", Nodes: 1}, {Name: "batchq", State: "up", Nodes: 1},
	}}
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
	p := probe{defaultQueue: "b", shared: 3, own: map[string]int{"gpu": 2}}
	f, err := p.queues(scheduler.Output{Stdout: []byte(`{"pbs_version":"23","Queue":{
		"gpu":{"enabled":"True","started":"False","max_queued":"[u:PBS_GENERIC=2]","max_queued":"[o:PBS_ALL=9]"},
		"b":{"enabled":"True","started":"True","resources_max":{"walltime":"24:00:00","ncpus":4}},
		"1":{"enabled":"False","started":"True","resources_max":{"walltime":90}}}}`)})
	want := []hpcsera.Queue{
		{Name: "gpu", State: "stopped", Nodes: 2},
		{Name: "b", Default: true, State: "up", Nodes: 3, MaxDuration: hpcsera.Duration(24 * time.Hour)},
		{Name: "1", State: "disabled", Nodes: 3, MaxDuration: hpcsera.Duration(90 * time.Second)},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
}

func TestHostsAreCountedNotVnodes(t *testing.T) {
	var p probe
	_, err := p.nodes(scheduler.Output{Stdout: []byte(`{"pbs_version":"23","nodes":{"n1":{"resources_available":{"host":"n1"}},
		"n1[0]":{"resources_available":{"host":"n1"}},"n2":{"queue":"gpu","resources_available":{"host":"n2"}},"n3":{}}}`)})
	if err != nil || p.shared != 2 || p.own["gpu"] != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := p.nodes(scheduler.Output{Stderr: []byte("pbsnodes: Server has no node list\n"), Exit: 1}); err != nil || p.shared != 0 {
		t.Errorf("a server without nodes: got %+v, %v", p, err)
	}
}
