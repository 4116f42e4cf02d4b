package sqlstore

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/failpoint"
	"github.com/hpcsera/hpcsera/internal/store"
)

const (
	groupSize = 256                   // closures per transaction at most
	groupTime = 50 * time.Millisecond // after which a transaction takes no more
	maxTries  = 6                     // of a transaction that another try may cure
	firstWait = 20 * time.Millisecond // before the second try; doubles
)

// writer is the one goroutine that writes: it owns a session and lends its
// transaction to one caller after another.
type writer struct {
	*Store
	db *session // nil before the first transaction and after a lost one
}

// fate is how a transaction ended.
type fate int

const (
	kept    fate = iota // committed
	undone              // not committed, and another try may succeed
	spoiled             // not committed because of one of its closures: they must run apart
	unknown             // nobody knows whether it was committed
)

// group is the closures of one transaction and how it ended.
type group struct {
	calls      []*call // those that ran, or were to run
	fate       fate
	err        error // why it was not kept
	start, end int64 // the counter before and after
	changes    []store.Change
}

// loop serves calls until Close.
func (w *writer) loop() {
	defer func() {
		if w.db != nil {
			w.db.discard()
		}
	}()
	for {
		select {
		case c := <-w.queue:
			w.serve([]*call{c}, together)
		case <-w.closing:
			return
		}
	}
}

// manner is how closures run.
type manner int

const (
	together manner = iota // with whoever comes meanwhile
	again                  // the same ones
	apart                  // one alone, which learns at once what is wrong
)

// serve answers calls.
func (w *writer) serve(calls []*call, how manner) {
	g := w.transact(calls, how)
	for try := 1; g.fate == undone && try < maxTries && w.pause(firstWait<<try); try++ {
		w.stats.reruns.Add(int64(len(g.calls)))
		if how == together {
			how = again
		}
		g = w.transact(g.calls, how)
	}
	switch {
	case g.fate == kept:
		w.feed.publish(w.Store, g)
		for _, c := range g.calls {
			c.done <- c.said
		}
	case g.fate == spoiled && how != apart:
		w.stats.reruns.Add(int64(len(g.calls)))
		for _, c := range g.calls {
			w.serve([]*call{c}, apart)
		}
	case g.fate == spoiled:
		for _, c := range g.calls {
			c.done <- g.err
		}
	default:
		w.log.Error("database transaction failed", "closures", len(g.calls), "unknown", g.fate == unknown, "error", g.err)
		for _, c := range g.calls {
			c.done <- hpcsera.Errorf(hpcsera.Unavailable, "the database did not confirm the change: %w", g.err).
				Hint("Try again; with the same Idempotency-Key nothing happens twice.")
		}
	}
}

// pause waits before another try; false says that the store closes.
func (w *writer) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.closing:
		return false
	}
}

// transact runs calls in one transaction.
func (w *writer) transact(calls []*call, how manner) *group {
	g := &group{}
	ctx, cancel := context.Background(), func() {}
	if w.dialect.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, w.dialect.timeout)
	}
	defer cancel()
	t, err := w.begin(ctx, how == apart)
	if err != nil {
		g.calls = calls
		return w.failed(g, nil, err, false)
	}
	for i, c := range calls {
		if err := w.lend(t, g, c); err != nil {
			g.calls = append(g.calls, calls[i+1:]...)
			return w.failed(g, t, err, false)
		}
	}
	more := how == together
	for began := time.Now(); more && len(g.calls) < groupSize && time.Since(began) < groupTime; {
		runtime.Gosched() // whoever is about to come
		select {
		case c := <-w.queue:
			if err := w.lend(t, g, c); err != nil {
				return w.failed(g, t, err, false)
			}
		default:
			more = false
		}
	}
	return w.commit(t, g)
}

// begin starts a transaction.
func (w *writer) begin(ctx context.Context, eager bool) (*tx, error) {
	if w.db == nil {
		db, err := openSession(ctx, w.writeDB)
		if err != nil {
			return nil, err
		}
		w.db = db
	}
	t := newTx(ctx, w.db, &w.dialect, eager)
	return &t, w.start(&t)
}

