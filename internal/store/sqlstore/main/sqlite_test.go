package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/storetest"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Database {
		path := filepath.Join(t.TempDir(), "odd ?name#%20.db")
		return storetest.Database{Open: opener("sqlite:" + path), Writer: victimOf("sqlite:" + path), Small: smallSQLite}
	})
}

// smallSQLite opens a database on a small disk, or, where this user may not
// mount one, a database that may have few pages.
func smallSQLite(t *testing.T) (s store.Store, grow func()) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err == nil {
		t.Cleanup(func() {
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Errorf("unmount: %v", err)
			}
		})
		return open(t, filepath.Join(dir, "small.db")), func() {
			if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
				t.Fatalf("remount: %v", err)
			}
		}
	}
	small := open(t, filepath.Join(dir, "small.db"))
	limit := func(pages int) {
		err := small.Write(context.Background(), func(w store.Tx) error {
			return w.(*tx).db.exec(context.Background(), fmt.Sprintf("PRAGMA max_page_count = %d", pages))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	limit(600)
	return small, func() { limit(100_000) }
}

func TestSQLiteSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "one.db")
	s := open(t, path)
	_, err := Open(context.Background(), path, slog.New(slog.DiscardHandler))
	if got := hpcsera.CodeOf(err); got != hpcsera.Conflict {
		t.Errorf("opening it again: got %q (%v), want %q", got, err, hpcsera.Conflict)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, path)
}

func TestSQLiteFilesAreTheServersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private.db")
	s := open(t, path)
	if err := s.Write(t.Context(), func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: "alice"}) }); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(path + "*")
	if err != nil || len(files) < 3 {
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
	s := open(t, filepath.Join(t.TempDir(), "durable.db"))
	err := s.Write(t.Context(), func(w store.Tx) error {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
			var got string
			if err := w.(*tx).db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
				t.Errorf("PRAGMA %s is %q (%v), want %q", pragma, got, err, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSQLiteCannotBeWrittenByReaders(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "read.db"))
	err := s.Read(t.Context(), func(r store.Reader) error {
		_, err := r.(*reader).db.ExecContext(t.Context(), "DELETE FROM counter")
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "newer.db")
	s := open(t, path)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), path, slog.New(slog.DiscardHandler))
	if got := hpcsera.CodeOf(err); got != hpcsera.Conflict {
		t.Errorf("opening a newer schema: got %q (%v), want %q", got, err, hpcsera.Conflict)
	}
}

func TestOpenRefusesWhatIsNoDatabase(t *testing.T) {
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{text, "/nowhere/at/all.db", "mysql://h/d", "postgres://%zz", "postgres://nobody@127.0.0.1:1/x", t.TempDir()} {
		s, err := Open(context.Background(), url, slog.New(slog.DiscardHandler))
		if err == nil {
			s.Close()
			t.Errorf("%s: got no error", url)
		}
	}
	_, err := Open(context.Background(), "postgres://user:geheim@[bad/x", slog.New(slog.DiscardHandler))
	if err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("the error for a wrong URL is %v, want one without the password", err)
	}
}

// Whoever waits while a commit runs shares the next one.
func TestCommitsAreShared(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "shared.db"))
	inside, release := make(chan struct{}), make(chan struct{})
	done := make(chan error)
	go func() {
		done <- s.Write(t.Context(), func(tx store.Tx) error {
			close(inside)
			<-release
			return tx.InsertUser(hpcsera.User{Name: "first"})
		})
	}()
	<-inside
	const callers = 50
	called := make(chan struct{})
	for i := range callers {
		go func() {
			called <- struct{}{}
			done <- s.Write(t.Context(), func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: fmt.Sprintf("user-%d", i)}) })
		}()
	}
	for range callers {
		<-called
	}
	close(release)
	for range callers + 1 {
		if err := <-done; err != nil {
			t.Errorf("Write: %v", err)
		}
	}
	if got := s.Stats(); got.Writes != callers+1 || got.Commits > callers/2 {
		t.Errorf("got %d commits for %d closures, want %d closures and far fewer commits", got.Commits, got.Writes, callers+1)
	}
}
