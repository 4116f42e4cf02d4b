package code_test

import (
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

func wholeProject(p *auth.Principal) { p.Token.Scope = hpcsera.ProjectScope }

// forge files what only a key that nobody trusts has signed, as whoever holds
// a token with role 4 can: the server knows no keys.
func (w *world) forge(p *auth.Principal, edit func(*approval.Statement)) error {
	w.t.Helper()
	genuine := w.signer
	w.signer = newSigner(w.t)
	_, err := w.code.FileApproval(w.t.Context(), p, w.statement(w.t, edit))
	w.signer = genuine
	return err
}

func TestAClientReachesNothingByWhatItFiledItself(t *testing.T) {
	w := newWorld(t)
	entry := w.file(token(), manifest())
	filed, err := w.code.FileApproval(t.Context(), token(wholeProject), w.statement(t, func(s *approval.Statement) { s.Clients = []string{"gitlab"} }))
	if err != nil {
		t.Fatal(err)
	}
	thief := token(through("flowable"))
	reaches := func(when string, read hpcsera.Code) {
		t.Helper()
		_, err := w.code.Get(t.Context(), thief, entry.Digest)
		expect(t, when+" it reads another's code", err, read)
		expect(t, when+" it deletes another's code", w.code.Delete(t.Context(), thief, entry.Digest), hpcsera.NotFound)
		for _, ref := range []string{entry.Digest, "hello"} {
			err := w.store.Read(t.Context(), func(r store.Reader) error {
				_, err := w.code.Prepare(r, thief, hpcsera.JobSpec{Code: ref})
				return err
			})
			if want := hpcsera.UnknownCode; read != "" {
				expect(t, when+" it uses "+ref, err, want)
			}
		}
	}
	reaches("with nothing filed", hpcsera.NotFound)
	_, err = w.code.Approval(t.Context(), thief, filed.ID)
	expect(t, "it reads a statement for another", err, hpcsera.NotFound)
	if list, err := w.code.Approvals(t.Context(), thief, "", ""); err != nil || len(list.Approvals) != 0 {
		t.Errorf("it lists statements for others: got %+v (%v), want none", list, err)
	}
	expect(t, "it files one for others only", w.forge(thief, func(s *approval.Statement) { s.Clients = []string{"gitlab"} }), hpcsera.ApprovalRefused)
	for _, clients := range [][]string{{"flowable"}, {approval.Anyone}} {
		if err := w.forge(thief, func(s *approval.Statement) { s.Clients = clients }); err != nil {
			t.Fatal(err)
		}
		reaches("with its own forgery filed", hpcsera.NotFound)
	}
	if list, err := w.code.Approvals(t.Context(), thief, "", ""); err != nil || len(list.Approvals) != 2 {
		t.Errorf("it lists its own: got %+v (%v), want two", list, err)
	}
	if list, err := w.code.Approvals(t.Context(), token(), "", ""); err != nil || len(list.Approvals) != 1 {
		t.Errorf("another client lists: got %+v (%v), want one without forgeries", list, err)
	}
	// What its user filed for it lets it read and use, and still not delete.
	if _, err := w.code.FileApproval(t.Context(), token(wholeProject), w.statement(t, func(s *approval.Statement) { s.Clients = []string{"flowable"} })); err != nil {
		t.Fatal(err)
	}
	reaches("with its user's approval filed", "")
}

func TestAClientFilesForItsOwnJobsOnly(t *testing.T) {
	w := newWorld(t)
	entry := w.file(token(), manifest())
	genuine, err := w.code.FileApproval(t.Context(), token(wholeProject), w.statement(t, func(*approval.Statement) {}))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.put(token(), content); err != nil {
		t.Fatal(err)
	}
	thief := token(through("flowable"))
	other := manifest()
	other.Program.Arguments = []string{"other"}
	evil := w.file(thief, other)
	for i := range 1100 { // more than are looked through
		w.now = w.now.Add(1)
		if err := w.forge(thief, func(s *approval.Statement) {
			s.Clients, s.Replaces = []string{approval.Anyone}, genuine.ID
			if i%2 == 0 {
				s.Code = evil.Digest
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	covering := func(client string) (id string) {
		t.Helper()
		job := &store.Job{Job: hpcsera.Job{Project: "cfd", User: "alice", Client: client, Site: "gwdg", Code: hpcsera.CodeRef{Digest: entry.Digest}}}
		err := w.store.Read(t.Context(), func(r store.Reader) error {
			found, err := w.code.Covering(r, job, nil, w.now)
			if found != nil {
				id = found.ID
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	if got := covering("gitlab"); got != genuine.ID {
		t.Errorf("another client's job starts under %q, want the genuine %s", got, genuine.ID)
	}
	if got := covering("flowable"); got == "" || got == genuine.ID {
		t.Errorf("its own job starts under %q, want the newest of its own", got)
	}
	named := func(p *auth.Principal) string {
		t.Helper()
		var part *hpcsera.CodePart
		err := w.store.Read(t.Context(), func(r store.Reader) (err error) {
			part, err = w.code.Prepare(r, p, hpcsera.JobSpec{Code: "hello"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return part.Digest
	}
	if got := named(token()); got != entry.Digest {
		t.Errorf("the name means %s for another client, want %s", got, entry.Digest)
	}
}
