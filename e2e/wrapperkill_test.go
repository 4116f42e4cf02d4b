package e2e

import (
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// wrapperFailpoint sets a failpoint of the wrappers that this account's agent
// will submit.
func (l *login) wrapperFailpoint(t *testing.T, text string) {
	t.Helper()
	dir := filepath.Join(l.spool, "bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(l.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "failpoints"), text, 0o600)
	l.own(t)
}

// TestKillWhileWrapperIsAtAPoint kills agent or server while the wrapper
// stands between its claim and the program, or between the program's end and
// the end record.
func TestKillWhileWrapperIsAtAPoint(t *testing.T) {
	for _, p := range wrapperPoints {
		for _, victim := range []string{"agent", "server"} {
			t.Run(p.at+"/"+victim, func(t *testing.T) {
				t.Parallel()
				d := newDeployment(t, "", "")
				l := newLogin(t, d, "slurm")
				gate := filepath.Join(l.home, "gate")
				l.wrapperFailpoint(t, p.at+"=pause:"+gate)
				id := l.submit(t, l.approve(t, manifest("point", marking("exit 0"))))
				agent := l.startAgent(t, "")
				eventually(t, 60*time.Second, "the wrapper at "+p.at, func() bool { return exists(gate + ".here") })
				if victim == "agent" {
					agent.kill()
					<-agent.done
				} else {
					d.killServer()
					d.startServer("")
				}
				write(t, gate, "", 0o644)
				if victim == "agent" {
					l.startAgent(t, "")
				}
				l.expectOnce(t, id, p.name, victim)
			})
		}
	}
}

// TestKilledWrapperIsTold: a wrapper killed between claim and program leaves a
// job that never ran and may not be started again by itself.
func TestKilledWrapperIsTold(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	l.wrapperFailpoint(t, "wrapper.after-claim=kill")
	id := l.submit(t, l.approve(t, manifest("killed", marking("exit 0"))))
	l.startAgent(t, "")
	j := d.await(id, 90*time.Second)
	runs := l.runs(t, id)
	row(killedWrapper, "wrapper", runs, j)
	if j.State != hpcsera.Failed || runs != 0 {
		t.Errorf("job is %s (%s), ran %d times; want failed, never", j.State, j.Reason, runs)
	}
}

// TestHundredJobsSurviveAnotherHost: an agent with 100 jobs in flight is
// killed and goes on "on another host" that sees the same home. No job can end
// before that.
func TestHundredJobsSurviveAnotherHost(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	gate := filepath.Join(l.home, "gate")
	code := l.approve(t, manifest("many", marking("until [ -e "+gate+" ]; do sleep 1; done")))
	var ids []string
	for range 100 {
		ids = append(ids, l.submit(t, code))
	}
	first := l.startAgent(t, "")
	var list struct{ Jobs []hpcsera.Job }
	eventually(t, 3*time.Minute, "all 100 jobs with a native id, none ended", func() bool {
		d.call("GET", "/jobs?limit=200", nil, &list)
		flying := 0
		for _, j := range list.Jobs {
			if j.Native != nil && j.Native.ID != "" && !j.State.Final() {
				flying++
			}
		}
		return flying == len(ids)
	})
	first.kill()
	<-first.done
	second := exec.Command("unshare", "--uts", "sh", "-c",
		"hostname other-login && exec setpriv --reuid "+l.as.Uid+" --regid "+l.as.Gid+" --clear-groups "+filepath.Join(bin, "hpcsera-agent")+" run")
	log := &buffer{}
	second.Env, second.Stdout, second.Stderr, second.Dir = l.env, log, log, "/"
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Process.Kill(); _ = second.Wait() })
	write(t, gate, "", 0o644) // the jobs end while no agent has the term
	fewest, most, states := math.MaxInt, 0, map[string]int{}
	for _, id := range ids {
		j := d.await(id, 5*time.Minute)
		l.expectNothingLeft(t, id)
		runs := l.runs(t, id)
		fewest, most = min(fewest, runs), max(most, runs)
		states[strings.TrimSpace(string(j.State)+" "+string(j.Reason))]++
		if j.State != hpcsera.Succeeded || runs != 1 {
			t.Errorf("job %s is %s (%s: %s), ran %d times, want succeeded, once", id, j.State, j.Reason, j.Message, runs)
		}
	}
	found := killRow{point: otherHost, victim: "agent", runs: fmt.Sprint(fewest)}
	if most != fewest {
		found.runs = fmt.Sprintf("%d-%d", fewest, most)
	}
	for _, state := range slices.Sorted(maps.Keys(states)) {
		found.state = strings.TrimPrefix(fmt.Sprintf("%s, %d %s", found.state, states[state], state), ", ")
	}
	addRow(found)
	if t.Failed() {
		t.Logf("agent:\n%s", log)
	}
}

// firstSubmission returns the tag whose claim the agent took away.
func (l *login) firstSubmission(t *testing.T, id string) string {
	t.Helper()
	s, err := spool.Open(l.spool)
	if err != nil {
		t.Fatal(err)
	}
	claim, err := s.Claimed(id, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return claim.Tag
}

// slurm runs a command of the test bed's Slurm and returns its output.
func slurm(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+slurmConf(t))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// lateJobGone reports whether Slurm's accounting knows the job of that tag and
// calls it ended.
func (l *login) lateJobGone(t *testing.T, tag string) bool {
	t.Helper()
	out := strings.TrimSpace(slurm(t, "sacct", "--noheader", "--allocations", "--allusers", "--starttime=now-1hours", "--name="+tag, "--format=State", "--parsable2"))
	return out != "" && !strings.Contains(out, "PENDING") && !strings.Contains(out, "RUNNING")
}
