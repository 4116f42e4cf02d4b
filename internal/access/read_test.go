package access_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// jobs revokes tokens and has no job.
type jobs struct{ store store.Store }

func (j jobs) RevokeToken(ctx context.Context, id string, _ bool, _ string) error {
	return j.store.Write(ctx, func(tx store.Tx) error { return tx.RevokeToken(id, time.Now()) })
}

func (j jobs) Abandon(store.Tx, *store.Ledger, string) error { return nil }

type world struct {
	t     *testing.T
	store store.Store
	s     *access.Service

	refused []hpcsera.AuditLine // what the audit log was told
}

var (
	alice = &auth.Principal{Person: &auth.Person{User: "alice", SteppedUp: true}}
	bob   = &auth.Principal{Person: &auth.Person{User: "bob", SteppedUp: true}}
	root  = &auth.Principal{Person: &auth.Person{User: "root", Operator: true, SteppedUp: true}}
)

// newWorld has alice, who owns cfd, bob, its member, and an agent of alice's.
func newWorld(t *testing.T) *world {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, store: db}
	w.s = access.New(access.Config{
		Store: db, Jobs: jobs{db}, Sightings: auth.NewSightings(db, nil, quiet), Refused: func(l hpcsera.AuditLine) { w.refused = append(w.refused, l) }, Log: quiet,
	})
	for _, name := range []string{"alice", "bob", "root"} {
		if _, err := w.s.Admit(t.Context(), name, nil); err != nil {
			t.Fatal(err)
		}
	}
	host := auth.OperatorOnHost()
	if _, err := w.s.CreateProject(t.Context(), alice, access.NewProject{Name: "cfd"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.SetMember(t.Context(), alice, access.NewMember{Project: "cfd", User: "bob", Role: hpcsera.Member}); err != nil {
		t.Fatal(err)
	}
	for _, client := range []string{"gitlab", "engine"} {
		if _, err := w.s.CreateClient(t.Context(), host, access.Named{Name: client}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.s.CreateSite(t.Context(), host, access.Named{Name: "gwdg"}); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) token(by *auth.Principal, client string) {
	w.t.Helper()
	if _, err := w.s.CreateToken(w.t.Context(), by, access.NewToken{User: by.User(), Project: "cfd", Client: client, Preset: "ci"}); err != nil {
		w.t.Fatal(err)
	}
}

func TestADisabledUserIsNotAdmittedAndItIsTold(t *testing.T) {
	w := newWorld(t)
	if _, err := w.s.SetUser(t.Context(), root, access.Switch{Name: "bob", Disabled: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Admit(t.Context(), "bob", nil); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("got %v, want forbidden", err)
	}
	if r := w.refused; len(r) != 1 || r[0].Action != "signin" || r[0].Refused != hpcsera.Forbidden || r[0].User != "bob" || r[0].Actor != "user:bob" {
		t.Errorf("the audit log was told %+v", r)
	}
	if _, err := w.s.Admit(t.Context(), "Bob <b>", nil); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("a name that is none: got %v, want forbidden", err)
	}
}

func TestAnInstitutionLetsPeopleInOnlyWhereItMay(t *testing.T) {
	w := newWorld(t)
	said := []string{"cfd", "melt", "No Project"}
	member := func(project string) hpcsera.MemberRole {
		all, err := w.s.Projects(t.Context(), root, access.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.Name == project {
				return p.Members["carol"]
			}
		}
		return "no project"
	}
	if _, err := w.s.Admit(t.Context(), "carol", said); err != nil || member("cfd") != "" || member("melt") != "no project" {
		t.Errorf("got %v; carol is %q in cfd, and melt is %q", err, member("cfd"), member("melt"))
	}
	w.s = access.New(access.Config{Store: w.store, Institutions: true, Log: slog.New(slog.DiscardHandler)})
	for range 2 {
		if _, err := w.s.Admit(t.Context(), "carol", said); err != nil || member("cfd") != hpcsera.Member || member("melt") != hpcsera.Member {
			t.Errorf("where it may: got %v; carol is %q in cfd and %q in melt", err, member("cfd"), member("melt"))
		}
	}
	if _, err := w.s.Admit(t.Context(), "alice", said); err != nil {
		t.Fatal(err)
	}
	if p, err := w.s.Projects(t.Context(), alice, access.Filter{}); err != nil || p[0].Members["alice"] != hpcsera.Owner {
		t.Errorf("an owner became %+v, %v", p[0], err)
	}
}

func TestTheAuditLogShowsWhatConcernsOne(t *testing.T) {
	w := newWorld(t)
	w.token(bob, "gitlab")
	w.token(alice, "engine")
	if _, err := w.s.Trail(t.Context(), alice, access.TrailQuery{All: true}); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("everybody's lines: got %v, want not_found", err)
	}
	count := func(by *auth.Principal, q access.TrailQuery) (own, others int) {
		lines, err := w.s.Trail(t.Context(), by, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if l.User == by.User() || l.Actor == by.Actor() {
				own++
			} else {
				others++
			}
		}
		return own, others
	}
	if own, others := count(bob, access.TrailQuery{}); own < 2 || others != 0 {
		t.Errorf("a member sees %d own lines and %d of others, want his own only", own, others)
	}
	if own, others := count(alice, access.TrailQuery{}); own < 2 || others == 0 {
		t.Errorf("an owner sees %d own lines and %d of her project's others", own, others)
	}
	first, err := w.s.Trail(t.Context(), root, access.TrailQuery{All: true, Limit: 2})
	if err != nil || len(first) != 2 {
		t.Fatalf("got %v, %v", first, err)
	}
	if next, err := w.s.Trail(t.Context(), root, access.TrailQuery{All: true, Limit: 2, Before: first[1].Number}); err != nil || next[0].Number != first[1].Number-1 {
		t.Errorf("the next page begins at %+v, %v, want below %d", next, err, first[1].Number)
	}
}

func TestTokensOfAClientAreRevokedTogether(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.token(alice, "gitlab")
	}
	w.token(alice, "engine")
	w.token(bob, "gitlab")
	if _, err := w.s.RevokeTokens(t.Context(), bob, access.Revocations{User: "alice"}); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("another's: got %v, want not_found", err)
	}
	for _, c := range []struct {
		by     *auth.Principal
		client string
		want   int
	}{{alice, "gitlab", 2}, {alice, "gitlab", 0}, {root, "", 1}} {
		if got, err := w.s.RevokeTokens(t.Context(), c.by, access.Revocations{User: "alice", Client: c.client}); err != nil || got != c.want {
			t.Errorf("%s, client %q: got %d, %v, want %d", c.by.User(), c.client, got, err, c.want)
		}
	}
	tokens, err := w.s.Tokens(t.Context(), bob, access.Filter{User: "bob"})
	if err != nil || len(tokens) != 1 || tokens[0].Revoked != nil {
		t.Errorf("bob's tokens are %+v, %v", tokens, err)
	}
}

