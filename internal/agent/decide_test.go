package agent

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/agent/wrapper"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// ago is a moment before the decision.
func ago(d time.Duration) time.Time { return noon.Add(-d) }

// change is one thing that is known of a job.
type change func(*job)

// about makes a job of one batch step that was accepted and verified, and then
// changes what is known of it.
func about(changes ...change) *job {
	j := &job{
		id: "j_00000000000000000000", n: 1, attempt: 1, verdict: &policy.Verdict{},
		order: hpcsera.Order{Revision: 1, Desired: hpcsera.DesiredRun},
		spec:  &hpcsera.OrderSpec{}, plan: []hpcsera.Step{{Name: "main", Type: hpcsera.BatchStep}},
	}
	for _, c := range changes {
		c(j)
	}
	return j
}

func wants(d hpcsera.Desired) change { return func(j *job) { j.order.Desired = d } }

func steps(types ...hpcsera.StepType) change {
	return func(j *job) {
		j.plan = nil
		for _, t := range types {
			j.plan = append(j.plan, hpcsera.Step{Type: t})
		}
	}
}

// tried: the submit command was called; its answer is not known.
func tried(j *job) {
	j.tag, j.submitted, j.looked = "s_00000000000000000000", ago(time.Hour), ago(time.Hour)
}

// submitted: the batch system took it.
func submitted(j *job) {
	tried(j)
	j.native = &hpcsera.Native{ID: "4711"}
}

// startedAgo: a wrapper took start n, and that was read some time ago.
func startedAgo(n int, d time.Duration) change {
	return func(j *job) {
		submitted(j)
		j.start, j.looked = &spool.Start{N: n, Claim: spool.Claim{Owner: spool.OwnerWrapper, Host: "node1"}}, ago(d)
	}
}

// endedAs adds the end record, read just when the start was.
func endedAs(e spool.End) change { return func(j *job) { j.start.End = &e } }

func exit(code, signal int) spool.End {
	return spool.End{Exit: hpcsera.Exit{Code: code, Signal: signal}, Host: "node1", Ended: ago(30 * time.Second)}
}

// told is the end of a program that saved its work on SIGTERM and left with 0.
var told = spool.End{Told: true, Host: "node1", Ended: ago(30 * time.Second)}

// says is an answer of the batch system to a question of some time ago.
func says(d time.Duration, phase scheduler.Phase, more ...func(*scheduler.Status)) change {
	return func(j *job) {
		s := &scheduler.Status{Phase: phase, Native: "NATIVE"}
		for _, m := range more {
			m(s)
		}
		j.status, j.asked, j.absent = s, ago(d), 0
		if phase == scheduler.PhaseEnded && j.endedAt.IsZero() {
			j.endedAt = ago(d)
		}
	}
}

func because(r hpcsera.Reason) func(*scheduler.Status) {
	return func(s *scheduler.Status) { s.Reason = r }
}

func withExit(code, signal int) func(*scheduler.Status) {
	return func(s *scheduler.Status) { s.Exit = &hpcsera.Exit{Code: code, Signal: signal} }
}

// absent: whole answers did not know the job, the last one some time ago.
func absent(times int, d time.Duration) change {
	return func(j *job) { j.absent, j.absentAt, j.asked = times, ago(d), ago(d) }
}

func requeueable(j *job)               { j.spec.Run.Requeue = true }
func lookedAgo(d time.Duration) change { return func(j *job) { j.looked = ago(d) } }

