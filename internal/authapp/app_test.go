package authapp_test

import (
	"context"
	"errors"
	"html"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"go.uber.org/goleak"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/page/pagetest"
	"github.com/hpcsera/hpcsera/internal/session"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const issuer = "https://auth.example.org"

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

// world is the whole Auth app without a network.
type world struct {
	t     *testing.T
	clock *clock
	app   *authapp.App
	web   http.Handler
	api   *decision.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{at: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)}}
	store, err := authstore.Open(t.Context(), filepath.Join(t.TempDir(), "auth.db"), w.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w.app, err = authapp.New(t.Context(), authapp.Config{
		Store: store, URL: issuer, Secret: []byte(strings.Repeat("k", 32)), Hashing: session.Hashing{Passes: 1, Memory: 64, Threads: 1},
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Now: w.clock.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.web = w.app.Handler()
	key, err := decision.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.app.AddDeployment(t.Context(), consent.NewDeployment{Name: "hpc", URL: "https://hpc.example.org", Key: string(public)}); err != nil {
		t.Fatal(err)
	}
	w.api = decision.NewClient(decision.Config{Issuer: issuer, Name: "hpc", Key: key, HTTP: &http.Client{Transport: decision.Local(w.web)}, Now: w.clock.now})
	return w
}

// person is somebody at a browser.
type person struct {
	*world
	jar    http.CookieJar
	secret string // of the authenticator app
}

// answer is a page, and where the browser is sent.
type answer struct {
	status   int
	body, to string
}

func (p *person) send(method, path string, form url.Values) answer {
	p.t.Helper()
	r := httptest.NewRequestWithContext(p.t.Context(), method, issuer+strings.TrimPrefix(path, issuer), strings.NewReader(form.Encode()))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Referer", issuer+path)
	}
	for _, c := range p.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	out := httptest.NewRecorder()
	p.web.ServeHTTP(out, r)
	res := out.Result()
	p.jar.SetCookies(r.URL, res.Cookies())
	if res.StatusCode != http.StatusSeeOther && strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		pagetest.Check(p.t, method+" "+path, res.Header, out.Body.Bytes())
	}
	return answer{res.StatusCode, html.UnescapeString(out.Body.String()), res.Header.Get("Location")}
}

func (p *person) get(path string) answer { p.t.Helper(); return p.send(http.MethodGet, path, nil) }

func (p *person) post(path string, pairs ...string) answer {
	p.t.Helper()
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return p.send(http.MethodPost, path, f)
}

