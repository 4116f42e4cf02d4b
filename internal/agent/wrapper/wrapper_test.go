package wrapper

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	job string
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
	if err := s.PutTask(t); err != nil {
		s.t.Fatal(err)
	}
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
	}, os.Args[0])
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

func TestOfTwoWrappersOfOneStartExactlyOneRuns(t *testing.T) {
	for round := range 8 {
		s := newSite(t)
		s.task(count)
		var wg sync.WaitGroup
		statuses := make([]int, 2)
		for i := range 2 {
			_, script := s.submission(1)
			wg.Go(func() { statuses[i] = s.run(script, strconv.Itoa(100+i)) })
		}
		wg.Wait()
		slices.Sort(statuses)
		if got := s.marks(); got != 1 {
			t.Fatalf("round %d: the program ran %d times, want once", round, got)
		}
		if !slices.Equal(statuses, []int{0, NotRun}) {
			t.Errorf("round %d: exit statuses: got %v, want 0 and %d", round, statuses, NotRun)
		}
	}
}

func TestAStartThatTheAgentOwnsRunsNothing(t *testing.T) {
	for _, requeue := range []bool{false, true} {
		s := newSite(t)
		s.task(count, func(task *spool.Task) { task.Requeue = requeue })
		tag, script := s.submission(1)
		if _, won, err := s.Take(s.job, 0, 1, spool.Claim{Owner: spool.OwnerAgent, Tag: tag}); err != nil || !won {
			t.Fatal(won, err)
		}
		p := s.start(script, "4711")
		if got := p.status(); got != NotRun {
			t.Errorf("requeue %v: exit status: got %d, want %d", requeue, got, NotRun)
		}
		if s.marks() != 0 {
			t.Errorf("requeue %v: the program ran", requeue)
		}
		if got := p.stderr.String(); !strings.Contains(got, "nothing was run") {
			t.Errorf("requeue %v: printed %q, want it to say that nothing was run", requeue, got)
		}
		if s.latest() != nil {
			t.Errorf("requeue %v: a wrapper owns a start, want none", requeue)
		}
	}
}

func TestARequeuedJobRunsAgainOnlyWithPermission(t *testing.T) {
	for _, c := range []struct {
		requeue bool
		runs    int
		status  int
	}{{false, 1, NotRun}, {true, 2, 3}} {
		s := newSite(t)
		s.task(count+"echo $HPCSERA_ATTEMPT >> attempts; exit 3", func(task *spool.Task) { task.Requeue = c.requeue })
		_, script := s.submission(1)
		if got := s.run(script, "4711"); got != 3 {
			t.Fatalf("first run: got status %d, want 3", got)
		}
		if got := s.run(script, "4711"); got != c.status {
			t.Errorf("requeue %v: second run: got status %d, want %d", c.requeue, got, c.status)
		}
		if got := s.marks(); got != c.runs {
			t.Errorf("requeue %v: the program ran %d times, want %d", c.requeue, got, c.runs)
		}
		if got := s.latest().N; got != c.runs {
			t.Errorf("requeue %v: newest start: got %d, want %d", c.requeue, got, c.runs)
		}
		if b, _ := os.ReadFile(s.path("attempts")); string(b) != strings.Join([]string{"1\n", "2\n"}[:c.runs], "") {
			t.Errorf("requeue %v: attempts: got %q, want 1 to %d", c.requeue, b, c.runs)
		}
	}
}

// Only the same native job can have been requeued; another one with the same
// script is a leftover of an unclear submission.
func TestAnotherNativeJobIsNoRequeue(t *testing.T) {
	s := newSite(t)
	s.task(count+"exit 3", func(task *spool.Task) { task.Requeue = true })
	_, script := s.submission(1)
	s.run(script, "4711")
	for _, env := range []string{"SLURM_JOB_ID=4712", "SLURM_CLUSTER_NAME=other"} {
		if got := s.run(script, "4711", env); got != NotRun {
			t.Errorf("%s: got status %d, want %d", env, got, NotRun)
		}
	}
	_, other := s.submission(1)
	if got := s.run(other, "4711"); got != NotRun {
		t.Errorf("same id, other submission: got status %d, want %d", got, NotRun)
	}
	if got := s.marks(); got != 1 {
		t.Errorf("the program ran %d times, want once", got)
	}
}

