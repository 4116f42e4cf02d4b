package sge_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
	"github.com/hpcsera/hpcsera/internal/scheduler/sge"
)

const testbed = "../../../test/testbed/gridengine"

func TestMain(m *testing.M) { schedulertest.Main(m) }

// lab returns the variables of a running test bed.
func lab(t *testing.T) []string {
	t.Helper()
	const start = "Start a real Grid Engine first:\n\teval \"$(sudo test/testbed/gridengine up)\""
	path := os.Getenv("HPCSERA_TEST_SGE")
	if path == "" {
		t.Fatalf("HPCSERA_TEST_SGE is not set. %s", start)
	}
	env := readEnv(t, path)
	cmd := exec.Command(command("qstat"))
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the Grid Engine of HPCSERA_TEST_SGE=%s does not answer: %v\n%s\n%s", path, err, out, start)
	}
	return env
}

func readEnv(t schedulertest.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// command is where Debian has the commands themselves; those in /usr/bin are
// slow scripts around them.
func command(name string) string { return "/usr/lib/gridengine/" + name }

func TestGridEngineKeepsTheDriversPromises(t *testing.T) {
	env := lab(t)
	schedulertest.Run(t, schedulertest.Harness{
		Traits: sge.Driver{}.Traits(), Dir: schedulertest.Folder(t),
		New: func(t schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			return newScheduler(t, env, change)
		},
		Requeue: func(id string) error {
			cmd := exec.Command(command("qmod"), "-rj", id)
			cmd.Env = env
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.HasPrefix(string(out), "Pushed rescheduling") {
				return errors.Join(fmt.Errorf("%s", out), err)
			}
			return nil
		},
		Crash: startLab,
	})
}

// What Grid Engine alone does with jobs, beyond the suite.
func TestGridEngineEndsThatAreItsOwn(t *testing.T) {
	env := lab(t)
	for name, c := range map[string]struct {
		script string
		change func(*scheduler.Submission)
		phase  scheduler.Phase
		reason hpcsera.Reason
		exit   *hpcsera.Exit
	}{
		"exit 99 is no order to run again":       {"exit 99", nil, scheduler.PhaseEnded, "", &hpcsera.Exit{Code: 99}},
		"exit 100 is no order to stay":           {"exit 100", nil, scheduler.PhaseEnded, "", &hpcsera.Exit{Code: 100}},
		"a script that is gone ends":             {"exit 0", func(s *scheduler.Submission) { os.Remove(s.Script) }, scheduler.PhaseEnded, "", &hpcsera.Exit{Code: 127}},
		"a folder that is gone is told":          {"exit 0", func(s *scheduler.Submission) { s.Directory += "/gone" }, scheduler.PhaseQueued, hpcsera.NeverStarts, nil},
		"a limit of memory is no limit of time":  {hungry, func(s *scheduler.Submission) { s.Custom = map[string]string{"l": "h_vmem=150M"} }, scheduler.PhaseEnded, hpcsera.OutOfMemory, nil},
		"memory leaves room for a Go program":    {`[ "$(ulimit -v)" -ge 2097152 ] || exit 1`, func(s *scheduler.Submission) { s.Resources.Memory = 1 << 20 }, scheduler.PhaseEnded, "", &hpcsera.Exit{}},
		"slots are those of processes and cores": {`[ "$NSLOTS" = 6 ] || exit 1`, func(s *scheduler.Submission) { s.Resources = hpcsera.Resources{ProcessCount: 3, CPUCoresPerProcess: 2} }, scheduler.PhaseEnded, "", &hpcsera.Exit{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dir, tag := newScheduler(t, env, nil), schedulertest.Folder(t), hpcsera.NewID("s")
			sub := scheduler.Submission{Tag: tag, Script: dir + "/job ", Directory: dir, Output: dir + "/out", Comment: "suite"}
			if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\necho x >>"+dir+"/runs\n"+c.script+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(&sub)
			}
			refs, err := s.Submit(t.Context(), sub)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Act(context.Background(), scheduler.Cancel, refs) })
			st := await(t, s, refs[0], c.phase, c.reason)
			if st.Exit == nil != (c.exit == nil) || c.exit != nil && *st.Exit != *c.exit {
				t.Errorf("got %+v, want the exit %+v", st, c.exit)
			}
			if runs, _ := os.ReadFile(dir + "/runs"); len(runs) > len("x\n") {
				t.Errorf("the script ran %d times", len(runs)/2)
			}
		})
	}
}

// hungry holds more memory than it may in several processes, so that none of
// them sees an allocation fail.
const hungry = `for i in 1 2 3 4; do dd if=/dev/zero of=/dev/null bs=60M count=100000 2>/dev/null & done; wait`

func await(t *testing.T, s *scheduler.Scheduler, ref scheduler.Ref, phase scheduler.Phase, reason hpcsera.Reason) scheduler.Status {
	t.Helper()
	var last scheduler.Status
	for range 300 {
		answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		if last = answer[ref]; last.Phase == phase && last.Reason == reason {
			return last
		}
		<-time.NewTimer(200 * time.Millisecond).C
	}
	t.Fatalf("got %+v, want it %s %s", last, phase, reason)
	return last
}

func newScheduler(t schedulertest.T, env []string, change func(*scheduler.Config)) *scheduler.Scheduler {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	c := scheduler.Config{Commands: map[string]string{}, Environment: append(append([]string{}, env...), os.Environ()...)}
	for _, name := range []string{"qsub", "qstat", "qacct", "qdel", "qhold", "qrls"} {
		c.Commands[name] = command(name)
	}
	if change != nil {
		change(&c)
	}
	return scheduler.New(sge.Driver{User: me.Username}, c)
}

// controller is the one of a test bed that the test started for itself.
type controller struct{ dir string }

func startLab(t schedulertest.T) (*scheduler.Scheduler, schedulertest.Controller) {
	dir, err := os.MkdirTemp("/tmp", "hpcsera-crash-") // open to the daemons' users
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := controller{dir}
	t.Cleanup(func() { c.run(t, "down", "--purge") })
	c.run(t, "up")
	return newScheduler(t, readEnv(t, filepath.Join(dir, "env")), func(c *scheduler.Config) {
		c.QueryTimeout, c.SubmitTimeout = 10*time.Second, 10*time.Second
	}), c
}

func (c controller) run(t schedulertest.T, verb string, options ...string) {
	t.Helper()
	out, err := exec.Command(testbed, append([]string{verb, "--dir", c.dir}, options...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", testbed, verb, err, strings.TrimSpace(string(out)))
	}
}

func (c controller) Kill(t schedulertest.T)            { c.run(t, "kill-controller") }
func (c controller) KillAndRemember(t schedulertest.T) { c.run(t, "kill-controller", "--snapshot") }
func (c controller) Start(t schedulertest.T)           { c.run(t, "start-controller") }
func (c controller) StartFromCopy(t schedulertest.T)   { c.run(t, "start-controller", "--rollback") }
