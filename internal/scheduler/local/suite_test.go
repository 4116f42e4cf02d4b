package local_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/local"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// TestMain makes the test's program the one that has the local commands.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "local" {
		os.Exit(local.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	schedulertest.Main(m)
}

func newScheduler(t schedulertest.T, d local.Driver, change func(*scheduler.Config)) *scheduler.Scheduler {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := scheduler.Config{Commands: map[string]string{local.Command: self}, Environment: os.Environ()}
	if change != nil {
		change(&c)
	}
	return scheduler.New(d, c)
}

func TestLocalKeepsTheDriversPromises(t *testing.T) {
	dir := t.TempDir()
	// Few slots would make the cases wait for each other.
	driver := local.Driver{Dir: filepath.Join(dir, "state"), Slots: 1000, Grace: time.Second}
	schedulertest.Run(t, schedulertest.Harness{
		Traits: driver.Traits(), Dir: dir,
		New: func(t schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			return newScheduler(t, driver, change)
		},
		Waiting: func(t schedulertest.T, s *scheduler.Scheduler, sub *scheduler.Submission) {
			sub.Resources.ExclusiveNodeUse = true // others of the suite run
			keepBusy(t, s, sub.Directory)
		},
	})
}

// keepBusy runs a job until the test ends.
func keepBusy(t schedulertest.T, s *scheduler.Scheduler, dir string) {
	t.Helper()
	submit(t, s, dir, "exec sleep 600", nil)
}
