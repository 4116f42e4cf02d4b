package session_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/session"
)

// Whoever finds an open browser cannot change who gets in.
func TestFactorsChangeOnlyAfterOneWasVerified(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	p.pass(6 * time.Minute)
	for _, path := range []string{"/auth/account/app", "/auth/account/passkey", "/auth/account/password"} {
		p.expect(p.get(path), http.StatusSeeOther, "/auth/stepup?return="+url.QueryEscape(path))
	}
	for path, pairs := range map[string][]string{
		"/auth/account/app": {"code", p.code()}, "/auth/account/app/remove": nil, "/auth/account/recovery": nil, "/auth/account/mail": {"mail", "x@example.org"},
		"/auth/account/password": {"password", "another good password", "again", "another good password"}, "/auth/account/passkey": {"credential", "{}"},
		"/auth/account/passkey/remove": {"passkey", "x"}, "/auth/people/invite": {"name", "bob"}, "/auth/people/disable": {"name", "bob"},
	} {
		if a := p.post(path, pairs...); a.status != http.StatusSeeOther || !strings.HasPrefix(a.to, "/auth/stepup") {
			t.Errorf("POST %s: got status %d to %q, want to step up", path, a.status, a.to)
		}
	}
	p.expect(p.post("/auth/account/passkey/options"), http.StatusForbidden)
	other := r.browser()
	p.signIn(other)
}

func TestTheOnlyFactorStays(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	p.expect(p.post("/auth/account/app/remove"), http.StatusConflict)
	if a := p.get("/auth/account"); !a.has("This is your only factor") || a.has("/auth/account/app/remove") {
		t.Error("the page offers to remove the only factor")
	}
}

func TestANewAppReplacesTheOldOne(t *testing.T) {
	r := newRig(t)
	r.running()
	p := r.first("alice")
	old := *p
	p.expect(p.post("/auth/account/app", "code", p.code()), http.StatusConflict) // it was not begun
	p.readSecret(p.expect(p.get("/auth/account/app"), http.StatusOK))
	p.expect(p.post("/auth/account/app", "code", "000000"), http.StatusUnauthorized)
	p.expect(p.post("/auth/account/app", "code", p.code()), http.StatusSeeOther, "/auth/account")
	if a := p.get("/auth/account"); !a.has("Your authenticator app was added.") {
		t.Error("the page does not say so")
	}
	b := r.browser()
	p.pass(time.Minute)
	b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
	b.expect(b.post("/auth/signin/app", "code", old.code()), http.StatusUnauthorized)
	b.expect(b.post("/auth/signin/app", "code", p.code()), http.StatusSeeOther)
	r.wantMail("alice@example.org", "authenticator app added")
}

func TestNewRecoveryCodesReplaceTheOld(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	old := p.recovery[0]
	p.readCodes(p.expect(p.post("/auth/account/recovery"), http.StatusOK))
	if a := p.get("/auth/account"); a.has(p.recovery[0]) || a.has(strings.ReplaceAll(p.recovery[0], "-", "")) {
		t.Error("the codes are shown again")
	}
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
	b.expect(b.post("/auth/signin/recovery", "code", old), http.StatusUnauthorized)
	b.expect(b.post("/auth/signin/recovery", "code", p.recovery[9]), http.StatusSeeOther)
}

func TestANewPasswordEndsAllOtherSessions(t *testing.T) {
	r := newRig(t)
	r.running()
	p := r.first("alice")
	other := r.browser()
	p.signIn(other)
	p.stepUp()
	const fresh = "quite another password"
	p.expect(p.get("/auth/account/password"), http.StatusOK)
	p.expect(p.post("/auth/account/password", "password", fresh, "again", "something else"), http.StatusUnprocessableEntity)
	p.expect(p.post("/auth/account/password", "password", "short", "again", "short"), http.StatusUnprocessableEntity)
	p.expect(p.post("/auth/account/password", "password", fresh, "again", fresh), http.StatusSeeOther, "/auth/account")
	if p.who() != "alice" || other.who() != "" {
		t.Errorf("signed in: %q and %q, want alice and nobody", p.who(), other.who())
	}
	other.expect(other.post("/auth/signin", "name", "alice", "password", password), http.StatusUnauthorized)
	other.expect(other.post("/auth/signin", "name", "alice", "password", fresh), http.StatusSeeOther)
	r.wantMail("alice@example.org", "password changed")
}

