package authstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/sqlitefile"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versions is the table of applied migrations: not the usual one, so that the
// main database can be the same.
const versions = "auth_goose_db_version"

// Store is an open database. It implements [records.Store].
type Store struct {
	engine
	write, read *sql.DB
	path        string // of the SQLite file, or ""
	unlock      func()
	now         func() time.Time
	once        sync.Once
}

var _ records.Store = (*Store)(nil)

// Open opens a database and brings its schema up to date: a file name or
// sqlite:PATH is a SQLite database, made when it does not exist;
// postgres://… is a PostgreSQL database, which has to exist and may be the
// server's own. now tells when documents end. ctx bounds the opening only. The
// caller closes the store.
func Open(ctx context.Context, databaseURL string, now func() time.Time) (*Store, error) {
	s := &Store{now: now, unlock: func() {}}
	if err := s.open(ctx, databaseURL); err != nil {
		s.Close()
		return nil, fmt.Errorf("open the Auth app's database: %w", err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, databaseURL string) (err error) {
	file, isFile := strings.CutPrefix(databaseURL, "sqlite:")
	scheme, _, isURL := strings.Cut(databaseURL, "://")
	switch {
	case isFile, !isURL:
		if s.path, err = filepath.Abs(file); err != nil {
			return err
		}
		unlock, err := sqlitefile.Share(s.path)
		if err != nil {
			return err
		}
		s.unlock = unlock
		if s.engine, s.write, s.read, err = openSQLite(s.path); err != nil {
			return err
		}
	case scheme == "postgres", scheme == "postgresql":
		s.engine, s.write, err = openPostgres(databaseURL)
		s.read = s.write
	default:
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a database this program knows.", scheme+"://").At("database").
			Hint("Write a file name or postgres://….")
	}
	if err != nil {
		return err
	}
	return s.migrate(ctx)
}

func (s *Store) migrate(ctx context.Context) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	names, err := fs.Glob(files, "*.sql")
	if err != nil || len(names) == 0 {
		return fmt.Errorf("no migrations: %w", err)
	}
	number, _, _ := strings.Cut(path.Base(names[len(names)-1]), "_")
	newest, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return err
	}
	if s.engine.goose == goose.DialectPostgres {
		unlock, err := s.lockSchema(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	table, err := database.NewStore(s.engine.goose, versions)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider("", s.write, files, goose.WithDisableGlobalRegistry(true), goose.WithStore(table))
	if err != nil {
		return err
	}
	have, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	if have > newest {
		return hpcsera.Errorf(hpcsera.Conflict, "the database has schema %d, this program knows %d.", have, newest).
			Hint("A newer version used it; install that version.")
	}
	_, err = provider.Up(ctx)
	return err
}

// lockSchema makes processes that start together migrate one after another.
func (s *Store) lockSchema(ctx context.Context) (unlock func(), err error) {
	conn, err := s.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	const lock = "SELECT pg_advisory_lock(hashtextextended('hpcsera auth migrations ' || current_schema(), 0))"
	if _, err := conn.ExecContext(ctx, lock); err != nil {
		conn.Close()
		return nil, err
	}
	return func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the lock ends with its session
		conn.Close()
	}, nil
}

// Close lets transactions in progress finish and closes the database.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		if s.write != nil {
			err = s.write.Close()
		}
		if s.read != nil && s.read != s.write {
			err = errors.Join(err, s.read.Close())
		}
		s.unlock()
	})
	return err
}