// start begins the transaction of t, which must hold nothing yet.
func (w *writer) start(t *tx) error {
	if err := t.db.exec(t.ctx, w.dialect.beginWrite); err != nil {
		return err
	}
	if w.dialect.lockFirst {
		return t.lockCounter()
	}
	return nil
}

// lend gives the transaction to a caller until his closure has ended, and
// undoes what a failed closure did. An error is the transaction's.
func (w *writer) lend(t *tx, g *group, c *call) error {
	t.enter()
	select {
	case c.turn <- t:
	case <-c.ctx.Done():
		return nil // he left with the context's error, so nothing is owed
	}
	end := <-c.ran
	if !end.gone {
		g.calls = append(g.calls, c)
		c.said = end.err
	}
	if t.spoilt != nil {
		return t.spoilt
	}
	if t.err != nil {
		if end.err == nil {
			c.said = t.err // the closure ignored it, the database will not
		}
		if w.dialect.fault(t.err) != ordinary {
			return t.err
		}
	}
	if !end.gone && c.said == nil {
		t.accept()
		return nil
	}
	return w.undo(t)
}

// undo takes back what the closure that ran last did.
func (w *writer) undo(t *tx) error {
	switch {
	case t.guarded:
		if err := t.db.exec(t.ctx, "ROLLBACK TO SAVEPOINT closure"); err != nil {
			return err
		}
	case t.wrote || t.err != nil:
		if t.holds {
			return t.err // no savepoint: the closures before it must run again
		}
		// There is nothing else in the transaction: a new one will do.
		if err := t.db.exec(t.ctx, "ROLLBACK"); err != nil {
			return err
		}
		*t = newTx(t.ctx, t.db, t.dialect, t.eager)
		return w.start(t)
	}
	t.takeBack()
	return nil
}

// commit ends the transaction.
func (w *writer) commit(t *tx, g *group) *group {
	if !t.holds {
		if err := t.db.exec(t.ctx, "ROLLBACK"); err != nil {
			w.drop()
		}
		return g
	}
	g.start, g.end, g.changes = t.start, t.last, t.changes
	if err := t.finish(); err != nil {
		return w.failed(g, t, err, false)
	}
	hitEach("server.before-commit", t.changes)
	err := t.db.exec(t.ctx, w.dialect.commit(t.changes, w.feed.self))
	if t.access {
		w.changes.Add(1) // also where nobody knows how it ended
	}
	if err != nil {
		return w.failed(g, t, err, true)
	}
	hitEach("server.after-commit", t.changes)
	w.stats.commits.Add(1)
	if n := w.stats.writes.Add(int64(len(g.calls))); n/ripe != (n-int64(len(g.calls)))/ripe {
		select {
		case w.ripe <- struct{}{}:
		default: // it is on its way
		}
	}
	return g
}

// hitEach passes a failpoint with each change, so that a kill test can name the
// commit that it means.
func hitEach(point string, changes []store.Change) {
	for i := range changes {
		failpoint.Hit(point, changes[i].Type, string(changes[i].State))
	}
}

// failed ends a transaction that err stopped; t is nil if it never began.
func (w *writer) failed(g *group, t *tx, err error, committing bool) *group {
	blame := w.dialect.fault(err)
	if t == nil || blame == lost || t.db.exec(t.ctx, "ROLLBACK") != nil {
		w.drop()
	}
	g.err = err
	switch blame {
	case transient:
		g.fate = undone
	case lost:
		g.fate = undone
		if committing {
			g.fate = unknown
		}
	case full:
		g.fate, g.err = spoiled, fmt.Errorf("%w: %w", store.ErrFull, err)
	default:
		g.fate = spoiled
	}
	return g
}

// drop gives up the session; the next transaction opens a new one.
func (w *writer) drop() {
	if w.db != nil {
		w.db.discard()
		w.db = nil
	}
}
