// Package records is the seam between the Auth app's features and its
// database: JSON documents by kind and key, and a log that shows when it was
// changed afterwards.
//
// People sign in and decide a few times a day, so one table of documents and
// transactions that follow one another are enough, and every rule can be
// written as if nobody else were there: what a [Store.Write] reads stays true
// until its commit, on every engine and with any number of processes. What a
// kind's documents look like belongs to the feature that owns the kind.
//
// A document may have an end. From then on it does not exist for readers, is
// replaced by an insert as if it were not there, and is erased by the next
// [Tx.Sweep]: a session, a link or a counter of wrong tries needs no clean-up
// to be over.
//
// Stores know no rights. The suite in recordstest is the specification; it
// runs on real SQLite and real PostgreSQL.
package records

import (
	"context"
	"errors"
	"time"
)

// ErrNotFound says that a document does not exist, or that its end is past.
var ErrNotFound = errors.New("no such record")

// ErrExists says that the key of an insert is taken.
var ErrExists = errors.New("the record exists")

// Store is a database of documents. Its methods may be called concurrently.
type Store interface {
	// Read runs fn on a snapshot.
	Read(ctx context.Context, fn func(Reader) error) error
	// Write runs fn in a transaction, one after the other over all processes,
	// and returns after its commit, which a power failure does not undo. fn may
	// run again, so it must do nothing but use its Tx, and it must not call the
	// store itself. Any error of fn undoes all it did. An error with the code
	// unavailable leaves unknown whether fn was committed.
	Write(ctx context.Context, fn func(Tx) error) error
	// Close ends the store; it may be called twice.
	Close() error
}

// Reader is what a read sees.
type Reader interface {
	// Get reads a document into what into points to, or returns ErrNotFound.
	Get(kind, key string, into any) error
	// List calls each for the documents of an owner, all of the kind for owner
	// "", in the order of their keys as bytes. doc is JSON and the callee's own.
	// An error of each ends the list and is returned.
	List(kind, owner string, each func(key string, doc []byte) error) error
	// Audit returns at most limit lines of the log that follow the number after,
	// oldest first.
	Audit(after int64, limit int) ([]AuditLine, error)
	// AuditOf returns at most limit lines about a user with a number below
	// before, newest first; before 0 begins with the newest.
	AuditOf(user string, before int64, limit int) ([]AuditLine, error)
}

// Tx is what a write sees and changes. Its reads see its own writes.
type Tx interface {
	Reader
	// Put inserts a document or replaces it with its options.
	Put(kind, key string, doc any, o Options) error
	// Insert is a Put that returns ErrExists, and changes nothing, where the key
	// is taken.
	Insert(kind, key string, doc any, o Options) error
	// Delete erases a document; that it does not exist is no error.
	Delete(kind, key string) error
	// Sweep erases all documents whose end is not after now.
	Sweep(now time.Time) error
	// Note appends to the log. Number, Previous and Hash are the store's.
	Note(line AuditLine) error
}

// Drop erases all documents of a kind and returns how many there were. What has
// ended does not count.
func Drop(tx Tx, kind string) (int, error) {
	var keys []string
	err := tx.List(kind, "", func(key string, _ []byte) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := tx.Delete(kind, key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// Options are what a store knows of a document besides its text.
type Options struct {
	Owner string    // whose it is: what List selects by
	Ends  time.Time // when it ceases to exist; zero is never
}
