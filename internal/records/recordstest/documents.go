package recordstest

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/records"
)

var documentTests = map[string]func(*testing.T, *bench){
	"what does not exist is not found": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{}, records.Options{})
		for _, key := range [][2]string{{"cup", "b"}, {"pot", "a"}, {"cup", ""}, {"cup", "A"}, {"cup", "a\x00"}, {"cup", "\xff"}} {
			_, err := b.get(t, key[0], key[1])
			wantErr(t, key[0]+" "+key[1], err, records.ErrNotFound)
		}
		b.write(t, func(tx records.Tx) error { return tx.Delete("cup", "b") })
	},
	"keys that are no text are refused": func(t *testing.T, b *bench) {
		for _, key := range [][3]string{{"cup", "", ""}, {"", "a", ""}, {"cup", "\xff", ""}, {"cup", "a\x00", ""}, {"cup", "a", "\x00"}} {
			err := b.Write(t.Context(), func(tx records.Tx) error { return tx.Put(key[0], key[1], note{}, records.Options{Owner: key[2]}) })
			if err == nil {
				t.Errorf("%q: got no error", key)
			}
		}
	},
	"an insert where a key is taken changes nothing": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{Text: "first"}, records.Options{Owner: "alice"})
		b.write(t, func(tx records.Tx) error {
			wantErr(t, "insert", tx.Insert("cup", "a", note{Text: "second"}, records.Options{Owner: "bob"}), records.ErrExists)
			return tx.Insert("cup", "b", note{}, records.Options{Owner: "alice"}) // the transaction goes on
		})
		if n, err := b.get(t, "cup", "a"); n.Text != "first" || err != nil {
			t.Errorf("got %v, %v, want the first document", n, err)
		}
		if got := b.keys(t, "cup", "alice"); got != "a b" {
			t.Errorf("of alice: got %q, want %q", got, "a b")
		}
	},
	"documents come back as they were put": func(t *testing.T, b *bench) {
		want := note{Text: "ä \x00 <script> \u202e 𝄞 '; DROP TABLE auth_docs", N: -1 << 40}
		b.put(t, "cup", "ключ/'\"", want, records.Options{})
		if got, err := b.get(t, "cup", "ключ/'\""); got != want || err != nil {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	},
	"put replaces the document, its owner and its end": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{N: 1}, records.Options{Owner: "alice", Ends: day.Add(time.Hour)})
		b.put(t, "cup", "a", note{N: 2}, records.Options{Owner: "bob"})
		b.pass(2 * time.Hour)
		if got, err := b.get(t, "cup", "a"); got.N != 2 || err != nil {
			t.Errorf("got %+v, %v, want the second", got, err)
		}
		if got := b.keys(t, "cup", "alice") + "|" + b.keys(t, "cup", "bob"); got != "|a" {
			t.Errorf("got alice|bob %q, want %q", got, "|a")
		}
	},
	"lists have the order of bytes": func(t *testing.T, b *bench) {
		for _, key := range []string{"b", "a", "B", "a_", "aa", "ä", "a-", "_"} {
			b.put(t, "cup", key, note{Text: key}, records.Options{Owner: "alice"})
		}
		b.put(t, "pot", "c", note{}, records.Options{Owner: "alice"})
		b.put(t, "cup", "c", note{}, records.Options{Owner: "bob"})
		for owner, want := range map[string]string{"alice": "B _ a a- a_ aa b ä", "": "B _ a a- a_ aa b c ä", "carol": "", "\xff": ""} {
			if got := b.keys(t, "cup", owner); got != want {
				t.Errorf("of %q: got %q, want %q", owner, got, want)
			}
		}
	},
	"a list can be left and can read on the way": func(t *testing.T, b *bench) {
		for _, key := range []string{"a", "b", "c"} {
			b.put(t, "cup", key, note{Text: key}, records.Options{})
		}
		enough := errors.New("enough")
		seen := 0
		err := b.Write(t.Context(), func(tx records.Tx) error {
			seen = 0
			return tx.List("cup", "", func(key string, doc []byte) error {
				seen++
				var listed, got note
				if err := json.Unmarshal(doc, &listed); err != nil || listed.Text != key {
					t.Errorf("%s: got %s (%v)", key, doc, err)
				}
				if err := tx.Get("cup", key, &got); err != nil || got != listed {
					t.Errorf("%s: got %+v, %v, want %+v", key, got, err, listed)
				}
				if err := tx.Delete("cup", key); err != nil {
					return err
				}
				if seen == 2 {
					return enough
				}
				return nil
			})
		})
		wantErr(t, "list", err, enough)
		if got := b.keys(t, "cup", ""); seen != 2 || got != "a b c" {
			t.Errorf("saw %d and kept %q, want 2 and all", seen, got)
		}
	},
}

var endTests = map[string]func(*testing.T, *bench){
	"a document ends by itself": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{}, records.Options{Owner: "alice", Ends: day.Add(time.Minute)})
		b.put(t, "cup", "b", note{}, records.Options{Owner: "alice"})
		b.pass(time.Minute - time.Microsecond)
		if got := b.keys(t, "cup", "alice"); got != "a b" {
			t.Errorf("before the end: got %q, want %q", got, "a b")
		}
		b.pass(time.Microsecond)
		_, err := b.get(t, "cup", "a")
		wantErr(t, "get at the end", err, records.ErrNotFound)
		if got := b.keys(t, "cup", "alice"); got != "b" {
			t.Errorf("at the end: got %q, want %q", got, "b")
		}
		b.write(t, func(tx records.Tx) error { return tx.Insert("cup", "a", note{N: 2}, records.Options{}) })
		if got, err := b.get(t, "cup", "a"); got.N != 2 || err != nil {
			t.Errorf("inserted after the end: got %+v, %v", got, err)
		}
	},
	"a sweep erases what has ended and nothing else": func(t *testing.T, b *bench) {
		b.put(t, "cup", "past", note{}, records.Options{Ends: day.Add(-time.Hour)})
		b.put(t, "cup", "future", note{}, records.Options{Ends: day.Add(time.Hour)})
		b.put(t, "cup", "never", note{}, records.Options{})
		b.put(t, "cup", "ancient", note{}, records.Options{Ends: time.Unix(0, 0)})
		b.write(t, func(tx records.Tx) error { return tx.Sweep(b.now()) })
		b.pass(-2 * time.Hour)
		if got := b.keys(t, "cup", ""); got != "future never" {
			t.Errorf("got %q, want %q", got, "future never")
		}
	},
}
