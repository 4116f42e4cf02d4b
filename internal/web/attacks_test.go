package web_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// filled is a way with something in its wildcards.
func filled(way string) (method, path string) {
	method, path, _ = strings.Cut(way, " ")
	path = strings.TrimSuffix(path, "{$}")
	for _, name := range []string{"project", "client", "agent", "digest", "user", "site"} {
		path = strings.ReplaceAll(path, "{"+name+"}", "x")
	}
	return method, path
}

func TestNoFormWorksFromAnotherSite(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	for _, way := range w.site.Ways() {
		method, path := filled(way)
		if method != http.MethodPost {
			continue
		}
		for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example.org"} {
			r, err := http.NewRequest(method, own+path, strings.NewReader("name=evil"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set(name, value)
			if a := alice.do(r); a.status != http.StatusForbidden || !strings.Contains(a.body, "Nothing was done") {
				t.Errorf("POST %s with %s %s: got %d", path, name, value, a.status)
			}
		}
	}
	if !alice.in() {
		t.Error("another site signed alice out")
	}
}

func TestNothingIsShownToWhoIsNotSignedIn(t *testing.T) {
	w := newWorld(t)
	open := map[string]bool{"/": true, "/signin": true, "/signin/callback": true, "/signin/backchannel": true, "/signout": true}
	for _, way := range w.site.Ways() {
		method, path := filled(way)
		if open[path] {
			continue
		}
		for name, cookie := range map[string]string{"nothing": "", "an invented session": "bs_00000000000000000001." + strings.Repeat("A", 43)} {
			r := httptest.NewRequest(method, own+path, nil)
			r.AddCookie(&http.Cookie{Name: "__Host-hpcsera", Value: cookie})
			res := httptest.NewRecorder()
			w.site.Handler().ServeHTTP(res, r)
			to := res.Header().Get("Location")
			if method == http.MethodGet && (res.Code != http.StatusSeeOther || !strings.HasPrefix(to, "/signin?to=%2F")) || method == http.MethodPost && res.Code != http.StatusUnauthorized {
				t.Errorf("%s %s with %s: got %d to %q", method, path, name, res.Code, to)
			}
		}
	}
}

func TestASessionThatWasPlantedIsNobodys(t *testing.T) {
	w := newWorld(t)
	mallory := w.signedIn("mallory")
	planted := mallory.cookies()["__Host-hpcsera"]
	victim := w.browser()
	u, _ := url.Parse(own)
	victim.c.Jar.SetCookies(u, []*http.Cookie{{Name: "__Host-hpcsera", Value: planted, Secure: true, Path: "/"}})
	w.app.Let("alice", "pwd", "mfa")
	victim.get("/signin")
	if got := victim.cookies()["__Host-hpcsera"]; got == planted || got == "" {
		t.Error("the planted session was kept")
	}
	if mallory.in() {
		t.Error("the planted session still opens something")
	}
	// A cookie that comes twice is nobody's: one of the two was planted.
	r := httptest.NewRequest(http.MethodGet, own+"/tokens", nil)
	r.Header.Set("Cookie", "__Host-hpcsera="+victim.cookies()["__Host-hpcsera"]+"; __Host-hpcsera="+planted)
	res := httptest.NewRecorder()
	w.site.Handler().ServeHTTP(res, r)
	if res.Code != http.StatusSeeOther {
		t.Errorf("two sessions at once: got %d", res.Code)
	}
}

func TestASignInEndsOnlyInTheBrowserThatBeganIt(t *testing.T) {
	w := newWorld(t)
	w.app.Let("mallory", "pwd", "mfa")
	r := httptest.NewRequest(http.MethodGet, own+"/signin", nil)
	begun := httptest.NewRecorder()
	w.site.Handler().ServeHTTP(begun, r)
	back := httptest.NewRecorder()
	w.app.ServeHTTP(back, httptest.NewRequest(http.MethodGet, begun.Header().Get("Location"), nil))
	link := strings.TrimPrefix(back.Header().Get("Location"), own)
	victim := w.browser()
	if a := victim.get(link); a.status != http.StatusForbidden || victim.in() {
		t.Errorf("a link with mallory's answer: got %d, signed in: %v", a.status, victim.in())
	}
	for _, query := range []string{"", "?state=", "?state=%00", "?state=" + strings.Repeat("A", 26), "?state=" + strings.Repeat("A", 5000), "?error=%3Cscript%3E&state=a;b"} {
		if a := victim.get("/signin/callback" + query); a.status/100 != 4 || strings.Contains(a.body, "<script>") {
			t.Errorf("%q: got %d", query, a.status)
		}
	}
}

func TestSigningInLeadsToOurOwnPagesOnly(t *testing.T) {
	w := newWorld(t)
	for to, want := range map[string]string{
		"/tokens": "/tokens", "/audit?before=7": "/audit?before=7", "": "/", "https://evil.example.org/tokens": "/", "//evil.example.org": "/",
		"/\\evil.example.org": "/", "///evil.example.org": "/", "/%5cevil.example.org": "/", "javascript:alert(1)": "/", "tokens": "/", "/nothing": "/",
		"/signin": "/", "/signin/callback?state=x": "/", "/signout": "/", "/tokens\r\nSet-Cookie: a=b": "/", "/.//evil.example.org": "/",
		"/projects/..//evil.example.org": "/", "https:/tokens": "/", "/tokens#@evil.example.org": "/tokens", "\x00/tokens": "/",
	} {
		b := w.browser()
		if a := b.get("/signin?to=" + url.QueryEscape(to)); a.path != want || a.status != http.StatusOK {
			t.Errorf("%q leads to %q with %d, want %q", to, a.path, a.status, want)
		}
		if a := b.get("/stepup?to=" + url.QueryEscape(to)); a.path != want || a.status != http.StatusOK {
			t.Errorf("after a step-up %q leads to %q with %d, want %q", to, a.path, a.status, want)
		}
	}
}

func TestNoPageCanBeFramed(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	for _, way := range w.site.Ways() {
		if method, path := filled(way); method == http.MethodGet {
			a := alice.get(path)
			if strings.HasPrefix(a.path, "/") && (a.header.Get("X-Frame-Options") != "DENY" || !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'")) {
				t.Errorf("%s: %v", path, a.header)
			}
		}
	}
}

func TestAnAuthAppThatEndsASessionEndsItHere(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	send := func(token string) int {
		r := httptest.NewRequest(http.MethodPost, own+"/signin/backchannel", strings.NewReader(url.Values{"logout_token": {token}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res := httptest.NewRecorder()
		w.site.Handler().ServeHTTP(res, r)
		if res.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("Cache-Control is %q", res.Header().Get("Cache-Control"))
		}
		return res.Code
	}
	if got := send("x"); got != http.StatusBadRequest || !alice.in() {
		t.Errorf("an invented token: got %d, alice is in: %v", got, alice.in())
	}
	if got := send(w.app.Logout(map[string]any{"sub": "alice"})); got != http.StatusOK || alice.in() {
		t.Errorf("the Auth app's: got %d, alice is in: %v", got, alice.in())
	}
}

// evil is in every text that comes from others.
const evil = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}\x1b[31m\u202eevil\u200b javascript:alert(1)"

func TestTextOfOthersIsShownAndNeverRun(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.populate(alice)
	w.hostile(t)
	for _, path := range []string{"/", "/tokens", "/agents", "/sites/gwdg", "/sites/" + url.PathEscape(evil), "/code", "/code/cfd/" + w.digest(t), "/sessions", "/audit", "/audit?all=" + url.QueryEscape(evil),
		"/tokens/new?project=" + url.QueryEscape(evil) + "&days=" + url.QueryEscape(evil), "/tokens?user=" + url.QueryEscape(evil),
		"/clients/" + url.PathEscape(evil), "/projects/" + url.PathEscape(evil), "/confirm?form=" + url.QueryEscape(evil),
	} {
		harmless(t, alice.get(path))
	}
	for _, path := range []string{"/agents", "/sites/gwdg", "/code/cfd/" + w.digest(t), "/sessions", "/audit"} {
		if a := alice.get(path); !strings.Contains(a.body, `\u{202e}evil`) || !strings.Contains(a.body, "&lt;script&gt;") {
			t.Errorf("%s does not show what others wrote", path)
		}
	}
	for path, field := range map[string]string{
		"/projects": "name", "/clients": "name", "/tokens": "days", "/projects/cfd/members": "member", "/clients/gitlab/registration": "notify",
		"/sessions/end": "session", "/tokens/revoke": "token", "/confirm": "form",
	} {
		harmless(t, alice.post(path, field, evil, "for", "ci", "role", "member", "method", "secret", "ciba", "ping"))
	}
	harmless(t, alice.post("/clients/gitlab/registration", "method", "private_key_jwt", "jwks", evil))
	w.now = w.now.Add(10 * time.Minute)
	a := alice.post("/projects", "name", evil)
	if !strings.HasPrefix(a.path, "/confirm?form=") {
		t.Errorf("got %d at %s", a.status, a.path)
	}
	harmless(t, a)
	root := w.operator()
	for path, fields := range map[string][]string{"/users": {"name", evil}, "/sites": {"name", evil}, "/sites/" + url.PathEscape(evil) + "/drained": {"drained", "yes"}} {
		harmless(t, root.post(path, fields...))
	}
	harmless(t, root.get("/audit?all=yes"))
}

// harmless checks what pagetest, which has seen the page, cannot know.
func harmless(t *testing.T, a answer) {
	t.Helper()
	for _, gone := range []string{"<script>alert", "<img", "\x1b", "\u202e", "\u200b"} {
		if rest := strings.ReplaceAll(a.body, `<img src="/assets/icon-`, ""); strings.Contains(rest, gone) {
			t.Errorf("%s holds %q", a.path, gone)
		}
	}
}

func (w *world) manifest() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name: "cavity", Program: hpcsera.Program{Script: "#!/bin/sh\n# " + evil + "\necho \"$viscosity\"\n"},
		Parameters: map[string]json.RawMessage{"viscosity": json.RawMessage(`{"type":"string","description":"\"'><script>alert(1)</script>"}`)},
	}
}

func (w *world) digest(t *testing.T) string {
	t.Helper()
	d, err := w.manifest().Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// hostile fills in what agents, clients and terminals say of themselves.
func (w *world) hostile(t *testing.T) {
	t.Helper()
	m := w.manifest()
	st, err := approval.ForManifest(m, hpcsera.RunPart{}, approval.Options{
		Deployment: own, User: "alice", Project: "cfd", Sites: []string{"gwdg"}, Agents: []string{strings.Repeat("A", 43)}, NotBefore: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := st.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	w.write(func(tx store.Tx) error {
		agents, err := tx.Agents("alice", "")
		if err != nil {
			return err
		}
		agents[0].Facts = &hpcsera.Facts{Version: evil, Host: evil, System: evil, SystemVersion: evil, Cluster: evil, Queues: []hpcsera.Queue{{Name: evil, State: evil, Closed: true}}}
		if err := tx.UpdateAgent(*agents[0]); err != nil {
			return err
		}
		stored := m
		stored.Modules, stored.SpackEnvironment = []string{evil}, evil
		stored.Container = &hpcsera.Container{Image: evil, Mounts: []string{evil}, Credential: evil}
		stored.Sites = map[string]hpcsera.SiteCode{evil: {Executable: evil, Launcher: evil, Modules: []string{evil}, SpackEnvironment: evil, Container: stored.Container, Environment: map[string]string{evil: evil}}}
		stored.Files = []hpcsera.File{{Path: evil, Mode: "0644", Size: 1, SHA256: strings.Repeat("0", 64)}}
		if err := tx.PutCode(store.Code{
			CodeEntry: hpcsera.CodeEntry{Digest: w.digest(t), Name: m.Name, Project: "cfd", Manifest: stored, Created: w.now}, User: "alice", Client: "gitlab",
		}); err != nil {
			return err
		}
		if err := tx.PutApproval(store.Approval{Approval: hpcsera.Approval{
			ID: st.ID, User: "alice", Project: "cfd", Digest: st.Code, Name: st.Name, NotBefore: st.NotBefore, NotAfter: st.NotAfter,
			Statement: text, Signature: evil, Filed: w.now,
		}}); err != nil {
			return err
		}
		login := auth.LoginSession{Session: hpcsera.Session{ID: "ls_1", User: "alice", Thumbprint: evil, Host: evil, Created: w.now, Expires: w.now.Add(time.Hour)}}
		if err := tx.PutDocument(store.Document{Kind: auth.LoginSessions, Key: "ls_1", Owner: "alice", Ends: w.now.Add(time.Hour)}, login); err != nil {
			return err
		}
		return tx.Note(hpcsera.AuditLine{At: w.now, Actor: evil, Action: evil, User: "alice", Project: evil, About: evil, Detail: evil})
	})
}
