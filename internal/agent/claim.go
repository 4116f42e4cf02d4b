package agent

import (
	"context"
	"os"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// look reads claim and end record of the current step.
func (e *engine) look(j *job) func() func() {
	a, id, step, n, tag := e.agent, j.id, j.step, j.n, j.tag
	return func() func() {
		before := time.Now()
		start, _, blocked, err := a.spool.Latest(id, step, n)
		a.spoolTrouble(err)
		return func() {
			if err != nil || j.tag != tag {
				j.retryAt = time.Now().Add(2 * time.Second)
				return
			}
			j.looked = before
			switch {
			case start != nil:
				e.started(j, start)
			case blocked:
				// The agent took the claim and was stopped before it could say so.
				e.write(journal.Entry{Kind: journal.KindBlocked, Job: id, Step: step, N: n, Tag: tag, Member: j.member})
			}
		}
	}
}

// started learns that a wrapper owns a start, and by which native job. The
// claim is the authority: where another instance's submission won it, the job
// is that submission from now on, and the own one a left-over.
func (e *engine) started(j *job, s *spool.Start) {
	known := j.start != nil && j.start.N == s.N
	ended := known && j.start.End != nil
	j.start = s
	if s.N == j.requeued && s.End != nil && s.End.Ended.After(j.requeuedAt) {
		j.requeued = 0 // the word that it waited again was of before this start, which went on
	}
	if s.Tag != j.tag {
		e.log.Warn("another submission of this agent started the job", "job", j.id, "submission", s.Tag)
		e.leave(j.place(), leftover{since: time.Now(), login: j.current().Type == hpcsera.LoginStep})
	}
	if j.native == nil || s.Tag != j.tag {
		native := &hpcsera.Native{System: e.agent.system(j.current()).System(), Cluster: s.Cluster, ID: s.NativeID}
		e.agent.witness.start(j.id, s.NativeID, j.judged())
		e.write(journal.Entry{Kind: journal.KindSubmitted, Job: j.id, Step: j.step, N: j.n, Tag: s.Tag, Member: s.Member, Native: native})
	}
	if !known && j.outcome == nil {
		// A short program may have ended by now; that it ran, and since when, is
		// told all the same.
		r := j.view()
		r.Message = ""
		e.tellThat(j, r)
	}
	if s.End != nil && !ended {
		j.looked = time.Now() // only an answer to a later question tells how it ended
		e.agent.asker.soon(200 * time.Millisecond)
	}
}

// block takes the start claim in the agent's own name. When it wins, the
// submission that might be queued can never run: then is written, if there is
// one, and otherwise another submission may be made. When it loses,
// the job has started.
func (e *engine) block(j *job, then *journal.Entry) func() func() {
	a, id, step, first, n, tag := e.agent, j.id, j.step, j.n, j.n, j.tag
	ran := j.start != nil && j.start.N != j.requeued // and has ended: the submission is over, not blocked
	if j.start != nil {
		n = j.start.N + 1 // it may be, or was, requeued: what has not begun is the run after that
	}
	return func() func() {
		owner, won, err := a.spool.Take(id, step, n, a.claim(tag))
		won = won || err == nil && owner.Owner == spool.OwnerAgent // by an earlier instance
		var latest *spool.Start
		if err == nil && !won {
			latest, _, _, err = a.spool.Latest(id, step, first)
		}
		a.spoolTrouble(err)
		return func() {
			switch {
			case err != nil || j.tag != tag || !won && latest == nil:
				j.retryAt = time.Now().Add(2 * time.Second)
			case won:
				if !ran {
					e.write(journal.Entry{Kind: journal.KindBlocked, Job: id, Step: step, N: n, Tag: tag, Member: j.member})
				}
				if then != nil && e.leads(time.Now()) { // else it is decided again: the claim stands
					e.write(*then)
				}
			default:
				j.looked = time.Now()
				e.started(j, latest)
			}
		}
	}
}

// claim is this instance's own claim against a submission.
func (a *Agent) claim(tag string) spool.Claim {
	return spool.Claim{Owner: spool.OwnerAgent, Tag: tag, Host: a.host, PID: os.Getpid(), At: time.Now().UTC()}
}

// act cancels, holds or releases natively. Acting twice is no harm.
func (e *engine) act(ctx context.Context, j *job, what verb) func() func() {
	a, id, step, ref, system := e.agent, j.id, j.step, j.ref(), e.agent.system(j.current())
	next := 0
	if what == doCancel && j.spec.Run.Requeue {
		next = j.start.N + 1 // a cancelled run must not be followed by a requeued one
	}
	action := map[verb]scheduler.Action{doCancel: scheduler.Cancel, doHold: scheduler.Hold, doRelease: scheduler.Release}[what]
	return func() func() {
		if next > 0 {
			_, _, err := a.spool.Take(id, step, next, a.claim(ref.Tag))
			a.spoolTrouble(err)
		}
		err := a.actors[system].act(ctx, action, ref)
		return func() {
			j.acted = time.Now()
			if err != nil {
				e.log.Warn("batch system did not obey", "job", id, "action", string(action), "error", err)
				return
			}
			a.asker.soon(time.Second)
		}
	}
}
