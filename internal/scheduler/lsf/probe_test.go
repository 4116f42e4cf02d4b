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
	f, err := calls[1].Parse(scheduler.Output{Stdout: recorded(t, "volclava-bhosts.txt")})
	if want := (hpcsera.Nodes{Total: 1, Up: 1, Idle: 1}); err != nil || *f.Nodes != want {
		t.Errorf("got %+v, %v, want %+v", f.Nodes, err, want)
	}
	for i, name := range map[int]string{2: "volclava-lshosts.txt", 3: "volclava-bparams.txt"} {
		if f, err := calls[i].Parse(scheduler.Output{Stdout: recorded(t, name)}); err != nil || !cmp.Equal(f, hpcsera.Facts{}) {
			t.Errorf("%s: got %+v, %v", name, f, err)
		}
	}
	f, err = calls[4].Parse(scheduler.Output{Stdout: recorded(t, "volclava-bqueues.txt")})
	one := 1
	want := []hpcsera.Queue{
		{Name: "short", State: "open:active", Nodes: 1, Idle: &one, CoresPerNode: 64, MemoryPerNode: 24105 << 20, MaxDuration: hpcsera.Duration(10 * time.Minute)},
		{Name: "normal", Default: true, State: "open:active", Nodes: 1, Idle: &one, CoresPerNode: 64, MemoryPerNode: 24105 << 20},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	for i, call := range calls {
		for _, out := range []scheduler.Output{{}, {Exit: 255}, {Stdout: []byte("hello\n")}, {Stdout: recorded(t, "volclava-lsid.txt"), Exit: 255}} {
			f, err := call.Parse(out)
			if told := i == 2 || i == 3; told != (err == nil) || !cmp.Equal(f, hpcsera.Facts{}) { // these two may be forbidden
				t.Errorf("%d: %+v: got %+v, %v", i, out, f, err)
			}
		}
	}
}

func TestTheLargestArrayIsAParameter(t *testing.T) {
	for text, want := range map[string]int{"MBD_SLEEP_TIME = 10\nMAX_JOB_ARRAY_SIZE = 5000\n": 5000, "MAX_JOB_ARRAY_SIZE=2\n": 2, "OLD_MAX_JOB_ARRAY_SIZE = 2\n": 0, "": 0} {
		if f, err := parseParameters(scheduler.Output{Stdout: []byte(text)}); err != nil || f.LargestArray != want {
			t.Errorf("%q: got %d, %v, want %d", text, f.LargestArray, err, want)
		}
	}
}

func TestAQueuesLimitIsTheMaximumAndItsNodesAreCountedWhereTheyAreTold(t *testing.T) {
	queue := func(more string) string {
		return "\nQUEUE: q\n  -- some queue\n\nPARAMETERS/STATISTICS\nPRIO NICE STATUS          MAX JL/U\n 30    0  Closed:Inact_Adm   -    -\n" + more + "\n"
	}
	none := 0
	for text, want := range map[string]hpcsera.Queue{
		"\nDEFAULT LIMITS:\n RUNLIMIT\n 60.0 min of hostA\n\nMAXIMUM LIMITS:\n RUNLIMIT\n 1440.0 min of hostA\n\nHOSTS:  all\n": {MaxDuration: hpcsera.Duration(24 * time.Hour), Nodes: 2, Idle: &none, CoresPerNode: 32},
		"\nDEFAULT LIMITS:\n RUNLIMIT\n 60.0 min\n\nHOSTS:  hostA hostB\n":                                                      {Nodes: 2, Idle: &none, CoresPerNode: 32},
		"\nMAXIMUM LIMITS:\n RUNLIMIT\n UNLIMITED\n\nHOSTS:  bigmem/ hostC\n":                                                   {},
		"\nHOSTS: all ~hostB\n": {Nodes: 2, Idle: &none, CoresPerNode: 32},
		"\nUSERS: g1/ bob\n":    {Restricted: true},
		"":                      {},
	} {
		want.Name, want.State, want.Closed = "q", "closed:inact_adm", true
		p := &probe{hosts: map[string]*host{"hostA": {slots: 32}, "hostB": {slots: 16}}}
		f, err := p.queues(scheduler.Output{Stdout: []byte(queue(text))})
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
			if exit != 0 && err == nil && !cmp.Equal(facts, hpcsera.Facts{}) {
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
