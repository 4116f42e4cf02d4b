// Package schedulertest is the one suite that judges every driver against its
// real batch system, through scheduler.Scheduler as the agent uses it. What it
// does not test is not promised. A bug found in one driver becomes a case for
// all.
package schedulertest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Harness is one real batch system.
type Harness struct {
	// New returns a Scheduler of the system, after change (nil: none) has
	// changed its configuration.
	New func(t *testing.T, change func(*scheduler.Config)) *scheduler.Scheduler
	// Dir is a folder that the system's nodes see too.
	Dir string
	// Limit is the shortest time limit the system knows.
	Limit hpcsera.Duration
	// Waiting turns a submission into one that stays in the queue until
	// something is done to it.
	Waiting func(t *testing.T, s *scheduler.Scheduler, sub *scheduler.Submission)
	// Submit, Queue and History are the names of those commands; History is
	// empty where there is none.
	Submit, Queue, History string
	// HistoryOption is the argument that makes one command the history's where
	// Queue and History are the same.
	HistoryOption string
	// BadQueue are the words with which the system refuses the queue "nosuch".
	BadQueue string
	// Leaves says that ended jobs leave the queue's listing within seconds.
	Leaves bool
	// Requeue makes the system put a running job back into its queue. nil where
	// it cannot.
	Requeue func(id string) error
	// Arrays is how many members an array of the system has at most; 0 where
	// there are no arrays.
	Arrays int
	// Forgets says that a job which is cancelled before it ran leaves no trace:
	// it is absent then.
	Forgets bool
	// CancelIsKill says that the system tells a running job that was cancelled as
	// one that SIGKILL ended.
	CancelIsKill bool
	// NoDefault says that the system has no default queue.
	NoDefault bool
	// Crash returns another instance of the system, of which the controller can
	// be killed. nil where there is no controller.
	Crash func(t *testing.T) (*scheduler.Scheduler, Controller)
}

// Main is TestMain of a package that runs the suite. Fuzzing keeps its number
// of workers: 64 of them do not fit into every memory.
func Main(m *testing.M) {
	flag.Parse()
	if fuzz := flag.Lookup("test.fuzz"); fuzz == nil || fuzz.Value.String() == "" {
		if err := flag.Set("test.parallel", "64"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// Folder returns a folder for the test's jobs. It is not t.TempDir, which fails a
// test when something is still written there: a job that was cancelled ends when
// its batch system gets to it.
func Folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hpcsera-suite-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 10 {
			if os.RemoveAll(dir) == nil {
				return
			}
		}
	})
	return dir
}

// Controller is the daemon of a batch system.
type Controller interface {
	Kill(t *testing.T)            // with SIGKILL
	KillAndRemember(t *testing.T) // and keeps a copy of its saved state
	Start(t *testing.T)           // and waits until it answers
	StartFromCopy(t *testing.T)   // having forgotten what came after the copy
}

