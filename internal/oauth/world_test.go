package oauth_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/oauth"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

const (
	publicURL  = "https://hpc.example.org"
	authApp    = "https://auth.example.org"
	deployment = "gwdg-hpc"
)

// world is the OAuth endpoints on a real database, with users alice (owner of
// cfd) and bob (owner of bio), clients gitlab (secret, CIBA poll), lake
// (private_key_jwt), tool (public), pinged (secret, CIBA ping) and plain (not
// registered), a site gwdg, and an Auth app that does what a test says. alice
// enabled gitlab and pinged.
type world struct {
	*testing.T
	store   *sqlstore.Store
	access  *access.Service
	auth    *auth.Service
	oauth   *oauth.Service
	app     *app
	handler http.Handler
	secrets map[string]string
	key     jose.JSONWebKey // lake's

	mu       sync.Mutex
	now      time.Time
	refusals []hpcsera.AuditLine // what the audit log was told
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldAt(t, publicURL, time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC))
}

// newWorldAt is newWorld behind another URL. With no time given it goes by the
// real one, for programs that have no other.
func newWorldAt(t *testing.T, publicURL string, now time.Time) *world {
	t.Helper()
	w := &world{T: t, secrets: map[string]string{}, now: now}
	quiet := slog.New(slog.DiscardHandler)
	var err error
	w.store, err = sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), quiet)
	w.must(err)
	t.Cleanup(func() { w.store.Close() })
	key := []byte(strings.Repeat("k", 32))
	w.auth, err = auth.New(auth.Config{Store: w.store, PublicURL: publicURL, Key: key, Log: quiet, Now: w.clock})
	w.must(err)
	sightings := auth.NewSightings(w.store, w.clock, quiet)
	life, err := jobs.New(jobs.Config{Store: w.store, Code: code.New(code.Config{Store: w.store, Deployment: publicURL, Log: quiet}), Sightings: sightings, Key: key, Log: quiet})
	w.must(err)
	w.access = access.New(access.Config{Store: w.store, Jobs: life, Sightings: sightings, Log: quiet, Now: w.clock})
	w.app = newApp(w)
	w.oauth, err = oauth.New(oauth.Config{
		Store: w.store, Auth: w.auth, Access: w.access, Revoke: life.RevokeToken, Inbox: w.app, Issuer: authApp, Deployment: deployment,
		PublicURL: publicURL, Key: key, Notify: http.DefaultClient, Refused: func(l hpcsera.AuditLine) { w.refusals = append(w.refusals, l) }, Log: quiet, Now: w.clock,
	})
	w.must(err)
	w.handler = w.oauth.Handler()
	w.populate()
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.now.IsZero() {
		return time.Now()
	}
	return w.now
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
}

func (w *world) populate() {
	w.Helper()
	ctx, by := w.Context(), auth.OperatorOnHost()
	for _, user := range []string{"alice", "bob"} {
		_, err := w.access.CreateUser(ctx, by, access.NewUser{Name: user})
		w.must(err)
	}
	for project, user := range map[string]string{"cfd": "alice", "bio": "bob"} {
		_, err := w.access.CreateProject(ctx, by, access.NewProject{Name: project, Members: map[string]hpcsera.MemberRole{user: hpcsera.Owner}})
		w.must(err)
	}
	_, err := w.access.CreateSite(ctx, by, access.Named{Name: "gwdg"})
	w.must(err)
	for _, name := range []string{"gitlab", "lake", "tool", "pinged", "plain", "cli"} {
		_, err := w.access.CreateClient(ctx, by, access.Named{Name: name})
		w.must(err)
	}
	w.key = newJWK(w.T, "lake-1")
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{w.key.Public()}})
	w.must(err)
	w.register(access.NewRegistration{Client: "gitlab", Method: hpcsera.SecretClient, CIBA: hpcsera.Poll})
	w.register(access.NewRegistration{Client: "lake", Method: hpcsera.KeyClient, Keys: string(keys)})
	w.register(access.NewRegistration{Client: "tool", Method: hpcsera.PublicClient})
	for _, client := range []string{"gitlab", "pinged"} {
		_, err = w.access.EnableClient(ctx, person("alice"), access.Enabling{User: "alice", Client: client, Enabled: true})
		w.must(err)
	}
}

func (w *world) register(r access.NewRegistration) {
	w.Helper()
	made, err := w.access.Register(w.Context(), auth.OperatorOnHost(), r)
	w.must(err)
	w.secrets[r.Client] = made.Secret
}

func person(user string) *auth.Principal {
	return &auth.Principal{Person: &auth.Person{User: user, SteppedUp: true}}
}

// reply is what an endpoint answered.
type reply struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

// str returns a member of the answer.
func (r reply) str(name string) string { s, _ := r.body[name].(string); return s }

