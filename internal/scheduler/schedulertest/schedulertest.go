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
	"flag"
	"os"
	"time"

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
	// Ask is the time between two queries. Default: 300 ms.
	Ask time.Duration
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
		{"a query that fails, hangs or breaks off in the midst of its answer is an error", h.Queue != "", 1, brokenQueries},
		{"a history that fails hides nothing of the queue", h.History != "", 1, brokenHistory},
		{"a job that left the queue keeps its end, or is absent", h.Leaves, 2, leftQueue},
		{"a job queued after its submit command was killed is found by its tag", h.Submit != "", 1, lateSubmission},
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
