package wrapper

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// TestMain lets the test binary be the agent's binary: started by a wrapper
// script it is the wrapper, in a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "step" {
		os.Exit(Run(os.Args[2], os.Args[3], os.Environ(), os.Stderr))
	}
	os.Exit(m.Run())
}

// site is a spool with one job of one step.
type site struct {
	t    *testing.T
	root string
	*spool.Spool
	job  string
	step spool.Task // of that step
}

func newSite(t *testing.T) *site {
	t.Helper()
	root := t.TempDir()
	s, err := spool.Open(filepath.Join(root, "spool"))
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, root: root, Spool: s, job: hpcsera.NewID("j")}
}

func (s *site) path(name string) string { return filepath.Join(s.root, name) }

// task lays out a step that runs a shell script in the job's directory.
func (s *site) task(script string, change ...func(*spool.Task)) {
	s.t.Helper()
	t := spool.Task{Job: s.job, Directory: s.root, Argv: []string{"/bin/sh", "-c", script}, Environment: map[string]string{}}
	for _, c := range change {
		c(&t)
	}
	s.step = t
}

// count is a script's line that leaves a mark each time it runs.
const count = "echo ran >> marks; "

// marks tells how often the program ran.
func (s *site) marks() int {
	b, _ := os.ReadFile(s.path("marks"))
	return bytes.Count(b, []byte("\n"))
}

// submission writes one for start n of the job, and returns its script.
func (s *site) submission(n int) (tag, script string) {
	s.t.Helper()
	tag = hpcsera.NewID("s")
	script, _, err := s.PutSubmission(spool.Submission{
		Tag: tag, Members: []spool.Member{{Job: s.job, N: n, Attempt: n}}, IDVariables: []string{"SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"},
		IndexVariable: "SLURM_ARRAY_TASK_ID", ClusterVariable: "SLURM_CLUSTER_NAME", Pass: []string{"SLURM_"}, Drop: []string{"SLURM_EXPORT_ENV"},
	}, []spool.Task{s.step}, os.Args[0])
	if err != nil {
		s.t.Fatal(err)
	}
	return tag, script
}

// wrapper is a running wrapper.
type wrapperProcess struct {
	*exec.Cmd
	stderr *bytes.Buffer
}

// start runs a submission's script as the batch system does, as native job id.
func (s *site) start(script, id string, env ...string) *wrapperProcess {
	s.t.Helper()
	p := &wrapperProcess{Cmd: exec.Command(script), stderr: &bytes.Buffer{}}
	p.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + s.root, "SLURM_JOB_ID=" + id}, env...)
	p.Dir, p.Stderr = s.root, p.stderr
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// status waits for the wrapper's end: its exit status, or 128 and the signal.
func (p *wrapperProcess) status() int {
	_ = p.Wait()
	w := p.ProcessState.Sys().(syscall.WaitStatus)
	if w.Signaled() {
		return 128 + int(w.Signal())
	}
	return w.ExitStatus()
}

func (s *site) run(script, id string, env ...string) int { return s.start(script, id, env...).status() }

// latest returns the newest start that a wrapper owns.
func (s *site) latest() *spool.Start {
	s.t.Helper()
	start, _, _, err := s.Latest(s.job, 0, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	return start
}

func (s *site) end() spool.End {
	s.t.Helper()
	start := s.latest()
	if start == nil || start.End == nil {
		s.t.Fatalf("got start %+v, want one with an end record", start)
	}
	return *start.End
}

// await waits until something is so; it fails when that never comes.
func (s *site) await(what string, so func() bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if so() {
			return
		}
	}
	s.t.Fatalf("never came: %s", what)
}

func (s *site) exists(name string) bool {
	_, err := os.Stat(s.path(name))
	return err == nil
}

func (s *site) tasks(tag string) string { return filepath.Join(s.Dir(), "submissions", tag, "tasks") }

