package consent_test

import (
	"context"
	"html"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/page/pagetest"
	"github.com/hpcsera/hpcsera/internal/records"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	issuer = "https://auth.example.org/auth"
	apiURL = "https://hpc.example.org"
)

// clock is time as a test sets it.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time { c.mu.Lock(); defer c.mu.Unlock(); return c.at }

func (c *clock) pass(d time.Duration) { c.mu.Lock(); defer c.mu.Unlock(); c.at = c.at.Add(d) }

// people is who sits at the browsers of a test: a cookie names them.
type people struct {
	clock *clock
	mu    sync.Mutex
	known map[string]consent.Person
	sent  []string // USER|SUBJECT|TEXT

	visits int // of strangers
}

// SpendVisit implements consent.Sessions.
func (p *people) SpendVisit(*http.Request) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.visits++; p.visits > mostVisits {
		return hpcsera.Errorf(hpcsera.QuotaExceeded, "There were too many.")
	}
	return nil
}

const mostVisits = 5

// Mail implements consent.Sessions.
func (p *people) Mail(_ context.Context, user, subject, text string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.known[user]; !ok {
		return hpcsera.Errorf(hpcsera.NotFound, "there is no account %s.", user)
	}
	p.sent = append(p.sent, user+"|"+subject+"|"+text)
	return nil
}

func (p *people) mails() []string { p.mu.Lock(); defer p.mu.Unlock(); return p.sent }

func (p *people) Handler() http.Handler { return http.NotFoundHandler() }

func (p *people) Current(r *http.Request) (consent.Person, bool) {
	c, err := r.Cookie("who")
	if err != nil {
		return consent.Person{}, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	who, ok := p.known[c.Value]
	return who, ok
}

func (p *people) Require(w http.ResponseWriter, r *http.Request, fresh bool) (consent.Person, bool) {
	var since time.Time
	if fresh {
		since = p.clock.now().Add(-5 * time.Minute)
	}
	return p.Prove(w, r, since)
}

func (p *people) Prove(w http.ResponseWriter, r *http.Request, since time.Time) (consent.Person, bool) {
	who, ok := p.Current(r)
	switch {
	case !ok:
		http.Redirect(w, r, "/auth/signin", http.StatusSeeOther)
	case who.Stepped.Before(since):
		http.Redirect(w, r, "/auth/stepup", http.StatusSeeOther)
		ok = false
	}
	return who, ok
}

// arrive signs a user in with a second factor just given.
func (p *people) arrive(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.now()
	p.known[user] = consent.Person{User: user, Session: "se_" + user, Verified: now, Stepped: now, Methods: []string{"pwd", "otp"}}
}

// world is an Auth app with two deployments and some people.
type world struct {
	t      *testing.T
	clock  *clock
	store  records.Store
	people *people
	auth   *consent.Service
	secret []byte
	web    http.Handler
	key    decision.Key
	api    *decision.Client // of the deployment hpc
	other  *decision.Client
}

func newWorld(t *testing.T, change ...func(*consent.Config)) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{at: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)}, secret: []byte(strings.Repeat("k", 32))}
	w.people = &people{clock: w.clock, known: map[string]consent.Person{}}
	store, err := authstore.Open(t.Context(), filepath.Join(t.TempDir(), "auth.db"), w.clock.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w.store = store
	w.start(change...)
	w.key, w.api = w.deployment("hpc", apiURL)
	_, w.other = w.deployment("other", "https://other.example.org")
	for _, user := range []string{"alice", "bob"} {
		w.people.arrive(user)
	}
	return w
}

// start makes the Auth app, as after a restart.
func (w *world) start(change ...func(*consent.Config)) {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(w.t.Output(), nil))
	frame, err := page.New(page.Config{Prefix: "/auth", Product: "HPCSerA", Nav: consent.Places(), Account: "/account", SignOut: "/signout", Log: log})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := consent.Config{Store: w.store, Sessions: w.people, Frame: frame, Issuer: issuer, Prefix: "/auth", Secret: w.secret, Log: log, Now: w.clock.now}
	for _, c := range change {
		c(&cfg)
	}
	if w.auth, err = consent.New(cfg); err != nil {
		w.t.Fatal(err)
	}
	if err := w.auth.Prepare(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.web = w.auth.Handler()
}

func (w *world) deployment(name, address string) (decision.Key, *decision.Client) {
	w.t.Helper()
	key, err := decision.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	public, err := key.Public().MarshalJSON()
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.auth.AddDeployment(w.t.Context(), consent.NewDeployment{Name: name, URL: address, Key: string(public)}); err != nil {
		w.t.Fatal(err)
	}
	return key, w.client(name, key)
}

func (w *world) client(name string, key decision.Key) *decision.Client {
	return w.clientAt(issuer, name, key)
}

func (w *world) clientAt(issuer, name string, key decision.Key) *decision.Client {
	handler := http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) { w.web.ServeHTTP(out, r) })
	return decision.NewClient(decision.Config{Issuer: issuer, Name: name, Key: key, HTTP: &http.Client{Transport: decision.Local(handler)}, Now: w.clock.now})
}

