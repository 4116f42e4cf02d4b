package agent

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/agent/wrapper"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// verb is what to do next for a job.
type verb string

const (
	doNothing  verb = ""
	doStage    verb = "stage"    // verify, fetch, lay out
	doSubmit   verb = "submit"   // hand the current step to its batch system
	doLook     verb = "look"     // read claim and end record from the spool
	doBlock    verb = "block"    // take the start claim, so that this submission cannot run any more
	doCancel   verb = "cancel"   // natively
	doHold     verb = "hold"     // natively
	doRelease  verb = "release"  // natively
	doRequeued verb = "requeued" // the batch system queued it again after a start
	doAdvance  verb = "advance"  // to the next step
	doConclude verb = "conclude" // the job's steps have ended
	doCollect  verb = "collect"  // rest of the log, artifacts, result
	doFinish   verb = "finish"   // the final fact
)

// action is a decision: a verb, and the outcome that holds once it is done
// (of doConclude at once, of doBlock when the claim was won).
type action struct {
	do      verb
	outcome *journal.Outcome
}

// patience are the waits of decisions. Tests shorten them.
type patience struct {
	absence time.Duration // between two answers that count as absent; three make a job vanished
	record  time.Duration // for an end record after the batch system said that the job ended
	act     time.Duration // before a native cancel, hold or release is repeated
}

var defaultPatience = patience{absence: time.Minute, record: 10 * time.Second, act: 20 * time.Second}

// decide is the whole life of a job as a pure function: what to do next,
// given what is known. open says that this instance spoke to the server since
// its last loss of contact: without, nothing is submitted.
func (j *job) decide(now time.Time, open bool, p patience) action {
	switch {
	case j.final || j.busy || now.Before(j.retryAt):
		return action{}
	case j.outcome != nil && j.tag != "" && j.looked.IsZero():
		return action{do: doLook} // what it left behind is found by its start
	case j.outcome != nil && j.collected == nil:
		return action{do: doCollect}
	case j.outcome != nil:
		return action{do: doFinish}
	case j.tag == "":
		return j.decideUnsubmitted(now, open)
	case j.start != nil && (j.start.N != j.requeued || j.start.End.Done()):
		return j.decideStarted(now, p)
	}
	return j.decideSubmitted(now, p)
}

func (j *job) decideUnsubmitted(now time.Time, open bool) action {
	switch {
	case j.order.Desired == hpcsera.DesiredCancel:
		return conclude(hpcsera.Cancelled, hpcsera.CancelledByUser, "", nil)
	case j.verdict == nil:
		return action{do: doStage}
	case j.order.Desired == hpcsera.DesiredHold || !open || now.Before(j.submitAt):
		return action{}
	}
	return action{do: doSubmit}
}

// decideSubmitted: the submission was made or tried, and no wrapper is known
// to own its start.
func (j *job) decideSubmitted(now time.Time, p patience) action {
	look, wait := j.record(now, p)
	switch {
	case j.looked.IsZero():
		return action{do: doLook} // a start of before this process
	case j.native == nil:
		// The submit command's answer is unknown: if the claim can be taken, that
		// submission can never run, and another one may be made.
		return action{do: doBlock}
	case j.cancelledBy() != "":
		return action{do: doBlock, outcome: outcome(hpcsera.Cancelled, j.cancelledBy(), "", nil)}
	case look || j.phase() == scheduler.PhaseRunning && j.looked.Before(j.asked):
		return action{do: doLook} // it runs: its doorbell may be lost
	case wait:
		return action{}
	case !j.endedAt.IsZero():
		return action{do: doBlock, outcome: j.neverRan()}
	case j.absent >= 3 && j.start != nil:
		return action{do: doBlock, outcome: j.neverRanAgain(nil)}
	case j.absent >= 3:
		return action{do: doBlock, outcome: outcome(hpcsera.Failed, hpcsera.LostByScheduler,
			"The batch system does not know this job any more, and it never started.", nil)}
	case j.order.Desired == hpcsera.DesiredHold && j.phase() == scheduler.PhaseQueued && now.Sub(j.acted) > p.act:
		return action{do: doHold}
	case j.order.Desired == hpcsera.DesiredRun && j.phase() == scheduler.PhaseHeld && j.held && now.Sub(j.acted) > p.act:
		return action{do: doRelease}
	}
	return action{}
}

