package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var accessTests = map[string]func(*testing.T, Database){
	"users, projects, clients and sites come back, by name":  testNames,
	"a taken name is refused and nothing changes":            testTakenNames,
	"what does not exist is not found":                       testNoNames,
	"flags change":                                           testFlags,
	"members come and go":                                    testMembers,
	"tokens come back, newest first":                         testTokens,
	"a revoked token keeps the time of its first revocation": testRevoke,
	"a principal tells what its token hangs on":              testPrincipal,
	"the version of access changes with whoever there is":    testAccessVersion,
}

func testNames(t *testing.T, d Database) {
	s := d.Open(t)
	users := []*hpcsera.User{{Name: "alice", Created: day}, {Name: "bob", Operator: true, Created: day.Add(time.Second)}, {Name: "z-1", Disabled: true}}
	projects := []*hpcsera.Project{
		{Name: "a-b", Created: day, Members: map[string]hpcsera.MemberRole{}},
		{Name: "aa", Created: day, Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Owner, "bob": hpcsera.Viewer}},
	}
	clients := []*hpcsera.Client{{Name: "ci", Created: day}, {Name: "cli", Disabled: true, Created: day}}
	sites := []*hpcsera.Site{{Name: "gwdg", Created: day}, {Name: "hlrs", Disabled: true, Created: day}}
	write(t, s, func(tx store.Tx) error {
		var errs []error
		for i := len(users) - 1; i >= 0; i-- {
			errs = append(errs, tx.InsertUser(*users[i]))
		}
		for i := len(projects) - 1; i >= 0; i-- {
			errs = append(errs, tx.InsertProject(*projects[i]), tx.InsertClient(*clients[i]), tx.InsertSite(*sites[i]))
		}
		return errors.Join(errs...)
	})
	read(t, s, func(r store.Reader) error {
		gotUsers, err1 := r.Users()
		gotProjects, err2 := r.Projects()
		gotClients, err3 := r.Clients()
		gotSites, err4 := r.Sites()
		for _, diff := range []string{cmp.Diff(users, gotUsers), cmp.Diff(projects, gotProjects), cmp.Diff(clients, gotClients), cmp.Diff(sites, gotSites)} {
			if diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		u, err5 := r.User("bob")
		p, err6 := r.Project("aa")
		c, err7 := r.Client("cli")
		x, err8 := r.Site("hlrs")
		for _, diff := range []string{cmp.Diff(users[1], u), cmp.Diff(projects[1], p), cmp.Diff(clients[1], c), cmp.Diff(sites[1], x)} {
			if diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		return errors.Join(err1, err2, err3, err4, err5, err6, err7, err8)
	})
}

func testTakenNames(t *testing.T, d Database) {
	s := d.Open(t)
	for what, insert := range map[string]func(store.Tx) error{
		"user":    func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: "x"}) },
		"project": func(tx store.Tx) error { return tx.InsertProject(hpcsera.Project{Name: "x"}) },
		"client":  func(tx store.Tx) error { return tx.InsertClient(hpcsera.Client{Name: "x"}) },
		"site":    func(tx store.Tx) error { return tx.InsertSite(hpcsera.Site{Name: "x"}) },
		"token":   func(tx store.Tx) error { return tx.InsertToken(hpcsera.Token{ID: "x"}, []byte{1}) },
		"agent":   func(tx store.Tx) error { return tx.InsertAgent(store.Agent{Agent: hpcsera.Agent{ID: "x"}}) },
	} {
		errs := inOneTransaction(t, s, insert, insert, insert)
		taken := 0
		for _, err := range errs {
			if err != nil {
				wantErr(t, what, err, store.ErrExists)
				taken++
			}
		}
		if taken != 2 {
			t.Errorf("%s: %d of 3 were refused, want 2", what, taken)
		}
		wantErr(t, what+" later", s.Write(t.Context(), insert), store.ErrExists)
	}
}

