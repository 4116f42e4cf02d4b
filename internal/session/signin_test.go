package session_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/session"
)

func TestNobodyGetsInWithoutSigningIn(t *testing.T) {
	r := newRig(t)
	r.first("alice")
	for _, path := range []string{"/auth/", "/auth/decide?x=1", "/auth/account", "/auth/account/app", "/auth/account/password", "/auth/people", "/auth/stepup"} {
		b := r.browser()
		b.expect(b.get(path), http.StatusSeeOther, "/auth/signin?return="+url.QueryEscape(path))
	}
	for _, path := range []string{
		"/auth/account/mail", "/auth/account/password", "/auth/account/recovery", "/auth/account/app", "/auth/account/app/remove",
		"/auth/account/passkey", "/auth/account/passkey/remove", "/auth/account/sessions/end", "/auth/account/sessions/end-all",
		"/auth/people/invite", "/auth/people/disable", "/auth/people/enable", "/auth/people/renew",
	} {
		b := r.browser()
		if a := b.post(path, "name", "alice", "mail", "a@example.org"); a.status != http.StatusSeeOther || !strings.HasPrefix(a.to, "/auth/signin") {
			t.Errorf("POST %s: got status %d to %q", path, a.status, a.to)
		}
	}
	for _, path := range []string{"/auth/stepup/app", "/auth/stepup/passkey/options", "/auth/account/passkey/options"} {
		b := r.browser()
		b.expect(b.post(path), http.StatusUnauthorized)
	}
}

// Who tries names must not learn which exist: the answers are the same to the
// byte, the name that was typed apart.
func TestUnknownDisabledAndExistingAccountsGiveTheSameAnswer(t *testing.T) {
	r := newRig(t)
	r.first("alice")
	r.join("gone")
	if err := r.Disable(t.Context(), "operator", "gone", true); err != nil {
		t.Fatal(err)
	}
	answers := map[string]string{}
	for name, secret := range map[string]string{"alice": "wrong password here", "nobody": password, "gone": password, "Not A Name!": password} {
		b := r.browser()
		a := b.expect(b.post("/auth/signin", "name", name, "password", secret), http.StatusUnauthorized)
		if b.cookie("hpcsera-auth-visit") != "" {
			t.Errorf("%s: got a visit", name)
		}
		answers[strings.ReplaceAll(strings.ReplaceAll(a.body, name, "NAME"), strings.ToLower(name), "NAME")] = name
	}
	if len(answers) != 1 {
		t.Errorf("got %d different answers: %v", len(answers), answers)
	}
}

func TestThePasswordAloneOpensNothing(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", "alice", "password", password, "return", "/auth/decide"), http.StatusSeeOther, "/auth/signin/factor")
	if got := b.who(); got != "" {
		t.Errorf("after the password alone the browser is %q", got)
	}
	b.expect(b.post("/auth/signin/app", "code", "000000"), http.StatusUnauthorized)
	b.expect(b.post("/auth/signin/recovery", "code", "0000-0000-0000-0000"), http.StatusUnauthorized)
	p.pass(time.Minute)
	b.expect(b.post("/auth/signin/app", "code", p.code()), http.StatusSeeOther, "/auth/decide")
	if got := b.who(); got != "alice" {
		t.Errorf("after both factors the browser is %q, want alice", got)
	}
	r.wantTrail(" session.refuse alice refused")
	r.wantTrail("alice session.begin alice")
}

func TestACodeWorksOnce(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	p.pass(time.Minute)
	code := p.code()
	try := func() int {
		b := r.browser()
		b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
		return b.post("/auth/signin/app", "code", code).status
	}
	if got := try(); got != http.StatusSeeOther {
		t.Fatalf("first use: got status %d", got)
	}
	if got := try(); got != http.StatusUnauthorized {
		t.Errorf("second use: got status %d, want 401", got)
	}
	// An older code is worth nothing either, once a newer one was used.
	p.pass(time.Minute)
	older := p.code()
	p.pass(30 * time.Second)
	code = p.code()
	if got := try(); got != http.StatusSeeOther {
		t.Fatalf("the newer code: got status %d", got)
	}
	code = older
	if got := try(); got != http.StatusUnauthorized {
		t.Errorf("the older code: got status %d, want 401", got)
	}
}

func TestARecoveryCodeWorksOnce(t *testing.T) {
	r := newRig(t)
	r.running()
	p := r.first("alice")
	for i, want := range []int{http.StatusSeeOther, http.StatusUnauthorized} {
		b := r.browser()
		b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
		b.expect(b.post("/auth/signin/recovery", "code", strings.ToUpper(p.recovery[3])), want)
		if i == 0 && b.who() != "alice" {
			t.Error("the code did not sign in")
		}
	}
	r.wantMail("alice@example.org", "recovery code")
}