func TestAnAgentOfAnotherUserDoesNotExist(t *testing.T) {
	w := newWorld(t)
	made, err := w.s.CreateAgent(t.Context(), alice, access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43)})
	if err != nil {
		t.Fatal(err)
	}
	for name, ask := range map[string]func() error{
		"another's": func() error { _, err := w.s.Agent(t.Context(), bob, made.Agent.ID); return err },
		"no agent":  func() error { _, err := w.s.Agent(t.Context(), alice, "ag_x"); return err },
	} {
		if err := ask(); hpcsera.CodeOf(err) != hpcsera.NotFound || !strings.Contains(err.Error(), "there is no agent") {
			t.Errorf("%s: got %v, want not_found in the same words", name, err)
		}
	}
	for _, by := range []*auth.Principal{alice, root} {
		if got, err := w.s.Agent(t.Context(), by, made.Agent.ID); err != nil || got.ID != made.Agent.ID || got.Unfinished != 0 {
			t.Errorf("%s: got %+v, %v", by.User(), got, err)
		}
	}
	if _, err := w.s.RemoveAgent(t.Context(), alice, access.Removal{ID: made.Agent.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Agent(t.Context(), alice, made.Agent.ID); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("a removed one: got %v, want not_found", err)
	}
}

func TestTokensLiveAsLongAsTheConfigurationSays(t *testing.T) {
	w := newWorld(t)
	quiet := slog.New(slog.DiscardHandler)
	s := access.New(access.Config{Store: w.store, Jobs: jobs{w.store}, Sightings: auth.NewSightings(w.store, nil, quiet), TokenDays: 7, MaxTokenDays: 14, Log: quiet})
	asked := access.NewToken{User: "alice", Project: "cfd", Client: "gitlab", Preset: "ci", Days: 15}
	if _, err := s.CreateToken(t.Context(), alice, asked); hpcsera.CodeOf(err) != hpcsera.LimitExceeded {
		t.Errorf("15 days: got %v, want limit_exceeded", err)
	}
	for days, want := range map[int]time.Duration{0: 7 * 24 * time.Hour, 14: 14 * 24 * time.Hour} {
		asked.Days = days
		made, err := s.CreateToken(t.Context(), alice, asked)
		if err != nil || made.Token.Expires.Sub(made.Token.Created) != want {
			t.Errorf("%d days: got %+v, %v, want %s", days, made.Token, err, want)
		}
	}
}