// decideStarted: a wrapper owns the start.
func (j *job) decideStarted(now time.Time, p patience) action {
	end, fresh := j.start.End, j.asked.After(j.looked)
	// Some batch systems answer with what was true some seconds ago: before the start.
	queuedAgain := j.saidToWait() && j.asked.After(j.looked.Add(p.record))
	ended, gone := !j.endedAt.IsZero(), j.absent >= 3 || j.absent > 0 && !j.spec.Run.Requeue
	look, wait := j.record(now, p)
	switch {
	case end.Done():
		return j.afterSuccess()
	case queuedAgain:
		return action{do: doRequeued}
	case end.Success() && fresh && (gone || ended && agrees(j.status)):
		return j.afterSuccess() // somebody told it to end, but that was all
	case end != nil && fresh && gone:
		return action{do: doConclude, outcome: howItEnded(end, nil, j.cancelledBy())}
	case end != nil && (fresh && ended || end.Failure != "" || end.Timeout || end.Output):
		return action{do: doConclude, outcome: howItEnded(end, j.status, j.cancelledBy())}
	case end != nil:
		return action{} // the batch system's word is awaited
	case look:
		return action{do: doLook}
	case wait:
		return action{}
	case ended:
		return action{do: doConclude, outcome: howItEnded(nil, j.status, j.cancelledBy())}
	case j.absent >= 3:
		return conclude(hpcsera.Failed, hpcsera.OutcomeUnknown,
			"It started on "+j.start.Host+", but left no end record, and the batch system does not know it any more.", nil)
	case j.cancelledBy() != "" && now.Sub(j.acted) > p.act:
		return action{do: doCancel}
	}
	return action{}
}

// agrees reports whether the batch system knows nothing against a program's
// own success.
func agrees(s *scheduler.Status) bool {
	return s.Reason == "" && (s.Exit == nil || *s.Exit == (hpcsera.Exit{}) || s.Exit.Code == wrapper.NotRun)
}

// cancelledBy says why what was submitted is to end, "" where it is not. What
// was not submitted is cancelled by the user alone: the site lets it wait.
func (j *job) cancelledBy() hpcsera.Reason {
	switch {
	case j.order.Desired == hpcsera.DesiredCancel:
		return hpcsera.CancelledByUser
	case j.stopped:
		return hpcsera.CancelledBySite
	}
	return ""
}

// afterSuccess is what follows a step whose program ended well.
func (j *job) afterSuccess() action {
	if j.step+1 < len(j.plan) {
		return action{do: doAdvance}
	}
	return conclude(hpcsera.Succeeded, "", "", j.start.End)
}

// record says what to do about a record that the spool does not show although
// the batch system says that the job has ended: it may be on its way through
// a network file system, so look at once, wait, and look once more. A job that
// the batch system does not know any more is looked for, too.
func (j *job) record(now time.Time, p patience) (look, wait bool) {
	if j.endedAt.IsZero() {
		return j.absent > 0 && j.looked.Before(j.absentAt), false
	}
	due := j.endedAt.Add(p.record)
	return j.looked.Before(j.endedAt) || !now.Before(due) && j.looked.Before(due), now.Before(due)
}

func (j *job) phase() scheduler.Phase {
	if j.status == nil {
		return ""
	}
	return j.status.Phase
}

// saidToWait reports whether the batch system says that a job waits although it
// has started: the site queued it once more, or the answer is of before the start.
func (j *job) saidToWait() bool {
	return j.spec.Run.Requeue && j.start != nil && j.start.N != j.requeued && (j.phase() == scheduler.PhaseQueued || j.phase() == scheduler.PhaseHeld)
}

// awaitsWord reports whether the next answer of the batch system decides how
// the job ended, or that it is to run again, so that it is worth asking soon.
func (j *job) awaitsWord() bool {
	return j.outcome == nil && j.tag != "" && j.start != nil && (j.start.End != nil || j.saidToWait())
}

func conclude(s hpcsera.State, r hpcsera.Reason, message string, end *spool.End) action {
	return action{do: doConclude, outcome: outcome(s, r, message, end)}
}

func outcome(s hpcsera.State, r hpcsera.Reason, message string, end *spool.End) *journal.Outcome {
	o := &journal.Outcome{State: s, Reason: r, Message: message, Ended: time.Now().UTC()}
	if end != nil {
		exit := end.Exit
		o.Exit, o.Nodes, o.Ended = &exit, end.Host, end.Ended
	}
	return o
}