// tokenRequest is what a CIBA client asks of alice.
func (w *world) tokenRequest() decision.Request {
	now := w.clock.now()
	return decision.Request{
		ID: hpcsera.NewID("rq"), Kind: decision.Token, User: "alice", Client: "gitlab", Words: "pipeline 4711", Project: "cfd",
		Roles: hpcsera.RolesOf(1, 6, 8), Until: now.Add(30 * 24 * time.Hour), Expires: now.Add(10 * time.Minute),
	}
}

const thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

// enrolment is what an agent asks of whoever types its code.
func (w *world) enrolment() (decision.Request, string) {
	code := decision.NewUserCode()
	hash, _ := decision.HashUserCode(code)
	now := w.clock.now()
	return decision.Request{
		ID: hpcsera.NewID("rq"), Kind: decision.Agent, CodeHash: hash, Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: thumbprint,
		Host: "login1.gwdg.de", Until: now.Add(180 * 24 * time.Hour), Expires: now.Add(10 * time.Minute),
	}, code
}

func (w *world) post(r decision.Request) decision.Request {
	w.t.Helper()
	if err := w.api.Post(w.t.Context(), r); err != nil {
		w.t.Fatalf("post: %v", err)
	}
	return r
}

// decisions returns what hpc is told, verified.
func (w *world) decisions() []decision.Decision {
	w.t.Helper()
	texts, err := w.api.Decisions(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	keys, err := w.api.Keys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var all []decision.Decision
	for _, text := range texts {
		all = append(all, verified(w.t, text, w.expected(keys)))
	}
	return all
}

func (w *world) expected(keys []jose.JSONWebKey) decision.Expected {
	return decision.Expected{Issuer: issuer, Audience: "hpc", Keys: keys, Now: w.clock.now()}
}

func verified(t *testing.T, text string, e decision.Expected) decision.Decision {
	t.Helper()
	d, err := decision.Verify(text, e)
	if err != nil {
		t.Fatalf("decision: %v", err)
	}
	return d
}

// none fails the test when anything was decided.
func (w *world) none(after string) {
	w.t.Helper()
	if got := w.decisions(); len(got) > 0 {
		w.t.Errorf("after %s: got the decision %+v, want none", after, got[0])
	}
}

// answer is a page as a browser gets it.
type answer struct {
	status int
	header http.Header
	body   string
}

// get opens a page as user does ("" is nobody), and checks it.
func (w *world) get(user, path string) answer {
	w.t.Helper()
	return w.send(user, httptest.NewRequest(http.MethodGet, "https://auth.example.org"+path, nil))
}

var shownPattern = regexp.MustCompile(`name="shown" value="([^"]+)"`)

// shownOf is what a page says of the request that it shows, "" of none.
func shownOf(page string) string {
	if found := shownPattern.FindStringSubmatch(page); found != nil {
		return html.UnescapeString(found[1])
	}
	return ""
}

// submit sends a form of our own page. Where the page of a request is not
// given, it is the one that user gets now.
func (w *world) submit(user, path string, form url.Values) answer {
	w.t.Helper()
	if strings.HasPrefix(path, "/auth/requests/") && !form.Has("shown") {
		form = maps.Clone(form)
		form.Set("shown", shownOf(w.get(user, path).body))
	}
	r := httptest.NewRequest(http.MethodPost, "https://auth.example.org"+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return w.send(user, r)
}

func (w *world) send(user string, r *http.Request) answer {
	w.t.Helper()
	if user != "" {
		r.AddCookie(&http.Cookie{Name: "who", Value: user})
	}
	out := httptest.NewRecorder()
	w.web.ServeHTTP(out, r.WithContext(w.t.Context()))
	if strings.HasPrefix(out.Header().Get("Content-Type"), "text/html") && out.Code != http.StatusSeeOther {
		pagetest.Check(w.t, r.Method+" "+r.URL.Path, out.Header(), out.Body.Bytes())
	}
	return answer{out.Code, out.Header(), out.Body.String()}
}

func (a answer) has(t *testing.T, words ...string) {
	t.Helper()
	for _, want := range words {
		if !strings.Contains(a.body, want) {
			t.Errorf("got status %d and %s\nwant %q in it", a.status, a.body, want)
		}
	}
}

func path(deployment, id string) string { return "/auth/requests/" + deployment + "/" + id }

func form(pairs ...string) url.Values {
	f := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		f.Add(pairs[i], pairs[i+1])
	}
	return f
}

var optionPattern = regexp.MustCompile(`data-options="([^"]*)"`)

// call sends a request to the API as it is.
func (w *world) call(method, path, bearer string, body io.Reader) answer {
	w.t.Helper()
	r := httptest.NewRequestWithContext(context.WithoutCancel(w.t.Context()), method, "https://auth.example.org"+path, body)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	return w.send("", r)
}

func newDeployment(name, address, key string) consent.NewDeployment {
	return consent.NewDeployment{Name: name, URL: address, Key: key}
}
