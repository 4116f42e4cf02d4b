package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// channel is where replicas tell one another that there are new events. A lost
// notification costs a poll's interval and nothing else.
const channel = "hpcsera_events"

func postgresDialect() dialect {
	return dialect{
		goose:      goose.DialectPostgres,
		beginWrite: "BEGIN ISOLATION LEVEL READ COMMITTED",
		beginRead:  "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
		savepoint:  []string{"RELEASE SAVEPOINT closure; SAVEPOINT closure"},
		lockFirst:  true,
		timeout:    30 * time.Second,
		readers:    max(8, 4*runtime.GOMAXPROCS(0)),
		commit:     commitPostgres,
		blame:      blamePostgres,
	}
}

// commitPostgres puts another statement before COMMIT, because a COMMIT alone
// of a transaction that the server has given up reports success.
func commitPostgres(changes []store.Change, self string) string {
	if len(changes) == 0 {
		return "SELECT 1; COMMIT"
	}
	return "NOTIFY " + channel + ", '" + self + "'; COMMIT"
}

// openPostgres reads the URL; connections come when they are needed.
func openPostgres(databaseURL string, readers int) (*sql.DB, *pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(databaseURL)
	if err != nil {
		// The parser's own text could repeat the password.
		return nil, nil, hpcsera.Errorf(hpcsera.InvalidField, "the database URL cannot be read.").At("database").
			Hint("Write postgres://USER:PASSWORD@HOST:PORT/DATABASE.")
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second
	}
	for key, value := range map[string]string{
		"application_name": "hpcserad",
		// A replica whose machine died in a transaction would keep the counter
		// locked, and so all others from writing, until TCP gives it up.
		"idle_in_transaction_session_timeout": "30s",
	} {
		if config.RuntimeParams[key] == "" {
			config.RuntimeParams[key] = value
		}
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(readers + 2) // the writer, and one to spare while it is replaced
	db.SetMaxIdleConns(readers + 2)
	return db, config, nil
}

// checkPostgres refuses a database that cannot keep the promises.
func checkPostgres(ctx context.Context, db *sql.DB, log *slog.Logger) error {
	var encoding, synchronous, fsync string
	err := db.QueryRowContext(ctx, "SELECT current_setting('server_encoding'), current_setting('synchronous_commit'), current_setting('fsync')").
		Scan(&encoding, &synchronous, &fsync)
	if err != nil {
		return err
	}
	if encoding != "UTF8" {
		return hpcsera.Errorf(hpcsera.Conflict, "the PostgreSQL database has the encoding %s.", encoding).
			Hint("Create it with ENCODING 'UTF8'.")
	}
	if synchronous == "off" || fsync == "off" {
		log.Warn("PostgreSQL may lose committed jobs when its machine fails", "synchronous_commit", synchronous, "fsync", fsync)
	}
	return nil
}

func blamePostgres(err error) fault {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return lost // nothing but the server's own answer says what happened
	}
	switch {
	case e.Code == "53100": // disk_full
		return full
	case strings.HasPrefix(e.Code, "40"), e.Code == "55P03":
		return transient
	case strings.HasPrefix(e.Code, "08"), strings.HasPrefix(e.Code, "57P"), strings.HasPrefix(e.Code, "53"):
		return lost
	}
	return ordinary
}

// listen wakes the feed when another replica has committed, until ctx ends.
func listen(ctx context.Context, config *pgx.ConnConfig, self string, wake chan<- struct{}, log *slog.Logger) {
	for ctx.Err() == nil {
		err := listenOnce(ctx, config, self, wake)
		if ctx.Err() != nil {
			return
		}
		log.Debug("notifications of other replicas stopped; polling goes on", "error", err)
		select {
		case <-time.After(5 * time.Second):
		case <-ctx.Done():
		}
	}
}

func listenOnce(ctx context.Context, config *pgx.ConnConfig, self string, wake chan<- struct{}) error {
	conn, err := pgx.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return err
	}
	defer func() {
		// ctx has ended by now; closing politely must not wait for a dead server.
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Payload == self {
			continue
		}
		select {
		case wake <- struct{}{}:
		default:
		}
	}
}
