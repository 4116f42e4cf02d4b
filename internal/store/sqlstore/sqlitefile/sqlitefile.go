// Package sqlitefile handles a SQLite database as a file: its name for the
// engine, who may have it open, a copy of it while others write, and whether a
// copy is sound. Both databases stand on it, the server's and the Auth app's;
// it knows neither's tables.
package sqlitefile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	_ "modernc.org/sqlite" // the engine

	"github.com/hpcsera/hpcsera"
)

// Name is a path as the engine wants it; what follows a ? are its pragmas.
func Name(path string) string { return "file:" + (&url.URL{Path: path}).EscapedPath() }

// Lock keeps every process from opening the database at path, or says that one
// has it open. It is taken beside the database, because closing any descriptor
// of the database itself would drop the engine's own locks. The kernel frees it
// when the process ends, however it ends.
func Lock(path string) (unlock func(), err error) { return lock(path, syscall.LOCK_EX) }

// Share is Lock among processes that may have the database open together.
func Share(path string) (unlock func(), err error) { return lock(path, syscall.LOCK_SH) }

func lock(path string, how int) (unlock func(), err error) {
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, hpcsera.Errorf(hpcsera.Conflict, "another process has the database %s open.", path).
				Hint("Stop it first. Several API servers share a database only in PostgreSQL.")
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// Copy writes a consistent copy of the database at path into a new file, which
// only we can read, while others go on writing.
func Copy(ctx context.Context, path, into string) (err error) {
	// Made by us, because it holds hashes of secrets: the engine would make it
	// readable for all.
	f, err := os.OpenFile(into, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A connection of its own: those that read may change nothing, not even
	// another file, and the one that writes must not wait.
	db, err := sql.Open("sqlite", Name(path)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", into); err != nil {
		return err
	}
	return f.Sync()
}

// Check refuses a file that is no sound database of that kind: one whose table
// has one row. It changes nothing in it. kind is for people: "the server's".
func Check(ctx context.Context, path, kind, table string) (err error) {
	refuse := func(why string) error {
		return hpcsera.Errorf(hpcsera.Conflict, "%s is no backup of %s database: %s.", path, kind, why)
	}
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return refuse("there is no such file")
	}
	db, err := sql.Open("sqlite", Name(path)+"?immutable=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var rows int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM "+table).Scan(&rows); err != nil {
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
