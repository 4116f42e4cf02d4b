package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database. It implements [store.Store]; all methods may be
// called concurrently.
type Store struct {
	dialect dialect
	log     *slog.Logger
	path    string // of the SQLite file, or ""
	writeDB *sql.DB
	readDB  *sql.DB
	unlock  func()

	queue   chan *call    // unbuffered: nobody is left in it when the store closes
	closing chan struct{} // closed by Close: no new writes
	tasks   sync.WaitGroup
	stop    context.CancelFunc // ends the tasks that follow other replicas
	once    sync.Once

	readers *pool
	changes atomic.Int64        // transactions of ours that changed who there is
	asked   chan chan<- version // see AccessVersion
	feed    *publisher
	ripe    chan struct{} // SQLite's log is worth a checkpoint; room for one
	stats   counters
}

// Open opens a database and brings its schema up to date: a file name or
// sqlite:PATH is a SQLite database, made when it does not exist;
// postgres://… is a PostgreSQL database, which has to exist. ctx bounds the
// opening only. The caller closes the store.
func Open(ctx context.Context, databaseURL string, log *slog.Logger) (*Store, error) {
	s := &Store{log: log, unlock: func() {}, queue: make(chan *call), asked: make(chan chan<- version), ripe: make(chan struct{}, 1), closing: make(chan struct{})}
	var life context.Context
	life, s.stop = context.WithCancel(context.Background())
	if err := s.open(ctx, life, databaseURL); err != nil {
		s.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return s, nil
}

func (s *Store) open(ctx, life context.Context, databaseURL string) error {
	path, isFile := sqlitePath(databaseURL)
	var follow func()
	switch {
	case isFile:
		s.dialect, s.path = sqliteDialect(), path
		var err error
		if s.writeDB, s.readDB, s.unlock, err = openSQLite(path); err != nil {
			s.unlock = func() {}
			return err
		}
	case strings.HasPrefix(databaseURL, "postgres://"), strings.HasPrefix(databaseURL, "postgresql://"):
		s.dialect = postgresDialect()
		db, config, err := openPostgres(databaseURL, s.dialect.readers)
		if err != nil {
			return err
		}
		s.writeDB, s.readDB = db, db
		if err := checkPostgres(ctx, db, s.log); err != nil {
			return err
		}
		follow = func() { s.follow(life, config) }
	default:
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a database this server knows.", scheme(databaseURL)).At("database").
			Hint("Write a file name or postgres://….")
	}
	if err := migrate(ctx, s.dialect.goose, s.writeDB); err != nil {
		return err
	}
	s.readers = newPool(s.readDB, s.dialect.readers, s.closing)
	start, err := s.startCounter(ctx)
	if err != nil {
		return err
	}
	s.feed = newPublisher(start)
	s.tasks.Go((&writer{Store: s}).loop)
	if s.dialect.lockFirst {
		s.tasks.Go(s.answerVersions)
	} else {
		s.tasks.Go(s.checkpoint)
	}
	if follow != nil {
		follow()
	}
	return nil
}

// startCounter makes the counter of a new database. The first epoch is the
// time, so that a database made anew never repeats the one it replaces.
func (s *Store) startCounter(ctx context.Context) (seq int64, err error) {
	q := gen.New(s.writeDB)
	row, err := q.Counter(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		if err = q.StartCounter(ctx, time.Now().Unix()); err == nil {
			row, err = q.Counter(ctx)
		}
	}
	return row.Seq, err
}

// migrate brings the schema up to date. The usual case, nothing to do, costs
// one query: the migration library is not even asked.
func migrate(ctx context.Context, d goose.Dialect, db *sql.DB) error {
	newest, err := newestMigration()
	if err != nil {
		return err
	}
	var have sql.NullInt64
	if db.QueryRowContext(ctx, "SELECT max(version_id) FROM goose_db_version").Scan(&have) == nil {
		if have.Int64 == newest {
			return nil
		}
		if have.Int64 > newest {
			return hpcsera.Errorf(hpcsera.Conflict, "the database has schema %d, this server knows %d.", have.Int64, newest).
				Hint("A newer server used it; install that version.")
		}
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if d == goose.DialectPostgres {
		unlock, err := lockSchema(ctx, db)
		if err != nil {
			return err
		}
		defer unlock()
	}
	provider, err := goose.NewProvider(d, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// lockSchema makes replicas that start together migrate one after another.
// The library's own lock polls, which would cost a start seconds.
func lockSchema(ctx context.Context, db *sql.DB) (unlock func(), err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	const lock = "SELECT pg_advisory_lock(hashtextextended('hpcsera migrations ' || current_schema(), 0))"
	if _, err := conn.ExecContext(ctx, lock); err != nil {
		conn.Close()
		return nil, err
	}
	return func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // the lock ends with its session
		conn.Close()
	}, nil
}

// newestMigration reads the version off the last file's name.
func newestMigration() (int64, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil || len(names) == 0 {
		return 0, fmt.Errorf("no migrations: %w", err)
	}
	number, _, _ := strings.Cut(path.Base(names[len(names)-1]), "_")
	return strconv.ParseInt(number, 10, 64)
}

func scheme(databaseURL string) string {
	s, _, _ := strings.Cut(databaseURL, "://")
	return s + "://"
}

// Feed wakes waiters after commits.
func (s *Store) Feed() *store.Feed { return s.feed.Feed }

// Close lets the transaction in progress finish, refuses what waits, and
// closes the database. It may be called twice.
func (s *Store) Close() error {
	var err error
	s.once.Do(func() {
		close(s.closing)
		s.stop()
		s.tasks.Wait()
		if s.readers != nil {
			s.readers.close()
		}
		if s.writeDB != nil {
			err = s.writeDB.Close()
		}
		if s.readDB != nil && s.readDB != s.writeDB {
			err = errors.Join(err, s.readDB.Close())
		}
		s.unlock()
	})
	return err
}
