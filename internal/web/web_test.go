package web_test

import (
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/page/pagetest"
	"github.com/hpcsera/hpcsera/internal/signin"
	"github.com/hpcsera/hpcsera/internal/signin/signintest"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
	"github.com/hpcsera/hpcsera/internal/web"
	"github.com/hpcsera/hpcsera/test/commandtest"
)

const (
	own    = "https://hpc.example.org"
	issuer = "https://auth.example.org"
)

// world is a deployment with its Auth app, without a network.
type world struct {
	t      *testing.T
	now    time.Time
	store  store.Store
	access *access.Service
	code   *code.Service
	app    *signintest.Provider
	site   *web.Site
}

func newWorld(t *testing.T) *world {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second), store: db}
	clock := func() time.Time { return w.now }
	key := []byte(strings.Repeat("k", 32))
	sightings := auth.NewSightings(db, clock, quiet)
	w.code = code.New(code.Config{Store: db, Deployment: own, Log: quiet, Now: clock})
	life, err := jobs.New(jobs.Config{Store: db, Code: w.code, Sightings: sightings, Key: key, Log: quiet, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	w.access = access.New(access.Config{Store: db, Jobs: life, Sightings: sightings, Log: quiet, Now: clock})
	w.app = signintest.New(t, issuer, "hpc", own, clock)
	sessions, err := signin.New(signin.Config{
		Store: db, Users: w.access, Issuer: issuer, Name: "hpc", URL: own, Assertion: w.app.Assertion,
		HTTP: &http.Client{Transport: local{w.app}}, Key: key, Log: quiet, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.site, err = web.New(web.Config{
		Sessions: sessions, Access: w.access, Code: w.code, URL: own, AuthURL: issuer, Now: clock,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// local answers requests without a network.
type local struct{ http.Handler }

func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if r.Body == nil {
		r.Body = http.NoBody
	}
	l.ServeHTTP(w, r)
	res := w.Result()
	res.Request = r
	return res, nil
}

// both is the internet of a browser: the deployment and its Auth app.
type both struct{ w *world }

func (b both) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == "auth.example.org" {
		return local{b.w.app}.RoundTrip(r)
	}
	return local{b.w.site.Handler()}.RoundTrip(r)
}

// browser keeps cookies and follows redirects, and the pages that stand for
// one.
type browser struct {
	w *world
	c *http.Client
}

func (w *world) browser() *browser {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w, &http.Client{Transport: both{w}, Jar: jar}}
}

// signedIn is a browser in which a user is signed in.
func (w *world) signedIn(user string) *browser {
	w.t.Helper()
	w.app.Let(user, "pwd", "mfa")
	b := w.browser()
	if p := b.get("/signin"); p.status != http.StatusOK || !strings.Contains(p.body, "Sign out") {
		w.t.Fatalf("signing in as %s ended with %d:\n%s", user, p.status, p.body)
	}
	return b
}

// answer is a page as a browser got it.
type answer struct {
	status int
	path   string // where it is, after redirects
	header http.Header
	body   string
}

func (b *browser) do(r *http.Request) answer {
	b.w.t.Helper()
	res, err := b.c.Do(r)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.w.t.Fatal(err)
	}
	a := answer{res.StatusCode, res.Request.URL.RequestURI(), res.Header, string(body)}
	if res.Request.URL.Host == "hpc.example.org" {
		pagetest.Check(b.w.t, r.Method+" "+a.path, a.header, body)
	}
	// A page that sends the browser on.
	if _, rest, ok := strings.Cut(a.body, `http-equiv="refresh" content="0; url=`); ok {
		to, _, _ := strings.Cut(rest, `"`)
		to = strings.NewReplacer("&amp;", "&", "&#43;", "+").Replace(to)
		next, err := http.NewRequest(http.MethodGet, to, nil)
		if err != nil {
			b.w.t.Fatal(err)
		}
		return b.do(next)
	}
	return a
}

func (b *browser) get(path string) answer {
	b.w.t.Helper()
	r, err := http.NewRequest(http.MethodGet, own+path, nil)
	if err != nil {
		b.w.t.Fatal(err)
	}
	return b.do(r)
}

// post sends a form as our own pages do. Fields are name, value, name, value…
func (b *browser) post(path string, fields ...string) answer {
	b.w.t.Helper()
	values := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		values.Add(fields[i], fields[i+1])
	}
	r, err := http.NewRequest(http.MethodPost, own+path, strings.NewReader(values.Encode()))
	if err != nil {
		b.w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(r)
}

// must posts a form and wants it to end on a page that says something.
func (b *browser) must(says, path string, fields ...string) answer {
	b.w.t.Helper()
	a := b.post(path, fields...)
	if a.status != http.StatusOK || !strings.Contains(a.body, says) {
		b.w.t.Fatalf("POST %s %v: got %d at %s, want %q in:\n%s", path, fields, a.status, a.path, says, a.body)
	}
	return a
}

// in reports whether somebody is signed in, without signing in again.
func (b *browser) in() bool {
	return strings.Contains(b.get("/").body, "Sign out")
}

func (b *browser) cookies() map[string]string {
	u, _ := url.Parse(own)
	m := map[string]string{}
	for _, c := range b.c.Jar.Cookies(u) {
		m[c.Name] = c.Value
	}
	return m
}

func (w *world) write(fn func(store.Tx) error) {
	w.t.Helper()
	if err := w.store.Write(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

var host = auth.OperatorOnHost()

// operator makes root an operator.
func (w *world) operator() *browser {
	w.t.Helper()
	if _, err := w.access.CreateUser(w.t.Context(), host, access.NewUser{Name: "root", Operator: true}); err != nil {
		w.t.Fatal(err)
	}
	return w.signedIn("root")
}

// populate gives alice a project, a client, a site, an agent and a token.
func (w *world) populate(b *browser) {
	w.t.Helper()
	if _, err := w.access.CreateSite(w.t.Context(), host, access.Named{Name: "gwdg"}); err != nil {
		w.t.Fatal(err)
	}
	b.must("you own it", "/projects", "name", "cfd")
	b.must("is registered", "/clients", "name", "gitlab")
	alice := &auth.Principal{Person: &auth.Person{User: "alice", SteppedUp: true}}
	if _, err := w.access.CreateAgent(w.t.Context(), alice, access.NewAgent{
		User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43),
	}); err != nil {
		w.t.Fatal(err)
	}
	b.must("shown this once", "/tokens", "project", "cfd", "client", "gitlab", "for", "ci", "days", "30")
}

func TestEveryEmptyPageSaysWhatToDoFirst(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	for path, says := range map[string]string{
		"/":           "Have a project",
		"/tokens":     "No token works now",
		"/tokens/new": "You need a project first",
		"/projects":   "Make one below",
		"/clients":    "Register the program",
		"/agents":     "You have no agent yet",
		"/code":       "Make one first",
		"/requests":   "No client may ask you",
		"/sessions":   "No terminal is signed in",
		"/audit":      "Signed in",
		"/sites":      "There is no site yet",
	} {
		if a := alice.get(path); a.status != http.StatusOK || !strings.Contains(a.body, says) {
			t.Errorf("%s: got %d, want %q in:\n%s", path, a.status, says, a.body)
		}
	}
	root := newWorld(t).operator()
	for path, says := range map[string]string{"/users": "You are alone here", "/": "it comes before everything else", "/sites": "Register the first HPC system"} {
		if a := root.get(path); !strings.Contains(a.body, says) {
			t.Errorf("%s: want %q in:\n%s", path, says, a.body)
		}
	}
}

func TestATokenIsMadeShownOnceUsedAndRevoked(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.populate(alice)
	for name, fields := range map[string][]string{
		"no purpose":     {"project", "cfd", "client", "gitlab", "days", "30"},
		"no role":        {"project", "cfd", "client", "gitlab", "days", "30", "for", "own"},
		"no such role":   {"project", "cfd", "client", "gitlab", "days", "30", "for", "own", "roles", "ROOT"},
		"no such client": {"project", "cfd", "client", "jenkins", "days", "30", "for", "ci"},
		"no number":      {"project", "cfd", "client", "gitlab", "days", "soon", "for", "ci"},
		"too long":       {"project", "cfd", "client", "gitlab", "days", "91", "for", "ci"},
		"not a member":   {"project", "melt", "client", "gitlab", "days", "30", "for", "ci"},
		"no such scope":  {"project", "cfd", "client", "gitlab", "days", "30", "for", "ci", "scope", "all"},
	} {
		if a := alice.post("/tokens", fields...); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `role="alert"`) || strings.Contains(a.body, "hpcsera_t") {
			t.Errorf("%s: got %d, want the form again with what is wrong:\n%s", name, a.status, a.body)
		}
	}
	a := alice.must("hpcsera_t", "/tokens", "project", "cfd", "client", "gitlab", "site", "gwdg", "days", "7", "for", "own", "roles", "GET_JobStatus", "roles", "DELETE_Job")
	_, rest, _ := strings.Cut(a.body, `value="hpcsera_`)
	secret, _, _ := strings.Cut(rest, `"`)
	for _, path := range []string{"/tokens", "/", "/audit"} {
		if strings.Contains(alice.get(path).body, secret) {
			t.Errorf("%s shows the secret again", path)
		}
	}
	list, err := w.access.Tokens(t.Context(), host, access.Filter{User: "alice"})
	if err != nil || len(list) != 2 {
		t.Fatalf("got %v, %v, want two tokens", list, err)
	}
	var made *hpcsera.Token
	for _, token := range list {
		if token.Site == "gwdg" {
			made = token
		}
	}
	if made == nil || made.Roles != hpcsera.RolesOf(1, 8) || made.Scope != hpcsera.ClientScope || made.Expires.Sub(w.now) != 7*24*time.Hour {
		t.Fatalf("made %+v", made)
	}
	if a := alice.get("/tokens/revoke?token=" + made.ID); !strings.Contains(a.body, "Revoke this token?") {
		t.Errorf("asked: %s", a.body)
	}
	alice.must("refused from now on", "/tokens/revoke", "token", made.ID)
	alice.must("refused from now on", "/tokens/revoke", "client", "gitlab", "stop", "yes")
	alice.must("nothing left to revoke", "/tokens/revoke")
	if list, _ := w.access.Tokens(t.Context(), host, access.Filter{User: "alice"}); list[0].Revoked == nil || list[1].Revoked == nil {
		t.Error("a token is not revoked")
	}
}

func TestMembersClientsAndAgentsAreChangedByTheRightPeople(t *testing.T) {
	w := newWorld(t)
	bob := w.signedIn("bob")
	alice := w.signedIn("alice")
	w.populate(alice)
	for name, a := range map[string]answer{
		"another's project":           bob.get("/projects/cfd"),
		"another's members":           bob.post("/projects/cfd/members", "member", "bob", "role", "owner"),
		"another's client":            bob.post("/clients/gitlab/registration", "method", "secret"),
		"a client, by no operator":    bob.post("/clients/gitlab/disabled", "disabled", "yes"),
		"users, by no operator":       bob.get("/users"),
		"a user, by no operator":      bob.post("/users", "name", "eve", "operator", "yes"),
		"a site, by no operator":      bob.post("/sites/gwdg/drained", "drained", "yes"),
		"another's tokens":            bob.get("/tokens?user=alice"),
		"another's agents":            bob.get("/agents?user=alice"),
		"revoking another's tokens":   bob.post("/tokens/revoke", "user", "alice"),
		"everybody's audit lines":     bob.get("/audit?all=yes"),
		"code of another's project":   bob.get("/code/cfd/sha256:" + strings.Repeat("0", 64)),
		"a page that is not there":    bob.get("/nothing"),
		"an agent that is not there":  bob.get("/agents/ag_x/remove"),
		"a session that is not there": bob.post("/sessions/end", "session", "bs_x"),
	} {
		if a.status/100 != 4 {
			t.Errorf("%s: got %d, want it refused:\n%s", name, a.status, a.body)
		}
	}
	alice.must("Saved", "/projects/cfd/members", "member", "bob", "role", "viewer")
	if a := bob.get("/projects/cfd"); a.status != http.StatusOK || strings.Contains(a.body, "Add somebody") {
		t.Errorf("a viewer sees %d %s", a.status, a.body)
	}
	if a := alice.post("/projects/cfd/members", "member", "alice", "role", "viewer"); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "no owner") {
		t.Errorf("the last owner leaves: got %d", a.status)
	}
	alice.must("Removed", "/projects/cfd/members", "member", "bob", "remove", "yes")

	if a := alice.get("/clients/gitlab"); !strings.Contains(a.body, "asks nobody for tokens") {
		t.Errorf("a client that was not registered is shown as:\n%s", a.body)
	}
	a := alice.must("shown this once", "/clients/gitlab/registration", "method", "secret", "ciba", "poll")
	if !strings.Contains(a.body, `value="hpcsera_`) {
		t.Errorf("no secret in %s", a.body)
	}
	if a := alice.post("/clients/gitlab/registration", "method", "none", "ciba", "ping"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a registration that cannot be: got %d", a.status)
	}
	bob.must("may ask you", "/clients/gitlab/asking", "asking", "yes")
	if !strings.Contains(bob.get("/requests").body, "gitlab") {
		t.Error("who may ask is not told")
	}
	bob.must("may not ask you any more", "/clients/gitlab/asking", "asking", "no")

	agents, err := w.access.Agents(t.Context(), host, access.Filter{User: "alice"})
	if err != nil || len(agents) != 1 {
		t.Fatal(agents, err)
	}
	if a := alice.get("/agents"); !strings.Contains(a.body, strings.Repeat("A", 43)) || !strings.Contains(a.body, "never seen") {
		t.Errorf("the agent is shown as:\n%s", a.body)
	}
	if a := bob.post("/agents/" + agents[0].ID + "/renew"); a.status/100 != 4 {
		t.Errorf("renewing another's agent: got %d", a.status)
	}
	w.now = w.now.Add(170 * 24 * time.Hour)
	alice = w.signedIn("alice")
	if a := alice.get("/agents"); !strings.Contains(a.body, "ends soon") {
		t.Errorf("an enrolment that ends soon is shown as:\n%s", a.body)
	}
	if a := alice.must("The enrolment is renewed", "/agents/"+agents[0].ID+"/renew"); strings.Contains(a.body, "ends soon") || !strings.Contains(a.body, strings.Repeat("A", 43)) {
		t.Errorf("a renewed one is shown as:\n%s", a.body)
	}
	if a := alice.get("/audit"); !strings.Contains(a.body, "Enrolment renewed") {
		t.Errorf("the log does not say it:\n%s", a.body)
	}
	alice.get("/agents/" + agents[0].ID + "/remove")
	alice.must("opens nothing any more", "/agents/"+agents[0].ID+"/remove")
}

func TestOperatorsTakeBackAndManage(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.populate(alice)
	root := w.operator()
	root.must("The user is there", "/users", "name", "carol")
	root.must("site is registered", "/sites", "name", "hlrn")
	root.must("drained", "/sites/hlrn/drained", "drained", "yes")
	root.must("open again", "/sites/hlrn/drained", "drained", "no")
	root.must("is disabled", "/clients/gitlab/disabled", "disabled", "yes")
	root.must("enabled again", "/clients/gitlab/disabled", "disabled", "no")
	if a := root.get("/tokens?user=alice"); !strings.Contains(a.body, "Tokens of alice") || strings.Contains(a.body, "Make a token") {
		t.Errorf("alice's tokens: %s", a.body)
	}
	root.get("/agents?user=alice")
	root.get("/audit?all=yes")
	root.must("refused from now on", "/tokens/revoke", "user", "alice")
	if a := root.post("/users/root/disabled", "disabled", "yes"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("an operator who disables themselves: got %d", a.status)
	}
	root.must("nothing of theirs works", "/users/alice/disabled", "disabled", "yes")
	if alice.in() {
		t.Error("a disabled user's next request is answered")
	}
	w.app.Let("alice", "pwd", "mfa")
	if a := alice.get("/signin"); a.status != http.StatusForbidden || alice.in() {
		t.Errorf("a disabled user signs in: got %d", a.status)
	}
}

// codes are the texts between <code> and </code> of a page.
func (a answer) codes() (texts []string) {
	for _, part := range strings.Split(a.body, "<code>")[1:] {
		text, _, _ := strings.Cut(part, "</code>")
		texts = append(texts, html.UnescapeString(text))
	}
	return texts
}

func TestEveryCommandOnAPageIsUnderstood(t *testing.T) {
	programs := commandtest.Build(t)
	w := newWorld(t)
	alice := w.signedIn("alice")
	seen := map[string]bool{}
	look := func() {
		t.Helper()
		for _, path := range []string{"/", "/tokens", "/projects", "/clients", "/agents", "/code", "/requests", "/sessions", "/sites"} {
			for _, text := range alice.get(path).codes() {
				for _, words := range commandtest.Lines(text) {
					if line := strings.Join(words, " "); !seen[line] {
						seen[line] = true
						programs.Understands(t, path, words)
					}
				}
			}
		}
	}
	look()
	w.populate(alice)
	look()
	agents, err := w.access.Agents(t.Context(), host, access.Filter{User: "alice"})
	if err != nil || len(agents) != 1 {
		t.Fatal(agents, err)
	}
	for _, end := range []time.Duration{24 * time.Hour, -time.Hour} {
		w.write(func(tx store.Tx) error {
			row, err := tx.Agent(agents[0].ID)
			if err != nil {
				return err
			}
			row.Expires = w.now.Add(end)
			return tx.UpdateAgent(*row)
		})
		look()
		if !strings.Contains(alice.get("/agents").body, "<code>hpcsera-agent enroll --replace</code>") {
			t.Errorf("an enrolment that ends in %v: enroll is refused without --replace", end)
		}
	}
	for _, want := range []string{
		"hpcsera-agent enroll --server " + own + " --user alice --site SITE --project PROJECT",
		"hpcsera-agent enroll --server " + own + " --user alice --site gwdg --project cfd",
		"hpcsera-agent enroll --replace", "hpcsera login --server " + own,
	} {
		if !seen[want] {
			t.Errorf("no page shows %q; they show %v", want, seen)
		}
	}
}

// A role would let them read logs and code.
func TestAnOperatorDoesNotLetThemselvesIntoAProject(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.populate(alice)
	root := w.operator()
	refused := func(role string) {
		t.Helper()
		if a := root.post("/projects/cfd/members", "member", "root", "role", role); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "takes no role") {
			t.Errorf("an operator makes themselves %s: got %d\n%s", role, a.status, a.body)
		}
	}
	refused("owner")
	refused("viewer")
	if a := root.get("/projects/cfd"); !strings.Contains(a.body, "You are not a member") || !strings.Contains(a.body, "Add somebody") {
		t.Errorf("the operator sees %s", a.body)
	}
	alice.must("Saved", "/projects/cfd/members", "member", "root", "role", "viewer")
	refused("owner")
	if a := root.get("/projects/cfd"); strings.Contains(a.body, "Role of root") || !strings.Contains(a.body, "Role of alice") {
		t.Errorf("an operator who is a viewer sees %s", a.body)
	}
	alice.must("Saved", "/projects/cfd/members", "member", "root", "role", "owner")
	root.must("Saved", "/projects/cfd/members", "member", "root", "role", "member")
}

