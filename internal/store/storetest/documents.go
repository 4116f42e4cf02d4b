package storetest

import (
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

var documentTests = map[string]func(*testing.T, Database){
	"a document comes back until it ends or is deleted": testDocument,
	"documents are listed by their owner":               testDocuments,
	"all documents of a kind are dropped, and no other": testDropDocuments,
}

const visit store.Kind = "visit"

type note struct{ Text string }

func testDocument(t *testing.T, d Database) {
	s := d.Open(t)
	at := store.Document{Kind: visit, Key: "a", Owner: "alice", Ends: day.Add(time.Hour)}
	write(t, s, func(tx store.Tx) error { return tx.InsertDocument(at, note{"one"}) })
	find := func(key string, now time.Time) (n note, err error) {
		read(t, s, func(r store.Reader) error {
			err = r.Document(visit, key, now, &n)
			return nil
		})
		return n, err
	}
	if n, err := find("a", day); err != nil || n.Text != "one" {
		t.Errorf("got %+v, %v, want the document", n, err)
	}
	_, err := find("a", day.Add(time.Hour))
	wantErr(t, "one that ended", err, store.ErrNotFound)
	_, err = find("b", day)
	wantErr(t, "one that never was", err, store.ErrNotFound)
	write(t, s, func(tx store.Tx) error {
		wantErr(t, "a key that is taken", tx.InsertDocument(at, note{"two"}), store.ErrExists)
		return nil
	})
	write(t, s, func(tx store.Tx) error { return tx.PutDocument(at, note{"three"}) })
	if n, err := find("a", day); err != nil || n.Text != "three" {
		t.Errorf("after Put: got %+v, %v, want the new one", n, err)
	}
	write(t, s, func(tx store.Tx) error { return tx.SweepDocuments(day) })
	if _, err := find("a", day); err != nil {
		t.Errorf("after a sweep before its end: got %v, want the document", err)
	}
	write(t, s, func(tx store.Tx) error { return tx.SweepDocuments(day.Add(2 * time.Hour)) })
	_, err = find("a", day)
	wantErr(t, "one that was swept", err, store.ErrNotFound)
	write(t, s, func(tx store.Tx) error { return tx.PutDocument(store.Document{Kind: visit, Key: "b"}, note{"stays"}) })
	write(t, s, func(tx store.Tx) error { return tx.SweepDocuments(day.Add(9000 * time.Hour)) })
	if _, err := find("b", day.Add(9000*time.Hour)); err != nil {
		t.Errorf("one without an end: got %v, want it to stay", err)
	}
	write(t, s, func(tx store.Tx) error { return tx.DeleteDocument(visit, "b") })
	write(t, s, func(tx store.Tx) error { return tx.DeleteDocument(visit, "b") })
	_, err = find("b", day)
	wantErr(t, "one that was deleted", err, store.ErrNotFound)
}

func testDocuments(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		for _, at := range []store.Document{
			{Kind: visit, Key: "3", Owner: "alice"}, {Kind: visit, Key: "1", Owner: "alice"}, {Kind: visit, Key: "2", Owner: "bob"},
			{Kind: "other", Key: "1", Owner: "alice"}, {Kind: visit, Key: "0", Owner: "alice", Ends: day},
		} {
			if err := tx.PutDocument(at, note{at.Key}); err != nil {
				return err
			}
		}
		return nil
	})
	for owner, want := range map[string]string{"alice": " 1 3", "bob": " 2", "": " 1 2 3", "eve": ""} {
		got := ""
		read(t, s, func(r store.Reader) error {
			return r.Documents(visit, owner, day, func(key string, doc []byte) error {
				got += " " + key
				return nil
			})
		})
		if got != want {
			t.Errorf("of %q: got%s, want%s", owner, got, want)
		}
	}
}

func testDropDocuments(t *testing.T, d Database) {
	s := d.Open(t)
	const other store.Kind = "other"
	write(t, s, func(tx store.Tx) error {
		for _, at := range []store.Document{
			{Kind: visit, Key: "a", Owner: "alice"}, {Kind: visit, Key: "b", Owner: "bob", Ends: day}, {Kind: visit, Key: "c", Ends: day.Add(9000 * time.Hour)}, {Kind: other, Key: "a"},
		} {
			if err := tx.PutDocument(at, note{"x"}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, want := range []int{3, 0} {
		write(t, s, func(tx store.Tx) error {
			if n, err := store.DropDocuments(tx, visit); err != nil || n != want {
				t.Errorf("dropped %d (%v), want %d, also those that ended", n, err, want)
			}
			return nil
		})
	}
	read(t, s, func(r store.Reader) error {
		if err := r.Document(other, "a", day, &note{}); err != nil {
			t.Errorf("of another kind: got %v, want it to stay", err)
		}
		return nil
	})
}
