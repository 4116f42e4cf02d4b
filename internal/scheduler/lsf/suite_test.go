package lsf_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
func cluster(t schedulertest.T, dir string, s lsffake.Settings) func(change func(*scheduler.Config)) *scheduler.Scheduler {
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
	dir := schedulertest.Folder(t)
	settings := lsffake.Settings{Minute: 2 * time.Second, CleanPeriod: 10 * time.Second, KillInterval: time.Second}
	make := cluster(t, filepath.Join(dir, "lsf"), settings)
	traits := lsf.Driver{}.Traits()
	traits.Leaves = true // with these settings
	schedulertest.Run(t, schedulertest.Harness{
		Traits: traits, Dir: dir,
		New: func(_ schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler { return make(change) },
		Crash: func(t schedulertest.T) (*scheduler.Scheduler, schedulertest.Controller) {
			home := schedulertest.Folder(t)
			return cluster(t, home, settings)(nil), controller{lsffake.Controller{Dir: home}}
		},
	})
}

// controller is a fake cluster's.
type controller struct{ lsffake.Controller }

func must(t schedulertest.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (c controller) Kill(t schedulertest.T)            { must(t, c.Controller.Kill()) }
func (c controller) KillAndRemember(t schedulertest.T) { must(t, c.Controller.KillAndRemember()) }
func (c controller) Start(t schedulertest.T)           { must(t, c.Controller.Start()) }
func (c controller) StartFromCopy(t schedulertest.T)   { must(t, c.Controller.StartFromCopy()) }

func TestFakeLSFSpeaksAsLSFDoes(t *testing.T) {
	home := schedulertest.Folder(t)
	cluster(t, home, lsffake.Settings{MaxPending: 4})
	run := func(want int, name string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(home, "bin", name), args...)
		cmd.Env = append(os.Environ(), "LSB_NTRIES=1")
		out, err := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s %q: got status %d, want %d (%v): %s", name, args, got, want, err, out)
		}
		return string(out)
	}
	for _, c := range []struct {
		status int
		line   string
		want   string
	}{
		{0, "bjobs -o jobid -json", "No unfinished job found\n"},
		{0, "bsub -H -J a -o /dev/null true", "Job <1> is submitted to default queue <normal>.\n"},
		{0, "bsub -H -q short -J b[1-2]%1 -o /dev/null true", "Job <2> is submitted to queue <short>.\n"},
		{255, "bsub -q nope true", "nope: No such queue. Job not submitted.\n"},
		{255, "bsub -n 500 true", "Too many processors requested. Job not submitted.\n"},
		{255, "bsub -J c[1-1001] true", "Job array index too large. Job not submitted.\n"},
		{255, "bsub -J c[1-2] true", "Pending job threshold reached. Job not submitted.\n"},
		{255, "bsub -Q true", "illegal option -Q"},
		{255, "bjobs -o jobid#job_name -json 1 2[2] 9", "\"JOB_NAME\":\"b[2]\"\n    }\n  ]\n}\nJob <9> is not found\n"},
		{255, "bjobs -o jobid#nonsense -json", "<NONSENSE> in the format string is not a valid field name.\n"},
		{255, "bhist -l 9", "No matching job found\n"},
		{255, "bkill 2[1] 9", "Job <9>: No matching job found\n"},
		{255, "bkill 2[1]", "Job <2[1]>: Job has already finished\n"},
		{0, "bhist -l 2[1]", "TERM_OWNER: job killed by owner;"},
		{255, "bstop 1", "Job <1>: Job has already been suspended\n"},
		{0, "bresume 1", "Job <1> is being resumed\n"},
	} {
		words := strings.Fields(c.line)
		for i := range words {
			words[i] = strings.ReplaceAll(words[i], "#", " ")
		}
		if got := run(c.status, words[0], words[1:]...); !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.line, got, c.want)
		}
	}
	must(t, lsffake.Controller{Dir: home}.Kill())
	if got := run(255, "bsub", "true"); got != "Connection refused by server. Job not submitted.\n" {
		t.Errorf("without controller: got %q", got)
	}
}

func TestTooManyPendingJobsAreThrottledAndNotRefusedForEver(t *testing.T) {
	home := schedulertest.Folder(t)
	s := cluster(t, filepath.Join(home, "lsf"), lsffake.Settings{MaxPending: 1})(nil)
	submit := func() error {
		_, err := s.Submit(t.Context(), scheduler.Submission{
			Tag: hpcsera.NewID("s"), Script: "/bin/true", Directory: home, Output: filepath.Join(home, "out"), Held: true,
		})
		return err
	}
	must(t, submit())
	if refused, ok := errors.AsType[*scheduler.Refused](submit()); !ok || !refused.Throttled || refused.Unreached {
		t.Errorf("got %+v, want it refused for now", refused)
	}
}
