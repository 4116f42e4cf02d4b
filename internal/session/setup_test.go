package session_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

func TestALinkThatDoesNotWorkOpensNothing(t *testing.T) {
	r := newRig(t)
	used, err := r.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	replaced := used
	if used, err = r.FirstLink(t.Context()); err != nil { // the program started again
		t.Fatal(err)
	}
	r.setUp(used, "alice")
	late, err := r.Invite(t.Context(), "operator", "late", "", false)
	if err != nil {
		t.Fatal(err)
	}
	r.pass(72 * time.Hour)
	for name, link := range map[string]string{
		"used": used, "replaced": replaced, "late": late, "guessed": site + "/auth/setup?code=00000000000000000000000000000000", "odd": site + "/auth/setup?code=%00%ff",
	} {
		b := r.browser()
		b.expect(b.get(link), http.StatusNotFound)
		u, _ := url.Parse(link)
		a := b.post("/auth/setup", "code", u.Query().Get("code"), "name", "mallory", "password", password, "again", password)
		if a.status != http.StatusNotFound {
			t.Errorf("%s: got status %d, want 404", name, a.status)
		}
	}
	if again, err := r.FirstLink(t.Context()); again != "" || err != nil {
		t.Errorf("with an operator: FirstLink gives %q, %v", again, err)
	}
}

// Programs that read mails follow links; two browsers can race for one.
func TestALinkMakesOneAccountHoweverOftenItIsOpened(t *testing.T) {
	r := newRig(t)
	link, err := r.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	var people []*person
	for _, name := range []string{"alice", "mallory"} {
		p := &person{browser: r.browser(), name: name}
		for range 3 {
			p.expect(p.get(link), http.StatusOK)
		}
		p.expect(p.post("/auth/setup", "code", u.Query().Get("code"), "name", name, "password", password, "again", password), http.StatusSeeOther)
		p.readSecret(p.get("/auth/setup/factor"))
		people = append(people, p)
	}
	people[0].expect(people[0].post("/auth/setup/app", "code", people[0].code()), http.StatusOK)
	people[1].expect(people[1].post("/auth/setup/app", "code", people[1].code()), http.StatusNotFound)
	if _, err := r.User(t.Context(), "mallory"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("the second account: got %v, want not_found", err)
	}
}

func TestAnAccountComesIntoBeingWithItsSecondFactor(t *testing.T) {
	r := newRig(t)
	link, err := r.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	b := r.browser()
	b.expect(b.post("/auth/setup", "code", u.Query().Get("code"), "name", "alice", "password", password, "again", password), http.StatusSeeOther)
	b.expect(b.post("/auth/setup/app", "code", "000000"), http.StatusUnauthorized)
	b.expect(b.post("/auth/setup/passkey", "credential", ""), http.StatusUnauthorized)
	if _, err := r.User(t.Context(), "alice"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("before the factor: got %v, want not_found", err)
	}
	other := r.browser()
	other.expect(other.post("/auth/signin", "name", "alice", "password", password), http.StatusUnauthorized)
}

func TestWeakPasswordsAndImpossibleNamesAreRefused(t *testing.T) {
	r := newRig(t)
	link, err := r.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	for _, c := range []struct{ name, mail, password, again, says string }{
		{"alice", "", "short", "short", "at least 12"},
		{"alice", "", "Alice in wonderland", "Alice in wonderland", "contains your name"},
		{"alice", "", "aaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaa", "repeats"},
		{"alice", "", strings.Repeat("long ", 60), strings.Repeat("long ", 60), "at most 256"},
		{"alice", "", password, "something else", "differ"},
		{"<script>", "", password, password, "name cannot be used"},
		{"", "", password, password, "name cannot be used"},
		{"alice", "not an address", password, password, "no mail address"},
		{"alice", "a@example.org>\r\nBcc: b@example.org", password, password, "no mail address"},
	} {
		b := r.browser()
		a := b.expect(b.post("/auth/setup", "code", u.Query().Get("code"), "name", c.name, "mail", c.mail, "password", c.password, "again", c.again), http.StatusUnprocessableEntity)
		if !strings.Contains(text(a.body), c.says) {
			t.Errorf("%q: the page does not say %q: %s", c.password, c.says, text(a.body))
		}
		if a.has(c.password) {
			t.Errorf("%q: the page repeats the password", c.password)
		}
	}
}

func TestAnInvitationKeepsItsName(t *testing.T) {
	r := newRig(t)
	r.first("alice")
	link, err := r.Invite(t.Context(), "alice", "bob", "", false)
	if err != nil {
		t.Fatal(err)
	}
	p := r.setUp(link, "bob")
	if p.who() != "bob" {
		t.Errorf("signed in as %q, want bob", p.who())
	}
	link, err = r.Invite(t.Context(), "alice", "carol", "", false)
	if err != nil {
		t.Fatal(err)
	}
	u, _ := url.Parse(link)
	b := r.browser()
	b.expect(b.post("/auth/setup", "code", u.Query().Get("code"), "name", "alice", "password", password, "again", password), http.StatusSeeOther)
	if a := b.get("/auth/setup/factor"); !a.has("carol") || a.has(", alice") {
		t.Error("the invitation for carol makes another account")
	}
}

func TestANewLinkReplacesAllFactorsAndEndsAllSessions(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	link, err := r.Invite(t.Context(), "operator", "alice", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if p.who() != "alice" {
		t.Fatal("making the link ended the session")
	}
	fresh := r.setUp(link, "alice")
	if p.who() != "" {
		t.Error("the old session goes on")
	}
	p.pass(time.Minute)
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
	b.expect(b.post("/auth/signin/app", "code", p.code()), http.StatusUnauthorized)
	b.expect(b.post("/auth/signin/recovery", "code", p.recovery[0]), http.StatusUnauthorized)
	b.expect(b.post("/auth/signin/app", "code", fresh.code()), http.StatusSeeOther)
	if who, err := r.User(t.Context(), "alice"); err != nil || !who.Operator {
		t.Errorf("got %+v, %v, want still an operator", who, err)
	}
	r.wantTrail("alice account.renew alice")
}