func TestANewMailAddressIsToldToTheOldOne(t *testing.T) {
	r := newRig(t)
	r.running()
	p := r.first("alice")
	p.expect(p.post("/auth/account/mail", "mail", "a@b@c"), http.StatusUnprocessableEntity)
	p.expect(p.post("/auth/account/mail", "mail", "new@example.org"), http.StatusSeeOther)
	r.wantMail("alice@example.org", "mail address changed")
}

func TestOnlyOperatorsSeeAndChangePeople(t *testing.T) {
	r := newRig(t)
	alice, bob := r.first("alice"), r.join("bob")
	for _, path := range []string{"/auth/people"} {
		bob.expect(bob.get(path), http.StatusNotFound)
	}
	for _, path := range []string{"/auth/people/invite", "/auth/people/disable", "/auth/people/enable", "/auth/people/renew"} {
		bob.expect(bob.post(path, "name", "alice"), http.StatusNotFound)
	}
	if a := alice.expect(alice.get("/auth/people"), http.StatusOK); !a.has("bob@example.org") {
		t.Error("the operator does not see bob")
	}
	alice.expect(alice.post("/auth/people/disable", "name", "alice"), http.StatusConflict)
	alice.expect(alice.post("/auth/people/disable", "name", "nobody"), http.StatusNotFound)
	alice.expect(alice.post("/auth/people/renew", "name", "nobody"), http.StatusNotFound)
	alice.expect(alice.post("/auth/people/invite", "name", "bob"), http.StatusUnprocessableEntity)
	a := alice.expect(alice.post("/auth/people/invite", "name", "carol", "mail", "carol@example.org"), http.StatusOK)
	link := secretLine.FindStringSubmatch(a.body)
	if link == nil {
		t.Fatal("the page shows no link")
	}
	if a := alice.get("/auth/people"); !a.has("carol") || a.has(link[1]) {
		t.Error("the page does not show whom was invited, or shows the link again")
	}
	carol := r.setUp(link[1], "carol")
	if who, err := r.User(t.Context(), "carol"); err != nil || who.Operator {
		t.Errorf("got %+v, %v, want no operator", who, err)
	}
	alice.expect(alice.post("/auth/people/disable", "name", "carol"), http.StatusSeeOther, "/auth/people")
	if carol.who() != "" {
		t.Error("a disabled account's session goes on")
	}
	r.wantEvent(session.Event{Kind: session.UserDisabled, User: "carol"})
	alice.expect(alice.post("/auth/people/enable", "name", "carol"), http.StatusSeeOther, "/auth/people")
	carol.signIn(carol.browser)
	r.wantEvent(session.Event{Kind: session.UserEnabled, User: "carol"})
	r.wantTrail("alice account.disable carol")
}

// A person who was disabled between two requests is nobody at the second.
func TestDisablingHoldsFromTheNextRequest(t *testing.T) {
	r := newRig(t)
	r.first("alice")
	bob := r.join("bob")
	half := r.browser()
	half.expect(half.post("/auth/signin", "name", "bob", "password", password), http.StatusSeeOther)
	if err := r.Disable(t.Context(), "operator", "bob", true); err != nil {
		t.Fatal(err)
	}
	if bob.who() != "" {
		t.Error("the session goes on")
	}
	bob.pass(time.Minute)
	half.expect(half.post("/auth/signin/app", "code", bob.code()), http.StatusConflict)
}
