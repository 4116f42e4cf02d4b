package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera"
)

const (
	// pollTime is how long one request waits for a change of a job.
	pollTime = 30 * time.Second
	// takeBackTime bounds what a command still does when it is to end.
	takeBackTime = 10 * time.Second
	// outputTime bounds the wait for the rest of a job's output after its end.
	outputTime = 2 * time.Minute
)

// watcher follows one job to its end: it shows each state as it comes and,
// where asked to, the job's output while it runs.
type watcher struct {
	app   *app
	s     *session
	logs  bool
	raw   bool
	quiet bool // show no states
	// lines: standard output has the job's events, one a line, and its output
	// goes to standard error.
	lines bool
	// approvals: a job that waits for an approval is waited for as any other;
	// otherwise that ends the watch with errUnapproved.
	approvals bool

	job      hpcsera.Job
	told     int64  // the last event on standard output
	shown    string // the last line, so that none is shown twice
	warnings map[string]bool
	tails    []*tail
	attempt  int // whose output the last tail follows
}

func (a *app) newWatcher(s *session, job hpcsera.Job) *watcher {
	return &watcher{app: a, s: s, job: job, warnings: map[string]bool{}}
}

// follow returns the job when it has ended, or ctx's cause. What a server
// that could not be reached for a while has missed is asked for again.
func (w *watcher) follow(ctx context.Context) (hpcsera.Job, error) {
	tails, stop := context.WithCancel(ctx)
	defer w.stopTails(stop)
	w.present(w.job)
	if err := w.tellEvents(ctx); err != nil {
		return w.job, err
	}
	for !w.job.State.Final() {
		if waitsForApproval(w.job) && !w.approvals {
			return w.job, errUnapproved
		}
		w.startTail(tails)
		job, err := w.s.Wait(ctx, w.job.ID, w.job.Version, pollTime)
		if err != nil {
			return w.job, err
		}
		if job.Version == w.job.Version {
			continue
		}
		w.catchUp(ctx, job)
		w.job = job
		w.present(job)
		if err := w.tellEvents(ctx); err != nil {
			return w.job, err
		}
	}
	w.startTail(tails)
	w.finishTails(ctx)
	return w.job, nil
}

// catchUp shows the states between the last known version and job's, which
// one answer skips when they come quickly.
func (w *watcher) catchUp(ctx context.Context, job hpcsera.Job) {
	list, err := w.s.Events(ctx, job.ID, w.job.Version, 1000)
	if err != nil {
		return // the state itself is shown all the same
	}
	for _, e := range list.Events {
		if e.Seq < job.Version && e.Type == "job.state" {
			w.present(hpcsera.Job{State: e.State, Reason: e.Reason, Message: e.Message, Attempt: e.Attempt})
		}
	}
}

// tellEvents shows, with lines, the events that are new, one a line. A program
// counts on each of them: one that cannot be had is an error.
func (w *watcher) tellEvents(ctx context.Context) error {
	for w.lines {
		list, err := w.s.Events(ctx, w.job.ID, w.told, 1000)
		if err != nil {
			return err
		}
		for _, e := range list.Events {
			if err := w.app.showLine(e); err != nil {
				return err
			}
		}
		if len(list.Events) == 0 || list.Next <= w.told {
			break
		}
		w.told = list.Next
	}
	return nil
}

// present shows a job's state in a line, unless the last line said the same.
func (w *watcher) present(job hpcsera.Job) {
	if w.quiet {
		return
	}
	line := w.app.screen.state(job.State)
	if why := situation(job); why != "" {
		line += " " + why
	}
	if job.Attempt > 1 {
		line += fmt.Sprintf(", start %d", job.Attempt)
	}
	if line != w.shown {
		w.shown = line
		w.app.screen.say("%s %s", w.app.screen.dim(time.Now().Format("15:04:05")), line)
	}
	for _, warning := range job.Warnings {
		if !w.warnings[warning] {
			w.warnings[warning] = true
			w.app.screen.say("warning: %s", clean(warning))
		}
	}
}

// startTail follows the output of the job's attempt once it can have some.
func (w *watcher) startTail(ctx context.Context) {
	quiet := w.job.State == hpcsera.Pending || w.job.State == hpcsera.Held || w.job.State == hpcsera.Queued
	if !w.logs || quiet || w.job.Attempt <= w.attempt {
		return
	}
	if w.job.State.Final() && w.job.Times.Delivered == nil {
		return // it never got anywhere
	}
	w.attempt = w.job.Attempt
	out, err := w.app.screen.sink(w.lines, w.raw), w.app.screen.sink(true, w.raw)
	w.tails = append(w.tails, startTail(ctx, w.s, w.job, out, err))
}

// finishTails waits for the rest of the output. Whatever goes wrong with it,
// the job's end counts.
func (w *watcher) finishTails(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, outputTime, errLateOutput)
	defer cancel()
	var failed error
	for _, t := range w.tails {
		failed = errors.Join(failed, t.wait(ctx))
	}
	if failed != nil {
		w.app.screen.say("hpcsera: the job's output could not be shown to its end: %s Read it with: hpcsera logs %s",
			fullStop(clean(failed.Error())), w.job.ID)
	}
}

// errUnapproved says that the watched job waits for an approval.
var errUnapproved = errors.New("it waits for an approval")

var errLateOutput = errors.New("its end did not come")

// stopTails ends what still follows.
func (w *watcher) stopTails(stop context.CancelFunc) {
	stop()
	for _, t := range w.tails {
		<-t.done
	}
}
