package agent

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// asker decides when the batch system is asked: rarely when nothing depends
// on it, soon when an answer decides something, and never more often than
// every second.
type asker struct {
	bell chan time.Duration
}

func newAsker() *asker { return &asker{bell: make(chan time.Duration, 64)} }

// soon asks for a query within d.
func (q *asker) soon(d time.Duration) {
	select {
	case q.bell <- d:
	default: // enough were asked for already
	}
}

// question is one query: the references of one system and when it began.
type question struct {
	system System
	refs   map[scheduler.Ref]string // to job
	urgent bool
}

// pollLoop asks the batch systems until ctx ends: one query for all jobs.
func (a *Agent) pollLoop(ctx context.Context) error {
	least := time.Second
	back := backoff{first: 2 * time.Second, most: time.Minute}
	next, last := time.Now().Add(least), time.Time{}
	for {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case d := <-a.asker.bell:
			timer.Stop()
			if t := laterOf(time.Now().Add(d), last.Add(least)); t.Before(next) && back.now == 0 {
				next = t
			}
			continue
		case <-timer.C:
		}
		urgent, err := a.ask(ctx)
		last = time.Now()
		switch {
		case err != nil:
			next = last.Add(back.next())
		case urgent:
			// The word that is awaited may take the batch system a while.
			back.reset()
			least = min(least*2, a.config.PollInterval.Std())
			next = last.Add(least)
		default:
			back.reset()
			least = time.Second
			next = last.Add(a.config.PollInterval.Std())
		}
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ask makes one query per batch system that has jobs, and tells whether a
// decision still waits for an answer.
func (a *Agent) ask(ctx context.Context) (urgent bool, err error) {
	var questions []question
	if err := a.engine.read(ctx, func() { questions = a.engine.questions() }); err != nil {
		return false, err
	}
	for _, q := range questions {
		refs := make([]scheduler.Ref, 0, len(q.refs))
		for r := range q.refs {
			refs = append(refs, r)
		}
		began := time.Now()
		answer, askErr := q.system.Statuses(ctx, refs)
		if askErr != nil {
			err = askErr
			a.log.Warn("batch system gave no answer", "system", q.system.System(), "error", askErr)
		}
		a.state.set(func(s *Status) { s.Batch = errorText(askErr) })
		_ = a.engine.call(ctx, func() { a.engine.answered(q, began, answer, askErr == nil) })
		urgent = urgent || q.urgent
	}
	return urgent, err
}

// questions lists what is worth asking, by batch system.
func (e *engine) questions() []question {
	by := map[string]*question{}
	if !e.granted {
		return nil
	}
	for _, j := range e.jobs {
		if j.tag == "" || j.native == nil || j.outcome != nil {
			continue
		}
		system := e.agent.system(j.current())
		q := by[system.System()+j.currentKind()]
		if q == nil {
			q = &question{system: system, refs: map[scheduler.Ref]string{}}
			by[system.System()+j.currentKind()] = q
		}
		q.refs[j.ref()] = j.id
		q.urgent = q.urgent || j.awaitsWord()
	}
	var list []question
	for _, q := range by {
		list = append(list, *q)
	}
	return list
}

func (j *job) currentKind() string {
	if j.current().Type == hpcsera.LoginStep {
		return " login"
	}
	return ""
}

// answered applies an answer. Only a whole answer makes jobs absent; what a
// partial one tells of a job is true all the same.
func (e *engine) answered(q question, began time.Time, answer map[scheduler.Ref]scheduler.Status, whole bool) {
	for ref, id := range q.refs {
		j := e.jobs[id]
		if j == nil || j.ref() != ref || began.Before(j.submitted) {
			continue // it went on meanwhile
		}
		status, found := answer[ref]
		switch {
		case found:
			if j.absent > 0 {
				e.write(journal.Entry{Kind: journal.KindAbsent, Job: id, Tag: j.tag, N: 0})
			}
			j.status, j.asked = &status, began
			if status.Phase != scheduler.PhaseEnded {
				j.endedAt = time.Time{}
			} else if j.endedAt.IsZero() {
				j.endedAt = began
			}
		case whole:
			j.asked = began
			// Counted across processes: from cron, each makes one query.
			if j.absent < 3 && began.Sub(j.absentAt) >= e.agent.patience.absence || j.absent == 0 {
				e.write(journal.Entry{Kind: journal.KindAbsent, Job: id, Tag: j.tag, N: j.absent + 1})
			}
		default:
			continue
		}
		e.touch(j)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