func TestDecisions(t *testing.T) {
	const second, minute = time.Second, time.Minute
	for _, c := range []struct {
		name    string
		changes []change
		closed  bool // the gate: no answer of the server lately
		do      verb
		state   hpcsera.State // of the outcome
		reason  hpcsera.Reason
	}{
		// Denied: nothing is begun.
		{"the end was told", []change{func(j *job) { j.final = true }}, false, doNothing, "", ""},
		{"a worker acts for it", []change{func(j *job) { j.busy = true }}, false, doNothing, "", ""},
		{"a retry is not due", []change{func(j *job) { j.retryAt = noon.Add(second) }}, false, doNothing, "", ""},
		{"no answer of the server", nil, true, doNothing, "", ""},
		{"held", []change{wants(hpcsera.DesiredHold)}, false, doNothing, "", ""},
		{"the next submission is not due", []change{func(j *job) { j.submitAt = noon.Add(second) }}, false, doNothing, "", ""},

		// Before the submission.
		{"not verified", []change{func(j *job) { j.verdict = nil }}, false, doStage, "", ""},
		{"not verified, without the server", []change{func(j *job) { j.verdict = nil }}, true, doStage, "", ""},
		{"verified", nil, false, doSubmit, "", ""},
		{"the next submission is due", []change{func(j *job) { j.submitAt = noon }}, false, doSubmit, "", ""},
		{"cancelled before anything", []change{wants(hpcsera.DesiredCancel), func(j *job) { j.verdict = nil }}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"cancelled while the next submission waits", []change{wants(hpcsera.DesiredCancel), func(j *job) { j.submitAt = noon.Add(minute) }}, true, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"cancelled between two steps", []change{steps(hpcsera.LoginStep, hpcsera.BatchStep), func(j *job) { j.step = 1 }, wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"held between two steps", []change{steps(hpcsera.LoginStep, hpcsera.BatchStep), func(j *job) { j.step = 1 }, wants(hpcsera.DesiredHold)}, false, doNothing, "", ""},

		// The submit command gave no clear answer: the claim decides, with or without the server.
		{"ambiguous", []change{tried}, false, doBlock, "", ""},
		{"ambiguous, without the server", []change{tried}, true, doBlock, "", ""},
		{"ambiguous and held", []change{tried, wants(hpcsera.DesiredHold)}, false, doBlock, "", ""},
		{"ambiguous and cancelled", []change{tried, wants(hpcsera.DesiredCancel)}, false, doBlock, "", ""},
		{"ambiguous, of an earlier process", []change{tried, lookedAgo(0), func(j *job) { j.looked = time.Time{} }}, false, doLook, "", ""},

		// In the queue.
		{"submitted, of an earlier process", []change{submitted, func(j *job) { j.looked = time.Time{} }}, false, doLook, "", ""},
		{"submitted, cancelled, of an earlier process", []change{submitted, func(j *job) { j.looked = time.Time{} }, wants(hpcsera.DesiredCancel)}, false, doLook, "", ""},
		{"submitted, no answer yet", []change{submitted}, false, doNothing, "", ""},
		{"queued", []change{submitted, says(second, scheduler.PhaseQueued)}, false, doNothing, "", ""},
		{"in a state that the driver does not know", []change{submitted, says(second, scheduler.PhaseUnknown)}, false, doNothing, "", ""},
		{"queued, cancelled", []change{submitted, says(second, scheduler.PhaseQueued), wants(hpcsera.DesiredCancel)}, true, doBlock, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"no answer yet, cancelled", []change{submitted, wants(hpcsera.DesiredCancel)}, false, doBlock, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"queued, hold", []change{submitted, says(second, scheduler.PhaseQueued), wants(hpcsera.DesiredHold)}, false, doHold, "", ""},
		{"queued, hold, done a moment ago", []change{submitted, says(second, scheduler.PhaseQueued), wants(hpcsera.DesiredHold), func(j *job) { j.acted = ago(second) }}, false, doNothing, "", ""},
		{"queued, hold, done long ago", []change{submitted, says(second, scheduler.PhaseQueued), wants(hpcsera.DesiredHold), func(j *job) { j.acted = ago(minute) }}, false, doHold, "", ""},
		{"held, hold", []change{submitted, says(second, scheduler.PhaseHeld), wants(hpcsera.DesiredHold)}, false, doNothing, "", ""},
		{"held by us, run", []change{submitted, says(second, scheduler.PhaseHeld), func(j *job) { j.held = true }}, false, doRelease, "", ""},
		{"held by the user's own hand, run", []change{submitted, says(second, scheduler.PhaseHeld)}, false, doNothing, "", ""},
		{"held, cancelled", []change{submitted, says(second, scheduler.PhaseHeld), wants(hpcsera.DesiredCancel)}, false, doBlock, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"runs, no claim seen since", []change{submitted, lookedAgo(minute), says(second, scheduler.PhaseRunning)}, false, doLook, "", ""},
		{"runs, no claim seen a moment ago", []change{submitted, lookedAgo(0), says(second, scheduler.PhaseRunning)}, false, doNothing, "", ""},

		// It left the queue and nobody claimed its start.
		{"ended, claim not looked for", []change{submitted, says(second, scheduler.PhaseEnded)}, false, doLook, "", ""},
		{"ended, no claim, a moment ago", []change{submitted, says(5*second, scheduler.PhaseEnded), lookedAgo(second)}, false, doNothing, "", ""},
		{"ended, no claim, the record had time", []change{submitted, says(15*second, scheduler.PhaseEnded), lookedAgo(14 * second)}, false, doLook, "", ""},
		{"ended, no claim, looked twice", []change{submitted, says(15*second, scheduler.PhaseEnded), lookedAgo(second)}, false, doBlock, hpcsera.Failed, hpcsera.LostByScheduler},
		{"cancelled by the user's own scancel in the queue", []change{submitted, says(15*second, scheduler.PhaseEnded, because(hpcsera.CancelledByUser)), lookedAgo(second)}, false, doBlock, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"cancelled by the site in the queue", []change{submitted, says(15*second, scheduler.PhaseEnded, because(hpcsera.CancelledBySite)), lookedAgo(second)}, false, doBlock, hpcsera.Cancelled, hpcsera.CancelledBySite},
		{"its node failed before the claim", []change{submitted, says(15*second, scheduler.PhaseEnded, because(hpcsera.NodeFailure)), lookedAgo(second)}, false, doBlock, hpcsera.Failed, hpcsera.NodeFailure},
		{"absent once, not looked for", []change{submitted, absent(1, second)}, false, doLook, "", ""},
		{"absent once", []change{submitted, absent(1, second), lookedAgo(0)}, false, doNothing, "", ""},
		{"absent twice", []change{submitted, absent(2, second), lookedAgo(0)}, false, doNothing, "", ""},
		{"vanished, not looked for", []change{submitted, absent(3, second)}, false, doLook, "", ""},
		{"vanished", []change{submitted, absent(3, second), lookedAgo(0)}, false, doBlock, hpcsera.Failed, hpcsera.LostByScheduler},

		// It runs.
		{"runs", []change{startedAgo(1, minute), says(second, scheduler.PhaseRunning)}, false, doNothing, "", ""},
		{"runs, hold", []change{startedAgo(1, minute), says(second, scheduler.PhaseRunning), wants(hpcsera.DesiredHold)}, false, doNothing, "", ""},
		{"runs, cancelled", []change{startedAgo(1, minute), says(second, scheduler.PhaseRunning), wants(hpcsera.DesiredCancel)}, true, doCancel, "", ""},
		{"runs, cancelled a moment ago", []change{startedAgo(1, minute), wants(hpcsera.DesiredCancel), func(j *job) { j.acted = ago(second) }}, false, doNothing, "", ""},
		{"runs, cancelled long ago", []change{startedAgo(1, minute), wants(hpcsera.DesiredCancel), func(j *job) { j.acted = ago(minute) }}, false, doCancel, "", ""},
		{"started, the queue says queued, no requeue", []change{startedAgo(1, minute), says(second, scheduler.PhaseQueued)}, false, doNothing, "", ""},

		// It ended with a record.
		{"exit 0", []change{startedAgo(1, second), endedAs(exit(0, 0))}, false, doConclude, hpcsera.Succeeded, ""},
		{"exit 0, the batch system says otherwise", []change{startedAgo(1, minute), endedAs(exit(0, 0)), says(second, scheduler.PhaseEnded, because(hpcsera.NodeFailure))}, false, doConclude, hpcsera.Succeeded, ""},
		{"exit 0, cancelled too late", []change{startedAgo(1, second), endedAs(exit(0, 0)), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Succeeded, ""},
		{"told, exit 0, no word", []change{startedAgo(1, minute), endedAs(told)}, false, doNothing, "", ""},
		{"told, exit 0, the word is older than the record", []change{startedAgo(1, second), endedAs(told), says(minute, scheduler.PhaseEnded)}, false, doNothing, "", ""},
		{"told, exit 0, ended", []change{startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseEnded, withExit(0, 0))}, false, doConclude, hpcsera.Succeeded, ""},
		{"told, exit 0, forgotten by the batch system", []change{startedAgo(1, minute), endedAs(told), absent(1, second)}, false, doConclude, hpcsera.Succeeded, ""},
		{"told, exit 0, the time limit", []change{startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseEnded, because(hpcsera.Timeout))}, false, doConclude, hpcsera.Failed, hpcsera.Timeout},
		{"told, exit 0, cancelled by the user", []change{startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseEnded, because(hpcsera.CancelledBySite)), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"told, exit 0, killed when it ran again", []change{requeueable, startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseEnded, withExit(0, 9))}, false, doConclude, hpcsera.Failed, hpcsera.Signalled},
		{"told, exit 0, and the wrapper of the next run ran nothing", []change{requeueable, startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseEnded, withExit(wrapper.NotRun, 0))}, false, doConclude, hpcsera.Succeeded, ""},
		{"told, exit 0, queued again", []change{requeueable, startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseQueued)}, false, doRequeued, "", ""},
		{"told, exit 0, queued again without permission", []change{startedAgo(1, minute), endedAs(told), says(second, scheduler.PhaseQueued)}, false, doNothing, "", ""},
		{"exit 3, no word", []change{startedAgo(1, minute), endedAs(exit(3, 0))}, false, doNothing, "", ""},
		{"exit 3, the word is older than the record", []change{startedAgo(1, second), endedAs(exit(3, 0)), says(minute, scheduler.PhaseEnded)}, false, doNothing, "", ""},
		{"exit 3, still called running", []change{startedAgo(1, minute), endedAs(exit(3, 0)), says(second, scheduler.PhaseRunning)}, false, doNothing, "", ""},
		{"exit 3, in a state that the driver does not know", []change{startedAgo(1, minute), endedAs(exit(3, 0)), says(second, scheduler.PhaseUnknown)}, false, doNothing, "", ""},
		{"exit 3, ended", []change{startedAgo(1, minute), endedAs(exit(3, 0)), says(second, scheduler.PhaseEnded, withExit(3, 0))}, false, doConclude, hpcsera.Failed, hpcsera.ExitNonzero},
		{"exit 3, forgotten by the batch system", []change{startedAgo(1, minute), endedAs(exit(3, 0)), absent(1, second)}, false, doConclude, hpcsera.Failed, hpcsera.ExitNonzero},
		{"signal 11", []change{startedAgo(1, minute), endedAs(exit(0, 11)), says(second, scheduler.PhaseEnded)}, false, doConclude, hpcsera.Failed, hpcsera.Signalled},
		{"the time limit", []change{startedAgo(1, minute), endedAs(exit(0, 15)), says(second, scheduler.PhaseEnded, because(hpcsera.Timeout))}, false, doConclude, hpcsera.Failed, hpcsera.Timeout},
		{"out of memory", []change{startedAgo(1, minute), endedAs(exit(137, 0)), says(second, scheduler.PhaseEnded, because(hpcsera.OutOfMemory))}, false, doConclude, hpcsera.Failed, hpcsera.OutOfMemory},
		{"cancelled by the user and stopped", []change{startedAgo(1, minute), endedAs(exit(0, 15)), says(second, scheduler.PhaseEnded, because(hpcsera.CancelledBySite)), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"cancelled by the user, forgotten at once", []change{startedAgo(1, minute), endedAs(exit(0, 15)), absent(1, second), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"cancelled by the user, but it had failed before", []change{startedAgo(1, minute), endedAs(exit(3, 0)), says(second, scheduler.PhaseEnded, withExit(3, 0)), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Failed, hpcsera.ExitNonzero},
		{"cancelled by the user's own scancel", []change{startedAgo(1, minute), endedAs(exit(0, 15)), says(second, scheduler.PhaseEnded, because(hpcsera.CancelledByUser))}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"cancelled by the site", []change{startedAgo(1, minute), endedAs(exit(0, 15)), says(second, scheduler.PhaseEnded, because(hpcsera.CancelledBySite))}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledBySite},
		{"a changed file", []change{startedAgo(1, second), endedAs(spool.End{Failure: "script is not what was signed", Exit: hpcsera.Exit{Code: 126}})}, false, doConclude, hpcsera.Failed, hpcsera.StageInFailed},
		{"a login step's timeout", []change{startedAgo(1, second), endedAs(spool.End{Timeout: true, Exit: hpcsera.Exit{Signal: 15}})}, false, doConclude, hpcsera.Failed, hpcsera.Timeout},
		{"a login step's timeout, taken with exit 0", []change{startedAgo(1, second), endedAs(spool.End{Timeout: true})}, false, doConclude, hpcsera.Failed, hpcsera.Timeout},

		// It ended, or vanished, without a record.
		{"ended, record not looked for", []change{startedAgo(1, minute), says(second, scheduler.PhaseEnded)}, false, doLook, "", ""},
		{"ended, no record, a moment ago", []change{startedAgo(1, second), says(5*second, scheduler.PhaseEnded)}, false, doNothing, "", ""},
		{"ended, no record, cancelled: no second cancel", []change{startedAgo(1, second), says(5*second, scheduler.PhaseEnded), wants(hpcsera.DesiredCancel)}, false, doNothing, "", ""},
		{"ended, no record, it had time", []change{startedAgo(1, 14*second), says(15*second, scheduler.PhaseEnded)}, false, doLook, "", ""},
		{"ended with 0, no record", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, withExit(0, 0))}, false, doConclude, hpcsera.Failed, hpcsera.OutcomeUnknown},
		{"ended with 3, no record", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, withExit(3, 0))}, false, doConclude, hpcsera.Failed, hpcsera.ExitNonzero},
		{"a login step that printed too much", []change{startedAgo(1, second), endedAs(spool.End{Output: true, Exit: hpcsera.Exit{Signal: 15}})}, false, doConclude, hpcsera.Failed, hpcsera.Signalled},
		{"a login step that printed too much, taken with exit 0", []change{startedAgo(1, second), endedAs(spool.End{Output: true})}, false, doConclude, hpcsera.Failed, hpcsera.Signalled},
		{"killed with its node", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, because(hpcsera.NodeFailure))}, false, doConclude, hpcsera.Failed, hpcsera.NodeFailure},
		{"killed, no record, cancelled by the user", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, because(hpcsera.CancelledBySite)), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"the wrapper could not write the record", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, withExit(wrapper.Unrecorded, 0))}, false, doConclude, hpcsera.Failed, hpcsera.OutcomeUnknown},
		{"killed, requeued by force, and the wrapper ran nothing", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, withExit(wrapper.NotRun, 0))}, false, doConclude, hpcsera.Failed, hpcsera.OutcomeUnknown},
		{"the same, cancelled by the user", []change{startedAgo(1, second), says(15*second, scheduler.PhaseEnded, withExit(wrapper.NotRun, 0)), wants(hpcsera.DesiredCancel)}, false, doConclude, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"absent twice while it ran", []change{startedAgo(1, 0), absent(2, second)}, false, doNothing, "", ""},
		{"vanished while it ran, record not looked for", []change{startedAgo(1, minute), absent(3, second)}, false, doLook, "", ""},
		{"vanished while it ran", []change{startedAgo(1, 0), absent(3, second)}, false, doConclude, hpcsera.Failed, hpcsera.OutcomeUnknown},

		// Requeue.
		{"queued again", []change{requeueable, startedAgo(1, minute), says(second, scheduler.PhaseQueued)}, false, doRequeued, "", ""},
		{"queued again and held", []change{requeueable, startedAgo(1, minute), says(second, scheduler.PhaseHeld)}, false, doRequeued, "", ""},
		{"called queued right after the start: an old answer", []change{requeueable, startedAgo(1, 5*second), says(second, scheduler.PhaseQueued)}, false, doNothing, "", ""},
		{"queued again after exit 3", []change{requeueable, startedAgo(1, minute), endedAs(exit(3, 0)), says(second, scheduler.PhaseQueued)}, false, doRequeued, "", ""},
		{"queued again after exit 0", []change{requeueable, startedAgo(1, minute), endedAs(exit(0, 0)), says(second, scheduler.PhaseQueued)}, false, doConclude, hpcsera.Succeeded, ""},
		{"waits to run again", []change{requeueable, startedAgo(1, minute), says(second, scheduler.PhaseQueued), func(j *job) { j.requeued = 1 }}, false, doNothing, "", ""},
		{"waits to run again, cancelled", []change{requeueable, startedAgo(1, minute), says(second, scheduler.PhaseQueued), func(j *job) { j.requeued = 1 }, wants(hpcsera.DesiredCancel)}, false, doBlock, hpcsera.Cancelled, hpcsera.CancelledByUser},
		{"waits to run again, hold", []change{requeueable, startedAgo(1, minute), says(second, scheduler.PhaseQueued), func(j *job) { j.requeued = 1 }, wants(hpcsera.DesiredHold)}, false, doHold, "", ""},
		{"runs again", []change{requeueable, startedAgo(2, minute), says(second, scheduler.PhaseRunning), func(j *job) { j.requeued = 1 }}, false, doNothing, "", ""},
		{"runs again, cancelled", []change{requeueable, startedAgo(2, minute), says(second, scheduler.PhaseRunning), func(j *job) { j.requeued = 1 }, wants(hpcsera.DesiredCancel)}, false, doCancel, "", ""},
		{"called running again, claim not seen", []change{requeueable, startedAgo(1, minute), says(second, scheduler.PhaseRunning), func(j *job) { j.requeued = 1 }}, false, doLook, "", ""},
		{"thought to wait, but the first run's record says 0", []change{requeueable, startedAgo(1, minute), endedAs(exit(0, 0)), func(j *job) { j.requeued = 1 }}, false, doConclude, hpcsera.Succeeded, ""},
		{"forgotten while it waits to run again", []change{requeueable, startedAgo(1, minute), endedAs(exit(3, 0)), func(j *job) { j.requeued, j.absent, j.absentAt = 1, 3, j.looked.Add(-time.Second) }}, false, doBlock, hpcsera.Failed, hpcsera.ExitNonzero},
		{"forgotten while it waits to run again, and nobody knows how it ran", []change{requeueable, startedAgo(1, minute), func(j *job) { j.requeued, j.absent, j.absentAt = 1, 3, j.looked.Add(-time.Second) }}, false, doBlock, hpcsera.Failed, hpcsera.OutcomeUnknown},
		{"cancelled by the site while it waits to run again", []change{requeueable, startedAgo(1, second), says(15*second, scheduler.PhaseEnded, because(hpcsera.CancelledBySite)), func(j *job) { j.requeued = 1 }}, false, doBlock, hpcsera.Cancelled, hpcsera.CancelledBySite},

		// Several steps.
		{"a login step ended with 0, a batch step follows", []change{steps(hpcsera.LoginStep, hpcsera.BatchStep), startedAgo(1, second), endedAs(exit(0, 0))}, false, doAdvance, "", ""},
		{"a login step ended with 0, without the server", []change{steps(hpcsera.LoginStep, hpcsera.BatchStep), startedAgo(1, second), endedAs(exit(0, 0))}, true, doAdvance, "", ""},
		{"a login step ended with 0, cancelled", []change{steps(hpcsera.LoginStep, hpcsera.BatchStep), startedAgo(1, second), endedAs(exit(0, 0)), wants(hpcsera.DesiredCancel)}, false, doAdvance, "", ""},
		{"the last step ended with 0", []change{steps(hpcsera.BatchStep, hpcsera.BatchStep), func(j *job) { j.step = 1 }, startedAgo(1, second), endedAs(exit(0, 0))}, false, doConclude, hpcsera.Succeeded, ""},
		{"a first batch step failed", []change{steps(hpcsera.BatchStep, hpcsera.BatchStep), startedAgo(1, minute), endedAs(exit(3, 0)), says(second, scheduler.PhaseEnded)}, false, doConclude, hpcsera.Failed, hpcsera.ExitNonzero},

		// After the outcome.
		{"the steps have ended", []change{func(j *job) { j.outcome = &journal.Outcome{} }}, true, doCollect, "", ""},
		{"the steps ended before this process", []change{submitted, func(j *job) { j.looked, j.outcome = time.Time{}, &journal.Outcome{} }}, false, doLook, "", ""},
		{"the results are at the server", []change{func(j *job) { j.outcome, j.collected = &journal.Outcome{}, &collected{} }}, true, doFinish, "", ""},
		{"ended, and then cancelled", []change{func(j *job) { j.outcome = &journal.Outcome{State: hpcsera.Succeeded} }, wants(hpcsera.DesiredCancel)}, false, doCollect, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := about(c.changes...).decide(noon, !c.closed, defaultPatience)
			if got.do != c.do {
				t.Errorf("do: got %q, want %q", got.do, c.do)
			}
			var state hpcsera.State
			var reason hpcsera.Reason
			if got.outcome != nil {
				state, reason = got.outcome.State, got.outcome.Reason
			}
			if state != c.state || reason != c.reason {
				t.Errorf("outcome: got %q %q, want %q %q", state, reason, c.state, c.reason)
			}
		})
	}
}

