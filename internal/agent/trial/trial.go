// Package trial holds a user's batch system to what the agent relies on: it
// runs the suite of package schedulertest there, as `hpcsera-agent doctor
// --jobs` and for a bug report.
//
// A trial is safe on a system that others use. Its cases run one after the
// other, submit a few jobs of one core and a short limit of time, and stay
// within the agent's budget of commands. Each job's name is a tag that stands in
// the trial's folder before it is submitted; when the trial ends, also by
// Ctrl-C, every tag of the folder is cancelled, and what a killed trial left the
// next one cancels first.
package trial

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// Limit is how long one of the trial's jobs may run: most end within a second,
// some wait for a word.
const Limit = 5 * time.Minute

// Between two questions about a job.
const askEvery = 2 * time.Second

// Trial is one run of the suite on a site.
type Trial struct {
	Batch    *scheduler.Scheduler
	Dir      string                      // of its own, which the nodes see too
	Patience time.Duration               // with one job, which may have to wait in the queue
	Job      func(*scheduler.Submission) // gives each job what this site wants, such as a queue; it may be nil
	Only     string                      // in the names of the cases to run; "" is all
	Begin    func(name string)           // a case begins; it may be nil
	Tell     func(Outcome)               // it has ended
}

// Outcome is how a case went.
type Outcome struct {
	Case    string   `json:"case"`
	OK      bool     `json:"ok"`
	Skipped bool     `json:"skipped,omitempty"` // the trial was interrupted before
	Seconds float64  `json:"seconds"`
	Seen    []string `json:"seen,omitempty"` // what was seen, and what was wanted instead
}

// Cases returns what would be run.
func (r *Trial) Cases() []schedulertest.Case {
	var cases []schedulertest.Case
	for _, c := range schedulertest.Cases(r.harness(r.Batch.Traits())) {
		if strings.Contains(c.Name, r.Only) {
			cases = append(cases, c)
		}
	}
	return cases
}

// Jobs is how many jobs it would submit at most.
func (r *Trial) Jobs() (n int) {
	for _, c := range r.Cases() {
		n += c.Jobs
	}
	return n
}

func (r *Trial) harness(traits scheduler.Traits) schedulertest.Harness {
	return schedulertest.Harness{
		Traits: traits, Dir: r.Dir,
		New: func(_ schedulertest.T, change func(*scheduler.Config)) *scheduler.Scheduler {
			return r.Batch.With(change)
		},
		Site: &schedulertest.Site{Ask: askEvery, Patience: r.Patience, Job: func(sub *scheduler.Submission) {
			if r.Job != nil {
				r.Job(sub)
			}
			sub.Attributes.Duration = hpcsera.Duration(Limit)
		}},
	}
}

// Run runs the cases and returns whether all went well. An error means that
// there was no trial. It ends soon after ctx, but not before its jobs are
// cancelled.
func (r *Trial) Run(ctx context.Context) (bool, error) {
	unlock, err := r.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	well := r.tidy(ctx, "what an earlier trial left is cancelled")
	harness := r.harness(r.traits(ctx))
	for _, c := range r.Cases() {
		if ctx.Err() != nil {
			well = false
			r.Tell(Outcome{Case: c.Name, Skipped: true})
			continue
		}
		well = r.one(ctx, c.Name, func(t schedulertest.T) { c.Run(t, harness) }) && well
	}
	return r.tidy(ctx, "nothing is left behind") && well, nil
}

// traits are the system's, and whether this site keeps a history.
func (r *Trial) traits(ctx context.Context) scheduler.Traits {
	traits := r.Batch.Traits()
	asked := r.Batch.With(nil)
	if _, err := asked.Statuses(ctx, []scheduler.Ref{{Tag: hpcsera.NewID("s"), ID: "999999"}}); err == nil && !asked.KeepsHistory() {
		traits.History = ""
	}
	return traits
}

// one runs one case.
func (r *Trial) one(ctx context.Context, name string, run func(schedulertest.T)) bool {
	if r.Begin != nil {
		r.Begin(name)
	}
	t := newReporter(ctx)
	began := time.Now()
	t.judge(run)
	o := Outcome{Case: name, OK: !t.failed, Seconds: time.Since(began).Round(100 * time.Millisecond).Seconds(), Seen: t.seen}
	r.Tell(o)
	return o.OK
}

// lock makes the folder and keeps other trials out of it: they would cancel
// each other's jobs.
func (r *Trial) lock() (unlock func(), err error) {
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the trial's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(r.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the trial's folder: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, hpcsera.Errorf(hpcsera.Conflict, "another doctor runs in %s.", r.Dir).Hint("Wait for its end, on this host or another one.")
	}
	return func() { f.Close() }, nil
}