func TestWhatCannotBeReadRunsNothing(t *testing.T) {
	for name, damage := range map[string]func(*site, string){
		"no tasks":         func(s *site, tag string) { os.Remove(s.tasks(tag)) },
		"a task cut short": func(s *site, tag string) { os.Truncate(s.tasks(tag), 20) },
		"another job's task": func(s *site, tag string) {
			text, _ := os.ReadFile(s.tasks(tag))
			os.WriteFile(s.tasks(tag), bytes.Replace(text, []byte(s.job), []byte(hpcsera.NewID("j")), 1), 0o600)
		},
		"no submission":           func(s *site, tag string) { os.RemoveAll(filepath.Join(s.Dir(), "submissions", tag, "submission.json")) },
		"a spool open to others":  func(s *site, _ string) { os.Chmod(s.Dir(), 0o755) },
		"an index out of range":   func(s *site, _ string) {},
		"an index that is a word": func(s *site, _ string) {},
		"a negative index":        func(s *site, _ string) {},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.task(count)
			tag, script := s.submission(1)
			damage(s, tag)
			env := map[string]string{"an index out of range": "SLURM_ARRAY_TASK_ID=1", "an index that is a word": "SLURM_ARRAY_TASK_ID=x", "a negative index": "SLURM_ARRAY_TASK_ID=-1"}[name]
			p := s.start(script, "4711", env)
			if got := p.status(); got == 0 || got == NotRun {
				t.Errorf("got status %d, want an error", got)
			}
			if s.marks() != 0 {
				t.Error("the program ran")
			}
			if p.stderr.Len() == 0 {
				t.Error("printed nothing, want a sentence for the user")
			}
		})
	}
}

func TestAProgramThatCannotBeStartedIsAFailure(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*spool.Task){
		"no such program": func(task *spool.Task) { task.Argv = []string{s.path("missing")} },
		"no directory":    func(task *spool.Task) { task.Directory = "/etc/passwd/job" },
		"not executable":  func(task *spool.Task) { task.Argv = []string{"/etc/passwd"} },
	} {
		s.job = hpcsera.NewID("j")
		s.task("", change)
		_, script := s.submission(1)
		if got := s.run(script, "4711"); got != 126 {
			t.Errorf("%s: got status %d, want 126", name, got)
		}
		if end := s.end(); end.Failure == "" {
			t.Errorf("%s: end record: got %+v, want a failure that says why", name, end)
		}
	}
}

func TestTheEndIsWhatTheProgramSaid(t *testing.T) {
	for _, c := range []struct {
		script string
		exit   hpcsera.Exit
		status int
	}{
		{"exit 0", hpcsera.Exit{}, 0},
		{"exit 1", hpcsera.Exit{Code: 1}, 1},
		{"exit 75", hpcsera.Exit{Code: 75}, 75},
		{"exit 255", hpcsera.Exit{Code: 255}, 255},
		{"kill -KILL $$", hpcsera.Exit{Signal: 9}, 137},
		{"kill -SEGV $$", hpcsera.Exit{Signal: 11}, 139},
	} {
		s := newSite(t)
		s.task("echo out; echo err >&2; " + c.script)
		_, script := s.submission(1)
		if got := s.run(script, "4711"); got != c.status {
			t.Errorf("%s: wrapper's status: got %d, want %d", c.script, got, c.status)
		}
		end := s.end()
		if end.Exit != c.exit || end.Failure != "" || end.Timeout {
			t.Errorf("%s: end record: got %+v, want exit %+v", c.script, end, c.exit)
		}
		if end.Host == "" || end.Started.IsZero() || end.Ended.Before(end.Started) {
			t.Errorf("%s: end record: got %+v, want host and times", c.script, end)
		}
		for stream, want := range map[string]string{"stdout": "out\n", "stderr": "err\n"} {
			if b, err := os.ReadFile(s.OutputPath(s.job, 0, 1, stream)); err != nil || string(b) != want {
				t.Errorf("%s: %s: got %q (%v), want %q", c.script, stream, b, err, want)
			}
		}
	}
}

