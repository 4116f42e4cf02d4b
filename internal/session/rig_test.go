package session_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/page/pagetest"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/session"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

const (
	site     = "https://auth.example"
	password = "four words in a row"
)

// rig is an Auth app with a clock, without a network.
type rig struct {
	*session.Service
	t       *testing.T
	store   records.Store
	frame   *page.Frame
	handler http.Handler
	log     *syncBuffer
	mails   *outbox

	mu     sync.Mutex
	at     time.Time
	events []session.Event
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (r *rig) now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = r.at.Add(d)
}

func newRig(t *testing.T, change ...func(*session.Config)) *rig {
	t.Helper()
	r := &rig{t: t, log: &syncBuffer{}, mails: newOutbox(), at: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	store, err := authstore.Open(t.Context(), filepath.Join(t.TempDir(), "auth.db"), r.now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	r.store = store
	log := slog.New(slog.NewTextHandler(io.MultiWriter(r.log, t.Output()), nil))
	frame, err := page.New(page.Config{
		Prefix: "/auth", Product: "HPCSerA", Account: "/account", SignOut: "/signout", Secure: true, Log: log,
		Nav: []page.Link{{Path: "/", Label: "Inbox"}, {Path: "/account", Label: "Account"}, {Path: "/people", Label: "People", Operators: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.frame = frame
	cfg := session.Config{
		Address: func(q *http.Request) string { return q.RemoteAddr }, // a proxy says all of it
		Records: store, Frame: frame, URL: site + "/auth", Product: "HPCSerA", Now: r.now, Log: log, Mailer: r.mails,
		Hashing: session.Hashing{Passes: 1, Memory: 64, Threads: 1}, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)},
		Watch: func(_ records.Tx, e session.Event) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.events = append(r.events, e)
			return nil
		},
	}
	for _, c := range change {
		c(&cfg)
	}
	if r.Service, err = session.New(cfg); err != nil {
		t.Fatal(err)
	}
	own := r.Service.Handler()
	mux := http.NewServeMux()
	mux.Handle("/auth/", own)
	mux.Handle("/auth/assets/", frame.Handler())
	// Two pages of another feature, as it would guard them.
	guarded := func(level session.Level) http.Handler {
		return frame.Protect(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			if n, ok := r.Require(w, q, level); ok {
				w.Header().Set("Content-Type", "text/plain")
				_, _ = io.WriteString(w, "hello "+n.User)
			}
		}))
	}
	mux.Handle("/auth/{$}", guarded(session.SignedIn))
	mux.Handle("/auth/decide", guarded(session.SteppedUp))
	r.handler = mux
	return r
}

// browser is one browser of somebody.
type browser struct {
	*rig
	jar     http.CookieJar
	address string
	agent   string
	foreign string // what it says in Sec-Fetch-Site; "" is same-origin
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return &browser{rig: r, jar: jar, address: "192.0.2.1:1000", agent: "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"}
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
	to     string // of a redirect
}

func (a answer) has(text string) bool { return strings.Contains(a.body, text) }

func (b *browser) send(method, path string, form url.Values) answer {
	b.t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		b.t.Fatal(err)
	}
	base, _ := url.Parse(site)
	u = base.ResolveReference(u)
	q := httptest.NewRequestWithContext(b.t.Context(), method, u.String(), strings.NewReader(form.Encode()))
	q.RequestURI = u.RequestURI()
	q.RemoteAddr = b.address
	q.Header.Set("User-Agent", b.agent)
	q.Header.Set("Sec-Fetch-Site", "same-origin")
	if b.foreign != "" {
		q.Header.Set("Sec-Fetch-Site", b.foreign)
	}
	if method == http.MethodPost {
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range b.jar.Cookies(u) {
		q.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, q)
	res := w.Result()
	b.jar.SetCookies(u, res.Cookies())
	if res.StatusCode != http.StatusSeeOther && strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		pagetest.Check(b.t, method+" "+path, res.Header, w.Body.Bytes())
	}
	return answer{res.StatusCode, res.Header, w.Body.String(), res.Header.Get("Location")}
}

func (b *browser) get(path string) answer { b.t.Helper(); return b.send(http.MethodGet, path, nil) }

func (b *browser) post(path string, pairs ...string) answer {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return b.send(http.MethodPost, path, form)
}

// expect fails unless an answer has a status and, with 303, a target.
func (b *browser) expect(a answer, status int, to ...string) answer {
	b.t.Helper()
	if a.status != status || len(to) > 0 && a.to != to[0] {
		b.t.Fatalf("got status %d to %q, want %d %v:\n%s", a.status, a.to, status, to, text(a.body))
	}
	return a
}

// text is a page without its marks.
func text(body string) string {
	body = regexp.MustCompile(`(?s)<head>.*</head>|<[^>]*>`).ReplaceAllString(body, " ")
	return strings.Join(strings.Fields(body), " ")
}

