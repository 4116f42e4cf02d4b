package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// errStopped ends the agent: another instance holds the term, or this one's
// memory is not the one the server knows.
var errStopped = errors.New("stopped")

// workLoop polls for orders until ctx ends or another instance takes over.
func (a *Agent) workLoop(ctx context.Context) error {
	back := backoff{first: time.Second, most: time.Minute}
	var told *hpcsera.Facts
	for ctx.Err() == nil {
		facts := a.facts.Load()
		err := a.poll(ctx, a.config.pollWait, facts != told)
		if err == nil {
			told = facts
		}
		switch {
		case err == nil:
			back.reset()
		case errors.Is(err, errStopped):
			return err
		case ctx.Err() != nil:
			return nil
		default:
			delay := back.next()
			a.state.set(func(s *Status) { s.Server = err.Error() })
			a.log.Warn("no work from the server", "error", err, "again_in", delay.String())
			sleep(ctx, delay)
		}
	}
	return nil
}

// poll makes one work request and applies its answer. wait is in seconds.
func (a *Agent) poll(ctx context.Context, wait int, facts bool) error {
	var req hpcsera.WorkRequest
	var known, told int64
	err := a.engine.read(ctx, func() {
		e := a.engine
		known, told = e.epoch, e.sent
		req = hpcsera.WorkRequest{Instance: a.instance, Term: a.granted.Load(), Epoch: e.epoch, Acked: e.safe, Free: e.free(), Wait: wait}
		if e.cut {
			req.Wait = 0 // submissions wait for this answer, and there may be no news for long
		}
	})
	if err != nil {
		return err
	}
	if req.Term == 0 {
		// One that was alive when this one started may have died since.
		req.Takeover, req.Wait = deadInstance(a.config.StateDir, a.host), 0
	}
	if facts {
		req.Facts = a.facts.Load()
	}
	asked, _ := a.stats()
	req.Commands = since(asked, a.counted)
	sent := time.Now()
	answer, err := a.api.Work(ctx, req)
	if err != nil {
		return a.refusedWork(err)
	}
	a.counted = asked
	if err := a.suspect(known, answer); err != nil {
		return a.refusedWork(err)
	}
	if req.Term != 0 && answer.Epoch == known && answer.AppliedSeq < told {
		// Put back by hand to a moment after the cursor and before the newest facts,
		// which it had answered. The next instance tells them again.
		return a.refusedWork(hpcsera.Errorf(hpcsera.Conflict, "the server has forgotten facts that it had answered").At("epoch"))
	}
	if answer.Term != req.Term {
		again, err := a.grant(ctx, answer)
		if err != nil {
			return err
		}
		if again {
			return a.poll(ctx, wait, false)
		}
	}
	a.state.set(func(s *Status) { s.Server, s.Spoke = "", time.Now().UTC() })
	limited, cancel := context.WithTimeout(ctx, journalWait)
	defer cancel()
	err = a.engine.call(limited, func() { a.engine.takeOrders(answer, sent) })
	if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil // the journal fails: the server is to know that this instance lives, and what is acknowledged is on disk
	}
	return err
}

// journalWait is how long a poll waits for the journal.
const journalWait = 20 * time.Second

// refusedWork closes the gate: after a loss of contact nothing is submitted
// before the next answer.
func (a *Agent) refusedWork(err error) error {
	a.engine.do(func() { a.engine.cut = true })
	if otherEpoch(err) {
		return fmt.Errorf("%w: %w", errStopped, ErrRestored) // no instance serves in two epochs
	}
	switch hpcsera.CodeOf(err) {
	case hpcsera.StaleTerm:
		return fmt.Errorf("%w: another instance of this agent took over: %w", errStopped, err)
	case hpcsera.AgentActive:
		if a.config.once {
			return fmt.Errorf("%w: another instance of this agent is running: %w", errStopped, err)
		}
	}
	return err
}

// errBehind says that the journal is not the one that this agent wrote last.
var errBehind = errors.New("the journal is not the one this agent wrote last (the server knows more of this agent than it does), so jobs could run twice")