// Even many browsers at once get no more than the allowance.
func TestCodesCannotBeGuessed(t *testing.T) {
	r := newRig(t)
	r.running()
	p := r.first("alice")
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
	statuses := map[int]int{}
	for i := range 20 {
		statuses[b.post("/auth/signin/app", "code", fmt.Sprintf("%06d", i)).status]++
	}
	if statuses[http.StatusUnauthorized] != 5 || statuses[http.StatusTooManyRequests] != 15 {
		t.Errorf("got %v, want 5 tries and then 429", statuses)
	}
	p.pass(time.Minute)
	b.expect(b.post("/auth/signin/app", "code", p.code()), http.StatusTooManyRequests)
	r.wantMail("alice@example.org", "wrong second factor")
	// It ends by itself: whoever could lock accounts for good would.
	p.pass(15 * time.Minute)
	p.signIn(r.browser())
}

func TestPasswordsCannotBeGuessed(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	for _, name := range []string{"alice", "nobody"} {
		statuses := map[int]int{}
		for i := range 15 {
			b := r.browser()
			b.address = fmt.Sprintf("192.0.2.%d:1", i) // a botnet
			statuses[b.post("/auth/signin", "name", name, "password", "wrong password").status]++
		}
		if statuses[http.StatusUnauthorized] != 10 || statuses[http.StatusTooManyRequests] != 5 {
			t.Errorf("%s: got %v, want 10 tries and then 429", name, statuses)
		}
	}
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusTooManyRequests)
	p.pass(15 * time.Minute)
	p.signIn(b)
}

