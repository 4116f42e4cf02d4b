package session_test

import (
	"crypto/rand"
	"crypto/rsa"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/session"
)

// abroad returns a rig where people of an institution may sign in.
func abroad(t *testing.T, change ...func(*session.Institution)) (*rig, *provider) {
	t.Helper()
	p := newProvider(t)
	r := newRig(t, func(c *session.Config) {
		i := session.Institution{
			Name: "uni", Title: "Example University", Issuer: p.URL, ClientID: "hpcsera", ClientSecret: "s3cret", Scopes: []string{"offline_access"},
			ProjectsClaim: "groups", Projects: map[string]string{"grp-cfd": "cfd"},
		}
		for _, c := range change {
			c(&i)
		}
		c.Institutions = []session.Institution{i}
	})
	r.at = time.Now() // the library looks at the real clock for tokens
	return r, p
}

// start sends a browser to the institution and returns where it was sent.
func (b *browser) start(to string) string {
	b.t.Helper()
	return b.expect(b.get("/auth/institution/uni/start?return="+url.QueryEscape(to)), http.StatusSeeOther).to
}

// callback is the institution's answer.
func callback(p *provider, code, state string, more ...string) string {
	q := url.Values{"code": {code}, "state": {state}, "iss": {p.URL}}
	for i := 0; i < len(more); i += 2 {
		if q.Del(more[i]); more[i+1] != "" {
			q.Set(more[i], more[i+1])
		}
	}
	return "/auth/institution/uni/callback?" + q.Encode()
}

// visit signs in through the institution.
func (b *browser) visit(p *provider, to string) answer {
	b.t.Helper()
	code, asked := p.authorize(b.start(to))
	return b.get(callback(p, code, asked.Get("state")))
}

func TestAnAnswerThatWasNotAskedForSignsNobodyIn(t *testing.T) {
	r, p := abroad(t)
	t.Run("in another browser", func(t *testing.T) {
		code, asked := p.authorize(r.browser().start("/"))
		b := r.browser()
		b.expect(b.get(callback(p, code, asked.Get("state"))), http.StatusConflict)
		b.start("/")
		b.expect(b.get(callback(p, code, asked.Get("state"))), http.StatusForbidden)
	})
	for name, more := range map[string][]string{
		"another state":      {"state", "x"},
		"no state":           {"state", ""},
		"another issuer":     {"iss", "https://evil.example"}, // mix-up of two institutions
		"no issuer":          {"iss", ""},
		"an error":           {"error", "access_denied"},
		"another code":       {"code", "x"},
		"an error with text": {"error", "<script>alert(1)</script>"},
	} {
		t.Run(name, func(t *testing.T) {
			b := r.browser()
			code, asked := p.authorize(b.start("/"))
			a := b.expect(b.get(callback(p, code, asked.Get("state"), more...)), http.StatusForbidden)
			if strings.Contains(a.body, "<script>alert") || b.who() != "" {
				t.Errorf("got %q", a.body)
			}
		})
	}
	t.Run("twice", func(t *testing.T) {
		b := r.browser()
		code, asked := p.authorize(b.start("/"))
		b.expect(b.get(callback(p, code, asked.Get("state"))), http.StatusSeeOther)
		b.expect(b.get(callback(p, code, asked.Get("state"))), http.StatusConflict)
	})
}

func TestATokenThatIsNotForUsSignsNobodyIn(t *testing.T) {
	r, p := abroad(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(map[string]any){
		"another audience": func(c map[string]any) { c["aud"] = "somebody" },
		"another issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
		"another nonce":    func(c map[string]any) { c["nonce"] = "x" },
		"no nonce":         func(c map[string]any) { delete(c, "nonce") },
		"expired":          func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"another subject":  func(c map[string]any) { c["sub"] = "s-2" }, // than userinfo speaks of
		"another key":      nil,
		"a strange name":   func(c map[string]any) { c["preferred_username"] = "../etc" },
		"no name":          func(c map[string]any) { c["preferred_username"] = 7 },
	} {
		t.Run(name, func(t *testing.T) {
			p.set(func() {
				if p.spoil = spoil; spoil == nil {
					p.signer = other
				}
			})
			defer p.set(func() { p.spoil, p.signer = nil, nil })
			b := r.browser()
			b.expect(b.visit(p, "/"), http.StatusForbidden)
			if people, err := r.People(t.Context()); err != nil || len(people) != 0 {
				t.Errorf("got the accounts %v, %v, want none", people, err)
			}
		})
	}
}

func TestAnInstitutionsWordTakesNoAccountOver(t *testing.T) {
	r, p := abroad(t)
	local := r.first("alice")
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusConflict)
	if b.who() != "" || local.who() != "alice" {
		t.Error("the institution's alice became ours")
	}
	// Nor does the next person there who gets the name of one who left.
	p.set(func() { p.person["preferred_username"] = "bob" })
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	p.set(func() { p.person["sub"] = "s-2" })
	next := r.browser()
	next.expect(next.visit(p, "/"), http.StatusConflict)
	// While the same person stays the same account under a new name.
	p.set(func() { p.person["sub"] = "s-1"; p.person["preferred_username"] = "robert" })
	again := r.browser()
	again.expect(again.visit(p, "/"), http.StatusSeeOther)
	if got := again.who(); got != "bob" {
		t.Errorf("renamed at the institution: signed in as %q, want bob", got)
	}
}

