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
func (e *engine) look(j *job) func() {
	tag, before := j.tag, time.Now()
	start, _, blocked, err := e.agent.spool.Latest(j.id, j.step, j.n)
	e.agent.spoolTrouble(err)
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
			e.write(journal.Entry{Kind: journal.KindBlocked, Job: j.id, Step: j.step, N: j.n, Tag: tag})
		}
	}
}

// started learns that a wrapper owns a start, and by which native job.
func (e *engine) started(j *job, s *spool.Start) {
	ended := j.start != nil && j.start.N == s.N && j.start.End != nil
	j.start = s
	if j.native == nil {
		native := &hpcsera.Native{System: e.agent.system(j.current()).System(), Cluster: s.Cluster, ID: s.NativeID}
		e.write(journal.Entry{Kind: journal.KindSubmitted, Job: j.id, Step: j.step, N: j.n, Tag: j.tag, Native: native})
	}
	if s.End != nil && !ended {
		j.looked = time.Now() // only an answer to a later question tells how it ended
		e.agent.asker.soon(200 * time.Millisecond)
	}
}

// block takes the start claim in the agent's own name. When it wins, the
// submission that might be queued can never run: then holds the outcome, if
// there is one, and otherwise another submission may be made. When it loses,
// the job has started.
func (e *engine) block(ctx context.Context, j *job, then *journal.Outcome) func() {
	a, tag, n := e.agent, j.tag, j.n
	if j.start != nil {
		n = j.start.N + 1 // it was requeued: what has not begun is the run after that
	}
	mine := spool.Claim{Owner: spool.OwnerAgent, Tag: tag, Host: a.host, PID: os.Getpid(), At: time.Now().UTC()}
	owner, won, err := a.spool.Take(j.id, j.step, n, mine)
	won = won || err == nil && owner.Owner == spool.OwnerAgent // by an earlier instance
	var latest *spool.Start
	if err == nil && !won {
		latest, _, _, err = a.spool.Latest(j.id, j.step, j.n)
	}
	a.spoolTrouble(err)
	login := j.current().Type == hpcsera.LoginStep
	return func() {
		switch {
		case err != nil || !won && latest == nil:
			j.retryAt = time.Now().Add(2 * time.Second)
		case won:
			e.write(journal.Entry{Kind: journal.KindBlocked, Job: j.id, Step: j.step, N: n, Tag: tag})
			e.leftover[tag] = leftover{since: time.Now(), login: login}
			if then != nil {
				e.write(journal.Entry{Kind: journal.KindOutcome, Job: j.id, Outcome: then})
			}
		default:
			j.looked = time.Now()
			e.started(j, latest)
		}
	}
}

// act cancels, holds or releases natively. Acting twice is no harm.
func (e *engine) act(ctx context.Context, j *job, what verb) func() {
	a := e.agent
	if what == doCancel && j.spec.Run.Requeue {
		// A cancelled run must not be followed by a requeued one.
		n := j.start.N + 1
		_, _, err := a.spool.Take(j.id, j.step, n, spool.Claim{Owner: spool.OwnerAgent, Tag: j.tag, Host: a.host, PID: os.Getpid(), At: time.Now().UTC()})
		a.spoolTrouble(err)
	}
	action := map[verb]scheduler.Action{doCancel: scheduler.Cancel, doHold: scheduler.Hold, doRelease: scheduler.Release}[what]
	err := a.actors[a.system(j.current())].act(ctx, action, j.ref())
	return func() {
		j.acted = time.Now()
		if err != nil {
			e.log.Warn("batch system did not obey", "job", j.id, "action", string(action), "error", err)
			return
		}
		a.asker.soon(time.Second)
	}
}
