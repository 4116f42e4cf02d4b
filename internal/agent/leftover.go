package agent

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// leftover is a submission that can never run because the agent owns its
// claim. It may still stand in the queue, or appear there late.
type leftover struct {
	since time.Time
	login bool
	done  int // searches begun
}

// place is a member of a submission.
type place struct {
	tag    string
	member int
}

// place returns which member of which submission stands for the job.
func (j *job) place() place { return place{j.tag, j.member} }

// leave notes a left-over, which is due at once.
func (m *memory) leave(at place, l leftover) {
	m.leftover[at], m.searchAt = l, time.Time{}
}

// leftoverSearches are the ages at which leftovers are looked for and removed.
var leftoverSearches = []time.Duration{0, 5 * time.Second, time.Minute, 10 * time.Minute, time.Hour}

// removals space the commands that remove leftovers: thousands of jobs may be
// cancelled one by one. One that starts meanwhile takes a moment of the site's.
var removals = slots{first: 2 * time.Second, longest: 30 * time.Second}

// searchLeftovers removes what may stand in a queue for nothing, all of it
// with one command. Correctness does not rest on it: a leftover that starts
// finds its claim taken.
func (e *engine) searchLeftovers(now time.Time) {
	if len(e.leftover) == 0 || now.Before(e.searchAt) || e.removals.delay(now) > 0 {
		return
	}
	due := map[bool][]scheduler.Ref{}
	e.searchAt = now.Add(leftoverSearches[len(leftoverSearches)-1])
	for at, l := range e.leftover {
		begun := l.done
		for l.done < len(leftoverSearches) && now.Sub(l.since) >= leftoverSearches[l.done] {
			l.done++
		}
		if l.done > begun {
			due[l.login] = append(due[l.login], scheduler.Ref{Tag: at.tag, Member: at.member})
			e.leftover[at] = l
		}
		if l.done == len(leftoverSearches) {
			delete(e.leftover, at)
			continue
		}
		if next := l.since.Add(leftoverSearches[l.done]); next.Before(e.searchAt) {
			e.searchAt = next
		}
	}
	if len(due) > 0 {
		e.removals.use(now)
	}
	for login, refs := range due {
		system := e.agent.batch
		if login {
			system = e.agent.login
		}
		e.acts = append(e.acts, func() {
			e.workers.Add(1)
			go func() {
				defer e.workers.Done()
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if err := system.Act(ctx, scheduler.Cancel, refs); err != nil {
					e.log.Warn("left-over submissions not removed", "count", len(refs), "error", err)
				}
			}()
		})
	}
}