// grant records a term, after the server has heard what it may have forgotten.
// again says that the answer was made for an older cursor and does not count.
func (a *Agent) grant(ctx context.Context, answer hpcsera.WorkAnswer) (again bool, err error) {
	var m memory
	var list []hpcsera.Report
	var refused error
	err = a.engine.read(ctx, func() {
		if m, refused = a.engine.recall(answer); refused == nil {
			list = m.retold()
		}
	})
	if err != nil {
		return false, err
	}
	if errors.Is(refused, errBehind) {
		return false, fmt.Errorf("%w: %w. Put its files back into the folder journal in %s, beside those that are there now, or have the operator remove this agent (hpcserad agent remove --abandon) and enrol anew",
			errStopped, refused, a.config.StateDir)
	}
	if refused != nil {
		return false, fmt.Errorf("%w: %w", errStopped, refused)
	}
	var calledOff []string
	if m.retell {
		if calledOff, err = a.replay(ctx, answer, list); err != nil {
			return false, err
		}
	}
	err = a.engine.call(ctx, func() { again = a.engine.take(m, answer, calledOff) })
	if err != nil {
		return false, err
	}
	debug.FreeOSMemory() // a long journal has just been read twice
	a.granted.Store(answer.Term)
	a.report.wake() // for what was found before, by this instance or an earlier one
	a.log.Info("connected", "agent", a.api.ID(), "term", answer.Term)
	if err := writeInstance(a.config.StateDir, a.instance, a.host); err != nil {
		a.log.Warn("the next instance will have to wait for this one's silence", "error", err)
	}
	return again, nil
}

// suspect raises the alarm for an answer from the past, and takes the status
// list that came with it. known is the epoch that this agent has seen.
func (a *Agent) suspect(known int64, answer hpcsera.WorkAnswer) error {
	if answer.Epoch < known {
		a.witness.alarm("the server's epoch went back, so it may repeat old orders; nothing of its answer counts", "epoch", answer.Epoch, "seen", known)
		return hpcsera.Errorf(hpcsera.Unavailable, "the server is in epoch %d, and this agent has seen %d.", answer.Epoch, known)
	}
	if answer.StatusList == "" || answer.StatusList == a.lastList {
		return nil
	}
	err := policy.TakeStatus(a.trustFile(), answer.StatusList)
	if err == nil || policy.Reason(err) != "" {
		a.lastList = answer.StatusList // told once
	}
	switch {
	case errors.Is(err, policy.ErrUnpinned):
	case policy.Reason(err) != "":
		a.witness.alarm("status list refused", "error", err)
	case err != nil:
		a.log.Warn("status list not taken; it will be tried again", "error", err)
	}
	return nil
}

// takeOrders journals an answer's orders and then its cursor, so that what is
// acknowledged is on disk. sent is when the request was: the server saw this
// instance then or later.
func (e *engine) takeOrders(answer hpcsera.WorkAnswer, sent time.Time) {
	e.heard, e.cut = sent, false
	for i := range answer.Orders {
		o := answer.Orders[i]
		j := e.jobs[o.JobID]
		past, over := e.past(o.JobID)
		switch {
		case !hpcsera.ValidID("j", o.JobID):
			e.agent.witness.alarm("order refused: not a job id", "job", o.JobID)
		case over:
			e.repeated(past, o)
		case j == nil && o.Spec == nil:
			e.fact(hpcsera.Report{JobID: o.JobID, Attempt: max(o.Attempt, 1), Revision: o.Revision, State: hpcsera.Failed, Reason: hpcsera.OutcomeUnknown,
				Message: "The agent's journal does not know this job."})
		case j != nil && o.Revision < j.order.Revision:
			e.agent.witness.alarm("order refused: it is older than what the server ordered before", "job", o.JobID, "revision", o.Revision, "seen", j.order.Revision)
		case j != nil && o.Spec != nil && !sameSpec(*o.Spec, *j.spec):
			e.agent.witness.alarm("order refused: it is another job under the same id", "job", o.JobID, "code", o.Spec.Digest)
		case j == nil || o.Revision > j.order.Revision:
			if j != nil {
				o.Spec = nil // what a job is was decided by its first order
			}
			e.write(journal.Entry{Kind: journal.KindOrder, Order: &o})
			if j != nil && j.abort != nil && o.Desired == hpcsera.DesiredCancel {
				j.abort() // it may be waiting for an image
			}
			e.touch(e.jobs[o.JobID])
			if j == nil {
				e.jobs[o.JobID].came = time.Now()
			}
		}
	}
	switch {
	case answer.Cursor == e.cursor:
	case len(answer.Orders) > 0 || e.cursor == "":
		e.write(journal.Entry{Kind: journal.KindCursor, Cursor: answer.Cursor})
	case len(e.entries) == 0:
		// It acknowledges no more than the last one, but is the better proof of how
		// far the server's life had come, for a server that is put back.
		e.cursor, e.safe = answer.Cursor, answer.Cursor
	}
	for _, j := range e.jobs {
		if j.tag == "" && j.outcome == nil {
			e.touch(j) // the gate may have been closed
		}
	}
}

// sameSpec compares what an order says with what the first one said, which the
// server repeats until it is acknowledged.
func sameSpec(a, b hpcsera.OrderSpec) bool {
	first, err := json.Marshal(a)
	second, otherErr := json.Marshal(b)
	return err == nil && otherErr == nil && bytes.Equal(first, second)
}