func TestThePeopleOfAnInstitutionSignIn(t *testing.T) {
	r, p := abroad(t)
	b := r.browser()
	if a := b.get("/auth/signin"); !a.has("Sign in with Example University") {
		t.Error("the page to sign in does not offer the institution")
	}
	to := b.start("/auth/decide")
	_, asked := p.authorize(to)
	if asked.Get("code_challenge_method") != "S256" || asked.Get("nonce") == "" || asked.Get("state") == "" || asked.Get("redirect_uri") != site+"/auth/institution/uni/callback" {
		t.Errorf("the institution was asked with %v", asked)
	}
	b.expect(b.visit(p, "/auth/decide"), http.StatusSeeOther, "/auth/decide")
	who, err := r.User(t.Context(), "alice")
	if err != nil || who.Mail != "alice@uni.example" || !slices.Equal(who.Projects, []string{"cfd"}) || who.Operator || who.Institution != "uni" {
		t.Errorf("got %+v, %v", who, err)
	}
	// The institution says who somebody is; deciding takes a factor of one's own.
	b.expect(b.get("/auth/decide"), http.StatusSeeOther)
	if a := b.get("/auth/stepup"); !a.has("You have no second factor yet.") {
		t.Error("the page does not say what to do first")
	}
	person := &person{browser: b, name: "alice"}
	d := person.addPasskey("key")
	b.expect(b.get("/auth/decide"), http.StatusSeeOther)
	options := b.post("/auth/stepup/passkey/options")
	b.expect(b.post("/auth/stepup/passkey", "credential", d.get(options.body), "return", "/auth/decide"), http.StatusSeeOther)
	b.expect(b.get("/auth/decide"), http.StatusOK)
	if a := b.get("/auth/account"); !a.has("You sign in through Example University.") {
		t.Error("the account's page does not say where it comes from")
	}
	b.expect(b.get("/auth/account/password"), http.StatusNotFound)
	other := r.browser()
	other.expect(other.post("/auth/signin", "name", "alice", "password", ""), http.StatusUnauthorized)
}

func TestAFirstFactorIsAddedSoonAfterComingFromTheInstitutionOnly(t *testing.T) {
	r, p := abroad(t)
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	b.expect(b.get("/auth/account/passkey"), http.StatusOK)
	r.pass(11 * time.Minute)
	b.expect(b.get("/auth/account/passkey"), http.StatusForbidden)
	b.expect(b.post("/auth/account/passkey/options"), http.StatusForbidden)
}

// An institution can sign in as its people at any time, so its word alone never
// replaces what they hold themselves.
func TestTheInstitutionsWordChangesNoFactorOfAnAccountThatHasOne(t *testing.T) {
	r, p := abroad(t)
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	alice := &person{browser: b, name: "alice"}
	d := alice.addPasskey("key")
	thief := r.browser()
	thief.expect(thief.visit(p, "/"), http.StatusSeeOther)
	if got := thief.who(); got != "alice" {
		t.Fatalf("the institution signs in as %q, want alice", got)
	}
	for _, path := range []string{"/auth/decide", "/auth/account/passkey", "/auth/account/app"} {
		thief.expect(thief.get(path), http.StatusSeeOther, "/auth/stepup?return="+url.QueryEscape(path))
	}
	thief.expect(thief.post("/auth/account/passkey/options"), http.StatusForbidden)
	for path, pairs := range map[string][]string{
		"/auth/account/passkey": {"credential", "{}"}, "/auth/account/passkey/remove": {"passkey", "x"}, "/auth/account/app": {"code", "123456"}, "/auth/account/recovery": nil,
	} {
		if a := thief.post(path, pairs...); a.status != http.StatusSeeOther || !strings.HasPrefix(a.to, "/auth/stepup") {
			t.Errorf("POST %s: got status %d to %q, want to step up", path, a.status, a.to)
		}
	}
	options := b.post("/auth/stepup/passkey/options")
	b.expect(b.post("/auth/stepup/passkey", "credential", d.get(options.body), "return", "/auth/decide"), http.StatusSeeOther, "/auth/decide")
}

