package slurm

import (
	"slices"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Without the option a command would mean the job of that id in this host's own
// cluster.
func TestEveryCommandNamesTheCluster(t *testing.T) {
	d := Driver{Cluster: "annex"}
	history, _ := d.History([]scheduler.Ref{{ID: "1"}})
	byName, _ := d.History([]scheduler.Ref{{Tag: tag(1)}})
	vectors := [][]string{d.Submit(submission()).Argv, d.Queue().Argv, history.Argv, byName.Argv}
	for _, action := range []scheduler.Action{scheduler.Cancel, scheduler.Hold, scheduler.Release} {
		vectors = append(vectors, d.Act(action, []scheduler.Ref{{ID: "1", Tag: tag(1)}}).Argv, d.Act(action, []scheduler.Ref{{ID: "1"}, {ID: "2"}}).Argv)
	}
	for _, call := range d.Probe() {
		vectors = append(vectors, call.Argv)
	}
	for _, argv := range vectors {
		if argv[1] != "--clusters=annex" || strings.Contains(strings.Join(argv[2:], " "), "--clusters") {
			t.Errorf("got %q, want --clusters=annex once, before all else", argv)
		}
	}
	if got := (Driver{}).Queue().Argv; slices.ContainsFunc(got, func(arg string) bool { return strings.HasPrefix(arg, "--cluster") }) {
		t.Errorf("without a cluster: got %q", got)
	}
}

// Recorded: a line that names the cluster precedes the header.
func TestListingsOfAnotherClusterAreRead(t *testing.T) {
	queue, err := parseQueue(scheduler.Output{Stdout: recorded(t, "squeue-clusters.txt")})
	if err != nil {
		t.Fatal(err)
	}
	past, err := parseHistory(scheduler.Output{Stdout: recorded(t, "sacct-clusters.txt")})
	if err != nil {
		t.Fatal(err)
	}
	if len(queue) != 10 || len(past) != 6 {
		t.Errorf("got %d and %d rows, want 10 and 6", len(queue), len(past))
	}
	for _, list := range [][]scheduler.Status{queue, past} {
		for _, st := range list {
			if st.Cluster != "annex" {
				t.Errorf("%s: got the cluster %q", st.ID, st.Cluster)
			}
			want := map[string]hpcsera.Reason{tag(1): hpcsera.OutOfMemory, tag(3): hpcsera.Preempted, tag(5): hpcsera.NodeFailure}[st.Tag]
			if want != "" && (st.Phase != scheduler.PhaseEnded || st.Reason != want || st.Exit != nil) {
				t.Errorf("%s: got %+v, want the end %s", st.ID, st, want)
			}
		}
	}
	if st := byTag(t, queue)[tag(4)]; st.Phase != scheduler.PhaseQueued || st.Restarts != 1 {
		t.Errorf("preempted and requeued: got %+v, want it to wait again", st)
	}
}
