package sqlstore

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// tx implements [store.Tx]. Several closures use it one after another.
type tx struct {
	reader
	pending
	dialect *dialect
	// eager says that the closure is alone and wants exact answers: what it
	// inserts is written at once.
	eager bool
	// spoilt is why the closures must run apart, although the one now running
	// is not to blame.
	spoilt error

	access      bool // a closure changed who there is, or tried to
	locked      bool
	start, last int64 // the counter: as found, and the last number taken

	holds   bool // closures that succeeded left something to commit
	wrote   bool // the closure now running has changed a table
	guarded bool // a savepoint guards the closure now running
	marked  bool // the savepoint exists
	before  mark // what waited in memory when the closure began
	saved   mark // what of it was written when the savepoint was set
	lastWas int64
}

// newTx returns what a new transaction on a session starts with.
func newTx(ctx context.Context, db *session, d *dialect, eager bool) tx {
	return tx{reader: reader{ctx: ctx, db: db, q: gen.New(db), tags: map[string][]string{}}, dialect: d, eager: eager}
}

// enter prepares for the next closure.
func (t *tx) enter() {
	t.wrote, t.guarded = false, false
	t.before, t.lastWas = t.mark(), t.last
}

// accept keeps what the closure did.
func (t *tx) accept() {
	t.holds = t.holds || t.wrote || t.last != t.lastWas || t.mark() != t.before
}

// takeBack drops from memory what the closure left there.
func (t *tx) takeBack() {
	if t.guarded {
		t.written = t.saved
	}
	t.err, t.tags, t.codes = nil, map[string][]string{}, nil
	t.last = t.lastWas
	t.cut(t.before)
}

// touch comes before every change of a table: the closure's first one sets a
// savepoint, unless rolling back everything does the same.
func (t *tx) touch() error {
	if t.wrote {
		return nil
	}
	if t.holds {
		texts := t.dialect.savepoint
		if !t.marked {
			texts = []string{"SAVEPOINT closure"}
		}
		if err := t.db.exec(t.ctx, texts...); err != nil {
			return t.failed(err, "savepoint")
		}
		t.marked, t.guarded, t.saved = true, true, t.written
	}
	t.wrote = true
	return nil
}

// touchAccess is touch for changes of who there is.
func (t *tx) touchAccess() error {
	t.access = true
	return t.touch()
}

// lockCounter reads the counter; writing the row keeps other replicas out
// until the transaction ends.
func (t *tx) lockCounter() error {
	seq, err := t.q.LockCounter(t.ctx)
	if err != nil {
		return t.failed(err, "lock counter")
	}
	t.locked, t.start, t.last = true, seq, seq
	return nil
}

// NextSeq takes the next number. The counter is written once, at the end.
func (t *tx) NextSeq() (int64, error) {
	if !t.locked {
		seq, err := t.LastSeq()
		if err != nil {
			return 0, err
		}
		t.locked, t.start, t.last, t.lastWas = true, seq, seq, seq
	}
	t.last++
	return t.last, nil
}

// NewEpoch mints an epoch and lifts the counter. Epochs are times, as the first
// one is, so that those of a life that was lost are not minted again.
func (t *tx) NewEpoch(now time.Time) (int64, error) {
	if _, err := t.NextSeq(); err != nil {
		return 0, err
	}
	old, err := t.Epoch()
	if err != nil {
		return 0, err
	}
	if err := t.touch(); err != nil {
		return 0, err
	}
	epoch := max(now.Unix(), old+1)
	if err := t.q.SetEpoch(t.ctx, epoch); err != nil {
		return 0, t.failed(err, "new epoch")
	}
	t.last += store.Lift - 1
	return epoch, nil
}

// LastSeq returns the last number taken, also in this transaction.
func (t *tx) LastSeq() (int64, error) {
	if t.locked {
		return t.last, nil
	}
	return t.reader.LastSeq()
}

// finish writes all that is left to write before the commit.
func (t *tx) finish() error {
	for _, flush := range []func() error{t.flushJobs, t.flushEvents, t.flushAnswers} {
		if err := flush(); err != nil {
			return err
		}
	}
	if t.access && t.dialect.lockFirst {
		// Any number will do that was not there before, not even before a failover
		// that lost the last commits.
		if err := t.q.SetAccessVersion(t.ctx, rand.Int64()); err != nil {
			return t.failed(err, "version of access")
		}
	}
	if t.last == t.start {
		return nil
	}
	if err := t.q.SetCounter(t.ctx, t.last); err != nil {
		return t.failed(err, "counter")
	}
	return nil
}
