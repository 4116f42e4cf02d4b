package trial_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/trial"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/local"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// TestMain makes the test's program the one that has the local commands, and
// the one that lies about them.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "local" {
		os.Exit(local.Main(os.Args[2:], os.Stdout, os.Stderr))
	}
	schedulertest.Main(m)
}

// site is a batch system of its own with a trial of it.
type site struct {
	*trial.Trial
	outcomes map[string]trial.Outcome
	ledger   *trial.Ledger
}

// newSite makes a site whose commands are what change says of this program.
func newSite(t *testing.T, command func(self string) string) *site {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := schedulertest.Folder(t)
	if command != nil {
		script := filepath.Join(dir, "lie")
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+command(self)+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		self = script
	}
	s := &site{outcomes: map[string]trial.Outcome{}, ledger: &trial.Ledger{}}
	batch := scheduler.New(local.Driver{Dir: filepath.Join(dir, "state"), Slots: 100, Grace: time.Second},
		scheduler.Config{Commands: map[string]string{local.Command: self}, Environment: os.Environ(), Seen: s.ledger.Seen})
	s.Trial = &trial.Trial{Batch: batch, Dir: filepath.Join(dir, "work", "doctor"), Patience: 3 * time.Minute, Begin: s.ledger.Begin,
		Tell: func(o trial.Outcome) { s.outcomes[o.Case] = o }}
	return s
}

// alive lists the jobs that have not ended.
func (s *site) alive(t *testing.T, tags ...string) []scheduler.Status {
	t.Helper()
	found, err := s.Batch.Find(context.Background(), tags...)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(st scheduler.Status) bool { return st.Phase == scheduler.PhaseEnded })
}

// submitted lists the tags of all jobs that the ledger saw.
func (s *site) submitted() (tags []string) {
	for _, c := range s.ledger.Commands() {
		for _, word := range c.Argv {
			if _, after, ok := strings.Cut(word, "s_"); ok && len(after) >= 20 && hpcsera.ValidID("s", "s_"+after[:20]) {
				tags = append(tags, "s_"+after[:20])
			}
		}
	}
	return tags
}

func TestASoundSiteKeepsEveryPromise(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	well, err := s.Run(t.Context())
	if err != nil || !well {
		t.Errorf("got %v, %v, want all well: %+v", well, err, s.outcomes)
	}
	if len(s.outcomes) < len(s.Cases()) || len(s.Cases()) < 10 {
		t.Errorf("%d outcomes of %d cases", len(s.outcomes), len(s.Cases()))
	}
	tags := s.submitted()
	if len(tags) == 0 {
		t.Fatal("the ledger saw no job")
	}
	if left := s.alive(t, tags...); len(left) > 0 {
		t.Errorf("left behind: %+v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(s.Dir, "case-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestACommandThatLiesIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(self string) string { // every listing says that no job ever failed
		return "exec 3>&1\n" + self + ` "$@" | sed 's/"exit":[{][^}]*[}]/"exit":{"code":0}/g; s/"code":3/"code":0/g' >&3; exit 0`
	})
	s.Only = "exit code"
	well, err := s.Run(t.Context())
	o := s.outcomes["the exit code of an ended job is told"]
	if err != nil || well || o.OK || !strings.Contains(strings.Join(o.Seen, " "), "want") {
		t.Errorf("got %v, %v, %+v, want the case failed, with what was seen", well, err, o)
	}
}

func TestABrokenSubmissionFailsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(self string) string { // queues, and says that it did not
		return self + ` "$@"; status=$?; [ "$2" != submit ] || { echo lost >&2; kill -KILL $$; }; exit $status`
	})
	s.Only = "held at its submission"
	well, err := s.Run(t.Context())
	if err != nil || well {
		t.Errorf("got %v, %v, want it failed", well, err)
	}
	if tags := s.submitted(); len(tags) == 0 || len(s.alive(t, tags...)) > 0 {
		t.Errorf("of %v are alive: %+v, want none", tags, s.alive(t, tags...))
	}
}

