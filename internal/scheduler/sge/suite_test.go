package sge_test

import (
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

func readEnv(t *testing.T, path string) []string {
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
		New: func(t *testing.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			return newScheduler(t, env, change)
		},
		Dir: t.TempDir(), Limit: hpcsera.Duration(2 * time.Second),
		Submit: "qsub", Queue: "qstat", History: "qacct", Arrays: 75000, BadQueue: `unknown queue "nosuch"`, Leaves: true,
		Forgets: true, CancelIsKill: true, NoDefault: true,
		Waiting: func(_ *testing.T, _ *scheduler.Scheduler, sub *scheduler.Submission) {
			sub.Attributes.Duration = hpcsera.Duration(48 * time.Hour) // no queue runs a job for so long
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

func newScheduler(t *testing.T, env []string, change func(*scheduler.Config)) *scheduler.Scheduler {
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

func startLab(t *testing.T) (*scheduler.Scheduler, schedulertest.Controller) {
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

func (c controller) run(t *testing.T, verb string, options ...string) {
	t.Helper()
	out, err := exec.Command(testbed, append([]string{verb, "--dir", c.dir}, options...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", testbed, verb, err, strings.TrimSpace(string(out)))
	}
}

func (c controller) Kill(t *testing.T)            { c.run(t, "kill-controller") }
func (c controller) KillAndRemember(t *testing.T) { c.run(t, "kill-controller", "--snapshot") }
func (c controller) Start(t *testing.T)           { c.run(t, "start-controller") }
func (c controller) StartFromCopy(t *testing.T)   { c.run(t, "start-controller", "--rollback") }
