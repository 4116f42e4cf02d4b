package access_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestOnlyItsUserExtendsAnEnrolmentAndNothingElseChanges(t *testing.T) {
	w := newWorld(t)
	made, err := w.s.CreateAgent(t.Context(), alice, access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43), Days: 1})
	if err != nil {
		t.Fatal(err)
	}
	id := made.Agent.ID
	row := func() (row *store.Agent) {
		t.Helper()
		if err := w.store.Read(t.Context(), func(r store.Reader) (err error) { row, err = r.Agent(id); return err }); err != nil {
			t.Fatal(err)
		}
		return row
	}
	first := row()
	for name, c := range map[string]struct {
		by   *auth.Principal
		id   string
		want hpcsera.Code
	}{
		"another user":     {bob, id, hpcsera.NotFound},
		"an operator":      {root, id, hpcsera.NotFound},
		"no second factor": {&auth.Principal{Person: &auth.Person{User: "alice"}}, id, hpcsera.StepUpRequired},
		"hpcsera login":    {&auth.Principal{Person: &auth.Person{User: "alice", KeyBound: true, SteppedUp: true}}, id, hpcsera.Forbidden},
		"nobody's":         {alice, "ag_x", hpcsera.NotFound},
	} {
		if _, err := w.s.ExtendAgent(t.Context(), c.by, c.id); hpcsera.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	if got := row(); !got.Expires.Equal(first.Expires) {
		t.Errorf("a refusal moved the end to %v", got.Expires)
	}
	ends := func(at time.Time) {
		t.Helper()
		if err := w.store.Write(t.Context(), func(tx store.Tx) error {
			row, err := tx.Agent(id)
			if err != nil {
				return err
			}
			row.Expires = at
			return tx.UpdateAgent(*row)
		}); err != nil {
			t.Fatal(err)
		}
	}
	for name, end := range map[string]time.Time{"soon": first.Expires, "past": time.Now().Add(-time.Hour)} {
		ends(end)
		got, err := w.s.ExtendAgent(t.Context(), alice, id)
		if left := time.Until(got.Expires); err != nil || left < 179*24*time.Hour || left > 181*24*time.Hour {
			t.Errorf("%s: it ends at %v, %v, want in 180 days", name, got.Expires, err)
		}
		if now := row(); now.Thumbprint != first.Thumbprint || string(now.Hash) != string(first.Hash) || now.Renewed != nil {
			t.Errorf("%s: key or credential changed", name)
		}
	}
	late := time.Now().Add(300 * 24 * time.Hour).UTC().Truncate(time.Second)
	ends(late)
	if got, err := w.s.ExtendAgent(t.Context(), alice, id); err != nil || !got.Expires.Equal(late) {
		t.Errorf("a later end became %v, %v", got.Expires, err)
	}
	lines, err := w.s.Trail(t.Context(), alice, access.TrailQuery{Limit: 1})
	if err != nil || lines[0].Action != "extendAgent" || lines[0].About != id || !strings.Contains(lines[0].Detail, first.Thumbprint) {
		t.Errorf("the audit log says %+v, %v", lines, err)
	}
	if _, err := w.s.RemoveAgent(t.Context(), alice, access.Removal{ID: id}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.ExtendAgent(t.Context(), alice, id); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("a removed one: got %v, want not_found", err)
	}
}
