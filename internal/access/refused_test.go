package access_test

import (
	"cmp"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Whoever is signed in can be refused as often as they like: the audit log is
// told, and collects; nothing is written for them.
func TestARefusalIsToldAndWritesNothing(t *testing.T) {
	w := newWorld(t)
	w.token(alice, "gitlab")
	tokens, err := w.s.Tokens(t.Context(), alice, access.Filter{User: "alice"})
	if err != nil || len(tokens) != 1 {
		t.Fatalf("got %v, %v", tokens, err)
	}
	weak := &auth.Principal{Person: &auth.Person{User: "bob"}}
	long := strings.Repeat("a", 1<<16)
	before := w.head()
	for name, c := range map[string]struct {
		try  func() error
		want hpcsera.AuditLine
	}{
		"another's token": {
			func() error {
				_, err := w.s.RevokeToken(t.Context(), bob, access.Revocation{ID: tokens[0].ID})
				return err
			},
			hpcsera.AuditLine{Action: "revokeToken", User: "alice", Project: "cfd", About: tokens[0].ID, Refused: hpcsera.NotFound},
		},
		"no operator": {
			func() error {
				_, err := w.s.SetUser(t.Context(), bob, access.Switch{Name: "alice", Disabled: true})
				return err
			},
			hpcsera.AuditLine{Action: "manageService", User: "alice", About: "user alice", Refused: hpcsera.Forbidden},
		},
		"no owner": {
			func() error {
				_, err := w.s.SetMember(t.Context(), bob, access.NewMember{Project: "cfd", User: "bob", Role: hpcsera.Owner})
				return err
			},
			hpcsera.AuditLine{Action: "setMember", User: "bob", Project: "cfd", About: "bob", Refused: hpcsera.Forbidden},
		},
		"an operator, for themselves": {
			func() error {
				_, err := w.s.SetMember(t.Context(), root, access.NewMember{Project: "cfd", User: "root", Role: hpcsera.Viewer})
				return err
			},
			hpcsera.AuditLine{Actor: "user:root", Action: "setMember", User: "root", Project: "cfd", About: "root", Refused: hpcsera.Forbidden},
		},
		"no second factor": {
			func() error { _, err := w.s.CreateClient(t.Context(), weak, access.Named{Name: long}); return err },
			hpcsera.AuditLine{Action: "createClient", User: "bob", About: long[:100] + "…", Refused: hpcsera.StepUpRequired},
		},
	} {
		w.refused = nil
		for range 3 {
			if err := c.try(); hpcsera.CodeOf(err) != c.want.Refused {
				t.Errorf("%s: got %v, want %s", name, err, c.want.Refused)
			}
		}
		c.want.Actor = cmp.Or(c.want.Actor, "user:bob")
		if len(w.refused) != 3 {
			t.Errorf("%s: the audit log was told %d times, want 3", name, len(w.refused))
		}
		for _, got := range w.refused {
			got.At = c.want.At
			if got != c.want {
				t.Errorf("%s: the audit log was told %+v, want %+v", name, got, c.want)
			}
		}
	}
	if after := w.head(); after != before {
		t.Errorf("the audit log ends at line %d, want %d as before", after, before)
	}
}

// head is the number of the audit log's last line.
func (w *world) head() int64 {
	w.t.Helper()
	lines, err := w.s.Trail(w.t.Context(), root, access.TrailQuery{All: true, Limit: 1})
	if err != nil || len(lines) != 1 {
		w.t.Fatalf("got %v, %v", lines, err)
	}
	return lines[0].Number
}

func TestWhatIsAnothersDoesNotExistInTheSameWords(t *testing.T) {
	w := newWorld(t)
	w.token(alice, "gitlab")
	tokens, err := w.s.Tokens(t.Context(), alice, access.Filter{User: "alice"})
	if err != nil || len(tokens) != 1 {
		t.Fatalf("got %v, %v", tokens, err)
	}
	agent, err := w.s.CreateAgent(t.Context(), alice, access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43)})
	if err != nil {
		t.Fatal(err)
	}
	var session hpcsera.Session
	if err := w.store.Write(t.Context(), func(tx store.Tx) (err error) {
		session, _, err = w.s.IssueSession(tx, alice, hpcsera.Session{User: "alice"})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		id  string
		try func(id string) error
	}{
		"token": {tokens[0].ID, func(id string) error {
			_, err := w.s.RevokeToken(t.Context(), bob, access.Revocation{ID: id})
			return err
		}},
		"agent":   {agent.Agent.ID, func(id string) error { _, err := w.s.RemoveAgent(t.Context(), bob, access.Removal{ID: id}); return err }},
		"session": {session.ID, func(id string) error { return w.s.EndSession(t.Context(), bob, access.Named{Name: id}) }},
	} {
		none := c.id[:len(c.id)-1] + "x"
		theirs, nobodys := c.try(c.id), c.try(none)
		if hpcsera.CodeOf(theirs) != hpcsera.NotFound || nobodys == nil || strings.ReplaceAll(theirs.Error(), c.id, none) != nobodys.Error() {
			t.Errorf("%s: alice's: %v; nobody's: %v", name, theirs, nobodys)
		}
	}
}