// anyJob draws what may be known of a job in any mixture, also such as never
// comes together.
func anyJob(t *rapid.T) *job {
	draw := func(name string) bool { return rapid.Bool().Draw(t, name) }
	moment := func(name string) time.Time {
		if !draw(name + " known") {
			return time.Time{}
		}
		return noon.Add(time.Duration(rapid.IntRange(-100, 20).Draw(t, name)) * time.Second)
	}
	j := about(wants(rapid.SampledFrom([]hpcsera.Desired{hpcsera.DesiredRun, hpcsera.DesiredHold, hpcsera.DesiredCancel}).Draw(t, "desired")))
	steps(rapid.SliceOfN(rapid.SampledFrom([]hpcsera.StepType{hpcsera.LoginStep, hpcsera.BatchStep}), 1, 3).Draw(t, "plan")...)(j)
	j.step = rapid.IntRange(0, len(j.plan)-1).Draw(t, "step")
	if draw("unverified") {
		j.verdict = nil
	}
	j.spec.Run.Requeue = draw("requeue")
	if draw("tag") {
		tried(j)
		if draw("native") {
			submitted(j)
		}
		if draw("start") {
			j.start = &spool.Start{N: rapid.IntRange(1, 3).Draw(t, "n")}
			if draw("end") {
				j.start.End = &spool.End{
					Exit: hpcsera.Exit{Code: rapid.SampledFrom([]int{0, 3, wrapper.NotRun}).Draw(t, "code"), Signal: rapid.SampledFrom([]int{0, 0, 9, 15}).Draw(t, "signal")}, Timeout: draw("timeout"), Told: draw("told"),
				}
				if draw("failure") {
					j.start.End.Failure = "changed"
				}
			}
			j.requeued = rapid.IntRange(0, 3).Draw(t, "requeued")
		}
		if draw("status") {
			j.status = &scheduler.Status{Phase: rapid.SampledFrom([]scheduler.Phase{scheduler.PhaseQueued, scheduler.PhaseHeld, scheduler.PhaseRunning, scheduler.PhaseEnded, scheduler.PhaseUnknown}).Draw(t, "phase")}
			if draw("reason") {
				j.status.Reason = rapid.SampledFrom([]hpcsera.Reason{hpcsera.CancelledBySite, hpcsera.Timeout, hpcsera.NodeFailure}).Draw(t, "why")
			}
			if draw("exit known") {
				withExit(rapid.SampledFrom([]int{0, 3, wrapper.NotRun, wrapper.Unrecorded}).Draw(t, "exit"), 0)(j.status)
			}
			j.asked = noon.Add(-time.Duration(rapid.IntRange(0, 50).Draw(t, "asked")) * time.Second)
			if j.status.Phase == scheduler.PhaseEnded {
				j.endedAt = j.asked.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, "ended before")) * time.Second)
			}
		}
		if j.endedAt.IsZero() && draw("absences") {
			absent(rapid.IntRange(1, 5).Draw(t, "absent"), time.Duration(rapid.IntRange(0, 30).Draw(t, "absent since"))*time.Second)(j)
		}
		j.looked = moment("looked")
	}
	j.held, j.busy, j.acted, j.retryAt, j.submitAt = draw("held"), rapid.IntRange(0, 9).Draw(t, "busy") == 0, moment("acted"), moment("retry"), moment("submit")
	if rapid.IntRange(0, 4).Draw(t, "outcome") == 0 {
		j.outcome = &journal.Outcome{State: hpcsera.Failed}
		if draw("collected") {
			j.collected = &collected{}
		}
	}
	j.final = rapid.IntRange(0, 9).Draw(t, "final") == 0
	return j
}

func TestNoDecisionBreaksTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		j, open := anyJob(t), rapid.Bool().Draw(t, "open")
		before := fmt.Sprintf("%+v %+v %+v", *j, j.start, j.status)
		a := j.decide(noon, open, defaultPatience)
		if again := j.decide(noon, open, defaultPatience); again.do != a.do {
			t.Fatalf("asked twice: got %q and %q, want the same", a.do, again.do)
		}
		if after := fmt.Sprintf("%+v %+v %+v", *j, j.start, j.status); after != before {
			t.Fatalf("a decision changed the job: %s to %s", before, after)
		}
		end := (*spool.End)(nil)
		if j.start != nil {
			end = j.start.End
		}
		rule := func(broken bool, sentence string) {
			if broken {
				t.Fatalf("%q (outcome %+v): %s", a.do, a.outcome, sentence)
			}
		}
		cancel := j.order.Desired == hpcsera.DesiredCancel
		rule(j.final && a.do != doNothing, "a final job never acts")
		rule(j.busy && a.do != doNothing, "one act at a time")
		rule(j.retryAt.After(noon) && a.do != doNothing, "a retry waits")

		rule(a.do == doSubmit && j.tag != "", "nothing is submitted while a submission stands")
		rule(a.do == doSubmit && j.outcome != nil, "nothing is submitted after the end")
		rule(a.do == doSubmit && (!open || j.submitAt.After(noon)), "nothing is submitted while the gate is closed")
		rule(a.do == doSubmit && j.order.Desired != hpcsera.DesiredRun, "nothing is submitted that is not wanted")
		rule(a.do == doSubmit && j.verdict == nil, "nothing is submitted that was not verified")
		rule(a.do == doStage && j.tag != "", "nothing is laid out while a submission stands")

		rule(a.do == doBlock && j.tag == "", "only a submission is blocked")
		rule(a.do == doBlock && j.start != nil && j.start.N != j.requeued, "what has started is not blocked")
		rule((a.do == doCancel || a.do == doAdvance) && j.start == nil, "what has not started is neither cancelled natively nor over")
		rule(a.do == doCancel && !cancel, "nothing is cancelled that is wanted")
		rule(a.do == doHold && j.order.Desired != hpcsera.DesiredHold, "nothing is held that is wanted")
		rule(a.do == doRelease && (j.order.Desired != hpcsera.DesiredRun || !j.held), "only what we held is released")
		rule(a.do == doRequeued && !j.spec.Run.Requeue, "no requeue without permission")
		rule(a.do == doAdvance && (!end.Success() || j.step+1 == len(j.plan)), "a step follows only a step that succeeded")

		o := a.outcome
		if o == nil {
			rule(a.do == doConclude, "an end has an outcome")
			return
		}
		silent := j.status == nil && end == nil && j.absent < 3
		rule(silent && !cancel, "silence is no outcome")
		rule(j.phase() != scheduler.PhaseEnded && end == nil && j.absent < 3 && !cancel, "a job that lives has no outcome")
		rule(o.State == hpcsera.Succeeded && !end.Success(), "only exit 0 in an end record is success")
		rule(o.State != hpcsera.Succeeded && end.Done(), "exit 0 in an end record is success, when nobody told it to end")
		rule(o.State == hpcsera.Succeeded && end.Told && silent, "a program that was told to end has succeeded only by the batch system's word")
		rule(o.Reason == hpcsera.CancelledByUser && !cancel, "the user did not cancel it")
		rule(!o.State.Final(), "an outcome is final")
		rule(o.State == hpcsera.Failed && o.Reason == "", "a failure has a reason")
		rule(end == nil && j.start != nil && j.start.N != j.requeued && cancel && silent, "a cancelled job that runs has no outcome before it ended")
	})
}

