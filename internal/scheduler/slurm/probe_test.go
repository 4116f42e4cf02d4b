package slurm

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func count(n int) *int { return &n }

func node(fields ...string) string {
	line := ""
	for i, f := range fields {
		if i > 0 {
			line += "\x1f"
		}
		line += f
	}
	return line + "\n"
}

func TestNodesOfSeveralKindsAreCountedOnceAndTheLargestIsTold(t *testing.T) {
	p := &probe{}
	f, err := p.nodes(scheduler.Output{Stdout: []byte("sinfo: warning: something\n" +
		node("gpu", "g1", "mixed", "64", "515000", "gpu:a100:4(S:0-1),gpu:v100:2,tmp:800G") +
		node("all", "g1", "mixed", "64", "515000", "gpu:a100:4(S:0-1),gpu:v100:2,tmp:800G") +
		node("all", "n1", "idle~", "96", "1", "(null)") + node("all", "n2", "down*", "96", "1", "gpu:1") +
		node("all", "n3", "drained", "96", "1", "(null)") + node("all", "n4", "idle*", "96", "1", "(null)"))})
	if want := (hpcsera.Facts{Nodes: &hpcsera.Nodes{Total: 5, Up: 2, Idle: 1}}); err != nil || !cmp.Equal(f, want) {
		t.Errorf("got %+v, %v, want %+v", f.Nodes, err, want.Nodes)
	}
	partition := func(words string) string {
		return "PartitionName=" + words + " AllowGroups=ALL AllowAccounts=ALL TotalNodes=5 MaxTime=UNLIMITED DefaultTime=NONE\n"
	}
	f, err = p.partitions(scheduler.Output{Stdout: []byte(partition("all State=UP MaxNodes=2 MaxCPUsPerNode=48 MaxMemPerNode=1000") +
		partition("gpu State=DRAIN Hidden=YES MaxNodes=UNLIMITED") + partition("vip State=DOWN RootOnly=YES") + partition("empty State=INACTIVE"))})
	want := []hpcsera.Queue{
		{Name: "all", State: "up", Nodes: 5, Idle: count(1), MaxNodes: 2, CoresPerNode: 48, MemoryPerNode: 1000 << 20, GPUsPerNode: 6},
		{Name: "gpu", State: "drain", Closed: true, Restricted: true, Nodes: 5, Idle: count(0), CoresPerNode: 64, MemoryPerNode: 515000 << 20, GPUsPerNode: 6},
		{Name: "vip", State: "down", Restricted: true, Nodes: 5},
		{Name: "empty", State: "inactive", Closed: true, Nodes: 5},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
}

func TestTheLargestArrayIsTheSmallerOfBothLimits(t *testing.T) {
	for text, want := range map[string]int{
		"MaxArraySize            = 1001\n": 1001,
		"MaxArraySize            = 1001\nSchedulerParameters     = bf_interval=5,max_array_tasks=500\n": 500,
		"SchedulerParameters     = max_array_tasks=5000,x\nMaxArraySize            = 2001\n":            2001,
		"SchedulerParameters     = no_max_array_tasks=5\n":                                              0,
		"MaxArraySize            = many\n":                                                              0,
		"MaxArraySize            = 0\n":                                                                 0,
		"SchedulerParameters     = max_array_tasks=99999999999999999999\n":                              0,
	} {
		out := scheduler.Output{Stdout: []byte("SLURM_VERSION           = 23.02\nClusterName             = c\n" + text)}
		if f, err := parseConfig(out); err != nil || f.LargestArray != want {
			t.Errorf("%q: got %d, %v, want %d", text, f.LargestArray, err, want)
		}
	}
}

// FuzzProbe: no output makes a parser panic, or tells of a negative number.
func FuzzProbe(f *testing.F) {
	for _, name := range []string{"config.txt", "nodes.txt", "partitions.txt", "sdiag.txt"} {
		f.Add(recorded(f, name), 0)
	}
	f.Fuzz(func(t *testing.T, stdout []byte, exit int) {
		for _, call := range (Driver{}).Probe() {
			facts, _ := call.Parse(scheduler.Output{Stdout: stdout, Exit: exit})
			for _, q := range facts.Queues {
				if q.Nodes < 0 || q.MaxNodes < 0 || q.CoresPerNode < 0 || q.MemoryPerNode < 0 || q.MaxDuration < 0 {
					t.Errorf("got the queue %+v", q)
				}
			}
			if facts.LargestArray < 0 {
				t.Errorf("got arrays of %d", facts.LargestArray)
			}
		}
	})
}
