package code_test

import (
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestCodeIsShownToItsProjectsMembersOnly(t *testing.T) {
	w := newWorld(t)
	if err := w.store.Write(t.Context(), func(tx store.Tx) error {
		if err := tx.InsertProject(hpcsera.Project{Name: "cfd", Created: w.now}); err != nil {
			return err
		}
		for _, user := range []string{"alice", "bob"} {
			if err := tx.InsertUser(hpcsera.User{Name: user, Created: w.now}); err != nil {
				return err
			}
			if err := tx.SetMember("cfd", user, hpcsera.Viewer); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.file(token(), manifest())
	digest, err := manifest().Digest()
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.code.FileApproval(t.Context(), token(), w.statement(t, func(*approval.Statement) {}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.code.FileApproval(t.Context(), token(), w.statement(t, func(s *approval.Statement) { s.Replaces, s.Runs = first.ID, 7 })); err != nil {
		t.Fatal(err)
	}
	person := func(name string, operator bool) *auth.Principal {
		return &auth.Principal{Person: &auth.Person{User: name, Operator: operator, SteppedUp: true}}
	}
	for name, by := range map[string]*auth.Principal{
		"a stranger": person("mallory", false), "an operator": person("root", true), "the operator on the host": auth.OperatorOnHost(), "a token": token(),
	} {
		_, err := w.code.InProject(t.Context(), by, "cfd")
		expect(t, name+", the list", err, hpcsera.NotFound)
		_, err = w.code.InProjectByDigest(t.Context(), by, "cfd", digest)
		expect(t, name+", one", err, hpcsera.NotFound)
	}
	_, err = w.code.InProject(t.Context(), person("bob", false), "melt")
	expect(t, "a project that is not there", err, hpcsera.NotFound)
	_, err = w.code.InProjectByDigest(t.Context(), person("bob", false), "cfd", digestOf("x"))
	expect(t, "code that is not there", err, hpcsera.NotFound)

	list, err := w.code.InProject(t.Context(), person("bob", false), "cfd")
	if err != nil || len(list) != 1 || list[0].Name != "hello" || list[0].User != "alice" || len(list[0].Approvals) != 2 {
		t.Fatalf("got %+v, %v, want hello with two approvals", list, err)
	}
	for _, a := range list[0].Approvals {
		if replaced := a.Replaced != ""; replaced != (a.ID == first.ID) || replaced == (a.Says.Runs == 7) {
			t.Errorf("approval %s is replaced by %q and allows %d runs", a.ID, a.Replaced, a.Says.Runs)
		}
	}
}
