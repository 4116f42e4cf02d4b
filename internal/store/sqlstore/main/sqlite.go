package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/sqlitefile"
)

func sqliteDialect() dialect {
	return dialect{
		goose:      goose.DialectSQLite3,
		beginWrite: "BEGIN IMMEDIATE",
		beginRead:  "BEGIN",
		savepoint:  []string{"RELEASE SAVEPOINT closure", "SAVEPOINT closure"},
		anonymous:  true,
		readers:    max(4, 2*runtime.GOMAXPROCS(0)),
		commit:     func([]store.Change, string) string { return "COMMIT" },
		blame:      blameSQLite,
	}
}

// openSQLite opens or creates a database file. WAL lets readers go on while
// the writer writes; synchronous=FULL makes a commit outlive a power failure.
func openSQLite(path string) (write, read *sql.DB, unlock func(), err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, nil, nil, err
	}
	// A second process's changes would not reach our feed.
	if unlock, err = sqlitefile.Lock(path); err != nil {
		return nil, nil, nil, err
	}
	// Created by us, because it holds hashes of secrets: the engine would make
	// it readable for all. The engine gives its side files the same mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		unlock()
		return nil, nil, nil, err
	}
	pragmas := "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=temp_store(MEMORY)"
	name := sqlitefile.Name(path) + pragmas
	write, err = sql.Open("sqlite", name+"&_pragma=cache_size(-32000)&_pragma=wal_autocheckpoint(8000)&_pragma=journal_size_limit(67108864)&_txlock=immediate")
	if err == nil {
		read, err = sql.Open("sqlite", name+"&_pragma=query_only(1)")
	}
	if err != nil {
		unlock()
		return nil, nil, nil, err
	}
	write.SetMaxOpenConns(1)
	return write, read, unlock, nil
}

// ripe is after how many closures the log is moved into the database file. The
// writer does so itself when the log reaches its wal_autocheckpoint, in pages,
// but then all wait for it.
const ripe = 1000

// checkpoint moves what SQLite's log holds into the database file, beside the
// writer, until the store closes.
func (s *Store) checkpoint() {
	for {
		select {
		case <-s.ripe:
		case <-s.closing:
			return
		}
		db, err := s.readers.get(context.Background())
		if err == nil {
			err = db.exec(context.Background(), "PRAGMA wal_checkpoint(PASSIVE)")
			s.readers.put(db, err != nil)
		}
		if err != nil {
			s.log.Warn("SQLite's log was not moved into the database file; the writer will", "error", err)
		}
	}
}

func isSQLite(db *sql.DB) bool {
	_, ok := db.Driver().(*sqlite.Driver)
	return ok
}

func blameSQLite(err error) fault {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return ordinary
	}
	switch code := e.Code(); {
	case code&0xff == sqlite3.SQLITE_FULL, code == sqlite3.SQLITE_IOERR_SHMSIZE:
		return full
	case code&0xff == sqlite3.SQLITE_BUSY, code&0xff == sqlite3.SQLITE_LOCKED:
		return transient
	case code&0xff == sqlite3.SQLITE_IOERR:
		return lost
	}
	return ordinary
}

// sqlitePath returns the file that a database setting names, if it names one.
func sqlitePath(databaseURL string) (string, bool) {
	if rest, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok {
		return rest, true
	}
	return databaseURL, !strings.Contains(databaseURL, "://")
}
