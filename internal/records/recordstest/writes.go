package recordstest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

var writeTests = map[string]func(*testing.T, *bench){
	"an error undoes all": func(t *testing.T, b *bench) {
		no := errors.New("no")
		err := b.Write(t.Context(), func(tx records.Tx) error {
			if err := errors.Join(tx.Put("cup", "a", note{}, records.Options{}), tx.Note(records.AuditLine{Action: "a"})); err != nil {
				return err
			}
			var n note
			if err := tx.Get("cup", "a", &n); err != nil {
				t.Errorf("a transaction does not see its own write: %v", err)
			}
			return no
		})
		wantErr(t, "Write", err, no)
		_, err = b.get(t, "cup", "a")
		wantErr(t, "get", err, records.ErrNotFound)
		if lines := b.audit(t, 0, 10); len(lines) != 0 {
			t.Errorf("got the audit lines %v, want none", lines)
		}
	},
	"a panic undoes all and harms nobody": func(t *testing.T, b *bench) {
		func() {
			defer func() { _ = recover() }()
			_ = b.Write(t.Context(), func(tx records.Tx) error {
				_ = tx.Put("cup", "a", note{}, records.Options{})
				panic("no")
			})
		}()
		b.put(t, "cup", "b", note{}, records.Options{})
		if got := b.keys(t, "cup", ""); got != "b" {
			t.Errorf("got %q, want %q", got, "b")
		}
	},
	"a caller who left is told so": func(t *testing.T, b *bench) {
		ctx, leave := context.WithCancel(t.Context())
		leave()
		wantErr(t, "Write", b.Write(ctx, func(records.Tx) error { return nil }), context.Canceled)
		wantErr(t, "Read", b.Read(ctx, func(records.Reader) error { return nil }), context.Canceled)
	},
	"a read sees one moment": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{N: 1}, records.Options{})
		b.read(t, func(r records.Reader) error {
			var first, second note
			if err := r.Get("cup", "a", &first); err != nil {
				return err
			}
			b.put(t, "cup", "a", note{N: 2}, records.Options{})
			if err := r.Get("cup", "a", &second); err != nil {
				return err
			}
			if first != second {
				t.Errorf("got %v, then %v in one read", first, second)
			}
			return nil
		})
	},
	"writes of several processes follow one another": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{}, records.Options{})
		stores := []records.Store{b.Store, b.database.Open(t, b.now)}
		const each = 25
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for range each {
					err := stores[i%2].Write(t.Context(), func(tx records.Tx) error {
						var n note
						if err := tx.Get("cup", "a", &n); err != nil {
							return err
						}
						n.N++
						return errors.Join(tx.Put("cup", "a", n, records.Options{}), tx.Note(records.AuditLine{Action: "count"}))
					})
					if err != nil {
						t.Errorf("Write: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		if got, err := b.get(t, "cup", "a"); got.N != 4*each || err != nil {
			t.Errorf("counted %d, %v, want %d", got.N, err, 4*each)
		}
		b.read(t, func(r records.Reader) error {
			head, err := records.Verify(r)
			if err != nil || head.Number != 4*each {
				t.Errorf("got the head %v, %v, want line %d", head, err, 4*each)
			}
			return nil
		})
	},
	"what was written is there after opening again": func(t *testing.T, b *bench) {
		b.put(t, "cup", "a", note{Text: "kept"}, records.Options{})
		if err := errors.Join(b.Close(), b.Close()); err != nil {
			t.Errorf("Close twice: %v", err)
		}
		if err := b.Write(t.Context(), func(records.Tx) error { return nil }); err == nil {
			t.Error("a closed store takes a write")
		}
		b.Store = b.database.Open(t, b.now)
		if got, err := b.get(t, "cup", "a"); got.Text != "kept" || err != nil {
			t.Errorf("got %+v, %v", got, err)
		}
	},
}

// audit returns lines of the log.
func (b *bench) audit(t *testing.T, after int64, limit int) (lines []records.AuditLine) {
	t.Helper()
	b.read(t, func(r records.Reader) (err error) {
		lines, err = r.Audit(after, limit)
		return err
	})
	return lines
}

func (b *bench) note(t *testing.T, lines ...records.AuditLine) {
	t.Helper()
	b.write(t, func(tx records.Tx) error {
		for _, l := range lines {
			if err := tx.Note(l); err != nil {
				return err
			}
		}
		return nil
	})
}

var auditTests = map[string]func(*testing.T, *bench){
	"an empty log is whole, and lacks what was known": func(t *testing.T, b *bench) {
		b.read(t, func(r records.Reader) error {
			if head, err := records.Verify(r); err != nil || head != (records.Head{}) {
				t.Errorf("got %v, %v", head, err)
			}
			if _, err := records.Verify(r, records.Head{Number: 1, Hash: strings.Repeat("0", 64)}); hpcsera.CodeOf(err) != hpcsera.Conflict {
				t.Errorf("with a known head: got %v, want a conflict", err)
			}
			return nil
		})
	},
	"lines are numbered, chained and come back unchanged": func(t *testing.T, b *bench) {
		odd := records.AuditLine{At: day.Add(1234567 * time.Nanosecond), Actor: "alice\x00", Action: "session.begin", User: "alice\xff",
			About: "<script>", Refused: true, Detail: "\u202e ä 𝄞", Number: 99, Previous: "x", Hash: "y"}
		b.note(t, odd, records.AuditLine{At: day, Actor: "bob", Action: "factor.remove", User: "bob"})
		b.note(t, records.AuditLine{At: day, Action: "session.begin", User: "alice"})
		lines := b.audit(t, 0, 10)
		if len(lines) != 3 || lines[0].Number != 1 || lines[1].Previous != lines[0].Hash || lines[0].Actor != "alice\uFFFD" ||
			!lines[0].At.Equal(day.Add(1234000*time.Nanosecond)) || lines[0].Detail != odd.Detail || !lines[0].Refused {
			t.Fatalf("got %+v", lines)
		}
		if got := b.audit(t, 1, 1); len(got) != 1 || got[0] != lines[1] {
			t.Errorf("after 1: got %+v, want line 2", got)
		}
		b.read(t, func(r records.Reader) error {
			head, err := records.Verify(r, records.Head{Number: 2, Hash: lines[1].Hash})
			if err != nil || head != (records.Head{Number: 3, Hash: lines[2].Hash}) {
				t.Errorf("Verify: got %v, %v", head, err)
			}
			if _, err := records.Verify(r, records.Head{Number: 2, Hash: lines[0].Hash}); hpcsera.CodeOf(err) != hpcsera.Conflict {
				t.Errorf("with another head: got %v, want a conflict", err)
			}
			return nil
		})
	},
	"a user's lines come newest first": func(t *testing.T, b *bench) {
		for i := range 6 {
			b.note(t, records.AuditLine{At: day, User: []string{"alice", "bob"}[i%2], Action: "a"})
		}
		for _, c := range []struct {
			user   string
			before int64
			limit  int
			want   string
		}{{"alice", 0, 2, "5 3"}, {"alice", 3, 9, "1"}, {"carol", 0, 9, ""}, {"\x00", 0, 9, ""}} {
			var got []string
			b.read(t, func(r records.Reader) error {
				lines, err := r.AuditOf(c.user, c.before, c.limit)
				for _, l := range lines {
					got = append(got, string(rune('0'+l.Number)))
				}
				return err
			})
			if strings.Join(got, " ") != c.want {
				t.Errorf("%q before %d: got %v, want %s", c.user, c.before, got, c.want)
			}
		}
	},
}
