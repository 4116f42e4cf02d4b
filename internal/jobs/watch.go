package jobs

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// watch re-checks the principal of a request that lasts: a stream, a long
// poll. It was authenticated when the request came; whatever is told later is
// told to somebody who may have lost the access meanwhile. A stream looks every
// few seconds; what answers once looks before it answers, too.
type watch struct {
	s   *Service
	p   *auth.Principal
	due time.Time
}

func (s *Service) watch(p *auth.Principal) *watch {
	return &watch{s: s, p: p, due: time.Now().Add(recheckEvery)}
}

// check returns the error that authentication would return now. A request that
// nobody waits for any more has none.
func (w *watch) check(ctx context.Context) error {
	w.due = time.Now().Add(recheckEvery)
	if err := w.s.cfg.Still(ctx, w.p); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// overdue says that it is time for a check, however busy the request is.
func (w *watch) overdue() bool { return !time.Now().Before(w.due) }

// wait waits for changes until ctx ends or a check is due. What wakes it early
// does not put the check off.
func (w *watch) wait(ctx context.Context, sub *store.Subscription) (changes []store.Change, lost bool) {
	limited, cancel := context.WithDeadline(ctx, w.due)
	defer cancel()
	return sub.Wait(limited)
}
