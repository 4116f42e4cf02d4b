package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// gate gathers like jobs, so that a thousand of them cost the batch system a
// handful of submissions: the first goes at once, those that come meanwhile go
// together as one array when the next slot comes. It belongs to the engine's
// goroutine.
type gate struct {
	like    string
	waiting []*job    // in the order they came; each is busy
	since   time.Time // when the first of them came
	slots   slots
	most    int         // members of an array; less after it was throttled, more after a success
	limit   int         // of most; less after a certain refusal, until the gate is forgotten
	timer   *time.Timer // looks again; nil for none

	tries int       // submissions in a row that the batch system did not take now
	shut  time.Time // after them, no submission before
	said  error     // why
}

const (
	firstSlot = 100 * time.Millisecond
	longSlot  = 2 * time.Second
	// usualArray is what every batch system takes by default, Slurm's MaxArraySize
	// being 1001: the largest array where the site does not tell its own.
	usualArray = 1000
	unbounded  = 1 << 30
	// After a submission that was not taken, the next one goes alone for so long.
	trial = 10 * time.Second
	// A gate that was not passed for this long is forgotten.
	gateRest = 10 * time.Minute
)

// likeness is equal for jobs that may go as one array. What differs between
// members, such as values and environment, is in their tasks in the spool.
func (j *job) likeness() string {
	if j.like != (unique.Handle[string]{}) && j.likeStep == j.step {
		return j.like.Value()
	}
	run := j.spec.Run
	text, err := json.Marshal([]any{j.spec.Digest, j.step, run.Resources, run.Attributes, run.Requeue})
	if err != nil {
		return j.id // like no other
	}
	j.like, j.likeStep = unique.Make(string(text)), j.step // one text for all of them
	return j.like.Value()
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
		g = &gate{like: like, slots: slots{first: firstSlot, longest: longSlot}, most: unbounded, limit: unbounded}
		e.gates[like] = g
	}
	now := time.Now()
	if now.Before(g.shut) { // it does not wait here, where it could not be cancelled
		j.postpone(g.shut, g.said)
		return
	}
	if len(g.waiting) == 0 {
		g.since = now
	}
	j.busy = true
	g.waiting = append(g.waiting, j)
	e.entered[g] = true // those that come in the same breath go together
}

// pass submits those who wait at a gate, if it is time, and else at that time.
func (e *engine) pass(ctx context.Context, g *gate) {
	now := time.Now()
	if now.Before(g.shut) {
		for _, j := range g.waiting {
			j.busy = false
			j.postpone(g.shut, g.said)
			e.touch(j)
		}
		g.waiting = nil
	}
	if len(g.waiting) == 0 {
		return
	}
	if wait := e.delay(g, now); wait > 0 {
		if g.timer == nil {
			g.timer = time.AfterFunc(wait, func() {
				e.do(func() {
					g.timer = nil
					e.entered[g] = true // and passed after it is known who is still coming
				})
			})
		}
		return
	}
	if g.timer != nil {
		g.timer.Stop() // if it went off all the same, it finds what there is
		g.timer = nil
	}
	g.slots.use(now)
	if members := e.next(ctx, g, now); len(members) > 0 {
		e.handIn(ctx, members)
		if g.tries > 0 {
			g.shut = now.Add(trial) // its answer comes sooner, and says more
		}
	}
	e.pass(ctx, g)
}

// next takes those whose turn it is from a gate, and returns which of them are
// still to be submitted.
func (e *engine) next(ctx context.Context, g *gate, now time.Time) (members []*job) {
	first := g.waiting[:min(len(g.waiting), g.most, e.largestArray())]
	g.waiting = append([]*job(nil), g.waiting[len(first):]...)
	for _, j := range first {
		j.busy = false
		if ctx.Err() == nil && e.jobs[j.id] == j && j.decide(now, e.open(now), e.agent.patience).do == doSubmit {
			members = append(members, j)
		} else {
			e.touch(j)
		}
	}
	return members
}

