package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// pool holds the sessions of readers, opened when they are first needed.
type pool struct {
	db      *sql.DB
	free    chan *session // a nil stands for one not opened yet
	closing <-chan struct{}
}

func newPool(db *sql.DB, size int, closing <-chan struct{}) *pool {
	p := &pool{db: db, free: make(chan *session, size), closing: closing}
	for range size {
		p.free <- nil
	}
	return p
}

func (p *pool) get(ctx context.Context) (*session, error) {
	select {
	case s := <-p.free:
		if s != nil {
			return s, nil
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.closing:
		return nil, errClosed()
	}
	s, err := openSession(ctx, p.db)
	if err != nil {
		p.free <- nil
	}
	return s, err
}

// put gives a session back; a broken one is replaced when it is needed.
func (p *pool) put(s *session, broken bool) {
	if broken {
		s.discard()
		s = nil
	}
	p.free <- s
}

// close discards the sessions, those in use when they come back. closing is
// closed by then.
func (p *pool) close() {
	for range cap(p.free) {
		if s := <-p.free; s != nil {
			s.discard()
		}
	}
}

// reader implements [store.Reader] on a session that is in a transaction. It
// carries the context of the transaction it was made for.
type reader struct {
	ctx context.Context
	db  *session
	q   *gen.Queries
	// err is the first error of the database itself. After one, PostgreSQL
	// refuses every further statement of the transaction.
	err error
	// tags are those of the jobs read so far, by id; nil where nobody writes.
	tags map[string][]string
}

// Read runs fn on a snapshot.
func (s *Store) Read(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	db, err := s.beginRead(ctx)
	if err != nil {
		return s.outage(err)
	}
	r := &reader{ctx: s.statementContext(ctx), db: db, q: gen.New(db)}
	broken := true // unless fn returns: a panic passes through here
	defer func() { s.readers.put(db, broken) }()
	err = fn(r)
	// Nothing was written, so how the transaction ends makes no difference.
	broken = db.exec(context.WithoutCancel(ctx), "ROLLBACK") != nil || r.err != nil
	return err
}

// statementContext returns the context for statements: one that never ends
// where statements cannot hang.
func (s *Store) statementContext(ctx context.Context) context.Context {
	if s.dialect.timeout == 0 {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// beginRead starts a transaction. A session that turns out to be dead, because
// the database was restarted meanwhile, is replaced once.
func (s *Store) beginRead(ctx context.Context) (*session, error) {
	for try := 0; ; try++ {
		db, err := s.readers.get(ctx)
		if err != nil {
			return nil, err
		}
		if err = db.exec(s.statementContext(ctx), s.dialect.beginRead); err == nil {
			return db, nil
		}
		s.readers.put(db, true)
		if try == cap(s.readers.free) || ctx.Err() != nil {
			return nil, err
		}
	}
}

// outage turns an error of the database as a whole into one for the API.
func (s *Store) outage(err error) error {
	var e *hpcsera.Error
	switch {
	case errors.As(err, &e), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return hpcsera.Errorf(hpcsera.Unavailable, "the database cannot be used: %w", err).Hint("Try again later.")
}

func errClosed() error {
	return hpcsera.Errorf(hpcsera.Unavailable, "the server stops.").Hint("Try again.")
}

// failed wraps an error of a query with what was asked for. A row that is not
// there is ErrNotFound; any other error ends the transaction's usefulness.
func (r *reader) failed(err error, format string, args ...any) error {
	if errors.Is(err, sql.ErrNoRows) {
		err = store.ErrNotFound
	} else if r.err == nil {
		r.err = err
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// changed turns the count of an UPDATE or DELETE by key into ErrNotFound.
func (r *reader) changed(n int64, err error, format string, args ...any) error {
	if err == nil && n == 0 {
		err = sql.ErrNoRows
	}
	if err != nil {
		return r.failed(err, format, args...)
	}
	return nil
}

// Epoch returns the sequence's epoch.
func (r *reader) Epoch() (int64, error) {
	row, err := r.q.Counter(r.ctx)
	if err != nil {
		return 0, r.failed(err, "counter")
	}
	return row.Epoch, nil
}

// LastSeq returns the last number taken in a committed transaction.
func (r *reader) LastSeq() (int64, error) {
	row, err := r.q.Counter(r.ctx)
	if err != nil {
		return 0, r.failed(err, "counter")
	}
	return row.Seq, nil
}

// micros and moment store times; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func moment(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func momentOrNil(us int64) *time.Time {
	if us == 0 {
		return nil
	}
	t := moment(us)
	return &t
}
