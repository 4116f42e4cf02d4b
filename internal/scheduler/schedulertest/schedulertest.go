// Package schedulertest is the one suite that judges every driver against its
// real batch system, through scheduler.Scheduler as the agent uses it. What it
// does not test is not promised. A bug found in one driver becomes a case for
// all.
//
// Tests run it on test beds, and `hpcsera-agent doctor --jobs` on a user's
// site, which is why nothing here imports package testing.
package schedulertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// T is what a case needs of a test: a *testing.T, or what the doctor has for it.
// Fatal and Fatalf end the case; Context ends before the clean-up.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Logf(format string, args ...any)
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// Harness is one real batch system.
type Harness struct {
	scheduler.Traits
	// New returns a Scheduler of the system, after change (nil: none) has
	// changed its configuration.
	New func(t T, change func(*scheduler.Config)) *scheduler.Scheduler
	// Dir is a folder that the system's nodes see too.
	Dir string
	// Waiting turns a submission into one that stays in the queue until
	// something is done to it. Default: the custom attributes of Traits.Waits.
	Waiting func(t T, s *scheduler.Scheduler, sub *scheduler.Submission)
	// Requeue makes the system put a running job back into its queue. nil where
	// it cannot.
	Requeue func(id string) error
	// Crash returns another instance of the system, of which the controller can
	// be killed. nil where there is no controller.
	Crash func(t T) (*scheduler.Scheduler, Controller)

	// Site is set where the system is not the test's own.
	Site *Site
}

// Site is how cases behave on a batch system that others use too: they submit
// less, ask less often and wait longer.
type Site struct {
	Ask      time.Duration               // between two queries
	Patience time.Duration               // with one job
	Job      func(*scheduler.Submission) // gives each job its queue, account and limit of time
}

