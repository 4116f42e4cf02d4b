// Package recordstest is the specification of a [records.Store]: one suite
// that every engine has to pass on the real database. What is not tested here
// is not promised.
package recordstest

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/records"
)

// Database is an empty database of one test.
type Database struct {
	// Open opens it, also while it is open, with a clock.
	Open func(t *testing.T, now func() time.Time) records.Store
}

// Run runs the suite. newDatabase makes an empty database per test and cleans
// up after it.
func Run(t *testing.T, newDatabase func(t *testing.T) Database) {
	for _, group := range []map[string]func(*testing.T, *bench){documentTests, endTests, writeTests, auditTests} {
		for name, test := range group {
			t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				b := &bench{database: newDatabase(t), at: day}
				b.Store = b.database.Open(t, b.now)
				test(t, b)
			})
		}
	}
}

var day = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// bench is a store with a clock that the test sets.
type bench struct {
	records.Store
	database Database

	mu sync.Mutex
	at time.Time
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

// note is a document of the tests.
type note struct {
	Text string
	N    int
}

func (b *bench) write(t *testing.T, fn func(records.Tx) error) {
	t.Helper()
	if err := b.Write(t.Context(), fn); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

func (b *bench) read(t *testing.T, fn func(records.Reader) error) {
	t.Helper()
	if err := b.Read(t.Context(), fn); err != nil {
		t.Fatalf("Read: %v", err)
	}
}

func (b *bench) put(t *testing.T, kind, key string, doc note, o records.Options) {
	t.Helper()
	b.write(t, func(tx records.Tx) error { return tx.Put(kind, key, doc, o) })
}

// get returns a document and the error of Get.
func (b *bench) get(t *testing.T, kind, key string) (n note, err error) {
	t.Helper()
	b.read(t, func(r records.Reader) error {
		err = r.Get(kind, key, &n)
		return nil
	})
	return n, err
}

func (b *bench) keys(t *testing.T, kind, owner string) string {
	t.Helper()
	var keys []string
	b.read(t, func(r records.Reader) error {
		return r.List(kind, owner, func(key string, _ []byte) error {
			keys = append(keys, key)
			return nil
		})
	})
	return strings.Join(keys, " ")
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}
