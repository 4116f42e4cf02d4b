package authstore

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/records/recordstest"
)

func TestSQLite(t *testing.T) {
	recordstest.Run(t, func(t *testing.T) recordstest.Database {
		return recordstest.Database{Open: opener("sqlite:" + filepath.Join(t.TempDir(), "odd ?name#%20.db"))}
	})
}

func TestPostgres(t *testing.T) {
	server(t) // fails once rather than in every case
	recordstest.Run(t, func(t *testing.T) recordstest.Database {
		return recordstest.Database{Open: opener(newSchema(t))}
	})
}

func opener(url string) func(*testing.T, func() time.Time) records.Store {
	return func(t *testing.T, now func() time.Time) records.Store { return open(t, url, now) }
}

// open opens a store that the test closes.
func open(t *testing.T, url string, now func() time.Time) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, now)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// server returns the URL of the PostgreSQL that tests use.
func server(t *testing.T) string {
	t.Helper()
	url := os.Getenv("HPCSERA_TEST_POSTGRES")
	if url == "" {
		t.Fatal(`There is no PostgreSQL to test on. Start one first: eval "$(test/testbed/postgres up)"`)
	}
	return url
}

// newSchema makes an empty schema for a test and returns its URL.
func newSchema(t *testing.T) string {
	t.Helper()
	config, err := pgx.ParseConfig(server(t))
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { db.Close() })
	name := hpcsera.NewID("test")
	run := func(statement string) {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	run("CREATE SCHEMA " + name)
	t.Cleanup(func() { run("DROP SCHEMA " + name + " CASCADE") })
	u, err := url.Parse(server(t))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("search_path", name)
	u.RawQuery = q.Encode()
	return u.String()
}

func TestSQLiteFilesAreTheProgramsAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private.db")
	open(t, path, time.Now)
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 2 {
		t.Fatalf("got the files %v (%v), want the database and its side files", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(f), got)
		}
	}
}

// A power failure must not undo what was answered: the journal is flushed at
// every commit.
func TestSQLiteIsDurable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "durable.db"), time.Now)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
		var got string
		if err := s.write.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("PRAGMA %s is %q (%v), want %q", pragma, got, err, want)
		}
	}
}

func TestReadersCannotWrite(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "read.db"), time.Now)
	if _, err := s.read.ExecContext(t.Context(), "DELETE FROM auth_docs"); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestANewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "newer.db")
	s := open(t, path, time.Now)
	if _, err := s.write.ExecContext(t.Context(), "INSERT INTO "+versions+" (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), path, time.Now)
	if got := hpcsera.CodeOf(err); got != hpcsera.Conflict {
		again.Close()
		t.Errorf("got %q (%v), want %q", got, err, hpcsera.Conflict)
	}
}

// The log's lines are found changed even by somebody who has the database.
func TestALineThatWasChangedInTheDatabaseIsFound(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "changed.db"), time.Now)
	for range 3 {
		if err := s.Write(t.Context(), func(tx records.Tx) error { return tx.Note(records.AuditLine{Actor: "alice", User: "alice"}) }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.write.ExecContext(t.Context(), "UPDATE auth_audit SET line = replace(line, 'alice', 'mallory') WHERE number = 2"); err != nil {
		t.Fatal(err)
	}
	err := s.Read(t.Context(), func(r records.Reader) error {
		_, err := records.Verify(r)
		return err
	})
	if hpcsera.CodeOf(err) != hpcsera.Conflict || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v, want a conflict at line 2", err)
	}
}

func TestOpenRefusesWhatIsNoDatabase(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{text, "/nowhere/at/all.db", "mysql://h/d", "postgres://%zz", "postgres://nobody@127.0.0.1:1/x", t.TempDir()} {
		s, err := Open(context.Background(), url, time.Now)
		if err == nil {
			s.Close()
			t.Errorf("%s: got no error", url)
		}
	}
	_, err := Open(context.Background(), "postgres://user:geheim@[bad/x", time.Now)
	if err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("the error for a wrong URL is %v, want one without the password", err)
	}
}

// One PostgreSQL serves the server's own database beside ours.
func TestTablesHaveAPrefixOfTheirOwn(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "names.db"), time.Now)
	rows, err := s.read.QueryContext(t.Context(), "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil || !strings.HasPrefix(name, "auth_") {
			t.Errorf("got the name %q, %v", name, err)
		}
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}
