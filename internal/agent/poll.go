package agent

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// asker decides when the batch system is asked: soon when an answer decides
// something, rarely when nothing depends on it, more rarely still while answers
// tell nothing that the spool did not, and never more often than every second.
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

// pace is how long to wait between queries. The zero value of least and quiet is
// ready.
type pace struct {
	usual        time.Duration // poll_interval
	least, quiet time.Duration // what was waited last, after an answer that was awaited and after any other
}

// quietest is how many times the usual interval passes between queries that
// tell nothing new.
const quietest = 4

// after returns the wait after an answer. urgent says that a decision still
// waits for the batch system's word, which may take it a while; news that it
// told what the spool had not.
func (p *pace) after(urgent, news bool) time.Duration {
	if urgent {
		p.quiet = 0
		p.least = min(max(2*p.least, 2*time.Second), p.usual)
		return p.least
	}
	p.least = 0
	if news {
		p.quiet = 0
	}
	p.quiet = min(max(2*p.quiet, p.usual), quietest*p.usual)
	return p.quiet
}

// pollLoop asks the batch systems until ctx ends: one query for all jobs.
func (a *Agent) pollLoop(ctx context.Context) error {
	pace := pace{usual: a.config.PollInterval.Std()}
	back := backoff{first: 2 * time.Second, most: time.Minute}
	next, last := time.Now().Add(time.Second), time.Time{}
	for {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case d := <-a.asker.bell:
			timer.Stop()
			if t := laterOf(time.Now().Add(d), last.Add(max(pace.least, time.Second))); t.Before(next) && back.now == 0 {
				next = t
			}
			continue
		case <-timer.C:
		}
		urgent, news, err := a.ask(ctx)
		last = time.Now()
		if err != nil {
			next = last.Add(back.next())
			continue
		}
		back.reset()
		next = last.Add(pace.after(urgent, news))
	}
}

func laterOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ask makes one query per batch system that has jobs, and tells whether a
// decision still waits for an answer and whether there was news.
func (a *Agent) ask(ctx context.Context) (urgent, news bool, err error) {
	var questions []question
	if err := a.engine.read(ctx, func() { questions = a.engine.questions() }); err != nil {
		return false, false, err
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
		told := make(chan bool, 1)
		if a.engine.call(ctx, func() { told <- a.engine.answered(q, began, answer, askErr == nil) }) == nil {
			news = <-told || news
		}
		urgent = urgent || q.urgent
	}
	return urgent, news, err
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

// answered applies an answer and says whether it told what the spool had not.
// Only a whole answer makes jobs absent; what a partial one tells of a job is
// true all the same.
func (e *engine) answered(q question, began time.Time, answer map[scheduler.Ref]scheduler.Status, whole bool) (news bool) {
	for ref, id := range q.refs {
		j := e.jobs[id]
		if j == nil || j.ref() != ref || began.Before(j.submitted) {
			continue // it went on meanwhile
		}
		status, found := answer[ref]
		news = news || !found || j.start == nil && (j.status == nil || j.status.Phase != status.Phase || j.status.Reason != status.Reason) ||
			j.start != nil && j.start.End == nil && status.Phase == scheduler.PhaseEnded
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
	return news
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
