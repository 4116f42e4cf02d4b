package custom_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/custom"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

const examples = "../../../examples/custom-schedulers/"

func TestMain(m *testing.M) { schedulertest.Main(m) }

func load(t testing.TB, name string) custom.Driver {
	t.Helper()
	d, err := custom.Load(examples+name, "alice")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// What a file describes keeps the promises of a driver, against the real system.
func TestSlurmByAFileKeepsTheDriversPromises(t *testing.T) {
	conf := os.Getenv("HPCSERA_TEST_SLURM")
	if conf == "" {
		t.Fatal("HPCSERA_TEST_SLURM is not set. Start a real Slurm first:\n\teval \"$(sudo test/testbed/slurm up --dbd --min-job-age 5)\"")
	}
	env := append([]string{"SLURM_CONF=" + conf}, os.Environ()...)
	driver := load(t, "slurm.yaml")
	traits := driver.Traits()
	traits.Limit, traits.BadQueue, traits.Leaves = hpcsera.Duration(time.Minute), "Invalid partition name specified", true
	traits.Waits = map[string]string{"begin": "now+1hour"}
	schedulertest.Run(t, schedulertest.Harness{
		Traits: traits, Dir: schedulertest.Folder(t),
		New: func(_ schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			c := scheduler.Config{Commands: map[string]string{}, Environment: env}
			if change != nil {
				change(&c)
			}
			return scheduler.New(driver, c)
		},
		Requeue: func(id string) error {
			cmd := exec.Command("scontrol", "requeue", id)
			cmd.Env = env
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
	})
}
