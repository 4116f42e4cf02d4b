package sqlstore

import (
	"database/sql"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/storetest"
)

func TestPostgres(t *testing.T) {
	server(t) // fails once rather than in every case
	storetest.Run(t, func(t *testing.T) storetest.Database {
		url := newSchema(t)
		return storetest.Database{Open: opener(url), Replicas: true, Writer: victimOf(url), Small: smallPostgres}
	})
}

// server returns the URL of the PostgreSQL that tests use.
func server(t testing.TB) string {
	t.Helper()
	url := os.Getenv("HPCSERA_TEST_POSTGRES")
	if url == "" {
		t.Fatal(`There is no PostgreSQL to test on. Start one first: eval "$(test/testbed/postgres up)"`)
	}
	return url
}

// admin connects to the server besides the store.
func admin(t testing.TB) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(server(t))
	if err != nil {
		t.Fatal(err)
	}
	db := stdlib.OpenDB(*config)
	t.Cleanup(func() { db.Close() })
	return db
}

func run(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// newSchema makes an empty schema for a test and returns its URL.
func newSchema(t testing.TB) string {
	t.Helper()
	db := admin(t)
	name := hpcsera.NewID("test")
	run(t, db, "CREATE SCHEMA "+name)
	t.Cleanup(func() { run(t, db, "DROP SCHEMA "+name+" CASCADE") })
	return with(t, server(t), "search_path", name)
}

// with returns a database URL with a parameter set.
func with(t testing.TB, raw, key, value string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// smallPostgres opens a database whose tables lie on a small disk.
func smallPostgres(t *testing.T) (s store.Store, grow func()) {
	db := admin(t)
	dir, err := os.MkdirTemp("", "hpcsera-tablespace-") // where the server's user can reach it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=20m,mode=0700"); err != nil {
		t.Fatalf("A full disk needs a small disk, which only root can mount: %v. Run this test as root, on the host of the server.", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	var data string
	if err := db.QueryRow("SELECT current_setting('data_directory')").Scan(&data); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(data)
	if err != nil {
		t.Fatalf("the server has to run on this host: %v", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		t.Fatal("the owner of the server's data cannot be told")
	}
	if err := os.Chown(dir, int(owner.Uid), int(owner.Gid)); err != nil {
		t.Fatal(err)
	}
	name := hpcsera.NewID("test")
	run(t, db, "CREATE TABLESPACE "+name+" LOCATION '"+dir+"'")
	t.Cleanup(func() { run(t, db, "DROP TABLESPACE "+name) })
	run(t, db, "CREATE DATABASE "+name+" TABLESPACE "+name)
	t.Cleanup(func() { run(t, db, "DROP DATABASE "+name+" WITH (FORCE)") })
	return open(t, strings.Replace(server(t), "/postgres?", "/"+name+"?", 1)), func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=128m,mode=0700"); err != nil {
			t.Fatalf("remount: %v", err)
		}
	}
}
