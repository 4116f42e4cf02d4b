package authstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// Read runs fn on a snapshot.
func (s *Store) Read(ctx context.Context, fn func(records.Reader) error) error {
	db, err := s.read.BeginTx(ctx, &sql.TxOptions{Isolation: s.isolation, ReadOnly: true})
	if err != nil {
		return s.failed(err, "begin to read")
	}
	defer func() { _ = db.Rollback() }() // nothing was changed
	r := reader{ctx: ctx, db: db, engine: &s.engine, now: s.now()}
	if err := fn(&r); err != nil {
		return err
	}
	return r.err
}

// tries is how often a transaction is begun that the database gave up by
// itself.
const tries = 4

// Write runs fn in a transaction, one after the other.
func (s *Store) Write(ctx context.Context, fn func(records.Tx) error) error {
	var err error
	for range tries {
		var again bool
		if again, err = s.try(ctx, fn); !again || ctx.Err() != nil {
			break
		}
	}
	return err
}

// try runs fn once. again says that nothing of it was kept and that another
// try may succeed: always so when the database fails before the commit.
func (s *Store) try(ctx context.Context, fn func(records.Tx) error) (again bool, err error) {
	db, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		err = s.failed(err, "begin to write")
		return hpcsera.CodeOf(err) == hpcsera.Unavailable, err
	}
	defer func() { _ = db.Rollback() }() // also when fn panics; nothing after a commit
	t := tx{reader{ctx: ctx, db: db, engine: &s.engine, now: s.now()}}
	if s.lock != "" {
		_, err := db.ExecContext(ctx, s.lock)
		_ = t.keep(err, "lock") // looked at below
	}
	if t.err == nil {
		err = fn(&t)
	}
	// A statement that failed has spoilt the transaction, whatever fn made of
	// its error.
	if t.err != nil {
		return hpcsera.CodeOf(t.err) == hpcsera.Unavailable, t.err
	}
	if err != nil {
		return false, err
	}
	if err := db.Commit(); err != nil {
		code, undone := s.blame(err)
		if undone {
			return true, s.failed(err, "commit")
		}
		if code == hpcsera.Internal {
			code = hpcsera.Unavailable // whether it was committed is not known
		}
		return false, hpcsera.Errorf(code, "commit: %w", err)
	}
	return false, nil
}

// failed gives an error of the database its code.
func (e *engine) failed(err error, doing string) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	code, _ := e.blame(err)
	return hpcsera.Errorf(code, "%s: %w", doing, err)
}

// reader implements [records.Reader].
type reader struct {
	ctx    context.Context
	db     *sql.Tx
	engine *engine
	now    time.Time
	err    error // the database's first, with its code
}

// keep remembers the first error of the database and returns it with its code.
func (r *reader) keep(err error, doing string) error {
	if err == nil {
		return nil
	}
	told := r.engine.failed(err, doing)
	if r.err == nil {
		r.err = told
	}
	return told
}

// wellFormed reports whether both databases could have the words as text. A
// key that could not exist does not exist.
func wellFormed(words ...string) bool {
	for _, s := range words {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return false
		}
	}
	return true
}

func (r *reader) Get(kind, key string, into any) error {
	if !wellFormed(kind, key) {
		return records.ErrNotFound
	}
	const query = "SELECT doc FROM auth_docs WHERE kind = $1 AND key = $2 AND (ends = 0 OR ends > $3)"
	var doc string
	err := r.db.QueryRowContext(r.ctx, query, kind, key, r.now.UnixMicro()).Scan(&doc)
	if errors.Is(err, sql.ErrNoRows) {
		return records.ErrNotFound
	}
	if err != nil {
		return r.keep(err, "read a "+kind)
	}
	if err := json.Unmarshal([]byte(doc), into); err != nil {
		return fmt.Errorf("%s %q: %w", kind, key, err)
	}
	return nil
}

// List reads all before it calls each, so that each may use the reader: a
// transaction has one connection.
func (r *reader) List(kind, owner string, each func(key string, doc []byte) error) error {
	if !wellFormed(kind, owner) {
		return nil
	}
	query := "SELECT key, doc FROM auth_docs WHERE kind = $1 AND (ends = 0 OR ends > $2)"
	args := []any{kind, r.now.UnixMicro()}
	if owner != "" {
		query += " AND owner = $3"
		args = append(args, owner)
	}
	type pair struct{ key, doc string }
	found, err := collect(r, "list "+kind, func(rows *sql.Rows) (p pair, err error) {
		return p, rows.Scan(&p.key, &p.doc)
	}, query+" ORDER BY "+r.engine.byKey, args...)
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := each(p.key, []byte(p.doc)); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) Audit(after int64, limit int) ([]records.AuditLine, error) {
	return r.lines("SELECT line FROM auth_audit WHERE number > $1 ORDER BY number LIMIT $2", after, limit)
}

