package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestASitesPageShowsWhatTheVisitorsOwnAgentTold(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.signedIn("alice"), w.signedIn("bob")
	w.populate(alice)
	if a := alice.get("/sites/gwdg"); !strings.Contains(a.body, "never seen") || !strings.Contains(a.body, "has not told yet") {
		t.Errorf("before the agent came:\n%s", a.body)
	}
	w.write(func(tx store.Tx) error {
		rows, err := tx.Agents("alice", "gwdg")
		if err != nil {
			return err
		}
		idle := 3
		rows[0].Facts = &hpcsera.Facts{
			System: "slurm", SystemVersion: "22.05.8", Cluster: "scc", LargestArray: 1001, Nodes: &hpcsera.Nodes{Total: 640, Up: 636, Idle: 12}, Jobs: &hpcsera.Load{Queued: 7, Running: 9},
			Queues: []hpcsera.Queue{{Name: "medium", Default: true, Nodes: 512, Idle: &idle, MaxNodes: 128, CoresPerNode: 96, MemoryPerNode: 384 << 30, GPUsPerNode: 4,
				MaxDuration: hpcsera.Duration(48 * time.Hour), DefaultDuration: hpcsera.Duration(time.Hour)}},
		}
		return tx.UpdateAgent(*rows[0])
	})
	a := alice.get("/sites/gwdg")
	for _, says := range []string{"slurm 22.05.8, cluster scc", "640: 636 up, 12 idle", "9 running, 7 queued", "1001 jobs", "medium", "512, 3&nbsp;idle", "at most 128 nodes", "96\u00a0cores, 384\u00a0GiB, 4\u00a0GPUs", "at\u00a0most\u00a048h, by\u00a0default\u00a01h"} {
		if !strings.Contains(a.body, says) {
			t.Errorf("the page does not say %q:\n%s", says, a.body)
		}
	}
	if a := bob.get("/sites/gwdg"); strings.Contains(a.body, "medium") || !strings.Contains(a.body, "You have no agent here") || !strings.Contains(a.body, "--site gwdg") {
		t.Errorf("bob sees what alice's agent told, or not what to do:\n%s", a.body)
	}
	if a := alice.get("/sites/nowhere"); a.status != http.StatusNotFound {
		t.Errorf("a site that is not there: got %d", a.status)
	}
	if a := alice.get("/sites"); !strings.Contains(a.body, `href="/sites/gwdg"`) {
		t.Errorf("the list does not lead there:\n%s", a.body)
	}
}