// A word that a job waits again may be of before its start. The record of an end
// that came after the word shows that, also to a later process.
func TestAnEndAfterTheWordOfARequeueCounts(t *testing.T) {
	word := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		ended time.Time
		do    verb
		state hpcsera.Reason
	}{
		"before the word": {word.Add(-time.Minute), doBlock, hpcsera.ExitNonzero},
		"after the word":  {word.Add(time.Minute), doConclude, hpcsera.ExitNonzero},
	} {
		e := newEngine(&Agent{asker: newAsker()})
		job := hpcsera.NewID("j")
		for _, entry := range []journal.Entry{
			{Kind: journal.KindOrder, Order: &hpcsera.Order{JobID: job, Revision: 1, Desired: hpcsera.DesiredRun, Spec: &hpcsera.OrderSpec{Run: hpcsera.RunPart{Requeue: true}}}},
			{Kind: journal.KindSubmit, Job: job, N: 1, Tag: "s_1"},
			{Kind: journal.KindSubmitted, Job: job, N: 1, Tag: "s_1", Native: &hpcsera.Native{ID: "7"}},
			{Kind: journal.KindRequeued, Job: job, N: 1, Tag: "s_1", At: word},
		} {
			e.fold(entry)
		}
		j, now := e.jobs[job], word.Add(time.Hour)
		j.plan = []hpcsera.Step{{Type: hpcsera.BatchStep}}
		e.started(j, &spool.Start{Job: job, N: 1, Claim: spool.Claim{Tag: "s_1"}, End: &spool.End{Exit: hpcsera.Exit{Code: 3}, Ended: c.ended}})
		j.status = &scheduler.Status{Phase: scheduler.PhaseEnded, Native: "FAILED", Exit: &hpcsera.Exit{Code: 3}}
		j.looked, j.endedAt, j.asked = now.Add(-30*time.Second), now.Add(-time.Minute), now.Add(-20*time.Second)
		if a := j.decide(now, true, defaultPatience); a.do != c.do || a.outcome == nil || a.outcome.Reason != c.state {
			t.Errorf("%s: got %s %+v, want %s as %s", name, a.do, a.outcome, c.do, c.state)
		}
	}
}
