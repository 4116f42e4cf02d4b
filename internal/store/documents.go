package store

import "time"

// Kind is a kind of documents that a feature keeps beside the tables: small
// things that are found by their key or their owner and that end, such as
// sessions and grants that wait for a decision. Each feature declares its own.
type Kind string

// Document says where a document stands.
type Document struct {
	Kind  Kind
	Key   string
	Owner string    // whose it is, to list by; may be ""
	Ends  time.Time // it does not exist from then on; zero is never
}

// DocumentReader reads documents. One that ended by now is not found and not
// listed.
type DocumentReader interface {
	// Document decodes a document into a pointer.
	Document(kind Kind, key string, now time.Time, into any) error
	// Documents calls each for the documents of an owner, or of all for "", by
	// key; each may decode them.
	Documents(kind Kind, owner string, now time.Time, each func(key string, doc []byte) error) error
}

// DropDocuments deletes all documents of a kind, ended or not, and returns how
// many there were.
func DropDocuments(tx Tx, kind Kind) (int, error) {
	var keys []string
	err := tx.Documents(kind, "", time.Time{}, func(key string, _ []byte) error {
		keys = append(keys, key)
		return nil
	})
	if err != nil {
		return 0, err
	}
	for _, key := range keys {
		if err := tx.DeleteDocument(kind, key); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// DocumentWriter changes documents.
type DocumentWriter interface {
	// PutDocument replaces a document or makes it.
	PutDocument(at Document, doc any) error
	// InsertDocument makes one; a key that is taken, also by one that ended and
	// was not swept yet, is ErrExists.
	InsertDocument(at Document, doc any) error
	// DeleteDocument is no error where there is none.
	DeleteDocument(kind Kind, key string) error
	// SweepDocuments deletes those that ended before a moment.
	SweepDocuments(before time.Time) error
}