func testNoNames(t *testing.T, d Database) {
	s := d.Open(t)
	read(t, s, func(r store.Reader) error {
		for what, look := range map[string]func() error{
			"User":      func() error { _, err := r.User("none"); return err },
			"Project":   func() error { _, err := r.Project("none"); return err },
			"Client":    func() error { _, err := r.Client("none"); return err },
			"Site":      func() error { _, err := r.Site("none"); return err },
			"Token":     func() error { _, _, err := r.Token("none"); return err },
			"Principal": func() error { _, err := r.Principal("none"); return err },
			"Agent":     func() error { _, err := r.Agent("none"); return err },
		} {
			wantErr(t, what, look(), store.ErrNotFound)
		}
		return nil
	})
	write(t, s, func(tx store.Tx) error { return tx.InsertProject(hpcsera.Project{Name: "cfd"}) })
	for what, change := range map[string]func(store.Tx) error{
		"UpdateUser":            func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "none"}) },
		"UpdateClient":          func(tx store.Tx) error { return tx.UpdateClient(hpcsera.Client{Name: "none"}) },
		"UpdateSite":            func(tx store.Tx) error { return tx.UpdateSite(hpcsera.Site{Name: "none"}) },
		"UpdateAgent":           func(tx store.Tx) error { return tx.UpdateAgent(store.Agent{Agent: hpcsera.Agent{ID: "none"}}) },
		"RevokeToken":           func(tx store.Tx) error { return tx.RevokeToken("none", day) },
		"SetMember, no user":    func(tx store.Tx) error { return tx.SetMember("cfd", "none", hpcsera.Owner) },
		"SetMember, no project": func(tx store.Tx) error { return tx.SetMember("none", "none", hpcsera.Owner) },
		"InsertProject, no user": func(tx store.Tx) error {
			return tx.InsertProject(hpcsera.Project{Name: "new", Members: map[string]hpcsera.MemberRole{"none": hpcsera.Owner}})
		},
	} {
		wantErr(t, what, s.Write(t.Context(), change), store.ErrNotFound)
	}
	if err := s.Read(t.Context(), func(r store.Reader) error { _, err := r.Project("new"); return err }); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the project with an unknown member: got %v, want %v", err, store.ErrNotFound)
	}
}

func testFlags(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertUser(hpcsera.User{Name: "alice", Created: day}), tx.InsertClient(hpcsera.Client{Name: "ci", Created: day}),
			tx.InsertSite(hpcsera.Site{Name: "gwdg", Created: day}))
	})
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true, Operator: true}), tx.UpdateClient(hpcsera.Client{Name: "ci", Disabled: true}),
			tx.UpdateSite(hpcsera.Site{Name: "gwdg", Disabled: true}))
	})
	read(t, s, func(r store.Reader) error {
		u, err1 := r.User("alice")
		c, err2 := r.Client("ci")
		x, err3 := r.Site("gwdg")
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		if !u.Disabled || !u.Operator || !c.Disabled || !x.Disabled || !u.Created.Equal(day) {
			t.Errorf("got %+v, %+v and %+v, want all disabled and the time kept", u, c, x)
		}
		return nil
	})
}

