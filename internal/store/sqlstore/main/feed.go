package sqlstore

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

const (
	pollInterval = 500 * time.Millisecond // for other replicas' events, when no notification comes
	pollTimeout  = 5 * time.Second
	pollPage     = 10_000 // events read at once
)

// publisher hands committed changes to the feed, those of other replicas
// included, without a gap: seen is the counter up to which everything is
// published.
type publisher struct {
	*store.Feed
	self string // tells our own notifications from others'

	mu   sync.Mutex
	seen int64
}

func newPublisher(seen int64) *publisher {
	return &publisher{Feed: store.NewFeed(), self: hpcsera.NewID("i"), seen: seen}
}

// publish hands out the changes of a transaction of ours. Where others
// committed before it, their changes come first. If those cannot be read now,
// nothing is handed out, and the next catch-up does both.
func (p *publisher) publish(s *Store, g *group) {
	if g.end == g.start {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if g.start > p.seen {
		if err := p.catchUp(context.Background(), s); err != nil {
			s.log.Warn("events of other replicas cannot be read; trying again", "error", err)
		}
		return // catching up went at least as far as our own commit
	}
	if g.end > p.seen {
		p.Publish(g.changes)
		p.seen = g.end
	}
}

// catchUp publishes what is in the table beyond seen. The caller holds mu.
func (p *publisher) catchUp(ctx context.Context, s *Store) error {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	for {
		var events []store.Change
		var last int64
		err := s.Read(ctx, func(r store.Reader) (err error) {
			if last, err = r.LastSeq(); err != nil || last <= p.seen {
				return err
			}
			events, err = r.Events(store.EventFilter{After: p.seen, Limit: pollPage})
			return err
		})
		if err != nil || last <= p.seen {
			return err
		}
		p.Publish(events)
		if len(events) < pollPage {
			p.seen = last
			return nil
		}
		p.seen = events[len(events)-1].Seq
	}
}

// follow keeps up with other replicas until the store closes.
func (s *Store) follow(life context.Context, config *pgx.ConnConfig) {
	wake := make(chan struct{}, 1)
	s.tasks.Go(func() { listen(life, config, s.feed.self, wake, s.log) })
	s.tasks.Go(func() { s.poll(life, wake) })
}

// poll publishes other replicas' events. It waits for a notification, the
// interval, or the store's end.
func (s *Store) poll(life context.Context, wake <-chan struct{}) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-wake:
		case <-tick.C:
		case <-life.Done():
			return
		}
		s.feed.mu.Lock()
		err := s.feed.catchUp(life, s)
		s.feed.mu.Unlock()
		if err != nil && !failing && life.Err() == nil {
			s.log.Warn("events of other replicas cannot be read; trying again", "error", err)
		}
		failing = err != nil
	}
}
