package sqlstore

import (
	"context"
	"sync/atomic"

	"github.com/hpcsera/hpcsera/internal/store"
)

// call is one Write on its way through the writer.
type call struct {
	ctx  context.Context
	turn chan *tx   // the writer lends the transaction
	ran  chan ran   // the caller gives it back; room for one, so he never waits
	done chan error // how it ended; room for one, so the writer never waits
	said error      // what the closure returned last, for the writer
}

// ran is how a closure ended.
type ran struct {
	err  error
	gone bool // it panicked: nobody waits for an answer
}

// Write runs fn in a transaction that it shares with other callers', and
// returns after the commit. fn runs in the caller's goroutine, perhaps more
// than once, and must not call Write or wait for anything that does.
func (s *Store) Write(ctx context.Context, fn func(store.Tx) error) error {
	c := &call{ctx: ctx, turn: make(chan *tx), ran: make(chan ran, 1), done: make(chan error, 1)}
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return errClosed()
	}
	for {
		select {
		case t := <-c.turn:
			c.run(t, fn)
		case err := <-c.done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run runs the closure and gives the transaction back even if it panics.
func (c *call) run(t *tx, fn func(store.Tx) error) {
	end := ran{gone: true}
	defer func() { c.ran <- end }()
	end = ran{err: fn(t)}
}

// counters count since Open.
type counters struct{ commits, writes, reruns atomic.Int64 }

// Stats are counts since Open.
type Stats struct {
	Commits int64 // transactions committed, each a flush to disk
	Writes  int64 // closures that were part of one
	Reruns  int64 // closures that had to run again
}

// Stats returns the counts; it may be called at any time.
func (s *Store) Stats() Stats {
	return Stats{Commits: s.stats.commits.Load(), Writes: s.stats.writes.Load(), Reruns: s.stats.reruns.Load()}
}