// Each signal that a batch system ends a job with must reach the program, and
// the end record must tell what came of it.
func TestSignalsReachTheProgramAndTheEndIsWritten(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGXCPU} {
		s := newSite(t)
		// The trap shows that the program itself got it.
		s.task(fmt.Sprintf("trap 'echo got > got; exit 7' %d; touch ready; while :; do sleep 0.05; done", sig))
		_, script := s.submission(1)
		p := s.start(script, "4711")
		s.await("the program's start", func() bool { return s.exists("ready") })
		if err := p.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := p.status(); got != 7 {
			t.Errorf("%v: wrapper's status: got %d, want the program's 7", sig, got)
		}
		if !s.exists("got") {
			t.Errorf("%v: the program did not get it", sig)
		}
		if end := s.end(); end.Exit != (hpcsera.Exit{Code: 7}) {
			t.Errorf("%v: end record: got %+v, want exit 7", sig, end)
		}
	}
}

func TestASignalledProgramsEndIsWritten(t *testing.T) {
	s := newSite(t)
	s.task("touch ready; exec sleep 1000")
	_, script := s.submission(1)
	p := s.start(script, "4711")
	s.await("the program's start", func() bool { return s.exists("ready") })
	p.Process.Signal(syscall.SIGTERM)
	if got := p.status(); got != 143 {
		t.Errorf("wrapper's status: got %d, want 143", got)
	}
	if end := s.end(); end.Exit != (hpcsera.Exit{Signal: 15}) {
		t.Errorf("end record: got %+v, want signal 15", end)
	}
}

