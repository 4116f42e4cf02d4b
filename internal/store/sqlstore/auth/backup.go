package authstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hpcsera/hpcsera"
)

// Backup writes a consistent copy of a SQLite database into a new file, which
// only we can read, while others go on writing.
func (s *Store) Backup(ctx context.Context, into string) error {
	if s.path == "" {
		return hpcsera.Errorf(hpcsera.Conflict, "PostgreSQL copies its databases itself.").Hint("Use pg_dump.")
	}
	if err := copyFile(ctx, s.path, into); err != nil {
		return fmt.Errorf("copy the Auth app's database: %w", err)
	}
	return nil
}

// Lock keeps every process from opening the SQLite database at path, or says
// that one has it open.
func Lock(path string) (unlock func(), err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	return lockFile(path, syscall.LOCK_EX)
}

// lockFile locks beside the database, because closing any descriptor of the
// database itself would drop the engine's own locks. Whoever has the database
// open shares the lock; whoever replaces the file has it alone. The kernel frees
// it when the process ends, however it ends.
func lockFile(path string, how int) (unlock func(), err error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, hpcsera.Errorf(hpcsera.Conflict, "another process has the database %s open.", path).Hint("Stop it first.")
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// copyFile writes a consistent copy of the database in the file at path into
// a new file, while others go on writing there.
func copyFile(ctx context.Context, path, into string) (err error) {
	// Made by us, because it holds hashes of passwords: the engine would make it
	// readable for all.
	f, err := os.OpenFile(into, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A connection of its own: those that read may change nothing, not even
	// another file, and the one that writes must not wait.
	db, err := sql.Open("sqlite", fileName(path)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", into); err != nil {
		return err
	}
	return f.Sync()
}

// CheckFile refuses a file that is no sound database of this kind. It changes
// nothing in it.
func CheckFile(ctx context.Context, path string) (err error) {
	refuse := func(why string) error {
		return hpcsera.Errorf(hpcsera.Conflict, "%s is no backup of an Auth app's database: %s.", path, why)
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return refuse("there is no such file")
	}
	db, err := sql.Open("sqlite", fileName(path)+"?immutable=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM auth_head").Scan(&rows); err != nil {
		return refuse(err.Error())
	}
	var sound string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&sound); err != nil {
		return refuse(err.Error())
	}
	if rows != 1 || sound != "ok" {
		return refuse("it is damaged, " + sound)
	}
	return nil
}
