package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var auditTests = map[string]func(*testing.T, Database){
	"lines form a chain, across transactions and restarts": testAuditChain,
	"a closure that fails leaves no line":                  testAuditUndone,
	"a list has what concerns a user or their projects":    testAuditLists,
}

func testAuditChain(t *testing.T, d Database) {
	s := d.Open(t)
	if head := get(t, s, store.Reader.AuditHead); head.Number != 0 {
		t.Errorf("head of an empty log: got %+v, want number 0", head)
	}
	for i := range 3 {
		write(t, s, func(tx store.Tx) error {
			for k := range 2 {
				line := hpcsera.AuditLine{At: day.Add(time.Duration(i) * time.Second), Actor: "user:alice", Action: "token.create", About: fmt.Sprint(i, k)}
				if err := tx.Note(line); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = d.Open(t)
	write(t, s, func(tx store.Tx) error { return tx.Note(hpcsera.AuditLine{At: day, Action: "token.revoke"}) })
	lines := get(t, s, func(r store.Reader) ([]hpcsera.AuditLine, error) { return r.Audit(store.AuditFilter{}) })
	last, err := store.VerifyChain(hpcsera.AuditLine{}, lines)
	if err != nil || last.Number != 7 || len(lines) != 7 {
		t.Errorf("chain of %d lines: got %v, last %d, want 7 lines that hold", len(lines), err, last.Number)
	}
	if diff := cmp.Diff(last, get(t, s, store.Reader.AuditHead)); diff != "" {
		t.Errorf("head (-last +head):\n%s", diff)
	}
}

func testAuditUndone(t *testing.T, d Database) {
	s := d.Open(t)
	errs := inOneTransaction(t, s,
		func(tx store.Tx) error { return tx.Note(hpcsera.AuditLine{At: day, About: "one"}) },
		func(tx store.Tx) error {
			if err := tx.Note(hpcsera.AuditLine{At: day, About: "undone"}); err != nil {
				return err
			}
			return store.ErrExists
		},
		func(tx store.Tx) error { return tx.Note(hpcsera.AuditLine{At: day, About: "two"}) },
	)
	failed := 0
	for _, err := range errs {
		if err != nil {
			failed++
		}
	}
	lines := get(t, s, func(r store.Reader) ([]hpcsera.AuditLine, error) { return r.Audit(store.AuditFilter{}) })
	if _, err := store.VerifyChain(hpcsera.AuditLine{}, lines); err != nil || len(lines) != 2 || failed != 1 {
		t.Errorf("got %d lines, %d failed, %v, want 2 lines that hold and 1 failed", len(lines), failed, err)
	}
}

func testAuditLists(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		for _, l := range []hpcsera.AuditLine{
			{About: "1", User: "alice", Project: "cfd"}, {About: "2", User: "bob", Project: "cfd"}, {About: "3", User: "bob", Project: "melt"}, {About: "4"}, {About: "5", User: "alice"},
		} {
			l.At = day
			if err := tx.Note(l); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		f    store.AuditFilter
		want string
	}{
		{store.AuditFilter{}, "1 2 3 4 5"},
		{store.AuditFilter{User: "alice"}, "1 5"},
		{store.AuditFilter{User: "alice", Projects: []string{"melt", "x"}}, "1 3 5"},
		{store.AuditFilter{Newest: true, Limit: 2}, "5 4"},
		{store.AuditFilter{Newest: true, Before: 4, Limit: 2}, "3 2"},
		{store.AuditFilter{After: 3}, "4 5"},
	} {
		got := ""
		for _, l := range get(t, s, func(r store.Reader) ([]hpcsera.AuditLine, error) { return r.Audit(c.f) }) {
			got += " " + l.About
		}
		if got != " "+c.want {
			t.Errorf("%+v: got%s, want %s", c.f, got, c.want)
		}
	}
}
