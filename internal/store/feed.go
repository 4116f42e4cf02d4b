package store

import (
	"context"
	"sync"
)

// Feed hands committed changes to whoever waits for one, in seq order. A
// replica has one; the engine publishes into it after its own commits and
// when it sees those of other replicas. It holds no history: a reader first
// subscribes, then reads the store, then waits, so nothing falls between.
type Feed struct {
	mu   sync.Mutex
	subs map[*Subscription]struct{}
	last int64
}

// NewFeed returns an empty feed.
func NewFeed() *Feed { return &Feed{subs: map[*Subscription]struct{}{}} }

// Subscription collects the changes that its filter accepts.
type Subscription struct {
	feed   *Feed
	accept func(*Change) bool
	wake   chan struct{}
	mu     sync.Mutex
	queue  []Change
	lost   bool
}

// backlog is how many changes a subscription holds for a slow reader; beyond
// it the reader is told to read the store again.
const backlog = 4096

// Subscribe starts collecting. accept is called under a lock and must be
// quick. Close the subscription when done.
func (f *Feed) Subscribe(accept func(*Change) bool) *Subscription {
	s := &Subscription{feed: f, accept: accept, wake: make(chan struct{}, 1)}
	f.mu.Lock()
	f.subs[s] = struct{}{}
	f.mu.Unlock()
	return s
}

// Publish hands changes to the subscriptions. Changes at or below a seq that
// was published already are dropped, so engines may publish generously.
func (f *Feed) Publish(changes []Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		if c.Seq <= f.last {
			continue
		}
		f.last = c.Seq
		for s := range f.subs {
			if s.accept(c) {
				s.push(*c)
			}
		}
	}
}

func (s *Subscription) push(c Change) {
	s.mu.Lock()
	if len(s.queue) < backlog {
		s.queue = append(s.queue, c)
	} else {
		s.queue, s.lost = nil, true
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Wait returns the next changes, at least one unless ctx ended (then none).
// lost says that the reader was too slow and must read the store from where
// it was.
func (s *Subscription) Wait(ctx context.Context) (changes []Change, lost bool) {
	for {
		s.mu.Lock()
		changes, lost = s.queue, s.lost
		s.queue, s.lost = nil, false
		s.mu.Unlock()
		if len(changes) > 0 || lost {
			return changes, lost
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, false
		}
	}
}

// Close ends the subscription. It may be called twice.
func (s *Subscription) Close() {
	s.feed.mu.Lock()
	delete(s.feed.subs, s)
	s.feed.mu.Unlock()
}