func TestOneAddressCannotTryManyAccounts(t *testing.T) {
	r := newRig(t)
	r.first("alice")
	var last int
	for i := range 70 {
		b := r.browser()
		b.address = fmt.Sprintf("[2001:db8:1:2::%x]:1", i) // one network
		last = b.post("/auth/signin", "name", fmt.Sprintf("user-%d", i), "password", "wrong password").status
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the 70th account: got status %d, want 429", last)
	}
	other := r.browser()
	other.address = "[2001:db8:1:3::1]:1"
	other.expect(other.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
}

// Nor can strangers fill the database by beginning sign-ins.
func TestSignInsThatNobodyFinishesAreFew(t *testing.T) {
	r, p := abroad(t)
	statuses := map[int]int{}
	for i := range 620 {
		b := r.browser()
		if i%2 == 0 {
			statuses[b.post("/auth/signin/passkey/options").status]++
		} else {
			statuses[b.get("/auth/institution/uni/start").status]++
		}
	}
	if statuses[http.StatusTooManyRequests] != 20 {
		t.Errorf("got %v, want 600 and then 429", statuses)
	}
	r.pass(15 * time.Minute)
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
}

// Somebody who plants a cookie in a browser is not signed in with it later.
func TestASessionsNameIsNewWhenItBecomesMore(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	b := r.browser()
	base, _ := url.Parse(site)
	b.jar.SetCookies(base, []*http.Cookie{
		{Name: "__Host-hpcsera-auth", Value: "planted", Path: "/", Secure: true},
		{Name: "__Host-hpcsera-auth-visit", Value: "planted", Path: "/", Secure: true},
	})
	seen := map[string]bool{"planted": true}
	fresh := func(when, cookie string) {
		t.Helper()
		if got := b.cookie(cookie); got == "" || seen[got] {
			t.Errorf("%s: the cookie is %q, want a new one", when, got)
		} else {
			seen[got] = true
		}
	}
	p.pass(time.Minute)
	b.post("/auth/signin", "name", "alice", "password", password)
	fresh("after the password", "hpcsera-auth-visit")
	b.post("/auth/signin/app", "code", p.code())
	fresh("after the factor", "hpcsera-auth")
	old := b.cookie("hpcsera-auth")
	p.pass(time.Minute)
	b.expect(b.post("/auth/stepup/app", "code", p.code()), http.StatusSeeOther)
	fresh("after stepping up", "hpcsera-auth")
	thief := r.browser()
	thief.jar.SetCookies(base, []*http.Cookie{{Name: "__Host-hpcsera-auth", Value: old, Path: "/", Secure: true}})
	if got := thief.who(); got != "" {
		t.Errorf("the name from before stepping up is still %q", got)
	}
}

func TestSignInLeadsNowhereElse(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	for _, to := range []string{
		"https://evil.example/", "//evil.example/", "/\\evil.example", "/auth/\\evil.example", "http:/auth/", "javascript:alert(1)", "/elsewhere",
		"/auth/../elsewhere", "/auth/%2e%2e/elsewhere", "/auth//../..//evil.example", "/auth\n/x", "https:///evil.example", "/auth/#x", "@evil.example", "",
		"/auth/%0d%0aLocation:%20https://evil.example", "/authentic",
	} {
		b := r.browser()
		p.pass(time.Minute)
		b.expect(b.get("/auth/signin?return="+url.QueryEscape(to)), http.StatusOK)
		b.expect(b.post("/auth/signin", "name", "alice", "password", password, "return", to), http.StatusSeeOther, "/auth/signin/factor")
		if a := b.post("/auth/signin/app", "code", p.code()); a.to != "/auth/" {
			t.Errorf("%q: led to %q", to, a.to)
		}
		if a := b.get("/auth/signin?return=" + url.QueryEscape(to)); a.to != "/auth/" {
			t.Errorf("%q, signed in already: led to %q", to, a.to)
		}
		p.pass(time.Minute)
		if a := b.post("/auth/stepup/app", "code", p.code(), "return", to); a.to != "/auth/" {
			t.Errorf("%q, stepping up: led to %q", to, a.to)
		}
	}
	b := r.browser()
	p.pass(time.Minute)
	b.post("/auth/signin", "name", "alice", "password", password, "return", "/auth/decide?a=b&c=%2F")
	if a := b.post("/auth/signin/app", "code", p.code()); a.to != "/auth/decide?a=b&c=%2F" {
		t.Errorf("a path of ours: led to %q", a.to)
	}
}

func TestOtherSitesCanUseNoForm(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	p.foreign = "cross-site"
	for _, path := range []string{"/auth/signin", "/auth/signout", "/auth/account/recovery", "/auth/account/sessions/end-all", "/auth/people/invite", "/auth/stepup/app"} {
		p.expect(p.post(path, "name", "alice", "password", password), http.StatusForbidden)
	}
	p.foreign = ""
	if got := p.who(); got != "alice" {
		t.Errorf("the browser is %q, want still alice", got)
	}
}

func TestADecisionNeedsAFactorOfTheLastMinutes(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	p.pass(5*time.Minute + time.Second)
	p.expect(p.get("/auth/decide?id=1"), http.StatusSeeOther, "/auth/stepup?return="+url.QueryEscape("/auth/decide?id=1"))
	p.expect(p.get("/auth/stepup?return="+url.QueryEscape("/auth/decide?id=1")), http.StatusOK)
	p.expect(p.post("/auth/stepup/app", "code", "000000", "return", "/auth/decide?id=1"), http.StatusUnauthorized)
	p.expect(p.post("/auth/stepup/app", "code", p.code(), "return", "/auth/decide?id=1"), http.StatusSeeOther, "/auth/decide?id=1")
	p.expect(p.get("/auth/decide?id=1"), http.StatusOK)
	p.pass(5 * time.Minute)
	p.expect(p.get("/auth/decide?id=1"), http.StatusSeeOther)
	r.wantTrail("alice session.stepup alice refused")
	r.wantTrail("alice session.stepup alice")
}

func TestASessionEndsByItselfAndAtOnceWhenItIsEnded(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	second := r.browser()
	p.signIn(second)
	second.agent = "Mozilla/5.0 (iPhone) Safari/600"
	id := sessionButton.FindStringSubmatch(p.get("/auth/account").body)
	if id == nil {
		t.Fatal("the page has no button for the other session")
	}
	stranger := r.join("mallory")
	stranger.expect(stranger.post("/auth/account/sessions/end", "session", id[1]), http.StatusNotFound)
	if second.who() != "alice" {
		t.Fatal("somebody else could end the session")
	}
	p.expect(p.post("/auth/account/sessions/end", "session", id[1]), http.StatusSeeOther, "/auth/account")
	if second.who() != "" {
		t.Error("the session goes on after its end")
	}
	r.wantEvent(session.Event{Kind: session.SessionEnded, User: "alice", Session: id[1]})

	p.signIn(second)
	p.expect(p.post("/auth/account/sessions/end-all"), http.StatusSeeOther)
	if second.who() != "" || p.who() != "alice" {
		t.Error("ending all others did not end the others alone")
	}
	for range 8 { // used all the time
		p.pass(time.Hour + 30*time.Minute)
		p.who()
	}
	if p.who() != "" {
		t.Error("a session that is used lives for more than twelve hours")
	}
	p.signIn(second)
	r.pass(2 * time.Hour)
	if second.who() != "" {
		t.Error("a session that is not used lives for two hours")
	}
}

func TestSigningOutEndsTheSession(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	cookie := p.cookie("hpcsera-auth")
	p.expect(p.post("/auth/signout"), http.StatusSeeOther, "/auth/signin")
	if a := p.get("/auth/signin"); !a.has("You are signed out.") {
		t.Error("the page does not say so")
	}
	base, _ := url.Parse(site)
	p.jar.SetCookies(base, []*http.Cookie{{Name: "__Host-hpcsera-auth", Value: cookie, Path: "/", Secure: true}})
	if p.who() != "" {
		t.Error("the session's old cookie still works")
	}
}

func TestAVisitRunsOut(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	b := r.browser()
	b.post("/auth/signin", "name", "alice", "password", password)
	b.expect(b.get("/auth/signin/factor"), http.StatusOK)
	r.pass(10 * time.Minute)
	b.expect(b.get("/auth/signin/factor"), http.StatusSeeOther, "/auth/signin")
	b.expect(b.post("/auth/signin/app", "code", p.code()), http.StatusConflict)
}