// pausedBeforeProgram returns a wrapper that owns its start and cannot go on
// before resume: the last file that it verifies is a pipe that nobody writes.
func (s *site) pausedBeforeProgram(task func(*spool.Task)) (p *wrapperProcess, script string, resume func()) {
	s.t.Helper()
	check := s.check("pipe", "signed")
	if err := errors.Join(os.Remove(check.Path), syscall.Mkfifo(check.Path, 0o600)); err != nil {
		s.t.Fatal(err)
	}
	s.task(count, func(t *spool.Task) { t.Check = []spool.Check{check} }, task)
	_, script = s.submission(1)
	p = s.start(script, "4711")
	s.await("the claim", func() bool { return s.latest() != nil })
	return p, script, func() {
		if err := os.WriteFile(check.Path, []byte("signed"), 0); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestASignalBeforeTheProgramsStartIsNotLost(t *testing.T) {
	s := newSite(t)
	p, _, resume := s.pausedBeforeProgram(func(task *spool.Task) { task.Argv[2] = count + "exec sleep 1000" })
	p.Process.Signal(syscall.SIGTERM)
	resume()
	if got := p.status(); got != 143 {
		t.Errorf("wrapper's status: got %d, want 143", got)
	}
	if end := s.end(); end.Exit != (hpcsera.Exit{Signal: 15}) {
		t.Errorf("end record: got %+v, want signal 15", end)
	}
}

// gone reports whether a process has ended: it may stay as a zombie where
// nobody waits for orphans.
func gone(pid string) bool {
	b, err := os.ReadFile("/proc/" + strings.TrimSpace(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestTimeoutEndsTheWholeProcessGroup(t *testing.T) {
	const child = "sh -c 'trap \"\" TERM; echo $$ > child; while :; do sleep 0.05; done' & "
	for name, script := range map[string]string{
		"which obeys":               child + "while [ ! -s child ]; do sleep 0.02; done; echo $$ > main; wait",
		"which ignores the signal":  child + "trap '' TERM; while [ ! -s child ]; do sleep 0.02; done; echo $$ > main; while :; do sleep 0.05; done",
		"which ends itself with 0":  child + "trap 'exit 0' TERM; while [ ! -s child ]; do sleep 0.02; done; echo $$ > main; while :; do sleep 0.05; done",
		"whose child has no parent": "(" + child + ") ; while [ ! -s child ]; do sleep 0.02; done; echo $$ > main; while :; do sleep 0.05; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.task(script, func(task *spool.Task) { task.Timeout = hpcsera.Duration(time.Second) })
			_, submission := s.submission(1)
			if got := s.run(submission, "4711"); got == 0 && name != "which ends itself with 0" {
				t.Errorf("got status %d, want an error", got)
			}
			if end := s.end(); !end.Timeout {
				t.Errorf("end record: got %+v, want a timeout", end)
			}
			for _, file := range []string{"main", "child"} {
				b, err := os.ReadFile(s.path(file))
				if err != nil {
					t.Fatal(err)
				}
				s.await(file+" is gone", func() bool { return gone(string(b)) })
			}
		})
	}
}

func TestAStepThatEndsBeforeItsTimeoutEndsNormally(t *testing.T) {
	s := newSite(t)
	s.task("exit 4", func(task *spool.Task) { task.Timeout = hpcsera.Duration(time.Hour) })
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 4 {
		t.Errorf("got status %d, want 4", got)
	}
	if end := s.end(); end.Timeout || end.Exit.Code != 4 {
		t.Errorf("end record: got %+v, want exit 4 and no timeout", end)
	}
}

// nasty are values that a shell would obey somewhere.
var nasty = []string{
	"$(touch hacked)", "`touch hacked`", "'; touch hacked #", "\"; touch hacked; \"", "a\nb\n", "\n", "", " ", "*", "~", "-rf", "--", "$HOME", "${HOME}", "%s%n",
	"\\", "a\\nb", "\x01\x1b[31m", "ünï\u202ecode", "&& touch hacked", "| touch hacked", "> hacked", "!!", strings.Repeat("x", 10_000),
}

// A program that ended with 0 and whose end is nowhere has not ended with 1.
func TestAnEndThatCannotBeRecordedIsNotTheProgramsStatus(t *testing.T) {
	s := newSite(t)
	s.task(count)
	tag, _ := s.submission(1)
	// A folder where the record should be fails every try.
	if err := os.MkdirAll(filepath.Join(filepath.Dir(s.OutputPath(s.job, 0, 1, "stdout")), ".end"), 0o700); err != nil {
		t.Fatal(err)
	}
	w := &wrapper{env: []string{"SLURM_JOB_ID=4711"}, stderr: io.Discard, pause: time.Millisecond}
	if status, err := w.run(s.Dir(), tag); status != Unrecorded || err == nil {
		t.Errorf("got status %d (%v), want %d and an error", status, err, Unrecorded)
	}
	if s.marks() != 1 {
		t.Errorf("the program ran %d times, want once", s.marks())
	}
}

func TestAnEndThatCanBeRecordedLaterIsRecorded(t *testing.T) {
	s := newSite(t)
	blocker := filepath.Join(filepath.Dir(s.OutputPath(s.job, 0, 1, "stdout")), ".end")
	if _, won, err := s.Take(s.job, 0, 1, spool.Claim{Owner: spool.OwnerWrapper}); err != nil || !won {
		t.Fatal(won, err)
	}
	if err := os.Mkdir(blocker, 0o700); err != nil {
		t.Fatal(err)
	}
	w := &wrapper{spool: s.Spool, member: spool.Member{Job: s.job, N: 1}, stderr: io.Discard, pause: 50 * time.Millisecond}
	done := make(chan error)
	go func() { done <- w.finish(1, spool.End{Exit: hpcsera.Exit{Code: 5}}) }()
	if err := os.Remove(blocker); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatalf("got %v, want it recorded", err)
	}
	if end := s.end(); end.Exit.Code != 5 {
		t.Errorf("got %+v, want exit 5", end)
	}
}