// cookie returns a cookie's value as the server would see it.
func (b *browser) cookie(name string) string {
	base, _ := url.Parse(site)
	for _, c := range b.jar.Cookies(base) {
		if c.Name == "__Host-"+name {
			return c.Value
		}
	}
	return ""
}

// who returns the name that the browser is signed in with, or "".
func (b *browser) who() string {
	b.t.Helper()
	a := b.get("/auth/")
	name, _ := strings.CutPrefix(a.body, "hello ")
	if a.status != http.StatusOK {
		return ""
	}
	return name
}

// person is somebody with an account, and all they need to use it.
type person struct {
	*browser
	name     string
	secret   string // of the authenticator app
	recovery []string
}

// code returns the code that the person's app shows now.
func (p *person) code() string {
	p.t.Helper()
	code, err := totp.GenerateCode(p.secret, p.now())
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// first makes the first operator's account.
func (r *rig) first(name string) *person {
	r.t.Helper()
	link, err := r.FirstLink(r.t.Context())
	if err != nil || link == "" {
		r.t.Fatalf("FirstLink: %q, %v", link, err)
	}
	return r.setUp(link, name)
}

// join makes an account by an invitation.
func (r *rig) join(name string) *person {
	r.t.Helper()
	link, err := r.Invite(r.t.Context(), "operator", name, name+"@example.org", false)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.setUp(link, name)
}

var (
	sessionButton = regexp.MustCompile(`name="session" value="(se_[0-9a-z]+)"`)
	secretLine    = regexp.MustCompile(`<p class="secret">(https:[^<]+)</p>`)
	shownSecret   = regexp.MustCompile(`<p class="secret">([A-Z2-7 ]+)</p>`)
	shownCodes    = regexp.MustCompile(`<li>([0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4})</li>`)
)

// setUp goes through a link with an authenticator app.
func (r *rig) setUp(link, name string) *person {
	r.t.Helper()
	p := &person{browser: r.browser(), name: name}
	p.expect(p.get(link), http.StatusOK)
	u, _ := url.Parse(link)
	p.expect(p.post("/auth/setup", "code", u.Query().Get("code"), "name", name, "mail", name+"@example.org", "password", password, "again", password),
		http.StatusSeeOther, "/auth/setup/factor")
	p.readSecret(p.expect(p.get("/auth/setup/factor"), http.StatusOK))
	done := p.expect(p.post("/auth/setup/app", "code", p.code()), http.StatusOK)
	p.readCodes(done)
	return p
}

func (p *person) readSecret(a answer) {
	p.t.Helper()
	m := shownSecret.FindStringSubmatch(a.body)
	if m == nil {
		p.t.Fatalf("the page shows no secret: %s", text(a.body))
	}
	p.secret = strings.ReplaceAll(m[1], " ", "")
}

func (p *person) readCodes(a answer) {
	p.t.Helper()
	p.recovery = nil
	for _, m := range shownCodes.FindAllStringSubmatch(a.body, -1) {
		p.recovery = append(p.recovery, m[1])
	}
	if len(p.recovery) != 10 {
		p.t.Fatalf("got %d recovery codes, want 10", len(p.recovery))
	}
}

// signIn signs in with password and app, in a browser.
func (p *person) signIn(b *browser) {
	p.t.Helper()
	p.pass(time.Minute) // each code works once
	b.expect(b.post("/auth/signin", "name", p.name, "password", password), http.StatusSeeOther, "/auth/signin/factor")
	b.expect(b.post("/auth/signin/app", "code", p.code()), http.StatusSeeOther)
}

// stepUp verifies the app again.
func (p *person) stepUp() {
	p.t.Helper()
	p.pass(time.Minute)
	p.expect(p.post("/auth/stepup/app", "code", p.code(), "return", "/auth/account"), http.StatusSeeOther, "/auth/account")
}

// trail returns the audit lines, each as "actor action user[ refused]".
func (r *rig) trail() []string {
	r.t.Helper()
	var list []string
	err := r.store.Read(r.t.Context(), func(rd records.Reader) error {
		lines, err := rd.Audit(0, 1000)
		for _, l := range lines {
			s := l.Actor + " " + l.Action + " " + l.User
			if l.Refused {
				s += " refused"
			}
			list = append(list, s)
		}
		if err == nil {
			_, err = records.Verify(rd)
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}

func (r *rig) wantTrail(line string) {
	r.t.Helper()
	if got := r.trail(); !slices.Contains(got, line) {
		r.t.Errorf("the audit log lacks %q; it has %q", line, got)
	}
}

func (r *rig) wantEvent(e session.Event) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.events, e) {
		r.t.Errorf("got the events %v, want %v", r.events, e)
	}
}

// trailText returns the audit lines with all that they hold.
func (r *rig) trailText() (list []string) {
	r.t.Helper()
	err := r.store.Read(r.t.Context(), func(rd records.Reader) error {
		lines, err := rd.Audit(0, 1000)
		for _, l := range lines {
			list = append(list, fmt.Sprintf("%+v", l))
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return list
}
