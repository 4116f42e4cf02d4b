package authstore

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/sqlitefile"
)

// engine is all in which the two databases differ.
type engine struct {
	goose     goose.Dialect
	lock      string // what a writing transaction begins with, or ""
	byKey     string // orders keys as bytes
	isolation sql.IsolationLevel
	// blame returns the code for an error of the database, and whether a commit
	// that ends with it surely kept nothing.
	blame func(error) (code hpcsera.Code, undone bool)
}

// openSQLite opens or creates a database file. WAL lets readers go on while a
// writer writes; synchronous=FULL makes a commit outlive a power failure.
func openSQLite(path string) (e engine, write, read *sql.DB, err error) {
	if path, err = filepath.Abs(path); err != nil {
		return e, nil, nil, err
	}
	// Created by us, because it holds hashes of passwords: the engine would make
	// it readable for all. The engine gives its side files the same mode.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return e, nil, nil, err
	}
	name := sqlitefile.Name(path) +
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=temp_store(MEMORY)"
	if write, err = sql.Open("sqlite", name+"&_txlock=immediate"); err != nil {
		return e, nil, nil, err
	}
	write.SetMaxOpenConns(1)
	if read, err = sql.Open("sqlite", name+"&_pragma=query_only(1)"); err != nil {
		write.Close()
		return e, nil, nil, err
	}
	read.SetMaxOpenConns(4)
	return engine{goose: goose.DialectSQLite3, byKey: "key", blame: blameSQLite}, write, read, nil
}

func blameSQLite(err error) (hpcsera.Code, bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return hpcsera.Internal, false
	}
	switch code := e.Code(); code & 0xff {
	case sqlite3.SQLITE_FULL:
		return hpcsera.StorageFull, false
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return hpcsera.Unavailable, true
	case sqlite3.SQLITE_IOERR:
		return hpcsera.Unavailable, false
	}
	return hpcsera.Internal, false
}

// openPostgres reads the URL; connections come when they are needed.
func openPostgres(databaseURL string) (engine, *sql.DB, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		// The parser's own text could repeat the password.
		return engine{}, nil, hpcsera.Errorf(hpcsera.InvalidField, "the database URL cannot be read.").At("database").
			Hint("Write postgres://USER:PASSWORD@HOST:PORT/DATABASE.")
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	for key, value := range map[string]string{
		"application_name": "hpcsera-auth",
		// A process whose machine died in a transaction would keep all others from
		// writing until TCP gives it up.
		"idle_in_transaction_session_timeout": "30s",
		"lock_timeout":                        "20s",
	} {
		if config.RuntimeParams[key] == "" {
			config.RuntimeParams[key] = value
		}
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(8)
	return engine{
		goose: goose.DialectPostgres, byKey: `key COLLATE "C"`, isolation: sql.LevelRepeatableRead, blame: blamePostgres,
		lock: "SELECT number FROM auth_head WHERE id = 1 FOR UPDATE",
	}, db, nil
}

func blamePostgres(err error) (hpcsera.Code, bool) {
	var e *pgconn.PgError
	switch {
	case !errors.As(err, &e):
		// Nothing but the server's own answer says what happened.
		return hpcsera.Unavailable, pgconn.SafeToRetry(err)
	case e.Code == "53100": // disk_full
		return hpcsera.StorageFull, false
	case strings.HasPrefix(e.Code, "40"), e.Code == "55P03":
		return hpcsera.Unavailable, true
	case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "57P"), strings.HasPrefix(e.Code, "53"), e.Code == "25P03":
		return hpcsera.Unavailable, false
	}
	return hpcsera.Internal, false
}
