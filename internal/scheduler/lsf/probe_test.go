package lsf

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func TestProbeReadsVersionClusterAndQueues(t *testing.T) {
	for text, want := range map[string]hpcsera.Facts{
		string(recorded(t, "volclava-lsid.txt")): {Version: "2.2", Cluster: "volclava"},
		"IBM Spectrum LSF Standard 10.1.0.14, Jun 15 2023\nCopyright IBM Corp. 1992, 2016.\n\nMy cluster name is c1\nMy management host name is m\n": {Version: "10.1.0.14", Cluster: "c1"},
	} {
		if got, err := parseID(scheduler.Output{Stdout: []byte(text)}); err != nil || !cmp.Equal(got, want) {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	}
	calls := Driver{}.Probe()
	if _, err := calls[1].Parse(scheduler.Output{Stdout: recorded(t, "volclava-bhosts.txt")}); err != nil {
		t.Fatal(err)
	}
	f, err := calls[2].Parse(scheduler.Output{Stdout: recorded(t, "volclava-bqueues.txt")})
	want := []hpcsera.Queue{
		{Name: "short", State: "open:active", Nodes: 1, MaxDuration: hpcsera.Duration(10 * time.Minute)},
		{Name: "normal", Default: true, State: "open:active", Nodes: 1},
	}
	if err != nil || !cmp.Equal(f.Queues, want) {
		t.Errorf("got %+v, %v, want %+v", f.Queues, err, want)
	}
	for i, call := range calls {
		for _, out := range []scheduler.Output{{}, {Exit: 255}, {Stdout: []byte("hello\n")}, {Stdout: recorded(t, "volclava-lsid.txt"), Exit: 255}} {
			if f, err := call.Parse(out); err == nil {
				t.Errorf("%d: %+v: got %+v without an error", i, out, f)
			}
		}
	}
}

func TestAQueuesLimitIsTheMaximumAndItsNodesAreCountedWhereTheyAreTold(t *testing.T) {
	queue := func(more string) string {
		return "\nQUEUE: q\n  -- some queue\n\nPARAMETERS/STATISTICS\nPRIO NICE STATUS          MAX JL/U\n 30    0  Closed:Inact_Adm   -    -\n" + more + "\n"
	}
	for text, want := range map[string]hpcsera.Queue{
		"\nDEFAULT LIMITS:\n RUNLIMIT\n 60.0 min of hostA\n\nMAXIMUM LIMITS:\n RUNLIMIT\n 1440.0 min of hostA\n\nHOSTS:  all\n": {MaxDuration: hpcsera.Duration(24 * time.Hour), Nodes: 7},
		"\nDEFAULT LIMITS:\n RUNLIMIT\n 60.0 min\n\nHOSTS:  hostA hostB\n":                                                      {Nodes: 2},
		"\nMAXIMUM LIMITS:\n RUNLIMIT\n UNLIMITED\n\nHOSTS:  bigmem/ hostC\n":                                                   {},
		"\nHOSTS: all ~hostB\n": {Nodes: 7},
		"":                      {},
	} {
		want.Name, want.State = "q", "closed:inact_adm"
		f, err := parseQueues(scheduler.Output{Stdout: []byte(queue(text))}, 7)
		if err != nil || len(f.Queues) != 1 || !cmp.Equal(f.Queues[0], want) {
			t.Errorf("%q: got %+v, %v, want %+v", text, f.Queues, err, want)
		}
	}
}

// FuzzProbe: no output makes a parser panic, or gives a queue without name.
func FuzzProbe(f *testing.F) {
	for _, name := range []string{"volclava-lsid.txt", "volclava-bhosts.txt", "volclava-bqueues.txt"} {
		f.Add(recorded(f, name), 0)
	}
	f.Fuzz(func(t *testing.T, stdout []byte, exit int) {
		for _, call := range (Driver{}).Probe() {
			facts, err := call.Parse(scheduler.Output{Stdout: stdout, Exit: exit})
			if exit != 0 && err == nil {
				t.Error("a failed command was read")
			}
			for _, q := range facts.Queues {
				if q.Nodes < 0 || q.MaxDuration < 0 {
					t.Errorf("got the queue %+v", q)
				}
			}
		}
	})
}
