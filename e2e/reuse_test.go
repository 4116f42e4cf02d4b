package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// testbed runs the test bed's script on a Slurm of its own.
func testbed(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("../test/testbed/slurm", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("test/testbed/slurm %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return out.String()
}

// TestReusedIDIsAnotherJob: Slurm's controller is killed and comes back with an
// older state, so that it forgets a job and gives its id to another one.
// Nobody gets the other's result.
func TestReusedIDIsAnotherJob(t *testing.T) {
	t.Parallel()
	lab, err := os.MkdirTemp("", "hpcsera-reuse-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { testbed(t, "down", "--dir", lab, "--purge") })
	testbed(t, "up", "--dir", lab, "--nodes", "2")
	conf := filepath.Join(lab, "etc", "slurm.conf")
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	for i, v := range l.env {
		if strings.HasPrefix(v, "SLURM_CONF=") {
			l.env[i] = "SLURM_CONF=" + conf
		}
	}
	l.startAgent(t, "")
	first := d.await(l.submit(t, l.approve(t, manifest("before", marking("exit 0")))), time.Minute)
	testbed(t, "kill-controller", "--dir", lab, "--snapshot")
	testbed(t, "start-controller", "--dir", lab)
	forgotten := l.submit(t, l.approveLater(t, "forgotten", "now+1hour", marking("exit 0")))
	lost := d.await(forgotten, time.Minute, hpcsera.Queued)
	testbed(t, "kill-controller", "--dir", lab)
	testbed(t, "start-controller", "--dir", lab, "--rollback")
	second := l.submit(t, l.approve(t, manifest("after", marking("exit 7"))))
	j := d.await(second, time.Minute)
	if j.Native == nil || j.Native.ID != lost.Native.ID {
		t.Fatalf("the second job has id %+v, want the forgotten job's %s reused", j.Native, lost.Native.ID)
	}
	row(reusedID, "slurmctld", l.runs(t, second), j)
	if j.Reason != hpcsera.ExitNonzero || j.Exit == nil || j.Exit.Code != 7 || l.runs(t, second) != 1 {
		t.Errorf("the second job is %s (%s), exit %+v, ran %d times; want exit 7, once", j.State, j.Reason, j.Exit, l.runs(t, second))
	}
	gone := d.await(forgotten, 6*time.Minute)
	row(forgottenID, "slurmctld", l.runs(t, forgotten), gone)
	if gone.State != hpcsera.Failed || gone.Reason != hpcsera.LostByScheduler || gone.Exit != nil || l.runs(t, forgotten) != 0 {
		t.Errorf("the forgotten job is %s (%s: %s), exit %+v, ran %d times; want lost_by_scheduler, never", gone.State, gone.Reason, gone.Message, gone.Exit, l.runs(t, forgotten))
	}
	if first.State != hpcsera.Succeeded {
		t.Errorf("the first job is %s", first.State)
	}
}
