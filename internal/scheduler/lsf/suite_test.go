package lsf_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/lsf"
	"github.com/hpcsera/hpcsera/internal/scheduler/lsf/lsffake"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// TestMain makes the test's program the one that is LSF's commands.
func TestMain(m *testing.M) {
	if lsffake.Serves(os.Args[0]) {
		os.Exit(lsffake.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
	}
	schedulertest.Main(m)
}

// cluster installs a fake LSF and returns how to make a Scheduler of it.
func cluster(t *testing.T, dir string, s lsffake.Settings) func(change func(*scheduler.Config)) *scheduler.Scheduler {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := lsffake.Install(dir, self, s)
	if err != nil {
		t.Fatal(err)
	}
	return func(change func(*scheduler.Config)) *scheduler.Scheduler {
		c := scheduler.Config{Commands: map[string]string{}, Path: []string{bin, "/usr/bin", "/bin"}}
		for _, name := range []string{"bsub", "bjobs", "bhist"} {
			c.Commands[name] = filepath.Join(bin, name)
		}
		if change != nil {
			change(&c)
		}
		return scheduler.New(lsf.Driver{}, c)
	}
}

func TestFakeLSFKeepsTheDriversPromises(t *testing.T) {
	dir := t.TempDir()
	settings := lsffake.Settings{Minute: 2 * time.Second, CleanPeriod: 10 * time.Second, KillInterval: time.Second}
	make := cluster(t, filepath.Join(dir, "lsf"), settings)
	schedulertest.Run(t, schedulertest.Harness{
		New: func(_ *testing.T, change func(*scheduler.Config)) *scheduler.Scheduler { return make(change) },
		Dir: dir, Limit: hpcsera.Duration(time.Minute),
		Waiting: func(_ *testing.T, _ *scheduler.Scheduler, sub *scheduler.Submission) {
			sub.Custom = map[string]string{"b": "2100:1:1:0:0"}
		},
		Submit: "bsub", Queue: "bjobs", History: "bhist", BadQueue: "No such queue", Leaves: true, Arrays: 1000,
		Crash: func(t *testing.T) (*scheduler.Scheduler, schedulertest.Controller) {
			home := t.TempDir()
			return cluster(t, home, settings)(nil), controller{lsffake.Controller{Dir: home}}
		},
	})
}

// controller is a fake cluster's.
type controller struct{ lsffake.Controller }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c controller) Kill(t *testing.T)            { must(t, c.Controller.Kill()) }
func (c controller) KillAndRemember(t *testing.T) { must(t, c.Controller.KillAndRemember()) }
func (c controller) Start(t *testing.T)           { must(t, c.Controller.Start()) }
func (c controller) StartFromCopy(t *testing.T)   { must(t, c.Controller.StartFromCopy()) }