// Run runs the suite on a real system; what a driver makes of bad input is
// [RunBadInput]'s, without one. It runs all cases beside each other: they wait more than they
// compute, so run them with -parallel far above the number of cores (see Main).
func Run(t *testing.T, h Harness) {
	cases := []struct {
		name string
		skip bool // not offered by this system
		run  func(t *testing.T, h Harness)
	}{
		{"the exit code of an ended job is told", false, exitCodes},
		{"a job sees its id, its folder and no foreign variable", false, jobEnvironment},
		{"a signal is told as signal", false, signalled},
		{"a time limit is told as timeout", false, timeLimit},
		{"a waiting job is queued, and never runs once cancelled", false, cancelQueued},
		{"a job held at its submission runs only after its release", false, heldAtSubmission},
		{"a queued job is held and released", false, holdAndRelease},
		{"a running job is not held", false, holdRunning},
		{"a cancelled job ends with all its processes", false, cancelRunning},
		{"a job that may be requeued counts its restarts", h.Requeue == nil, requeued},
		{"a job that must not be requeued is not", h.Requeue == nil, notRequeued},
		{"a queue that does not exist is refused in the system's words", false, refusedQueue},
		{"many jobs cost one query", false, manyJobs},
		{"each member of an array is a job of its own", h.Arrays == 0, arrayMembers},
		{"one member of a waiting array is cancelled", h.Arrays == 0, cancelMember},
		{"a waiting array is cancelled as a whole, and stays so", h.Arrays == 0, cancelArray},
		{"an array that is too large is refused, and nothing is queued", h.Arrays == 0, arrayTooLarge},
		{"only the very same job is found", false, identity},
		{"an action on another job's id does nothing", false, actOnOthers},
		{"an action on a job that is gone is no error", false, actOnGone},
		{"a query that fails, hangs or breaks off in the midst of its answer is an error", false, brokenQueries},
		{"a history that fails hides nothing of the queue", h.History == "", brokenHistory},
		{"a job that left the queue keeps its end, or is absent", !h.Leaves, leftQueue},
		{"a job queued after its submit command was killed is found by its tag", false, lateSubmission},
		{"a probe tells the queues", false, probe},
		{"a controller's crash ends no job, and mixes none up", h.Crash == nil, crash},
	}
	for _, c := range cases {
		if c.skip {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, h)
		})
	}
}

// RunCrash runs the case of the controller's crash alone, for a system that a
// machine has only once: nothing else may use it meanwhile.
func RunCrash(t *testing.T, h Harness) { crash(t, h) }

// patience is how long a case waits for what must come. Nothing is measured
// by it.
const patience = 3 * time.Minute

// bench is what a case works with.
type bench struct {
	*testing.T
	s   *scheduler.Scheduler
	dir string
}

func newBench(t *testing.T, h Harness, s *scheduler.Scheduler) *bench {
	t.Helper()
	dir, err := os.MkdirTemp(h.Dir, "case-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if s == nil {
		s = h.New(t, nil)
	}
	return &bench{T: t, s: s, dir: dir}
}

// job makes a submission with a script of its own. The script's first line is
// #!/bin/sh.
func (b *bench) job(script string) scheduler.Submission {
	b.Helper()
	tag := hpcsera.NewID("s")
	sub := scheduler.Submission{Tag: tag, Script: b.file(tag + ".sh"), Directory: b.dir, Output: b.file(tag + ".out"), Comment: "suite"}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		b.Fatal(err)
	}
	return sub
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// submit submits and cancels at the end of the case what is left.
func (b *bench) submit(sub scheduler.Submission) scheduler.Ref {
	b.Helper()
	return b.submitAll(sub)[0]
}

// submitAll is submit for an array.
func (b *bench) submitAll(sub scheduler.Submission) []scheduler.Ref {
	b.Helper()
	refs, err := b.s.Submit(b.Context(), sub)
	if err != nil {
		b.Fatalf("submit: %v", err)
	}
	seen := map[string]bool{}
	for _, ref := range refs {
		if ref.Tag != sub.Tag || ref.ID == "" || seen[ref.ID] {
			b.Fatalf("submit: got %+v, want an id of its own for each member and the tag %s", refs, sub.Tag)
		}
		seen[ref.ID] = true
	}
	b.cancelLater(refs...)
	return refs
}

func (b *bench) cancelLater(refs ...scheduler.Ref) {
	b.Cleanup(func() {
		if err := b.s.Act(context.Background(), scheduler.Cancel, refs); err != nil {
			b.Logf("clean up %s: %v", refs[0].Tag, err)
		}
	})
}

func (b *bench) act(a scheduler.Action, refs ...scheduler.Ref) {
	b.Helper()
	if err := b.s.Act(b.Context(), a, refs); err != nil {
		b.Fatalf("%s %v: %v", a, refs, err)
	}
}