func TestARequeueAfterTheAgentStoppedTheJobRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count+"exit 3", func(task *spool.Task) { task.Requeue = true })
	tag, script := s.submission(1)
	s.run(script, "4711")
	if _, won, err := s.Take(s.job, 0, 2, spool.Claim{Owner: spool.OwnerAgent, Tag: tag}); err != nil || !won {
		t.Fatal(won, err)
	}
	if got := s.run(script, "4711"); got != NotRun || s.marks() != 1 {
		t.Errorf("got status %d and %d runs, want %d and 1", got, s.marks(), NotRun)
	}
}

// Exit 0 of a program that was told to end is not final: it may have saved its
// work, to go on when the batch system runs it again.
func TestAProgramThatSavedItsWorkOnASignalRunsAgain(t *testing.T) {
	s := newSite(t)
	s.task(count+`[ "$HPCSERA_ATTEMPT" = 1 ] || exit 0; trap 'exit 0' TERM; touch ready; while :; do sleep 0.05; done`, func(task *spool.Task) { task.Requeue = true })
	_, script := s.submission(1)
	p := s.start(script, "4711")
	s.await("the program's start", func() bool { return s.exists("ready") })
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := p.status(); got != 0 {
		t.Fatalf("wrapper's status: got %d, want the program's 0", got)
	}
	if end := s.end(); !end.Told || !end.Success() {
		t.Errorf("end record: got %+v, want exit 0 of a program that was told to end", end)
	}
	if got := s.run(script, "4711"); got != 0 || s.marks() != 2 {
		t.Errorf("requeued: got status %d and %d runs, want 0 and 2", got, s.marks())
	}
	if got := s.run(script, "4711"); got != NotRun || s.marks() != 2 {
		t.Errorf("requeued after it ended of itself: got status %d and %d runs, want %d and 2", got, s.marks(), NotRun)
	}
}

// Exit 0 is final at once, so the job was told to have succeeded by now.
func TestARequeueAfterSuccessRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count, func(task *spool.Task) { task.Requeue = true })
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 {
		t.Fatalf("first run: got status %d, want 0", got)
	}
	if got := s.run(script, "4711"); got != NotRun || s.marks() != 1 {
		t.Errorf("requeued: got status %d and %d runs, want %d and 1", got, s.marks(), NotRun)
	}
}

func TestWhatCannotBeReadRunsNothing(t *testing.T) {
	for name, damage := range map[string]func(*site, string){
		"no task":                 func(s *site, _ string) { os.RemoveAll(filepath.Join(s.Dir(), s.job)) },
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

func TestIndexSelectsTheMember(t *testing.T) {
	s := newSite(t)
	other := hpcsera.NewID("j")
	if err := s.PutTask(spool.Task{Job: other, Directory: s.root, Argv: []string{"/bin/sh", "-c", "echo other >> marks"}}); err != nil {
		t.Fatal(err)
	}
	s.task(count)
	tag := hpcsera.NewID("s")
	script, _, err := s.PutSubmission(spool.Submission{Tag: tag, IDVariables: []string{"SLURM_JOB_ID"}, IndexVariable: "SLURM_ARRAY_TASK_ID",
		Members: []spool.Member{{Job: s.job, N: 1, Attempt: 1}, {Job: other, N: 1, Attempt: 1}}}, os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := s.run(script, "7", "SLURM_ARRAY_TASK_ID=1"); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	if b, _ := os.ReadFile(s.path("marks")); string(b) != "other\n" {
		t.Errorf("ran: got %q, want the second member alone", b)
	}
}

// check lays out a file whose bytes were signed.
func (s *site) check(name, text string) spool.Check {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	return spool.Check{Path: s.path(name), SHA256: hex.EncodeToString(sum[:])}
}

func TestAFileThatIsNotWhatWasSignedRunsNothing(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"another byte":        func(p string) error { return os.WriteFile(p, []byte("signeD"), 0o600) },
		"a byte more":         func(p string) error { return os.WriteFile(p, []byte("signed\n"), 0o600) },
		"nothing":             func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"gone":                os.Remove,
		"a link to something": func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
		"a folder":            func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			checks := []spool.Check{s.check("untouched", "x"), s.check("input", "signed")}
			s.task(count, func(task *spool.Task) { task.Check = checks })
			_, script := s.submission(1)
			if err := change(s.path("input")); err != nil {
				t.Fatal(err)
			}
			if got := s.run(script, "4711"); got == 0 {
				t.Error("got status 0, want an error")
			}
			if s.marks() != 0 {
				t.Error("the program ran")
			}
			if end := s.end(); end.Failure == "" || end.Exit.Code == 0 {
				t.Errorf("end record: got %+v, want a failure that says why", end)
			}
		})
	}
}

