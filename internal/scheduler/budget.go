package scheduler

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// budget bounds the commands that a batch system gets. Submissions have a share
// of it only, so that under any load there is room for queries and cancels.
type budget struct {
	all, submits *rate.Limiter
}

// submitShare is what submissions may take of the budget, in percent.
const submitShare = 80

func newBudget(perMinute int) *budget {
	limiter := func(n int) *rate.Limiter {
		// A burst of ten seconds' worth, and never none.
		return rate.NewLimiter(rate.Limit(float64(n)/60), max(1, n/6))
	}
	return &budget{all: limiter(perMinute), submits: limiter(max(1, perMinute*submitShare/100))}
}

// wait returns when the command may be run.
func (b *budget) wait(ctx context.Context, k kind) error {
	if k == submitKind {
		if err := b.submits.Wait(ctx); err != nil {
			return err
		}
	}
	return b.all.Wait(ctx)
}

// SubmitDelay tells how long a submission would wait for the budget. More jobs
// may join it until then.
func (s *Scheduler) SubmitDelay() time.Duration {
	if s.budget == nil {
		return 0
	}
	now := s.now()
	r := s.budget.submits.ReserveN(now, 1)
	defer r.CancelAt(now)
	return r.DelayFrom(now)
}
