package backup_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/backup"
)

// folder has files that hold their own names.
func folder(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// wantFiles checks which files there are, by name and content.
func wantFiles(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if content, ok := want[e.Name()]; err != nil || !ok || string(text) != content {
			t.Errorf("%s holds %q (%v), want %q", e.Name(), text, err, content)
		}
	}
	if len(entries) != len(want) {
		t.Errorf("got %d files, want %d", len(entries), len(want))
	}
}

func TestTheFilesOfARunningServerAreNoBackup(t *testing.T) {
	for _, beside := range []string{"db-wal", "db-shm", "db-journal"} {
		dir := folder(t, "db", beside)
		if _, err := backup.Prepare(filepath.Join(dir, "db"), filepath.Join(t.TempDir(), "db")); hpcsera.CodeOf(err) != hpcsera.Conflict {
			t.Errorf("with %s: got %v, want %s", beside, err, hpcsera.Conflict)
		}
	}
}

func TestADatabaseThatWasNotClosedIsNotPutInPlace(t *testing.T) {
	dir := folder(t, "db", "new", "new-wal")
	if _, err := backup.Place(filepath.Join(dir, "new"), filepath.Join(dir, "db"), time.Now()); err == nil {
		t.Error("got no error")
	}
	wantFiles(t, dir, map[string]string{"db": "db", "new": "new", "new-wal": "new-wal"})
}

func TestTheOldDatabaseIsKeptWithItsLogAndTheNewOneFindsNone(t *testing.T) {
	at := time.Date(2026, 11, 25, 21, 0, 0, 0, time.UTC)
	dir := folder(t, "db", "db-wal", "new", "new.lock")
	kept, err := backup.Place(filepath.Join(dir, "new"), filepath.Join(dir, "db"), at)
	if err != nil || filepath.Base(kept) != "db.replaced-20261125T210000.000000Z" {
		t.Fatalf("got %q, %v", kept, err)
	}
	wantFiles(t, dir, map[string]string{"db": "new", filepath.Base(kept): "db", filepath.Base(kept) + "-wal": "db-wal"})
	// What a crash left of a database that is gone is not read as part of another.
	dir = folder(t, "db-wal", "db-shm", "new")
	if kept, err := backup.Place(filepath.Join(dir, "new"), filepath.Join(dir, "db"), at); err != nil || kept != "" {
		t.Fatalf("got %q, %v", kept, err)
	}
	wantFiles(t, dir, map[string]string{"db": "new"})
}

func TestWhatAnEarlierAttemptLeftIsReplaced(t *testing.T) {
	from, dir := folder(t, "db"), folder(t, "db.restoring", "db.restoring-wal")
	prepared, err := backup.Prepare(filepath.Join(from, "db"), filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, map[string]string{filepath.Base(prepared): "db"})
	backup.Discard(prepared)
	wantFiles(t, dir, map[string]string{})
	wantFiles(t, from, map[string]string{"db": "db"})
}