func testMembers(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertUser(hpcsera.User{Name: "alice"}), tx.InsertUser(hpcsera.User{Name: "bob"}),
			tx.InsertProject(hpcsera.Project{Name: "cfd", Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Viewer}}))
	})
	for _, step := range []struct {
		user string
		role hpcsera.MemberRole
		want map[string]hpcsera.MemberRole
	}{
		{"bob", hpcsera.Member, map[string]hpcsera.MemberRole{"alice": hpcsera.Viewer, "bob": hpcsera.Member}},
		{"alice", hpcsera.Owner, map[string]hpcsera.MemberRole{"alice": hpcsera.Owner, "bob": hpcsera.Member}},
		{"bob", "", map[string]hpcsera.MemberRole{"alice": hpcsera.Owner}},
		{"bob", "", map[string]hpcsera.MemberRole{"alice": hpcsera.Owner}},
	} {
		write(t, s, func(tx store.Tx) error { return tx.SetMember("cfd", step.user, step.role) })
		got := get(t, s, func(r store.Reader) (*hpcsera.Project, error) { return r.Project("cfd") })
		if diff := cmp.Diff(step.want, got.Members); diff != "" {
			t.Errorf("after %s became %q (-want +got):\n%s", step.user, step.role, diff)
		}
		for _, user := range []string{"alice", "bob"} {
			var want []string
			if step.want[user] != "" {
				want = []string{"cfd"}
			}
			mine := get(t, s, func(r store.Reader) ([]string, error) { return r.Memberships(user) })
			if !slices.Equal(mine, want) {
				t.Errorf("after %s became %q: %s is a member of %v, want %v", step.user, step.role, user, mine, want)
			}
		}
	}
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertProject(hpcsera.Project{Name: "z"}), tx.SetMember("z", "alice", hpcsera.Viewer), tx.InsertProject(hpcsera.Project{Name: "a"}), tx.SetMember("a", "alice", hpcsera.Viewer))
	})
	if got, want := get(t, s, func(r store.Reader) ([]string, error) { return r.Memberships("alice") }), []string{"a", "cfd", "z"}; !slices.Equal(got, want) {
		t.Errorf("alice is a member of %v, want %v", got, want)
	}
}

func testAccessVersion(t *testing.T, d Database) {
	s := d.Open(t)
	version := func(s store.Store) int64 {
		t.Helper()
		v, err := s.AccessVersion(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	last := version(s)
	change := func(what string, want bool, fn func(store.Tx) error) {
		t.Helper()
		write(t, s, fn)
		now := version(s)
		if changed := now != last; changed != want {
			t.Errorf("%s: changed is %v, want %v", what, changed, want)
		}
		last = now
	}
	for _, c := range []struct {
		what string
		fn   func(store.Tx) error
	}{
		{"a user", func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: "alice"}) }},
		{"a user's flags", func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true}) }},
		{"a project", func(tx store.Tx) error { return tx.InsertProject(hpcsera.Project{Name: "cfd"}) }},
		{"a member", func(tx store.Tx) error { return tx.SetMember("cfd", "alice", hpcsera.Member) }},
		{"a member less", func(tx store.Tx) error { return tx.SetMember("cfd", "alice", "") }},
		{"a client", func(tx store.Tx) error { return tx.InsertClient(hpcsera.Client{Name: "ci"}) }},
		{"a client's flags", func(tx store.Tx) error { return tx.UpdateClient(hpcsera.Client{Name: "ci", Disabled: true}) }},
		{"a site", func(tx store.Tx) error { return tx.InsertSite(hpcsera.Site{Name: "gwdg"}) }},
		{"a site's flags", func(tx store.Tx) error { return tx.UpdateSite(hpcsera.Site{Name: "gwdg", Disabled: true}) }},
		{"a token", func(tx store.Tx) error { return tx.InsertToken(tokenRow("t_1", "alice", 0), []byte{1}) }},
		{"a revocation", func(tx store.Tx) error { return tx.RevokeToken("t_1", day) }},
	} {
		change(c.what, true, c.fn)
	}
	change("a job", false, func(tx store.Tx) error { _, err := file(tx); return err })
	change("nothing", false, func(store.Tx) error { return nil })
	// Together with others, and with one that fails.
	before := last
	inOneTransaction(t, s,
		func(tx store.Tx) error { _, err := file(tx); return err },
		func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice"}) },
		func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "nobody"}) })
	if version(s) == before {
		t.Error("a change among others: the version stayed")
	}
	if !d.Replicas {
		return
	}
	// On another replica that many ask, too.
	other := d.Open(t)
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			for ctx.Err() == nil {
				_, _ = other.AccessVersion(ctx)
			}
		})
	}
	defer busy.Wait()
	defer stop()
	for i := range 50 {
		before := version(other)
		write(t, s, func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: i%2 == 0}) })
		if version(other) == before {
			t.Fatalf("change %d: the version stayed on the other replica", i)
		}
	}
}

