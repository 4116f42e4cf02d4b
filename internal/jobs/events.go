package jobs

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// EventQuery selects events.
type EventQuery struct {
	Job   string // "" is all jobs that the principal reaches
	After int64  // only events with a higher seq
	Limit int    // of a page: 1 to 10 000; 0 is 1000
}

// Events returns a page of events, oldest first.
func (s *Service) Events(ctx context.Context, p *auth.Principal, q EventQuery) (hpcsera.EventList, error) {
	list := hpcsera.EventList{Events: []hpcsera.Event{}, Next: q.After}
	if q.Limit == 0 {
		q.Limit = 1000
	}
	if q.Limit < 1 || q.Limit > 10_000 {
		return list, hpcsera.Errorf(hpcsera.InvalidField, "%d is not between 1 and 10000.", q.Limit).At("limit")
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		if err := s.mayHear(r, p, q.Job); err != nil {
			return err
		}
		rows, err := r.Events(eventFilter(p, q))
		mine := hears(p, q.Job)
		for i := range rows {
			list.Next = rows[i].Seq
			if mine(&rows[i]) {
				list.Events = append(list.Events, rows[i].Event)
			}
		}
		return err
	})
	return list, store.Failed("read events", err)
}

// mayHear is the permission check of events: of one job, or of a project.
func (s *Service) mayHear(r store.Reader, p *auth.Principal, job string) error {
	if job == "" {
		return auth.Allow(p, auth.ListEvents, ownProject(p))
	}
	_, err := s.load(r, p, auth.ListJobEvents, job)
	return err
}

func eventFilter(p *auth.Principal, q EventQuery) store.EventFilter {
	return store.EventFilter{Job: q.Job, Projects: p.Projects(), Client: p.OnlyClient(), After: q.After, Limit: q.Limit}
}

// hears returns the same choice as eventFilter, for changes of the feed, and
// the one of the token's site, which the store does not make.
func hears(p *auth.Principal, job string) func(*store.Change) bool {
	project, client, site := ownProject(p).Project, p.OnlyClient(), p.OnlySite()
	return func(c *store.Change) bool {
		return (job == "" || c.Job == job) && c.Project == project &&
			(client == "" || c.Client == client) && (site == "" || c.Site == site)
	}
}

// Stream calls emit with every event after q.After, in order and once each,
// and goes on as they come. It ends with emit's error, when ctx ends (nil),
// when the server stops (nil), or when p is no longer valid (that error). idle
// is called now and then in between, for keep-alive comments.
func (s *Service) Stream(ctx context.Context, p *auth.Principal, q EventQuery, emit func(hpcsera.Event) error, idle func() error) error {
	sub := s.cfg.Store.Feed().Subscribe(hears(p, q.Job))
	defer sub.Close()
	watch := s.watch(p)
	// A slow reader takes a page for minutes, so each event asks.
	tell := func(e hpcsera.Event) error {
		if watch.overdue() {
			if err := watch.check(ctx); err != nil {
				return err
			}
		}
		return emit(e)
	}
	running, cancel := s.running(ctx)
	defer cancel()
	after, err := s.catchUp(ctx, p, q, tell)
	for err == nil && ctx.Err() == nil && !s.stopping() {
		changes, lost := watch.wait(running, sub)
		if watch.overdue() {
			if err := watch.check(ctx); err != nil {
				return err
			}
			if err := idle(); err != nil {
				return err
			}
		}
		if lost {
			q.After = after
			after, err = s.catchUp(ctx, p, q, tell)
			continue
		}
		for i := range changes {
			if changes[i].Seq <= after {
				continue // read from the store already
			}
			if err := tell(changes[i].Event); err != nil {
				return err
			}
			after = changes[i].Seq
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// catchUp emits what the store has after q.After and returns the last seq.
func (s *Service) catchUp(ctx context.Context, p *auth.Principal, q EventQuery, emit func(hpcsera.Event) error) (int64, error) {
	q.Limit = 1000
	for {
		page, err := s.Events(ctx, p, q)
		if err != nil {
			return q.After, err
		}
		for _, e := range page.Events {
			if err := emit(e); err != nil {
				return q.After, err
			}
		}
		if page.Next == q.After {
			return q.After, nil
		}
		q.After = page.Next
	}
}