// neverRan is the outcome of a submission that ended before its wrapper took
// the claim. It holds only once the agent owns that claim.
func (j *job) neverRan() *journal.Outcome {
	s := j.status
	message := s.Native
	if s.Message != "" && s.Message != "None" {
		message += " (" + s.Message + ")"
	}
	if cancelledNatively(s) {
		return outcome(hpcsera.Cancelled, s.Reason, message, nil)
	}
	reason := s.Reason
	switch {
	case reason == "" && j.start != nil:
		return j.neverRanAgain(s)
	case reason == "":
		reason = hpcsera.LostByScheduler
	}
	return outcome(hpcsera.Failed, reason, message+": the batch system ended it before the program started.", nil)
}

// neverRanAgain is the outcome of a job that ran, was said to be queued once
// more, and will not run again: how its run ended, as far as anybody knows.
func (j *job) neverRanAgain(s *scheduler.Status) *journal.Outcome {
	o := howItEnded(j.start.End, s, j.cancelledBy())
	if o.Reason == hpcsera.OutcomeUnknown {
		o.Message = strings.TrimSpace(o.Message + " It ran on " + j.start.Host + " and was to run again; the batch system does not know more.")
	}
	return o
}

// howItEnded tells the end of a program that did not succeed: the batch
// system's word first where it knows more than an exit code, then the end
// record, then the batch system's exit code. cancelled is why it was to end.
func howItEnded(end *spool.End, s *scheduler.Status, cancelled hpcsera.Reason) *journal.Outcome {
	o := outcome(hpcsera.Failed, hpcsera.OutcomeUnknown, "", end)
	if s != nil {
		o.Message = s.Native
		if s.Message != "" && s.Message != "None" {
			o.Message += " (" + s.Message + ")"
		}
		// The wrapper's own words are no exit code of the program.
		if (o.Exit == nil || end.Success()) && s.Exit != nil && s.Exit.Code != wrapper.NotRun && s.Exit.Code != wrapper.Unrecorded {
			exit := *s.Exit
			o.Exit = &exit
		}
		if s.Nodes != "" {
			o.Nodes = s.Nodes
		}
	}
	stopped := cancelledNatively(s) ||
		end == nil && s != nil && s.Exit != nil && s.Exit.Code == wrapper.NotRun || // requeued after the agent had taken the next start
		o.Exit != nil && (o.Exit.Signal == int(syscall.SIGTERM) || o.Exit.Signal == int(syscall.SIGKILL) || o.Exit.Code == 128+int(syscall.SIGTERM))
	switch {
	case end != nil && end.Failure != "":
		o.Reason, o.Message = hpcsera.StageInFailed, end.Failure
	case end != nil && end.Timeout:
		o.Reason, o.Message = hpcsera.Timeout, "The step ran into its timeout."
	case end != nil && end.Output:
		o.Reason, o.Message = hpcsera.Signalled, "The step printed more than it may (login_output of this agent) and was ended; its output is cut there."
	case cancelled != "" && stopped:
		o.State, o.Reason = hpcsera.Cancelled, cancelled
	case cancelledNatively(s):
		o.State, o.Reason = hpcsera.Cancelled, s.Reason
	case s != nil && s.Phase == scheduler.PhaseEnded && s.Reason != "":
		o.Reason = s.Reason
	case o.Exit == nil:
	case o.Exit.Signal != 0:
		o.Reason, o.Message = hpcsera.Signalled, fmt.Sprintf("signal %d: %v", o.Exit.Signal, syscall.Signal(o.Exit.Signal))
	case o.Exit.Code != 0:
		o.Reason = hpcsera.ExitNonzero
	}
	if end == nil && o.Exit != nil && *o.Exit == (hpcsera.Exit{}) && o.Reason == hpcsera.OutcomeUnknown {
		o.Exit = nil
		o.Message += ": it started, but left no end record."
	}
	return o
}

// cancelledNatively reports whether somebody cancelled the job at the batch
// system: the site, or the user without asking us.
func cancelledNatively(s *scheduler.Status) bool {
	return s != nil && s.Phase == scheduler.PhaseEnded && (s.Reason == hpcsera.CancelledBySite || s.Reason == hpcsera.CancelledByUser)
}