func tokenRow(id, user string, at time.Duration) hpcsera.Token {
	return hpcsera.Token{
		ID: id, User: user, Project: "cfd", Client: "ci", Site: "gwdg", Scope: hpcsera.ClientScope, Roles: hpcsera.Roles(255),
		Created: day.Add(at), NotBefore: day.Add(at + time.Minute), Expires: day.Add(at + time.Hour),
	}
}

func testTokens(t *testing.T, d Database) {
	s := d.Open(t)
	a, b, c := tokenRow("t_1", "alice", 0), tokenRow("t_2", "alice", time.Hour), tokenRow("t_3", "bob", time.Minute)
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertToken(a, []byte{0, 1}), tx.InsertToken(b, []byte{2}), tx.InsertToken(c, []byte{3}))
	})
	read(t, s, func(r store.Reader) error {
		got, hash, err := r.Token("t_1")
		if diff := cmp.Diff(&a, got); err != nil || diff != "" || string(hash) != "\x00\x01" {
			t.Errorf("Token: hash %x, %v (-want +got):\n%s", hash, err, diff)
		}
		mine, err := r.Tokens("alice")
		if diff := cmp.Diff([]*hpcsera.Token{&b, &a}, mine); err != nil || diff != "" {
			t.Errorf("Tokens of alice: %v (-want +got):\n%s", err, diff)
		}
		all, err := r.Tokens("")
		if diff := cmp.Diff([]*hpcsera.Token{&b, &c, &a}, all); err != nil || diff != "" {
			t.Errorf("Tokens: %v (-want +got):\n%s", err, diff)
		}
		return nil
	})
}

func testRevoke(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error { return tx.InsertToken(tokenRow("t_1", "alice", 0), []byte{1}) })
	for _, at := range []time.Time{day.Add(time.Hour), day.Add(2 * time.Hour)} {
		write(t, s, func(tx store.Tx) error { return tx.RevokeToken("t_1", at) })
		p := get(t, s, func(r store.Reader) (*store.Principal, error) { return r.Principal("t_1") })
		if p.Revoked == nil || !p.Revoked.Equal(day.Add(time.Hour)) {
			t.Errorf("revoked at %v, want %v", p.Revoked, day.Add(time.Hour))
		}
	}
}

func testPrincipal(t *testing.T, d Database) {
	s := d.Open(t)
	token := tokenRow("t_1", "alice", 0)
	write(t, s, func(tx store.Tx) error { return tx.InsertToken(token, []byte{7}) })
	want := store.Principal{Token: token, Hash: []byte{7}, UserDisabled: true, ClientDisabled: true}
	check := func(what string) {
		t.Helper()
		got := get(t, s, func(r store.Reader) (*store.Principal, error) { return r.Principal("t_1") })
		if diff := cmp.Diff(&want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("without user, client and project")
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.InsertUser(hpcsera.User{Name: "alice"}), tx.InsertUser(hpcsera.User{Name: "bob"}), tx.InsertClient(hpcsera.Client{Name: "ci"}))
	})
	want.UserDisabled, want.ClientDisabled = false, false
	check("without project")
	write(t, s, func(tx store.Tx) error {
		return tx.InsertProject(hpcsera.Project{Name: "cfd", Members: map[string]hpcsera.MemberRole{"bob": hpcsera.Owner}})
	})
	check("without membership")
	write(t, s, func(tx store.Tx) error { return tx.SetMember("cfd", "alice", hpcsera.Member) })
	want.Member = hpcsera.Member
	check("complete")
	write(t, s, func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true}) })
	want.UserDisabled = true
	check("with a disabled user")
	write(t, s, func(tx store.Tx) error {
		return errors.Join(tx.UpdateUser(hpcsera.User{Name: "alice"}), tx.UpdateClient(hpcsera.Client{Name: "ci", Disabled: true}), tx.SetMember("cfd", "alice", ""))
	})
	want.UserDisabled, want.ClientDisabled, want.Member = false, true, ""
	check("with a disabled client and no membership any more")
}
