package slurm_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
	"github.com/hpcsera/hpcsera/internal/scheduler/slurm"
)

const testbed = "../../../test/testbed/slurm"

func TestMain(m *testing.M) { schedulertest.Main(m) }

// lab returns the configuration of a running test bed, from which ended jobs
// vanish soon: what the driver then tells is a case of the suite.
func lab(t *testing.T, variable, options string) string {
	t.Helper()
	start := fmt.Sprintf("Start a real Slurm first:\n\teval \"$(sudo test/testbed/slurm up %s --min-job-age 5)\"", options)
	conf := os.Getenv(variable)
	if conf == "" {
		t.Fatalf("%s is not set. %s", variable, start)
	}
	cmd := exec.Command("scontrol", "show", "config")
	cmd.Env = append(os.Environ(), "SLURM_CONF="+conf)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the Slurm of %s=%s does not answer: %v\n%s\n%s", variable, conf, err, out, start)
	}
	if !regexp.MustCompile(`(?m)^MinJobAge += [1-9] sec$`).Match(out) {
		t.Fatalf("the Slurm of %s=%s keeps ended jobs in its queue for too long. %s", variable, conf, start)
	}
	return conf
}

func TestSlurmWithAccountingKeepsTheDriversPromises(t *testing.T) {
	t.Parallel()
	h := harness(t, slurm.Driver{}, lab(t, "HPCSERA_TEST_SLURM", "--dir /tmp/hpcsera-testbed/slurm --dbd"))
	h.Crash = func(t schedulertest.T) (*scheduler.Scheduler, schedulertest.Controller) { return startLab(t, "--dbd") }
	schedulertest.Run(t, h)
}

func TestSlurmWithoutAccountingKeepsTheDriversPromises(t *testing.T) {
	t.Parallel()
	h := harness(t, slurm.Driver{}, lab(t, "HPCSERA_TEST_SLURM_NODBD", "--dir /tmp/hpcsera-testbed/slurm-nodbd"))
	h.History = ""
	h.Crash = func(t schedulertest.T) (*scheduler.Scheduler, schedulertest.Controller) { return startLab(t) }
	schedulertest.Run(t, h)
}

func newScheduler(d slurm.Driver, conf string, change func(*scheduler.Config)) *scheduler.Scheduler {
	c := scheduler.Config{Commands: map[string]string{}, Environment: append([]string{"SLURM_CONF=" + conf}, os.Environ()...)}
	if change != nil {
		change(&c)
	}
	return scheduler.New(d, c)
}

// harness runs the suite as whoever runs the tests. The folder must be open to
// that user alone: the test bed's nodes are this host.
func harness(t *testing.T, d slurm.Driver, conf string) schedulertest.Harness {
	traits := d.Traits()
	traits.Leaves = true // here, see lab
	return schedulertest.Harness{
		Traits: traits, Dir: schedulertest.Folder(t),
		New: func(_ schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			return newScheduler(d, conf, change)
		},
		Requeue: func(id string) error {
			return asRoot(d, conf, "requeue", id)
		},
	}
}

// asRoot runs scontrol.
func asRoot(d slurm.Driver, conf string, args ...string) error {
	if d.Cluster != "" {
		args = append([]string{"--cluster=" + d.Cluster}, args...)
	}
	cmd := exec.Command("scontrol", args...)
	cmd.Env = append(os.Environ(), "SLURM_CONF="+conf)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// controller is the one of a test bed that the test started for itself.
type controller struct{ dir string }

func startLab(t schedulertest.T, options ...string) (*scheduler.Scheduler, controller) {
	c := newController(t, options...)
	return newScheduler(slurm.Driver{}, c.conf(), func(c *scheduler.Config) {
		c.QueryTimeout, c.SubmitTimeout = 10*time.Second, 10*time.Second
	}), c
}

func newController(t schedulertest.T, options ...string) controller {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hpcsera-crash-") // short, and open to the daemons' users
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := controller{dir}
	t.Cleanup(func() { c.run(t, "down", "--purge") })
	c.run(t, "up", append([]string{"--nodes", "2"}, options...)...)
	return c
}

func (c controller) conf() string { return filepath.Join(c.dir, "etc", "slurm.conf") }

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
