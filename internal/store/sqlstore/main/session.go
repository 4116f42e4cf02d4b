package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// session is one connection with the statements prepared on it. It is what
// the generated queries run on. One goroutine uses it at a time.
type session struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
	documents  map[string]any // see decodeOnce
	// local says that the engine is in this process. SQLite keeps a connection
	// half open, and its log beside the database, until every statement is closed;
	// PostgreSQL forgets them, and asking a dead one would wait.
	local bool
}

// preparedLimit bounds the statements a session keeps: lists are built from
// filters, and there are many filters.
const preparedLimit = 200

func openSession(ctx context.Context, db *sql.DB) (*session, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &session{conn: conn, statements: map[string]*sql.Stmt{}, documents: map[string]any{}, local: isSQLite(db)}, nil
}

// discard closes the connection for good, whatever state it is in.
func (s *session) discard() {
	if s.local {
		for _, p := range s.statements {
			p.Close()
		}
	}
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn }) // this is how a pool is told
	s.conn.Close()
}

// statement returns the prepared statement, or nil where the text has to be
// run as it is, because too many are prepared already.
func (s *session) statement(ctx context.Context, query string) *sql.Stmt {
	if p, ok := s.statements[query]; ok {
		return p
	}
	if len(s.statements) >= preparedLimit {
		return nil
	}
	p, err := s.conn.PrepareContext(ctx, query)
	if err != nil {
		return nil // running the text says what is wrong with it
	}
	s.statements[query] = p
	return p
}

// exec runs statements without arguments. A text with several of them, which
// only PostgreSQL is given, cannot be prepared and goes as it is.
func (s *session) exec(ctx context.Context, texts ...string) error {
	for _, text := range texts {
		var err error
		if strings.Contains(text, ";") {
			_, err = s.conn.ExecContext(ctx, text)
		} else {
			_, err = s.ExecContext(ctx, text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A session remembers this many documents, of this many bytes at most.
const (
	documentLimit = 256
	documentBytes = 16 << 10
)

// decodeOnce decodes a document of the kind that never changes and that many
// requests read. What it returns is shared and must not be changed.
func decodeOnce[T any](s *session, text string) (*T, error) {
	if v, ok := s.documents[text].(*T); ok {
		return v, nil
	}
	v := new(T)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return nil, err
	}
	if len(text) <= documentBytes {
		if len(s.documents) >= documentLimit {
			clear(s.documents)
		}
		s.documents[text] = v
	}
	return v, nil
}

func (s *session) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	cleanTexts(args)
	if p := s.statement(ctx, query); p != nil {
		return p.ExecContext(ctx, args...)
	}
	return s.conn.ExecContext(ctx, query, args...)
}

func (s *session) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	cleanTexts(args)
	if p := s.statement(ctx, query); p != nil {
		return p.QueryContext(ctx, args...)
	}
	return s.conn.QueryContext(ctx, query, args...)
}

func (s *session) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	cleanTexts(args)
	if p := s.statement(ctx, query); p != nil {
		return p.QueryRowContext(ctx, args...)
	}
	return s.conn.QueryRowContext(ctx, query, args...)
}

// PrepareContext completes what the generated code asks for.
func (s *session) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return s.conn.PrepareContext(ctx, query)
}

// cleanTexts makes every text one that both engines store: UTF-8 without NUL.
func cleanTexts(args []any) {
	for i, a := range args {
		if s, ok := a.(string); ok && (strings.IndexByte(s, 0) >= 0 || !utf8.ValidString(s)) {
			s = strings.ToValidUTF8(s, "\uFFFD")
			args[i] = strings.ReplaceAll(s, "\x00", "\uFFFD")
		}
	}
}