func TestAFormWaitsForTheSecondFactorAndIsNotSentByItself(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.populate(alice)
	w.now = w.now.Add(10 * time.Minute)
	a := alice.post("/projects", "name", "melt")
	if !strings.HasPrefix(a.path, "/confirm?form=") || !strings.Contains(a.body, "melt") || !strings.Contains(a.body, "Nothing has been done yet") {
		t.Fatalf("got %d at %s:\n%s", a.status, a.path, a.body)
	}
	if asked := w.app.Asked(); asked[len(asked)-1].Get("max_age") != "0" {
		t.Error("the Auth app was not asked for a fresh second factor")
	}
	if alice.get("/projects/melt").status != http.StatusNotFound {
		t.Fatal("it was done before the user said so")
	}
	bob := w.signedIn("bob")
	_, id, _ := strings.Cut(a.path, "form=")
	if got := bob.post("/confirm", "form", id); got.status != http.StatusNotFound {
		t.Errorf("another user sends it: got %d, want 404", got.status)
	}
	alice.must("you own it", "/confirm", "form", id)
	if got := alice.post("/confirm", "form", id); got.status != http.StatusNotFound {
		t.Errorf("it is sent again: got %d, want 404", got.status)
	}
}

func TestWhoCannotShowASecondFactorGrantsNothing(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.now = w.now.Add(10 * time.Minute)
	w.app.Let("alice", "pwd")
	if a := alice.post("/projects", "name", "melt"); a.status != http.StatusForbidden || !strings.Contains(a.body, "second factor") {
		t.Errorf("got %d at %s:\n%s", a.status, a.path, a.body)
	}
	if a := alice.get("/projects"); strings.Contains(a.body, "melt") {
		t.Error("the project was made")
	}
}