// status asks for one job; found is false when it is absent.
func (b *bench) status(ref scheduler.Ref) (st scheduler.Status, found bool) {
	b.Helper()
	answer, err := b.s.Statuses(b.Context(), []scheduler.Ref{ref})
	if err != nil {
		b.Fatalf("statuses: %v", err)
	}
	st, found = answer[ref]
	return st, found
}

// await asks until the job is in one of the phases.
func (b *bench) await(ref scheduler.Ref, phases ...scheduler.Phase) scheduler.Status {
	b.Helper()
	var last scheduler.Status
	b.until(fmt.Sprintf("%s is %v", ref.Tag, phases), func() bool {
		st, found := b.status(ref)
		if !found {
			b.Fatalf("%+v is absent; before, it was %+v", ref, last)
		}
		last = st
		for _, p := range phases {
			if st.Phase == p {
				return true
			}
		}
		if st.Phase == scheduler.PhaseEnded {
			b.Fatalf("got the end %+v, want %v", st, phases)
		}
		return false
	})
	return last
}

// ended waits for the end and compares what is told of it.
func (b *bench) ended(ref scheduler.Ref, reason hpcsera.Reason, exit *hpcsera.Exit) scheduler.Status {
	b.Helper()
	st := b.await(ref, scheduler.PhaseEnded)
	if st.Reason != reason {
		b.Errorf("reason of %s: got %q, want %q", st.Native, st.Reason, reason)
	}
	if (st.Exit == nil) != (exit == nil) || exit != nil && *st.Exit != *exit {
		b.Errorf("exit of %s: got %+v, want %+v", st.Native, st.Exit, exit)
	}
	return st
}

// cancelledWaiting waits for the end of a job that was cancelled before it ran.
func (b *bench) cancelledWaiting(h Harness, ref scheduler.Ref) {
	b.Helper()
	if !h.Forgets {
		b.ended(ref, hpcsera.CancelledByUser, nil)
		return
	}
	b.until("the cancelled job is absent", func() bool {
		st, found := b.status(ref)
		if found && st.Phase == scheduler.PhaseEnded {
			b.Fatalf("got the end %+v, want %+v absent", st, ref)
		}
		return !found
	})
}

// cancelledRunning waits for the end of a job that was cancelled while it ran.
func (b *bench) cancelledRunning(h Harness, ref scheduler.Ref) scheduler.Status {
	b.Helper()
	if h.CancelIsKill {
		return b.ended(ref, "", &hpcsera.Exit{Signal: int(syscall.SIGKILL)})
	}
	return b.ended(ref, hpcsera.CancelledByUser, nil)
}

func (b *bench) until(what string, done func() bool) {
	b.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-deadline.C:
			b.Fatalf("waited %v in vain until %s", patience, what)
		case <-again.C:
		}
	}
}

func (b *bench) exists(name string) bool {
	_, err := os.Stat(b.file(name))
	return err == nil
}

func (b *bench) read(name string) string {
	b.Helper()
	text, err := os.ReadFile(b.file(name))
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// history is script for the history's command.
func (b *bench) history(h Harness, text string) string {
	b.Helper()
	if h.HistoryOption != "" {
		text = `case " $* " in *" ` + h.HistoryOption + ` "*) ` + text + " ;; *) exec " + h.path(b.T, h.History) + ` "$@" ;; esac`
	}
	return b.script(text)
}

// script writes an executable that stands for a command of the batch system.
func (b *bench) script(text string) string {
	b.Helper()
	return writeScript(b.T, b.file(hpcsera.NewID("s")), text)
}

// writeScript has a process of its own write an executable: a file that this one
// had open for writing could be open in a child that another case starts, and
// what is open for writing cannot be run (ETXTBSY).
func writeScript(t *testing.T, path, text string) string {
	t.Helper()
	write := exec.Command("/bin/sh", "-c", `printf '#!/bin/sh\n%s\n' "$1" >"$2" && chmod 700 "$2"`, "sh", text, path)
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}