func TestOnlyWhoTheInstitutionsRuleAdmitsIsServed(t *testing.T) {
	r, p := abroad(t, func(i *session.Institution) {
		i.UserClaim, i.Domain, i.RequireClaim, i.Require = "email", "uni.example", "entitlement", []string{"hpc"}
	})
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusForbidden)
	p.set(func() { p.person["entitlement"] = []string{"mail", "hpc"} })
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	p.set(func() { p.person["email"] = "alice@other.example" })
	b.expect(b.visit(p, "/"), http.StatusForbidden)
	p.set(func() { p.person["email"] = "alice@uni.example"; delete(p.person, "entitlement") })
	r.pass(31 * time.Minute)
	if err := r.CheckPeople(t.Context()); err != nil {
		t.Fatal(err)
	}
	if who, err := r.User(t.Context(), "alice"); err != nil || !who.Disabled {
		t.Errorf("without the entitlement: got %+v, %v, want disabled", who, err)
	}
}

func TestWhoLeavesTheInstitutionIsOutWithinTheHour(t *testing.T) {
	r, p := abroad(t)
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	check := func() {
		t.Helper()
		r.pass(31 * time.Minute)
		if err := r.CheckPeople(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p.set(func() { p.person["groups"] = []string{} })
	check()
	if who, err := r.User(t.Context(), "alice"); err != nil || len(who.Projects) != 0 || b.who() != "alice" {
		t.Errorf("without groups: got %+v, %v, signed in as %q", who, err, b.who())
	}
	p.set(func() { p.down = true })
	check()
	if b.who() != "alice" {
		t.Error("an institution that does not answer put somebody out")
	}
	// The token is used up, and only the claims do not come: the next one counts.
	p.set(func() { p.down, p.mute = false, true })
	check()
	p.set(func() { p.mute = false })
	check()
	if b.who() != "alice" {
		t.Error("an institution that answered half put somebody out")
	}
	p.set(func() { p.gone = true })
	check()
	if who, err := r.User(t.Context(), "alice"); err != nil || !who.Disabled || b.who() != "" {
		t.Errorf("after leaving: got %+v, %v, signed in as %q", who, err, b.who())
	}
	r.wantEvent(session.Event{Kind: session.UserDisabled, User: "alice"})
	r.wantTrail("uni account.disable alice")
	before := p.refreshes
	check()
	if p.refreshes != before {
		t.Error("who left is asked about for ever")
	}
	// Back again, by the institution's own word.
	p.set(func() { p.gone = false })
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	r.wantEvent(session.Event{Kind: session.UserEnabled, User: "alice"})
	if b.who() != "alice" {
		t.Error("back again: nobody is signed in")
	}
}

// An operator's no is above the institution's yes.
func TestWhoWasDisabledHereStaysOut(t *testing.T) {
	r, p := abroad(t)
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	if err := r.Disable(t.Context(), "operator", "alice", true); err != nil {
		t.Fatal(err)
	}
	b.expect(b.visit(p, "/"), http.StatusForbidden)
}

func TestTheInstitutionEndsSessionsAtOnce(t *testing.T) {
	r, p := abroad(t)
	local := r.first("bob")
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	program := r.browser()
	program.foreign = "none"
	send := func(token string) int {
		return program.post("/auth/institution/uni/logout", "logout_token", token).status
	}
	for name, token := range map[string]string{
		"nothing":          "",
		"another audience": p.logout(func(c map[string]any) { c["aud"] = "x" }),
		"another issuer":   p.logout(func(c map[string]any) { c["iss"] = "https://evil.example" }),
		"a sign-in token":  p.logout(func(c map[string]any) { c["nonce"] = "x" }),
		"no event":         p.logout(func(c map[string]any) { delete(c, "events") }),
		"no id":            p.logout(func(c map[string]any) { delete(c, "jti") }),
		"of nobody":        p.logout(func(c map[string]any) { delete(c, "sub") }),
		"long ago":         p.logout(func(c map[string]any) { c["iat"] = time.Now().Add(-time.Hour).Unix() }),
		"another key": func() string {
			p.signer = other
			defer func() { p.signer = nil }()
			return p.logout()
		}(),
	} {
		if got := send(token); got != http.StatusBadRequest || b.who() != "alice" {
			t.Errorf("%s: got status %d, signed in as %q, want 400 and alice", name, got, b.who())
		}
	}
	if got := send(p.logout(func(c map[string]any) { c["sub"] = "s-9" })); got != http.StatusOK || b.who() != "alice" {
		t.Errorf("somebody else: got status %d, signed in as %q", got, b.who())
	}
	token := p.logout()
	if got := send(token); got != http.StatusOK || b.who() != "" || local.who() != "bob" {
		t.Errorf("got status %d, signed in as %q and %q, want 200, nobody and bob", got, b.who(), local.who())
	}
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	if got := send(token); got != http.StatusBadRequest || b.who() != "alice" {
		t.Errorf("the same token again: got status %d, signed in as %q, want 400 and alice", got, b.who())
	}
	bySession := p.logout(func(c map[string]any) { delete(c, "sub"); c["sid"] = "abroad-1" })
	if got := send(bySession); got != http.StatusOK || b.who() != "" {
		t.Errorf("by its session: got status %d, signed in as %q", got, b.who())
	}
}

func TestAnInstitutionThatIsDownIsSaidToBe(t *testing.T) {
	r, p := abroad(t)
	p.set(func() { p.down = true })
	b := r.browser()
	a := b.expect(b.get("/auth/institution/uni/start"), http.StatusServiceUnavailable)
	if !a.has("Example University does not answer") {
		t.Errorf("the page says %s", text(a.body))
	}
	b.expect(b.get("/auth/institution/other/start"), http.StatusNotFound)
	p.set(func() { p.down = false })
	r.pass(11 * time.Second)
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
}

func TestInstitutionsThatCannotBeAreRefusedAtTheStart(t *testing.T) {
	good := session.Institution{Name: "uni", Title: "U", Issuer: "https://idp.example", ClientID: "x"}
	for name, spoil := range map[string]func(*session.Institution){
		"name":         func(i *session.Institution) { i.Name = "U/1" },
		"title":        func(i *session.Institution) { i.Title = "" },
		"plain issuer": func(i *session.Institution) { i.Issuer = "http://idp.example" },
		"no issuer":    func(i *session.Institution) { i.Issuer = "idp" },
		"client":       func(i *session.Institution) { i.ClientID = "" },
		"project":      func(i *session.Institution) { i.Projects = map[string]string{"g": "No Name"} },
	} {
		i := good
		spoil(&i)
		frame := newRig(t).frame
		_, err := session.New(session.Config{Frame: frame, URL: site + "/auth", Product: "x", Institutions: []session.Institution{i}, Now: time.Now,
			Hashing: session.Hashing{Passes: 1, Memory: 64, Threads: 1}, Keys: [][]byte{make([]byte, 32)}})
		if hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%s: got %v, want %s", name, err, hpcsera.InvalidField)
		}
	}
}

// An institution that refuses somebody is heard at once: a second try with the
// secret elsewhere would be refused for another reason.
func TestTheSecretIsSentOnceAndAsTheInstitutionWants(t *testing.T) {
	for _, c := range []struct {
		name, method string
		supported    []string
		want         string
	}{
		{"nothing said", "", nil, "client_secret_basic"},
		{"both", "", []string{"private_key_jwt", "client_secret_post", "client_secret_basic"}, "client_secret_basic"},
		{"the other only", "", []string{"private_key_jwt", "client_secret_post"}, "client_secret_post"},
		{"what is configured", "client_secret_basic", []string{"client_secret_post"}, "client_secret_basic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, p := abroad(t, func(i *session.Institution) { i.AuthMethod = c.method })
			p.set(func() { p.methods, p.method = c.supported, c.want })
			b := r.browser()
			b.expect(b.visit(p, "/"), http.StatusSeeOther)
			p.set(func() { p.gone = true })
			r.pass(31 * time.Minute)
			if err := r.CheckPeople(t.Context()); err != nil {
				t.Fatal(err)
			}
			if who, err := r.User(t.Context(), "alice"); err != nil || !who.Disabled || p.refreshes != 1 || p.strange != 0 {
				t.Errorf("got %+v, %v, after %d questions, %d of them with the secret in the wrong place; want disabled, 1 and 0", who, err, p.refreshes, p.strange)
			}
		})
	}
}

func TestWhoIsAskedAboutLaterIsAskedForConsent(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*session.Institution)
		want   string
	}{
		"offline access":             {func(*session.Institution) {}, "consent"},
		"given without asking":       {func(i *session.Institution) { i.SkipConsent = true }, ""},
		"nobody will be asked about": {func(i *session.Institution) { i.Scopes = nil }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r, p := abroad(t, c.change)
			_, asked := p.authorize(r.browser().start("/"))
			if got := asked.Get("prompt"); got != c.want {
				t.Errorf("got prompt %q, want %q", got, c.want)
			}
		})
	}
}

func TestAnInstitutionThatGivesNoOfflineAccessIsToldOf(t *testing.T) {
	r, p := abroad(t)
	p.set(func() { p.stingy = true })
	b := r.browser()
	b.expect(b.visit(p, "/"), http.StatusSeeOther)
	if log := r.log.String(); !strings.Contains(log, "nobody will hear when this person leaves") {
		t.Errorf("the log does not say that leavers go unnoticed: %s", log)
	}
}