func TestAnInterruptedTrialCancelsItsJobs(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.Only = "running job is not held"
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	s.Batch = s.Batch.With(func(c *scheduler.Config) {
		seen := c.Seen
		c.Seen = func(ran scheduler.Ran) {
			seen(ran)
			if slices.Contains(ran.Argv, "submit") {
				interrupt() // Ctrl-C, once its job is queued
			}
		}
	})
	well, err := s.Run(ctx)
	if err != nil || well || ctx.Err() == nil {
		t.Errorf("got %v, %v, want it interrupted", well, err)
	}
	if tags := s.submitted(); len(tags) == 0 || len(s.alive(t, tags...)) > 0 {
		t.Errorf("of %v are alive: %+v, want none", tags, s.alive(t, tags...))
	}
	s.outcomes = map[string]trial.Outcome{}
	if _, err := s.Run(ctx); err != nil || !s.outcomes["a running job is not held"].Skipped {
		t.Errorf("got %v, %+v, want nothing begun after the interrupt", err, s.outcomes)
	}
}

// What a trial that was killed left behind is named in its folder.
func TestTheNextTrialCancelsWhatAKilledOneLeft(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.Only = "a probe"
	tag, dir := hpcsera.NewID("s"), filepath.Join(s.Dir, "case-1")
	script := filepath.Join(dir, tag+".sh")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(script, []byte("#!/bin/sh\nexec sleep 600\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Batch.Submit(t.Context(), scheduler.Submission{Tag: tag, Script: script, Directory: dir, Output: filepath.Join(dir, "out"), Held: true}); err != nil {
		t.Fatal(err)
	}
	if well, err := s.Run(t.Context()); err != nil || !well {
		t.Errorf("got %v, %v: %+v", well, err, s.outcomes)
	}
	if left := s.alive(t, tag); len(left) > 0 {
		t.Errorf("left behind: %+v", left)
	}
}

func TestTwoTrialsDoNotCancelEachOthersJobs(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.Only = "a probe"
	inside := func(string) {
		other := *s.Trial
		if _, err := other.Run(t.Context()); hpcsera.CodeOf(err) != hpcsera.Conflict {
			t.Errorf("a second trial: got %v, want it refused", err)
		}
	}
	s.Begin = inside
	if well, err := s.Run(t.Context()); err != nil || !well {
		t.Errorf("got %v, %v", well, err)
	}
}

func TestMaskReplacesWholeNamesAlike(t *testing.T) {
	m := trial.NewMask([2]string{"ada", "alice"}, [2]string{"/home/ada", "/home/alice"}, [2]string{"", "x"}, [2]string{"login7", "login1"}, [2]string{"login7.hpc.example", "login1.example.org"})
	for in, want := range map[string]string{
		"ada":                           "alice",
		"/home/ada/x /home/adam":        "/home/alice/x /home/adam",
		"adagio ada@login7.hpc.example": "adagio alice@login1.example.org",
		"login7:ada,login77 x-ada":      "login1:alice,login77 x-ada",
		"/scratch/ada":                  "/scratch/alice",
		"":                              "",
	} {
		if got := m.Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestARecordingHasWhatWasPrintedUnderStandIns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "recording")
	r, err := trial.NewRecording(dir, trial.NewMask([2]string{"ada", "alice"}))
	if err != nil {
		t.Fatal(err)
	}
	ledger := &trial.Ledger{Record: r}
	ledger.Seen(scheduler.Ran{Path: "/bin/squeue", Argv: []string{"squeue", "-u", "ada"}, Env: []string{"A=1"}, Output: scheduler.Output{Stdout: []byte("7 ada\n"), Stderr: []byte("hm, ada"), Exit: 3}, Err: fmt.Errorf("for ada")})
	for name, want := range map[string]string{
		"001-squeue.cmd": "path /bin/squeue\nargv squeue\nargv -u\nargv alice\nenv A=1\nexit 3\nerror for alice\n",
		"001-squeue.out": "7 alice\n", "001-squeue.err": "hm, alice",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); string(got) != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
		}
	}
	ledger.Dir = "/work/doctor"
	ledger.Seen(scheduler.Ran{Path: "/work/doctor/case-1/s_x", Argv: []string{"squeue"}})
	if c := ledger.Commands(); r.Count() != 1 || len(c) != 2 || !c[1].StandIn {
		t.Errorf("got %d recorded, %+v, want the stand-in told and not recorded", r.Count(), c)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "README")); err != nil || !strings.Contains(string(text), "BEFORE YOU SEND IT") {
		t.Errorf("README: %s, %v", text, err)
	}
	if _, err := trial.NewRecording(dir, trial.Mask{}); err == nil {
		t.Error("a folder that is not empty was taken")
	}
}