func TestTheSessionsOfAUserAreSeenAndEnded(t *testing.T) {
	w := newWorld(t)
	here, there := w.signedIn("alice"), w.signedIn("alice")
	if a := here.get("/sessions"); strings.Count(a.body, `name="session"`) != 1 || !strings.Contains(a.body, "this one") {
		t.Errorf("got:\n%s", a.body)
	}
	here.must("All other sessions have ended", "/sessions/end-others")
	if there.in() || !here.in() {
		t.Errorf("the other one goes on: %v; this one: %v", there.in(), here.in())
	}
	if a := here.post("/signout"); a.path != "/" || !strings.Contains(a.body, "You are signed out here") || here.cookies()["__Host-hpcsera"] != "" {
		t.Errorf("signing out ended at %s with the cookies %v", a.path, here.cookies())
	}
}

func TestTheAuditLogHasPages(t *testing.T) {
	w := newWorld(t)
	alice := w.signedIn("alice")
	w.write(func(tx store.Tx) error {
		for range 60 {
			if err := tx.Note(hpcsera.AuditLine{At: w.now, Actor: "user:alice", Action: "createToken", User: "alice", About: "t_1"}); err != nil {
				return err
			}
		}
		return nil
	})
	a := alice.get("/audit")
	_, rest, ok := strings.Cut(a.body, `href="/audit?before=`)
	before, _, _ := strings.Cut(rest, `"`)
	if !ok {
		t.Fatalf("no older page in:\n%s", a.body)
	}
	if a := alice.get("/audit?before=" + before); !strings.Contains(a.body, "Newest") || !strings.Contains(a.body, "Signed in") {
		t.Errorf("the older page:\n%s", a.body)
	}
	if a := alice.get("/audit?before=1"); !strings.Contains(a.body, "Nothing older") {
		t.Errorf("before the first line:\n%s", a.body)
	}
}

func TestThePageSaysWhenTheSignInServiceIsAway(t *testing.T) {
	w := newWorld(t)
	quiet := slog.New(slog.DiscardHandler)
	sessions, err := signin.New(signin.Config{
		Store: w.store, Users: w.access, Issuer: issuer, Name: "hpc", URL: own, Assertion: w.app.Assertion, Key: []byte(strings.Repeat("k", 32)), Log: quiet,
		HTTP: &http.Client{Transport: local{http.NotFoundHandler()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	site, err := web.New(web.Config{Sessions: sessions, Access: w.access, Code: w.code, URL: own, AuthURL: issuer, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	site.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, own+"/signin", nil))
	pagetest.Check(t, "signin", answer.Header(), answer.Body.Bytes())
	body := answer.Body.String()
	if answer.Code != http.StatusServiceUnavailable || !strings.Contains(body, "<h1>The sign-in service cannot be reached</h1>") || strings.Contains(body, "404") || strings.Contains(body, "busy") {
		t.Errorf("got %d and\n%s\nwant it to say that the sign-in service cannot be reached, and no raw error", answer.Code, body)
	}
}