// Main is TestMain of a package that runs the suite. Fuzzing keeps its number
// of workers: 64 of them do not fit into every memory.
func Main(m interface{ Run() int }) {
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
func Folder(t T) string {
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
	Kill(T)            // with SIGKILL
	KillAndRemember(T) // and keeps a copy of its saved state
	Start(T)           // and waits until it answers
	StartFromCopy(T)   // having forgotten what came after the copy
}

// Case is one promise.
type Case struct {
	Name string
	Jobs int // that it submits at most
	run  func(t T, h Harness)
}

// Run holds the system to the promise.
func (c Case) Run(t T, h Harness) { c.run(t, h) }

// Cases are those that the system can be held to: on a site none that takes
// other rights than a user's, or more than a few jobs.
func Cases(h Harness) []Case {
	lab, waits := h.Site == nil, h.Waiting != nil || h.Waits != nil
	all := []struct {
		name string
		can  bool // by what the system offers
		jobs int
		run  func(t T, h Harness)
	}{
		{"the exit code of an ended job is told", true, 2, exitCodes},
		{"a job sees its id, its folder and no foreign variable", true, 1, jobEnvironment},
		{"a signal is told as signal", true, 1, signalled},
		{"a time limit is told as timeout", h.Limit > 0, 1, timeLimit},
		{"a waiting job is queued, and never runs once cancelled", waits, 1, cancelQueued},
		{"a job held at its submission runs only after its release", true, 2, heldAtSubmission},
		{"a queued job is held and released", waits, 1, holdAndRelease},
		{"a running job is not held", true, 1, holdRunning},
		{"a cancelled job ends with all its processes", true, 1, cancelRunning},
		{"a job that may be requeued counts its restarts", lab && h.Requeue != nil, 1, requeued},
		{"a job that must not be requeued is not", lab && h.Requeue != nil, 1, notRequeued},
		{"a queue that does not exist is refused in the system's words", true, 0, refusedQueue},
		{"many jobs cost one query", true, h.many(), manyJobs},
		{"each member of an array is a job of its own", h.Arrays > 0, 4, arrayMembers},
		{"one member of a waiting array is cancelled", h.Arrays > 0 && waits, 3, cancelMember},
		{"a waiting array is cancelled as a whole, and stays so", h.Arrays > 0 && waits, 3, cancelArray},
		{"an array that is too large is refused, and nothing is queued", lab && h.Arrays > 0, h.Arrays + 1, arrayTooLarge},
		{"only the very same job is found", true, 1, identity},
		{"an action on another job's id does nothing", true, 1, actOnOthers},
		{"an action on a job that is gone is no error", true, 1, actOnGone},
		{"a query that fails, hangs, lies or breaks off is an error", h.Queue != "", 1, brokenQueries},
		{"a history that fails hides nothing of the queue", h.History != "", 1, brokenHistory},
		{"a job that left the queue keeps its end, or is absent", h.Leaves, 2, leftQueue},
		{"a job queued after its submit command was killed is found by its tag", h.Submit != "", 1, lateSubmission},
		{"a missing submit command is certain to have queued nothing", h.Submit != "", 0, missingCommand},
		{"a probe tells the queues", true, 0, probe},
		{"a controller's crash ends no job, and mixes none up", lab && h.Crash != nil, 6, crash},
	}
	var cases []Case
	for _, c := range all {
		if c.can {
			cases = append(cases, Case{c.name, c.jobs, c.run})
		}
	}
	return cases
}

// Run runs the suite in a test S, which is a *testing.T, all cases beside each
// other: they wait more than they compute, so run them with -parallel far above
// the number of cores (see Main).
func Run[S interface {
	T
	Run(name string, f func(S)) bool
	Parallel()
}](t S, h Harness) {
	for _, c := range Cases(h) {
		t.Run(c.Name, func(t S) {
			t.Parallel()
			c.Run(t, h)
		})
	}
}

// RunCrash runs the case of the controller's crash alone, for a system that a
// machine has only once: nothing else may use it meanwhile.
func RunCrash(t T, h Harness) { crash(t, h) }

// patience is how long a case waits for what must come. Nothing is measured
// by it.
const patience = 3 * time.Minute

// many is how many jobs are many.
func (h Harness) many() int {
	if h.Site != nil {
		return 5
	}
	return 20
}

// bench is what a case works with.
type bench struct {
	T
	h   Harness
	s   *scheduler.Scheduler
	dir string
}

func newBench(t T, h Harness, s *scheduler.Scheduler) *bench {
	t.Helper()
	dir, err := os.MkdirTemp(h.Dir, "case-")
	if err != nil {
		t.Fatal(err)
	}
	if h.Site == nil { // else it names what was submitted, until that is certainly gone
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	if s == nil {
		s = h.New(t, nil)
	}
	return &bench{T: t, h: h, s: s, dir: dir}
}

// job makes a submission with a script of its own. The script's first line is
// #!/bin/sh.
func (b *bench) job(script string) scheduler.Submission {
	b.Helper()
	tag := hpcsera.NewID("s")
	sub := scheduler.Submission{Tag: tag, Script: b.file(tag + ".sh"), Directory: b.dir, Output: b.file(tag + ".out"), Comment: "suite"}
	if b.h.Site != nil {
		b.h.Site.Job(&sub)
	}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		b.Fatal(err)
	}
	return sub
}

func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// waiting makes a submission stay in the queue.
func (b *bench) waiting(sub *scheduler.Submission) {
	if b.h.Waiting != nil {
		b.h.Waiting(b.T, b.s, sub)
		return
	}
	custom := maps.Clone(b.h.Waits)
	maps.Copy(custom, sub.Custom)
	sub.Custom = custom
}

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
		if _, refused := errors.AsType[*scheduler.Refused](err); !refused {
			b.cancelLater(scheduler.Ref{Tag: sub.Tag})
		}
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
	patience, ask := patience, 300*time.Millisecond
	if b.h.Site != nil {
		patience, ask = b.h.Site.Patience, b.h.Site.Ask
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(ask)
	defer again.Stop()
	for !done() {
		select {
		case <-b.Context().Done():
			b.Fatalf("interrupted while waiting until %s", what)
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

// read returns what a job wrote, once it is to be seen from here.
func (b *bench) read(name string) string {
	b.Helper()
	b.until(name+" is seen", func() bool { return b.exists(name) })
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
	path := b.file(hpcsera.NewID("s"))
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		b.Fatal(err)
	}
	return path
}