func (p *person) code() string {
	p.t.Helper()
	p.clock.pass(time.Minute) // each works once
	code, err := totp.GenerateCode(p.secret, p.clock.now())
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

var shownSecret = regexp.MustCompile(`<p class="secret">([A-Z2-7 ]+)</p>`)

const password = "four words in a row"

// join makes an account by an invitation, with an authenticator app.
func (w *world) join(name string) *person {
	w.t.Helper()
	i, err := w.app.Invite(w.t.Context(), authapp.NewUser{Name: name, New: true})
	if err != nil {
		w.t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &person{world: w, jar: jar}
	link, err := url.Parse(i.Link)
	if err != nil {
		w.t.Fatal(err)
	}
	p.post("/setup", "code", link.Query().Get("code"), "name", name, "password", password, "again", password)
	found := shownSecret.FindStringSubmatch(p.get("/setup/factor").body)
	if found == nil {
		w.t.Fatal("the page shows no secret")
	}
	p.secret = strings.ReplaceAll(found[1], " ", "")
	if got := p.post("/setup/app", "code", p.code()); got.status != http.StatusOK {
		w.t.Fatalf("set up: got status %d: %s", got.status, got.body)
	}
	return p
}

func TestAPersonSignsInIsAskedAndDecides(t *testing.T) {
	w := newWorld(t)
	alice := w.join("alice")
	alice.post("/signout")
	r := decision.Request{
		ID: hpcsera.NewID("rq"), Kind: decision.Token, User: "alice", Client: "gitlab", Project: "cfd", Roles: hpcsera.RolesOf(1, 6),
		Until: w.clock.now().Add(24 * time.Hour), Expires: w.clock.now().Add(time.Hour),
	}
	if err := w.api.Post(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	here := "/requests/hpc/" + r.ID
	got := alice.get(here)
	if got.status != http.StatusSeeOther || got.to != "/signin?return="+url.QueryEscape(here) {
		t.Fatalf("signed out: got status %d to %q, want to sign in and come back", got.status, got.to)
	}
	alice.post("/signin", "name", "alice", "password", password, "return", here)
	if got = alice.post("/signin/app", "code", alice.code()); got.to != here {
		t.Fatalf("signed in: got status %d to %q, want back to the request: %s", got.status, got.to, got.body)
	}
	w.clock.pass(6 * time.Minute)
	// The form is refused, and the browser comes back to the page it stood on.
	if got = alice.post(here, "action", "allow", "roles", "6", "until", "asked"); got.to != "/stepup?return="+url.QueryEscape(here) {
		t.Fatalf("an old factor: got status %d to %q, want to step up", got.status, got.to)
	}
	if got = alice.post("/stepup/app", "code", alice.code(), "return", here); got.to != here {
		t.Fatalf("stepped up: got status %d to %q", got.status, got.to)
	}
	shown := regexp.MustCompile(`name="shown" value="([^"]+)"`).FindStringSubmatch(alice.get(here).body)
	if len(shown) != 2 {
		t.Fatal("the page does not say which request it shows")
	}
	if got = alice.post(here, "action", "allow", "roles", "6", "until", "asked", "shown", shown[1]); got.to != "/" {
		t.Fatalf("allow: got status %d to %q: %s", got.status, got.to, got.body)
	}
	texts, err := w.api.Decisions(t.Context(), 0)
	if err != nil || len(texts) != 1 {
		t.Fatalf("got %v, %v, want one decision", texts, err)
	}
	keys, err := w.api.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d, err := decision.Verify(texts[0], decision.Expected{Issuer: issuer, Audience: "hpc", Keys: keys, Now: w.clock.now()})
	if err != nil || d.User != "alice" || d.Roles != hpcsera.RolesOf(6) || d.Answers(r) != nil {
		t.Errorf("got %+v, %v", d, err)
	}
	if got := alice.get("/"); !strings.Contains(got.body, "You allowed it.") {
		t.Errorf("the page after it does not say what happened: %s", got.body)
	}
}

var forward = regexp.MustCompile(`content="0; url=([^"]+)"`)

func TestASessionThatEndsAndAUserWhoLeavesAreTold(t *testing.T) {
	w := newWorld(t)
	alice := w.join("alice")
	q := url.Values{
		"client_id": {"hpc"}, "redirect_uri": {"https://hpc.example.org" + decision.CallbackPath}, "response_type": {"code"}, "scope": {"openid"},
		"state": {"s"}, "nonce": {"n"}, "code_challenge": {strings.Repeat("A", 43)}, "code_challenge_method": {"S256"}, "prompt": {"login"},
	}
	w.clock.pass(time.Second)
	authorize := "/oidc/authorize?" + q.Encode()
	got := alice.get(authorize)
	if got.to != "/stepup?return="+url.QueryEscape(authorize) {
		t.Fatalf("prompt=login: got status %d to %q, want to step up", got.status, got.to)
	}
	if got = alice.post("/stepup/app", "code", alice.code(), "return", authorize); got.to != authorize {
		t.Fatalf("stepped up: got status %d to %q", got.status, got.to)
	}
	found := forward.FindStringSubmatch(alice.get(authorize).body)
	if found == nil || !strings.HasPrefix(found[1], "https://hpc.example.org"+decision.CallbackPath+"?code=") {
		t.Fatalf("got %q, want to be sent back with a code", found)
	}
	if _, err := w.app.SetUser(t.Context(), authapp.Switch{Name: "alice", Disabled: true}); err != nil {
		t.Fatal(err)
	}
	events, err := w.api.Events(t.Context(), 0)
	if err != nil || len(events) != 1 || events[0].Type != decision.Left || events[0].User != "alice" {
		t.Errorf("got %+v, %v, want that alice left", events, err)
	}
	if got := alice.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("her session: got status %d, want it ended", got.status)
	}
}

func TestTheOperatorsOperations(t *testing.T) {
	w := newWorld(t)
	w.join("alice")
	ctx := t.Context()
	if _, err := w.app.Invite(ctx, authapp.NewUser{Name: "alice", New: true}); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("somebody who has an account, as new: got %v, want a conflict", err)
	}
	if i, err := w.app.Invite(ctx, authapp.NewUser{Name: "alice"}); err != nil || !strings.HasPrefix(i.Link, issuer+"/setup?code=") {
		t.Errorf("invited again: got %v, %v", i, err)
	}
	if users, err := w.app.Users(ctx, authapp.None{}); err != nil || len(users) != 1 || users[0].Name != "alice" {
		t.Errorf("got %v, %v", users, err)
	}
	if all, err := w.app.Deployments(ctx, authapp.None{}); err != nil || len(all) != 1 || len(all[0].Keys) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
	head, err := w.app.Verify(ctx, authapp.VerifyAudit{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.app.RemoveDeployment(ctx, authapp.Named{Name: "hpc"}); err != nil {
		t.Error(err)
	}
	if _, err := w.app.RemoveDeployment(ctx, authapp.Named{Name: "hpc"}); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("one that is not there: got %v", err)
	}
	if _, err := w.app.Verify(ctx, authapp.VerifyAudit{Heads: []string{head.Head}}); err != nil {
		t.Errorf("with the head from before: got %v, want no error", err)
	}
	lines, err := w.app.Audit(ctx, authapp.AuditPage{Limit: 1000})
	if err != nil || len(lines) < 3 {
		t.Errorf("got %v, %v", lines, err)
	}
	if _, err := w.app.Verify(ctx, authapp.VerifyAudit{Heads: []string{"1:" + strings.Repeat("0", 64)}}); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("with a head of another log: got %v, want a conflict", err)
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.app.Run(ctx) }()
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want nil", err)
	}
}

