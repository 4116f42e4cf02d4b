package sqlstore

import (
	"context"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// tx implements [store.Tx]. Several closures use it one after another.
//
// Events and kept answers wait in memory and are written with the commit,
// many rows to a statement; whatever reads them before writes them first.
type tx struct {
	reader
	dialect *dialect

	locked      bool
	start, last int64 // the counter: as found, and the last number taken
	changes     []store.Change
	answers     []keptAnswer
	written     mark // how much of changes and answers is in the tables

	holds   bool // closures that succeeded left something to commit
	wrote   bool // the closure now running has changed something
	guarded bool // a savepoint guards the closure now running
	marked  bool // the savepoint exists
	before  mark // as the closure found it
	saved   mark // written, as the savepoint found it
}

// mark is a state of what waits in memory.
type mark struct {
	last             int64
	changes, answers int
}

// enter prepares for the next closure.
func (t *tx) enter() {
	t.wrote, t.guarded = false, false
	t.before = mark{last: t.last, changes: len(t.changes), answers: len(t.answers)}
}

// accept keeps what the closure did.
func (t *tx) accept() {
	t.holds = t.holds || t.wrote || t.last != t.before.last || len(t.changes) > t.before.changes || len(t.answers) > t.before.answers
}

// takeBack drops from memory what the closure left there.
func (t *tx) takeBack() {
	if t.guarded {
		t.written = t.saved
	}
	t.err, t.tags = nil, map[string][]string{}
	t.last = t.before.last
	t.changes = t.changes[:t.before.changes]
	t.answers = t.answers[:t.before.answers]
}

// newTx returns what a new transaction on a session starts with.
func newTx(ctx context.Context, db *session, d *dialect) tx {
	return tx{reader: reader{ctx: ctx, db: db, q: gen.New(db), tags: map[string][]string{}}, dialect: d}
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
		t.locked, t.start, t.last, t.before.last = true, seq, seq, seq
	}
	t.last++
	return t.last, nil
}

// LastSeq returns the last number taken, also in this transaction.
func (t *tx) LastSeq() (int64, error) {
	if t.locked {
		return t.last, nil
	}
	return t.reader.LastSeq()
}

// flush writes what waits in memory.
func (t *tx) flush() error {
	if err := t.flushChanges(); err != nil {
		return err
	}
	if err := t.flushAnswers(); err != nil {
		return err
	}
	if t.last == t.start {
		return nil
	}
	if err := t.q.SetCounter(t.ctx, t.last); err != nil {
		return t.failed(err, "counter")
	}
	return nil
}