// post sends a form as a client: basic authentication where it has a secret,
// client_id otherwise.
func (w *world) post(client, path string, params ...string) reply {
	w.Helper()
	form := url.Values{}
	for pair := range slices.Chunk(params, 2) {
		form.Set(pair[0], pair[1])
	}
	if w.secrets[client] == "" && client != "" {
		form.Set("client_id", client)
	}
	r := httptest.NewRequest(http.MethodPost, publicURL+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if w.secrets[client] != "" {
		r.SetBasicAuth(url.QueryEscape(client), url.QueryEscape(w.secrets[client]))
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) reply {
	w.Helper()
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	got := reply{status: rec.Code, header: rec.Header(), text: rec.Body.String()}
	w.must(json.Unmarshal(rec.Body.Bytes(), &got.body))
	if cache := got.header.Get("Cache-Control"); r.Method == http.MethodPost && cache != "no-store" {
		w.Errorf("%s: Cache-Control is %q, want no-store", r.URL.Path, cache)
	}
	return got
}

// refused checks an error as OAuth has it.
func (w *world) refused(name string, got reply, status int, code string) {
	w.Helper()
	if got.status != status || got.str("error") != code {
		w.Errorf("%s: got %d %s, want %d %s", name, got.status, got.text, status, code)
	}
	for _, c := range got.str("error_description") {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			w.Errorf("%s: error_description %q holds %q, which RFC 6749 does not allow", name, got.str("error_description"), c)
		}
	}
	if got.status == http.StatusUnauthorized && got.header.Get("WWW-Authenticate") == "" {
		w.Errorf("%s: a 401 without WWW-Authenticate", name)
	}
}

const (
	deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
	cibaGrant   = "urn:openid:params:grant-type:ciba"
	ciScope     = "project:cfd for:ci"
)

// device asks for a token and returns the answer and the request.
func (w *world) device(client string, params ...string) (reply, decision.Request) {
	w.Helper()
	if len(params) == 0 {
		params = []string{"scope", ciScope}
	}
	got := w.post(client, "/oauth/device_authorization", params...)
	if got.status != http.StatusOK {
		w.Fatalf("device authorization: got %d %s", got.status, got.text)
	}
	return got, w.app.last()
}

// collect asks the token endpoint for what a device asked for, after the
// interval.
func (w *world) collect(client string, asked reply) reply {
	w.Helper()
	w.wait(6 * time.Second)
	return w.post(client, "/oauth/token", "grant_type", deviceGrant, "device_code", asked.str("device_code"))
}

// apply hands a decision to the service.
func (w *world) apply(text string) error {
	w.Helper()
	_, err := w.oauth.Apply(w.Context(), text)
	return err
}

// lines returns the whole audit log.
func (w *world) lines() (lines []hpcsera.AuditLine) {
	w.Helper()
	w.must(w.store.Read(w.Context(), func(r store.Reader) (err error) {
		lines, err = r.Audit(store.AuditFilter{Limit: 1000})
		return err
	}))
	return lines
}

// audit returns the actions of the audit log that concern a user, oldest
// first, with ! where something was refused.
func (w *world) audit(about string) (actions []string) {
	w.Helper()
	w.must(w.store.Read(w.Context(), func(r store.Reader) error {
		lines, err := r.Audit(store.AuditFilter{Limit: 1000})
		for _, line := range lines {
			if line.About != about {
				continue
			}
			action := line.Actor + " " + line.Action
			if line.Refused != "" {
				action += "!"
			}
			actions = append(actions, action)
		}
		return err
	}))
	return actions
}

// app is an Auth app that decides what a test says. Its messages are real.
type app struct {
	w   *world
	key decision.Key

	mu        sync.Mutex
	posted    []decision.Request
	cancelled []string
	waiting   map[string]string // decisions by id
	down      bool
	refuses   hpcsera.Code // what is posted
	arrived   chan struct{}
}

func newApp(w *world) *app {
	key, err := decision.NewKey()
	w.must(err)
	return &app{w: w, key: key, waiting: map[string]string{}, arrived: make(chan struct{}, 1)}
}

func (a *app) unreachable() error {
	if a.down {
		return hpcsera.Errorf(hpcsera.Unavailable, "the Auth app cannot be reached.")
	}
	return nil
}

func (a *app) Post(_ context.Context, r decision.Request) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.unreachable(); err != nil {
		return err
	}
	if a.refuses != "" {
		return hpcsera.Errorf(a.refuses, "no.")
	}
	a.posted = append(a.posted, r)
	return r.Validate()
}

func (a *app) Cancel(_ context.Context, id string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cancelled = append(a.cancelled, id)
	return a.unreachable()
}

func (a *app) RequestURL(id string) string { return authApp + "/requests/" + deployment + "/" + id }
func (a *app) CodeURL() string             { return authApp + "/code" }

func (a *app) Decisions(ctx context.Context, wait time.Duration) ([]string, error) {
	for {
		a.mu.Lock()
		err := a.unreachable()
		var texts []string
		for _, text := range a.waiting {
			texts = append(texts, text)
		}
		a.mu.Unlock()
		if err != nil || len(texts) > 0 {
			return texts, err
		}
		select {
		case <-a.arrived:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *app) Ack(_ context.Context, ids ...string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		delete(a.waiting, id)
	}
	return nil
}

func (a *app) Keys(context.Context) ([]jose.JSONWebKey, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return []jose.JSONWebKey{a.key.Public()}, a.unreachable()
}

// deliver hands a decision to whoever polls.
func (a *app) deliver(id, text string) {
	a.mu.Lock()
	a.waiting[id] = text
	a.mu.Unlock()
	select {
	case a.arrived <- struct{}{}:
	default:
	}
}

func (a *app) undelivered() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.waiting)
}

func (a *app) last() decision.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.posted[len(a.posted)-1]
}

// yes is alice's yes to all of a request.
func (a *app) yes(r decision.Request) decision.Decision {
	now := a.w.clock()
	return decision.Decision{
		ID: hpcsera.NewID("dc"), Issuer: authApp, Audience: deployment, Request: r.ID, Kind: r.Kind, User: "alice", Granted: true,
		Roles: r.Roles, Until: r.Until, Decided: now, Expires: now.Add(24 * time.Hour),
	}
}

func (a *app) no(r decision.Request) decision.Decision {
	d := a.yes(r)
	d.Granted, d.Roles, d.Until = false, 0, time.Time{}
	return d
}

func (a *app) sign(d decision.Decision) string {
	text, err := d.Sign(a.key)
	a.w.must(err)
	return text
}
