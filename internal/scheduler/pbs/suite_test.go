package pbs_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/pbs"
	"github.com/hpcsera/hpcsera/internal/scheduler/pbs/pbsfake"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// TestMain makes the test's program the fake PBS's commands.
func TestMain(m *testing.M) {
	if pbsfake.Is(os.Args[0]) {
		os.Exit(pbsfake.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	schedulertest.Main(m)
}

// fake installs a PBS of its own and returns what makes Schedulers of it.
func fake(t *testing.T, dir string, c pbsfake.Config) func(schedulertest.T, func(*scheduler.Config)) *scheduler.Scheduler {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	commands, err := pbsfake.Install(dir, self, c)
	if err != nil {
		t.Fatal(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return func(t schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
		t.Helper()
		cfg := scheduler.Config{Commands: maps.Clone(commands), Environment: os.Environ()}
		if change != nil {
			change(&cfg)
		}
		return scheduler.New(pbs.Driver{User: me.Username}, cfg)
	}
}

func harness(t *testing.T, c pbsfake.Config) schedulertest.Harness {
	dir := schedulertest.Folder(t)
	state := filepath.Join(dir, "pbs")
	c.Cores, c.MaxArray = 1000, 40 // few cores would make the cases wait for each other
	traits := pbs.Driver{}.Traits()
	traits.Arrays = c.MaxArray
	return schedulertest.Harness{
		Traits: traits, New: fake(t, state, c), Dir: dir,
		Requeue: func(id string) error {
			cmd := exec.Command(filepath.Join(state, "bin", "qrerun"), id)
			cmd.Env = append(os.Environ(), "PBSFAKE_OPERATOR=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		},
	}
}

func TestPBSKeepsTheDriversPromises(t *testing.T) {
	t.Parallel()
	schedulertest.Run(t, harness(t, pbsfake.Config{History: true}))
}