func (r *reader) AuditOf(user string, before int64, limit int) ([]records.AuditLine, error) {
	if !wellFormed(user) {
		return nil, nil
	}
	if before == 0 {
		before = 1<<63 - 1
	}
	return r.lines("SELECT line FROM auth_audit WHERE person = $1 AND number < $2 ORDER BY number DESC LIMIT $3", user, before, limit)
}

func (r *reader) lines(query string, args ...any) ([]records.AuditLine, error) {
	return collect(r, "read the audit log", func(rows *sql.Rows) (l records.AuditLine, err error) {
		var text string
		if err := rows.Scan(&text); err != nil {
			return l, err
		}
		return l, json.Unmarshal([]byte(text), &l)
	}, query, args...)
}

func collect[T any](r *reader, doing string, scan func(*sql.Rows) (T, error), query string, args ...any) ([]T, error) {
	rows, err := r.db.QueryContext(r.ctx, query, args...)
	if err != nil {
		return nil, r.keep(err, doing)
	}
	defer rows.Close()
	var list []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", doing, err)
		}
		list = append(list, v)
	}
	return list, r.keep(rows.Err(), doing)
}

// tx implements [records.Tx].
type tx struct{ reader }

func (t *tx) exec(doing, statement string, args ...any) (int64, error) {
	res, err := t.db.ExecContext(t.ctx, statement, args...)
	if err != nil {
		return 0, t.keep(err, doing)
	}
	n, err := res.RowsAffected()
	return n, t.keep(err, doing)
}

// row returns a document as it is stored.
func row(kind, key string, doc any, o records.Options) ([]any, error) {
	if !wellFormed(kind, key, o.Owner) || kind == "" || key == "" {
		return nil, hpcsera.Errorf(hpcsera.Internal, "%q, %q, %q are no kind, key and owner", kind, key, o.Owner)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", kind, key, err)
	}
	var ends int64
	if !o.Ends.IsZero() {
		ends = max(1, o.Ends.UnixMicro())
	}
	return []any{kind, key, o.Owner, ends, string(text)}, nil
}

func (t *tx) Put(kind, key string, doc any, o records.Options) error {
	args, err := row(kind, key, doc, o)
	if err != nil {
		return err
	}
	_, err = t.exec("put a "+kind, "INSERT INTO auth_docs (kind, key, owner, ends, doc) VALUES ($1, $2, $3, $4, $5) "+
		"ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner, ends = excluded.ends, doc = excluded.doc", args...)
	return err
}

func (t *tx) Insert(kind, key string, doc any, o records.Options) error {
	args, err := row(kind, key, doc, o)
	if err != nil {
		return err
	}
	// What has ended is replaced.
	n, err := t.exec("insert a "+kind, "INSERT INTO auth_docs (kind, key, owner, ends, doc) VALUES ($1, $2, $3, $4, $5) "+
		"ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner, ends = excluded.ends, doc = excluded.doc "+
		"WHERE auth_docs.ends <> 0 AND auth_docs.ends <= $6", append(args, t.now.UnixMicro())...)
	if err == nil && n == 0 {
		return records.ErrExists
	}
	return err
}

func (t *tx) Delete(kind, key string) error {
	if !wellFormed(kind, key) {
		return nil
	}
	_, err := t.exec("delete a "+kind, "DELETE FROM auth_docs WHERE kind = $1 AND key = $2", kind, key)
	return err
}

func (t *tx) Sweep(now time.Time) error {
	_, err := t.exec("sweep", "DELETE FROM auth_docs WHERE ends <> 0 AND ends <= $1", now.UnixMicro())
	return err
}

func (t *tx) Note(line records.AuditLine) error {
	var head records.Head
	err := t.db.QueryRowContext(t.ctx, "SELECT number, hash FROM auth_head WHERE id = 1").Scan(&head.Number, &head.Hash)
	if err != nil {
		return t.keep(err, "read the audit log's end")
	}
	if line, err = line.Chain(head); err != nil {
		return err
	}
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("audit line %d: %w", line.Number, err)
	}
	const doing = "append to the audit log"
	if _, err := t.exec(doing, "INSERT INTO auth_audit (number, person, line) VALUES ($1, $2, $3)", line.Number, line.User, string(text)); err != nil {
		return err
	}
	_, err = t.exec(doing, "UPDATE auth_head SET number = $1, hash = $2 WHERE id = 1", line.Number, line.Hash)
	return err
}