func TestInsideAServerItLivesBelowAPath(t *testing.T) {
	store, err := authstore.Open(t.Context(), filepath.Join(t.TempDir(), "auth.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for server, want := range map[string]string{
		"http://localhost:8470": "http://localhost:8470/auth", "http://127.0.0.1:8470": "http://localhost:8470/auth", "http://[::1]:8470": "http://localhost:8470/auth",
		"https://hpc.example.org/hpcsera": "https://hpc.example.org/hpcsera/auth", "https://hpc.example.org/": "https://hpc.example.org/auth",
	} {
		address, err := authapp.Below(server)
		if err != nil || address != want {
			t.Errorf("below %s: got %s, %v, want %s", server, address, err, want)
		}
		app, err := authapp.New(t.Context(), authapp.Config{
			Store: store, URL: address, Secret: []byte(strings.Repeat("k", 32)), InProcess: true, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Errorf("%s: got %v, want no error", address, err)
			continue
		}
		for path, want := range map[string]int{"/signin": 200, "/": 303, "/.well-known/openid-configuration": 200, "/oidc/keys": 200, "/nowhere": 404} {
			out := httptest.NewRecorder()
			app.Handler().ServeHTTP(out, httptest.NewRequestWithContext(t.Context(), http.MethodGet, address+path, nil))
			if out.Code != want {
				t.Errorf("%s%s: got status %d, want %d", address, path, out.Code, want)
			}
		}
	}
}

func TestAnAddressIsNoPlaceForPasskeys(t *testing.T) {
	for _, server := range []string{"https://192.0.2.1", "http://[2001:db8::1]:8470", "hpc.example.org"} {
		if got, err := authapp.Below(server); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%s: got %s, %v, want %s", server, got, err, hpcsera.InvalidField)
		}
	}
}
