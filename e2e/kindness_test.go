package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent"
)

// TestManyJobsCostAHandfulOfCommands: jobs of the same code that are submitted
// one by one reach Slurm as arrays. Each is a job of its own all the same, and
// its program sees nothing of the others.
func TestManyJobsCostAHandfulOfCommands(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	code := l.approveWide(t, "many", marking(`cd "$SLURM_SUBMIT_DIR" && { echo "$HPCSERA_JOB_ID"; env | grep ^SLURM_ARRAY; } > mine; exit 0`))
	var ids []string
	for range 150 {
		ids = append(ids, l.submit(t, code))
	}
	l.startAgent(t, "") // they are all there: how many go together is no matter of this machine's speed
	natives := map[string]bool{}
	for _, id := range ids {
		j := d.await(id, 5*time.Minute)
		if runs := l.runs(t, id); j.State != hpcsera.Succeeded || runs != 1 {
			t.Errorf("job %s is %s (%s: %s) and ran %d times, want succeeded, once", id, j.State, j.Reason, j.Message, runs)
		}
		natives[j.Native.ID] = true
		if text, err := os.ReadFile(filepath.Join(l.jobDir(id), "mine")); err != nil || string(text) != id+"\n" {
			t.Errorf("the program of %s left %q (%v) in the folder that Slurm tells it, want its id alone", id, text, err)
		}
	}
	if len(natives) != len(ids) {
		t.Errorf("%d jobs have %d ids at Slurm", len(ids), len(natives))
	}
	eventually(t, time.Minute, "the agent's count of its commands", func() bool {
		s, _, _, err := agent.ReadStatus(l.home)
		if err != nil || s.Commands == nil || s.Commands.Jobs < int64(len(ids)) {
			return false
		}
		if s.Commands.Submit.Runs > int64(len(ids)/4) {
			t.Errorf("%d jobs cost %d submissions, want a handful", len(ids), s.Commands.Submit.Runs)
		}
		return true
	})
}