// delay is how long those who wait at a gate have to, at least: for the next
// slot, for the budget, and not much longer for like jobs that came with them
// and are still being prepared.
func (e *engine) delay(g *gate, now time.Time) time.Duration {
	wait := max(g.slots.delay(now), e.agent.system(g.waiting[0].current()).SubmitDelay())
	if wait <= 0 && e.coming[g.like] > 0 && len(g.waiting) < min(g.most, e.largestArray()) {
		wait = min(firstSlot, g.since.Add(longSlot).Sub(now))
	}
	return wait
}

// prepare has jobs staged, like ones together; their gates know that they are
// coming. Those that wait for an image have a worker each, so that nobody waits
// for them.
func (e *engine) prepare(ctx context.Context) {
	for like, jobs := range e.unstaged {
		delete(e.unstaged, like)
		e.coming[like] += len(jobs)
		parts := 1 // to judge one takes microseconds
		switch {
		case jobs[0].contained:
			parts = len(jobs)
		case jobs[0].fetches:
			parts = cap(e.agent.stageSlots)
		}
		for part := range slices.Chunk(jobs, (len(jobs)+parts-1)/parts) {
			var contexts []context.Context
			for _, j := range part {
				own, abort := context.WithCancel(ctx)
				j.abort, contexts = abort, append(contexts, own)
			}
			e.workAll(part, func() func() {
				staged := e.stage(contexts, part)
				return func() {
					if e.coming[like] -= len(part); e.coming[like] == 0 {
						delete(e.coming, like)
					}
					staged()
					for _, j := range part {
						j.abort()
					}
				}
			})
		}
	}
}

// largestArray is how many members one submission may have at this site.
func (e *engine) largestArray() int {
	return cmp.Or(e.agent.facts.Load().LargestArray, usualArray)
}

// forgetGates lets go of gates that nobody passed lately.
func (e *engine) forgetGates(now time.Time) {
	for like, g := range e.gates {
		if len(g.waiting) == 0 && now.Sub(g.slots.next) > gateRest {
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

// learn draws from what became of an array. A limit on queued jobs may leave
// room for some of its members, later: then one submission is tried for all
// that wait, and not one for each of them.
func (g *gate) learn(now time.Time, n int, errs []error) {
	var said *scheduler.Refused
	switch {
	case errs == nil:
		g.most = min(g.limit, max(g.most, 2*n))
		g.tries, g.shut = 0, time.Time{}
	case errors.As(errs[0], &said) && said.Throttled:
		if !said.Unreached {
			g.most = max(1, n/2)
		}
		g.tries++
		g.shut, g.said = now.Add(retryDelay(g.tries, 2*time.Second, 5*time.Minute)), said
	}
}

var errTogether = errors.New("another job of the same submission was refused by this site's rules")

// verifyAll holds every member once more against signature, withdrawals and
// the site's policy. With one that fails the submission is not made: nil means
// that all may run, else there is an error for each.
func (a *Agent) verifyAll(members []*job) []error {
	errs := make([]error, len(members))
	var failed atomic.Bool
	inParts(len(members), func(from, to int) {
		judge := a.judge()
		for i := from; i < to; i++ {
			errs[i] = &notTried{errTogether}
			if _, err := judge(*members[i].spec); err != nil {
				errs[i] = &notTried{err}
				failed.Store(true)
			}
		}
	})
	if !failed.Load() {
		return nil
	}
	return errs
}

// partsOf is in how many parts n jobs are done at the same time.
func partsOf(n int) int { return min(runtime.GOMAXPROCS(0), 1+n/100) }

// inParts does n things in parts, from one up to another, at the same time.
func inParts(n int, do func(from, to int)) {
	var parts sync.WaitGroup
	size := (n + partsOf(n) - 1) / partsOf(n)
	for from := 0; from < n; from += size {
		parts.Go(func() { do(from, min(from+size, n)) })
	}
	parts.Wait()
}
