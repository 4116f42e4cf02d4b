package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// gate gathers like jobs, so that a thousand of them cost the batch system a
// handful of submissions: the first goes at once, those that come meanwhile go
// together as one array when the next slot comes. It belongs to the engine's
// goroutine.
type gate struct {
	waiting []*job    // in the order they came; each is busy
	next    time.Time // no submission before
	slot    time.Duration
	most    int  // members of an array; less after it was throttled, more after a success
	limit   int  // of most; less after a certain refusal, until the gate is forgotten
	timer   bool // a timer stands for next
}

const (
	firstSlot = 100 * time.Millisecond
	longSlot  = 2 * time.Second
	// usualArray is what every batch system takes by default, Slurm's MaxArraySize
	// being 1001: the largest array where the site does not tell its own.
	usualArray = 1000
	unbounded  = 1 << 30
	// A gate that was not passed for this long is forgotten.
	gateRest = 10 * time.Minute
)

// likeness is equal for jobs that may go as one array. What differs between
// members, such as values and environment, is in their tasks in the spool.
func (j *job) likeness() string {
	run := j.spec.Run
	text, err := json.Marshal([]any{j.spec.Digest, j.step, run.Resources, run.Attributes, run.Requeue})
	if err != nil {
		return j.id // like no other
	}
	return string(text)
}

// enter hands a job in, at once or with others. Where there are no arrays,
// waiting would gain nothing.
func (e *engine) enter(ctx context.Context, j *job) {
	if e.agent.system(j.current()).Environment().Index == "" {
		e.handIn(ctx, []*job{j})
		return
	}
	like := j.likeness()
	g := e.gates[like]
	if g == nil {
		g = &gate{slot: firstSlot, most: unbounded, limit: unbounded}
		e.gates[like] = g
	}
	j.busy = true
	g.waiting = append(g.waiting, j)
	e.pass(ctx, g)
}

// pass submits those who wait at a gate, if it is time, and else at that time.
func (e *engine) pass(ctx context.Context, g *gate) {
	now := time.Now()
	if len(g.waiting) == 0 || g.timer {
		return
	}
	if wait := max(g.next.Sub(now), e.agent.system(g.waiting[0].current()).SubmitDelay()); wait > 0 {
		g.timer, g.slot = true, min(2*g.slot, longSlot)
		time.AfterFunc(wait, func() {
			e.do(func() {
				g.timer = false
				e.pass(ctx, g)
			})
		})
		return
	}
	if now.Sub(g.next) > firstSlot {
		g.slot = firstSlot // nobody waited for this slot
	}
	g.next = now.Add(g.slot)
	first := g.waiting[:min(len(g.waiting), g.most, e.largestArray())]
	g.waiting = append([]*job(nil), g.waiting[len(first):]...)
	var members []*job
	for _, j := range first {
		j.busy = false
		if ctx.Err() == nil && e.jobs[j.id] == j && j.decide(now, e.open(now), e.agent.patience).do == doSubmit {
			members = append(members, j)
		} else {
			e.touch(j)
		}
	}
	if len(members) > 0 {
		e.handIn(ctx, members)
	}
	e.pass(ctx, g)
}

// largestArray is how many members one submission may have at this site.
func (e *engine) largestArray() int {
	return cmp.Or(e.agent.facts.Load().LargestArray, usualArray)
}

// forgetGates lets go of gates that nobody passed lately.
func (e *engine) forgetGates(now time.Time) {
	for like, g := range e.gates {
		if len(g.waiting) == 0 && now.Sub(g.next) > gateRest {
			delete(e.gates, like)
		}
	}
}

// refused settles a certain refusal. Of an array it may mean its size, so its
// members are handed in again as smaller ones. When it comes down to a single
// job, the word that it gets is the word for all that wait with it.
func (e *engine) refused(members []*job, tag string, said *scheduler.Refused) {
	members = slices.DeleteFunc(slices.Clone(members), func(j *job) bool { return j.tag != tag }) // another instance's submission started it
	for _, j := range members {
		e.write(journal.Entry{Kind: journal.KindRefused, Job: j.id, Step: j.step, N: j.n, Tag: tag})
	}
	if len(members) == 0 {
		return
	}
	g := e.gates[members[0].likeness()]
	if len(members) > 1 {
		e.log.Info("an array was refused; trying a smaller one", "members", len(members), "error", said.Message)
		if g != nil {
			g.limit = (len(members) + 1) / 2
			g.most = g.limit
		}
		return
	}
	if !e.leads(time.Now()) {
		return // whoever leads submits again and is told the same
	}
	if g != nil && g.limit == 1 {
		for _, j := range g.waiting {
			j.busy = false
			e.touch(j)
			if e.jobs[j.id] == j && j.order.Desired == hpcsera.DesiredRun {
				members = append(members, j)
			}
		}
		g.waiting = nil
	}
	for _, j := range members {
		e.write(journal.Entry{Kind: journal.KindOutcome, Job: j.id, Outcome: outcome(hpcsera.Failed, hpcsera.RejectedByScheduler, said.Message, nil)})
	}
}

// sized learns from what became of an array: a limit on queued jobs may leave
// room for some of its members.
func (g *gate) sized(n int, errs []error) {
	var said *scheduler.Refused
	switch {
	case errs == nil:
		g.most = min(g.limit, max(g.most, 2*n))
	case errors.As(errs[0], &said) && said.Throttled && !said.Unreached:
		g.most = max(1, n/2)
	}
}

var errTogether = errors.New("another job of the same submission was refused by this site's rules")

// verifyAll holds every member once more against signature, withdrawals and
// the site's policy. With one that fails the submission is not made: nil means
// that all may run, else there is an error for each.
func (a *Agent) verifyAll(members []*job) []error {
	errs, failed := make([]error, len(members)), false
	for i, j := range members {
		errs[i] = &notTried{errTogether}
		if _, err := a.verify(*j.spec); err != nil {
			errs[i], failed = &notTried{err}, true
		}
	}
	if !failed {
		return nil
	}
	return errs
}
