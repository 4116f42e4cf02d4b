package session_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/records"
)

const script = `<script>alert(1)</script>"onload="x` + "\u202e\x1b[31m"

// Everything that a person or a browser can hand in comes back as text.
func TestNothingThatWasHandedInIsRunOrHidden(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	p.agent = script
	p.addPasskey(script)
	p.signIn(p.browser)
	pages := map[string]answer{
		"account":        p.get("/auth/account"),
		"sign in":        r.browser().post("/auth/signin", "name", script, "password", "x", "return", "/auth/"+script),
		"sign in, path":  r.browser().get("/auth/signin?return=" + url.QueryEscape("/auth/x?"+script)),
		"setup":          r.browser().get("/auth/setup?code=" + url.QueryEscape(script)),
		"mail":           p.post("/auth/account/mail", "mail", script),
		"people":         p.post("/auth/people/invite", "name", script, "mail", script),
		"stepping up":    p.get("/auth/stepup?return=" + url.QueryEscape("/auth/x?"+script)),
		"nowhere":        p.get("/auth/" + url.PathEscape(script)),
		"an institution": p.get("/auth/institution/" + url.PathEscape(script) + "/start"),
	}
	for name, a := range pages {
		if a.status == http.StatusSeeOther || strings.Contains(a.body, "<script>alert") || strings.Contains(a.body, `"onload="`) || strings.Contains(a.body, "\u202e") {
			t.Errorf("%s: got status %d and\n%s", name, a.status, a.body)
		}
	}
	if !pages["account"].has("&lt;script&gt;alert(1)") {
		t.Error("the account's page does not show the passkey's label")
	}
}

// Secrets are shown once where they must be, and nowhere else.
func TestSecretsAreInNoLogAndNoAuditLine(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	link, err := r.Invite(t.Context(), "operator", "bob", "", false)
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(link, "code=")
	p.signIn(p.browser)
	used := p.code()
	b := r.browser()
	b.post("/auth/signin", "name", "a secret in the wrong field", "password", "another secret")
	b.post("/auth/signin", "name", "alice", "password", password)
	b.post("/auth/signin/app", "code", "123456")
	b.get("/auth/setup?code=" + code)
	all := r.log.String() + strings.Join(r.trailText(), "\n")
	for name, secret := range map[string]string{
		"password": password, "app": p.secret, "recovery code": p.recovery[0], "cookie": p.cookie("hpcsera-auth"), "link": code, "code": used,
		"wrong field": "a secret in the wrong field", "wrong password": "another secret",
	} {
		if strings.Contains(all, secret) {
			t.Errorf("the %s is in the log or the audit log", name)
		}
	}
}

func TestFormsThatAreTooLongOrNoFormsAreRefused(t *testing.T) {
	r := newRig(t)
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", strings.Repeat("x", 100_000)), http.StatusRequestEntityTooLarge)
	b.expect(b.send(http.MethodDelete, "/auth/signin", nil), http.StatusNotFound)
	b.expect(b.get("/auth/nowhere"), http.StatusNotFound)
}

// Whoever steals a copy of the database has no secret that opens anything.
func TestTheDatabaseHoldsNoSecretThatOpensAnything(t *testing.T) {
	r, institution := abroad(t)
	p := r.first("bob")
	link, err := r.Invite(t.Context(), "operator", "carol", "", false)
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(link, "code=")
	b := r.browser()
	b.expect(b.visit(institution, "/"), http.StatusSeeOther)
	half := r.browser()
	half.post("/auth/signin", "name", "bob", "password", password)
	var all strings.Builder
	err = r.store.Read(t.Context(), func(rd records.Reader) error {
		for _, kind := range []string{"account", "handle", "identity", "link", "visit", "session", "tries"} {
			n := all.Len()
			err := rd.List(kind, "", func(key string, doc []byte) error {
				all.WriteString(key + " " + string(doc) + "\n")
				return nil
			})
			if err != nil || all.Len() == n {
				t.Errorf("%s: there is none (%v)", kind, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]string{
		"password": password, "app": p.secret, "recovery code": strings.ReplaceAll(p.recovery[0], "-", ""), "session": p.cookie("hpcsera-auth"),
		"visit": half.cookie("hpcsera-auth-visit"), "link": code, "refresh token": institution.refresh,
	} {
		if secret == "" || strings.Contains(all.String(), secret) {
			t.Errorf("the %s %q is in the database", name, secret)
		}
	}
}