func TestASignedFileAsItWasSignedRuns(t *testing.T) {
	s := newSite(t)
	checks := []spool.Check{s.check("input", "signed")}
	s.task(count, func(task *spool.Task) { task.Check = checks })
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 || s.marks() != 1 {
		t.Errorf("got status %d and %d runs, want 0 and 1", got, s.marks())
	}
}

func TestAProgramThatCannotBeStartedIsAFailure(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*spool.Task){
		"no such program":   func(task *spool.Task) { task.Argv = []string{s.path("missing")} },
		"no such directory": func(task *spool.Task) { task.Directory = s.path("missing") },
		"not executable":    func(task *spool.Task) { task.Argv = []string{"/etc/passwd"} },
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

func TestKilledBetweenClaimAndProgramRunsNothingEver(t *testing.T) {
	for _, c := range []struct {
		requeue bool
		runs    int
	}{{false, 0}, {true, 1}} {
		s := newSite(t)
		p, script, _ := s.pausedBeforeProgram(func(task *spool.Task) { task.Requeue = c.requeue })
		p.Process.Kill()
		if got := p.status(); got != 137 {
			t.Fatalf("got status %d, want 137", got)
		}
		if start := s.latest(); start == nil || start.End != nil || start.NativeID != "4711" {
			t.Errorf("got start %+v, want a claim of job 4711 without an end", start)
		}
		// The batch system queues it again; the pipe is a file by now.
		if err := os.Remove(s.path("pipe")); err != nil {
			t.Fatal(err)
		}
		s.check("pipe", "signed")
		s.run(script, "4711")
		if got := s.marks(); got != c.runs {
			t.Errorf("requeue %v: after a native requeue the program ran %d times, want %d", c.requeue, got, c.runs)
		}
	}
}

func TestKilledBetweenEndAndEndRecordDoesNotRunAgain(t *testing.T) {
	s := newSite(t)
	s.task(count + "exit 0")
	_, script := s.submission(1)
	// Opening a pipe for writing waits for a reader: there is none.
	record := filepath.Join(filepath.Dir(s.OutputPath(s.job, 0, 1, "stdout")), ".end")
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(record, 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.start(script, "4711")
	s.await("the program's end", func() bool { return s.marks() == 1 })
	p.Process.Kill()
	p.status()
	if start := s.latest(); start == nil || start.End != nil {
		t.Fatalf("got start %+v, want a claim without an end record", start)
	}
	if got := s.run(script, "4711"); got != NotRun {
		t.Errorf("queued again: got status %d, want %d", got, NotRun)
	}
	if got := s.marks(); got != 1 {
		t.Errorf("the program ran %d times, want once", got)
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

// variables reads what `env -0` printed.
func variables(t *testing.T, s *site) map[string]string {
	t.Helper()
	b, err := os.ReadFile(s.OutputPath(s.job, 0, 1, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, pair := range strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// hostile is an environment that a batch system, a login shell or the agent
// itself might bring along.
func hostile(s *site) []string {
	return []string{
		"BASH_ENV=" + s.path("evil"), "ENV=" + s.path("evil"), "LD_PRELOAD=", "LD_LIBRARY_PATH=/evil", "LD_AUDIT=", "SBATCH_EXPORT=ALL", "SBATCH_GET_USER_ENV=1",
		"SLURM_EXPORT_ENV=ALL", "SSH_AUTH_SOCK=/tmp/agent.1", "HPCSERA_TOKEN=hpcsera_t1_secret", "HPCSERA_AGENT_SERVER=https://evil",
		"HPCSERA_AGENT_STATE_DIR=/evil", "PYTHONPATH=/evil", "PERL5OPT=-Mevil", "PROMPT_COMMAND=evil", "BASH_FUNC_ls%%=() { evil; }", "http_proxy=http://evil",
		"GIT_SSH_COMMAND=evil", "KRB5CCNAME=FILE:/tmp/krb5", "XDG_RUNTIME_DIR=/run/user/0", "IFS=x",
	}
}

func TestOnlyNamedVariablesReachTheProgram(t *testing.T) {
	s := newSite(t)
	s.task("", func(task *spool.Task) {
		task.Argv = []string{"/usr/bin/env", "-0"}
		task.Environment = map[string]string{"OMP_NUM_THREADS": "4"}
	})
	_, script := s.submission(1)
	env := append(hostile(s), "SLURM_NTASKS=4", "USER=alice", "LOGNAME=alice", "TZ=UTC", "TMPDIR=/tmp/job")
	if got := s.run(script, "4711", env...); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	got := variables(t, s)
	want := map[string]string{
		"PATH": defaultPath, "LANG": "C.UTF-8", "HOME": s.root, "USER": "alice", "LOGNAME": "alice", "TZ": "UTC", "TMPDIR": "/tmp/job",
		"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "HPCSERA_ATTEMPT": "1", "OMP_NUM_THREADS": "4",
	}
	for name, value := range got {
		if want[name] != value || want[name] == "" {
			t.Errorf("%s=%q reached the program, want %q", name, value, want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s did not reach the program", name)
		}
	}
}

func TestSignedVariablesReachTheProgramAndWin(t *testing.T) {
	s := newSite(t)
	signed := map[string]string{"BASH_ENV": "/signed", "PATH": "/signed/bin", "SLURM_EXPORT_ENV": "NONE", "HOME": "/signed/home", "SLURM_JOB_ID": "signed"}
	s.task("", func(task *spool.Task) {
		task.Argv, task.Environment = []string{"/usr/bin/env", "-0"}, signed
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711", hostile(s)...); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	got := variables(t, s)
	for name, want := range signed {
		if got[name] != want {
			t.Errorf("%s: got %q, want the signed %q", name, got[name], want)
		}
	}
}

// BASH_ENV is a file that bash obeys before its script.
func TestNothingFromTheEnvironmentRunsBesideTheScript(t *testing.T) {
	s := newSite(t)
	if err := os.WriteFile(s.path("evil"), []byte("touch "+s.path("hacked")+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := s.path("script.sh")
	if err := os.WriteFile(script, []byte(count), 0o700); err != nil {
		t.Fatal(err)
	}
	s.task("", func(task *spool.Task) { task.Argv = []string{"/bin/bash", script} })
	_, submission := s.submission(1)
	if got := s.run(submission, "4711", hostile(s)...); got != 0 || s.marks() != 1 {
		t.Errorf("got status %d and %d runs, want 0 and 1", got, s.marks())
	}
	if s.exists("hacked") {
		t.Error("BASH_ENV was obeyed")
	}
}

// nasty are values that a shell would obey somewhere.
var nasty = []string{
	"$(touch hacked)", "`touch hacked`", "'; touch hacked #", "\"; touch hacked; \"", "a\nb\n", "\n", "", " ", "*", "~", "-rf", "--", "$HOME", "${HOME}", "%s%n",
	"\\", "a\\nb", "\x01\x1b[31m", "ünï\u202ecode", "&& touch hacked", "| touch hacked", "> hacked", "!!", strings.Repeat("x", 10_000),
}

func TestValuesArriveAsData(t *testing.T) {
	s := newSite(t)
	env := map[string]string{}
	for i, v := range nasty {
		env[fmt.Sprintf("value_%d", i)] = v
	}
	s.task("", func(task *spool.Task) {
		task.Argv = append([]string{"/bin/sh", "-c", `printf '%s\0' "$@"; env -0 >&2`, "sh"}, nasty...)
		task.Environment = env
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	out, err := os.ReadFile(s.OutputPath(s.job, 0, 1, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(nasty, "\x00") + "\x00"; string(out) != want {
		t.Errorf("arguments: got %.500q, want %.500q", out, want)
	}
	seen, err := os.ReadFile(s.OutputPath(s.job, 0, 1, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		if !bytes.Contains(append([]byte{0}, seen...), []byte("\x00"+name+"="+value+"\x00")) {
			t.Errorf("variable %s: got another value than %.500q", name, value)
		}
	}
	if s.exists("hacked") {
		t.Error("a value was obeyed by a shell")
	}
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
