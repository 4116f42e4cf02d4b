package signin_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/signin"
	"github.com/hpcsera/hpcsera/internal/signin/signintest"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

const (
	issuer = "https://auth.example.org"
	own    = "https://hpc.example.org"
)

// local answers requests without a network.
type local struct{ http.Handler }

func (l local) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w.Result(), nil
}

type world struct {
	t     *testing.T
	now   time.Time
	ahead time.Duration // of the Auth app's clock
	store store.Store
	app   *signintest.Provider
	s     *signin.Service

	fetched atomic.Int64 // how often the Auth app's keys were asked for
}

// ServeHTTP is the Auth app's.
func (w *world) ServeHTTP(res http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/oidc/keys" {
		w.fetched.Add(1)
	}
	w.app.ServeHTTP(res, r)
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
	w.app = signintest.New(t, issuer, "hpc", own, func() time.Time { return w.now.Add(w.ahead) })
	w.s, err = signin.New(signin.Config{
		Store: db, Users: access.New(access.Config{Store: db, Log: quiet, Now: clock}), Issuer: issuer, Name: "hpc", URL: own,
		Assertion: w.app.Assertion, HTTP: &http.Client{Transport: local{w}}, Key: []byte(strings.Repeat("k", 32)), Log: quiet, Now: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// answer goes to the Auth app and returns what it sends the browser back with.
func (w *world) answer(b signin.Begun) url.Values {
	w.t.Helper()
	res := httptest.NewRecorder()
	w.app.ServeHTTP(res, httptest.NewRequest(http.MethodGet, b.URL, nil))
	to, err := url.Parse(res.Header().Get("Location"))
	if err != nil || res.Code != http.StatusFound || !strings.HasPrefix(to.String(), own+"/signin/callback?") {
		w.t.Fatalf("the Auth app answered %d %s %q", res.Code, res.Body, to)
	}
	return to.Query()
}

func (w *world) begin(b signin.Begin) signin.Begun {
	w.t.Helper()
	begun, err := w.s.Begin(w.t.Context(), b)
	if err != nil {
		w.t.Fatal(err)
	}
	return begun
}

func (w *world) signIn(b signin.Begin) (signin.Finished, error) {
	w.t.Helper()
	begun := w.begin(b)
	return w.s.Finish(w.t.Context(), w.answer(begun), begun.Sealed, "Firefox")
}

func (w *world) signedIn(b signin.Begin) signin.Finished {
	w.t.Helper()
	f, err := w.signIn(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return f
}

// who returns the user whom a cookie stands for, with + when stepped up.
func (w *world) who(secret string) string {
	w.t.Helper()
	_, p, err := w.s.Current(w.t.Context(), secret)
	switch {
	case err != nil:
		w.t.Fatal(err)
	case p == nil:
		return ""
	case p.Person.SteppedUp:
		return p.Person.User + "+"
	}
	return p.Person.User
}

func TestNobodyIsSignedInByAnAnswerThatIsNotToOurQuestion(t *testing.T) {
	w := newWorld(t)
	begun, other := w.begin(signin.Begin{To: "/"}), w.begin(signin.Begin{To: "/"})
	good := w.answer(begun)
	with := func(name string, values ...string) url.Values {
		q := url.Values{}
		for k, v := range good {
			q[k] = v
		}
		if q[name] = values; len(values) == 0 {
			delete(q, name)
		}
		return q
	}
	for name, c := range map[string]struct {
		query  url.Values
		sealed string
	}{
		"begun in another browser":        {good, ""},
		"begun in another tab":            {good, other.Sealed},
		"a cookie of nobody's making":     {good, "AAAA"},
		"another state":                   {with("state", other.State), begun.Sealed},
		"no state":                        {with("state"), begun.Sealed},
		"another issuer (mix-up)":         {with("iss", "https://evil.example.org"), begun.Sealed},
		"no issuer":                       {with("iss"), begun.Sealed},
		"two issuers":                     {with("iss", issuer, issuer), begun.Sealed},
		"two codes":                       {with("code", "a", "b"), begun.Sealed},
		"no code":                         {with("code"), begun.Sealed},
		"a code of somebody's invention":  {with("code", "x"), begun.Sealed},
		"a refusal":                       {with("error", "access_denied"), begun.Sealed},
		"the code of another sign-in":     {with("code", w.answer(other).Get("code")), begun.Sealed},
		"an error that brings its markup": {with("error", "<script>"), begun.Sealed},
	} {
		if f, err := w.s.Finish(t.Context(), c.query, c.sealed, "Firefox"); hpcsera.CodeOf(err) != hpcsera.Forbidden || f.Secret != "" {
			t.Errorf("%s: got %q, %v, want it refused", name, f.Session.User, err)
		}
	}
	if _, err := w.s.Finish(t.Context(), good, begun.Sealed, "Firefox"); err != nil {
		t.Errorf("the true answer: %v", err)
	}
	if _, err := w.s.Finish(t.Context(), good, begun.Sealed, "Firefox"); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("the same answer again: got %v, want it refused", err)
	}
	late := w.begin(signin.Begin{To: "/"})
	query := w.answer(late)
	w.now = w.now.Add(10 * time.Minute)
	if _, err := w.s.Finish(t.Context(), query, late.Sealed, "Firefox"); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("after ten minutes: got %v, want it refused", err)
	}
}

func TestAnIDTokenThatIsNotForUsSignsNobodyIn(t *testing.T) {
	w := newWorld(t)
	for name, lie := range map[string]map[string]any{
		"another nonce":          {"nonce": "x"},
		"no nonce":               {"nonce": nil},
		"another audience":       {"aud": "other"},
		"two audiences":          {"aud": []string{"hpc", "other"}},
		"another issuer":         {"iss": "https://evil.example.org"},
		"expired":                {"exp": w.now.Add(-time.Hour).Unix()},
		"no auth_time":           {"auth_time": nil},
		"signed in tomorrow":     {"auth_time": w.now.Add(24 * time.Hour).Unix()},
		"signed by another":      {"key": "other"},
		"no name":                {"sub": ""},
		"a name that is none":    {"sub": "Alice <script>"},
		"a path as a name":       {"sub": "../alice"},
		"a name of another case": {"sub": "ALICE"},
	} {
		w.app.Lie(func(_ url.Values, claims map[string]any) {
			for k, v := range lie {
				if claims[k] = v; v == nil {
					delete(claims, k)
				}
			}
		})
		if f, err := w.signIn(signin.Begin{To: "/"}); hpcsera.CodeOf(err) != hpcsera.Forbidden || f.Secret != "" {
			t.Errorf("%s: got %q, %v, want it refused", name, f.Session.User, err)
		}
	}
}

func TestAUserIsMadeAtTheFirstSignInAndADisabledOneStaysOut(t *testing.T) {
	w := newWorld(t)
	first := w.signedIn(signin.Begin{To: "/tokens"})
	if first.To != "/tokens" || w.who(first.Secret) != "alice+" {
		t.Errorf("got to %q as %q", first.To, w.who(first.Secret))
	}
	disable := func(disabled bool) {
		w.write(func(tx store.Tx) error {
			u, err := tx.User("alice")
			if err != nil {
				return err
			}
			u.Disabled = disabled
			return tx.UpdateUser(*u)
		})
	}
	disable(true)
	if got := w.who(first.Secret); got != "" {
		t.Errorf("a disabled user's session is %q at the next request, want nobody", got)
	}
	if _, err := w.signIn(signin.Begin{To: "/"}); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("a disabled user: got %v, want refused", err)
	}
	disable(false)
	if got := w.who(first.Secret); got != "" {
		t.Errorf("enabled again, the old session is %q, want nobody", got)
	}
}

func (w *world) write(fn func(store.Tx) error) {
	w.t.Helper()
	if err := w.store.Write(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func TestASessionIsNewAtEverySignInAndTheOldOneEnds(t *testing.T) {
	w := newWorld(t)
	first := w.signedIn(signin.Begin{To: "/"})
	second := w.signedIn(signin.Begin{To: "/", Now: &first.Session})
	if first.Secret == second.Secret || first.Session.ID == second.Session.ID {
		t.Error("the session was kept: who planted it would be signed in")
	}
	if w.who(first.Secret) != "" || w.who(second.Secret) != "alice+" {
		t.Errorf("the old one is %q, the new one %q", w.who(first.Secret), w.who(second.Secret))
	}
	id, secret, _ := strings.Cut(second.Secret, ".")
	_, others, _ := strings.Cut(first.Secret, ".")
	for _, forged := range []string{"", id, id + ".", id + "." + others, first.Session.ID + "." + secret, second.Secret + "A", "." + secret} {
		if got := w.who(forged); got != "" {
			t.Errorf("the cookie %q is %q, want nobody", forged, got)
		}
	}
}

func TestASecondFactorCountsForFiveMinutes(t *testing.T) {
	w := newWorld(t)
	for name, methods := range map[string][]string{"a password alone": {"pwd"}, "an institution's word": {"fed"}, "nothing": nil} {
		w.app.Let("alice", methods...)
		if got := w.who(w.signedIn(signin.Begin{To: "/"}).Secret); got != "alice" {
			t.Errorf("%s: got %q, want alice without a second factor", name, got)
		}
	}
	weak := w.signedIn(signin.Begin{To: "/"})
	if _, err := w.signIn(signin.Begin{To: "/", Now: &weak.Session, StepUp: true}); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("a step-up without a second factor: got %v, want it refused", err)
	}
	w.app.Let("alice", "pwd", "mfa")
	f := w.signedIn(signin.Begin{To: "/"})
	w.now = w.now.Add(auth.StepUp - time.Second)
	if got := w.who(f.Secret); got != "alice+" {
		t.Errorf("within five minutes: got %q, want alice+", got)
	}
	w.now = w.now.Add(time.Second)
	if got := w.who(f.Secret); got != "alice" {
		t.Errorf("after five minutes: got %q, want alice", got)
	}
	w.app.Lie(func(_ url.Values, claims map[string]any) { claims["auth_time"] = f.Session.AuthTime.Unix() })
	if _, err := w.signIn(signin.Begin{To: "/", Now: &f.Session, StepUp: true}); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("an Auth app that did not ask again: got %v, want it refused", err)
	}
	w.app.Lie(nil)
	up := w.signedIn(signin.Begin{To: "/tokens/new", Now: &f.Session, StepUp: true})
	if asked := w.app.Asked(); asked[len(asked)-1].Get("max_age") != "0" || asked[len(asked)-1].Get("prompt") != "login" {
		t.Errorf("a step-up asked %v", asked[len(asked)-1])
	}
	if w.who(up.Secret) != "alice+" || w.who(f.Secret) != "" || up.To != "/tokens/new" {
		t.Errorf("stepped up: %q to %q; the session before is %q", w.who(up.Secret), up.To, w.who(f.Secret))
	}
}

func TestSomebodyElseCannotStepUpAnothersSession(t *testing.T) {
	w := newWorld(t)
	f := w.signedIn(signin.Begin{To: "/"})
	w.app.Let("mallory", "pwd", "mfa")
	if _, err := w.signIn(signin.Begin{To: "/", Now: &f.Session, StepUp: true}); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("got %v, want it refused", err)
	}
	if w.who(f.Secret) != "alice+" {
		t.Errorf("the session is %q now", w.who(f.Secret))
	}
	var last []hpcsera.AuditLine
	if err := w.store.Read(t.Context(), func(r store.Reader) (err error) {
		last, err = r.Audit(store.AuditFilter{User: "alice", Newest: true, Limit: 1})
		return err
	}); err != nil || len(last) != 1 || last[0].Refused != hpcsera.Forbidden || !strings.Contains(last[0].Detail, "mallory") {
		t.Errorf("alice's audit log says %+v, %v", last, err)
	}
	if list, err := w.s.Sessions(t.Context(), person("mallory"), "mallory"); err != nil || len(list) != 0 {
		t.Errorf("mallory has the sessions %v, %v", list, err)
	}
}

func TestASessionEndsAfterAnHourUnusedAndTwelveHours(t *testing.T) {
	w := newWorld(t)
	f := w.signedIn(signin.Begin{To: "/"})
	began := w.now
	for w.now.Sub(began) < 12*time.Hour-50*time.Minute {
		w.now = w.now.Add(50 * time.Minute)
		if w.now.Sub(began) < 12*time.Hour && w.who(f.Secret) != "alice" {
			t.Fatalf("a session in use ended after %v", w.now.Sub(began))
		}
	}
	w.now = began.Add(12 * time.Hour)
	if got := w.who(f.Secret); got != "" {
		t.Errorf("after twelve hours: got %q, want nobody", got)
	}
	f = w.signedIn(signin.Begin{To: "/"})
	w.now = w.now.Add(time.Hour)
	if got := w.who(f.Secret); got != "" {
		t.Errorf("an hour unused: got %q, want nobody", got)
	}
}

func person(user string) *auth.Principal {
	return &auth.Principal{Person: &auth.Person{User: user}}
}

func TestSessionsAreEndedByTheirUserAndByOperators(t *testing.T) {
	w := newWorld(t)
	a, b := w.signedIn(signin.Begin{To: "/"}), w.signedIn(signin.Begin{To: "/"})
	if err := w.s.End(t.Context(), person("mallory"), a.Session.ID); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("another's session: got %v, want not_found", err)
	}
	if _, err := w.s.Sessions(t.Context(), person("mallory"), "alice"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("another's list: got %v, want not_found", err)
	}
	if list, err := w.s.Sessions(t.Context(), person("alice"), "alice"); err != nil || len(list) != 2 || list[0].Browser != "Firefox" {
		t.Errorf("got %v, %v, want two sessions", list, err)
	}
	if err := w.s.End(t.Context(), person("alice"), a.Session.ID); err != nil || w.who(a.Secret) != "" || w.who(b.Secret) == "" {
		t.Errorf("got %v; the ended one is %q, the other %q", err, w.who(a.Secret), w.who(b.Secret))
	}
	operator := &auth.Principal{Person: &auth.Person{User: "root", Operator: true}}
	if err := w.s.End(t.Context(), operator, b.Session.ID); err != nil || w.who(b.Secret) != "" {
		t.Errorf("an operator: got %v, the session is %q", err, w.who(b.Secret))
	}
	if err := w.s.End(t.Context(), operator, b.Session.ID); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("again: got %v, want not_found", err)
	}
}

func TestTheAuthAppEndsSessionsAndNobodyElseDoes(t *testing.T) {
	w := newWorld(t)
	f := w.signedIn(signin.Begin{To: "/"})
	mine := map[string]any{"sub": "alice", "sid": "sid-of-alice"}
	but := func(name string, value any) map[string]any {
		return map[string]any{"sub": "alice", "sid": "sid-of-alice", name: value}
	}
	assertion, err := w.app.Assertion()
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"nothing":               "",
		"words":                 "logout",
		"another signer":        assertion,
		"another issuer":        w.app.Logout(but("iss", "https://evil.example.org")),
		"another deployment":    w.app.Logout(but("aud", "other")),
		"an id_token (nonce)":   w.app.Logout(but("nonce", "n")),
		"without the event":     w.app.Logout(but("events", map[string]any{})),
		"expired":               w.app.Logout(but("exp", w.now.Add(-time.Hour).Unix())),
		"without an id":         w.app.Logout(but("jti", nil)),
		"about nobody":          w.app.Logout(map[string]any{}),
		"a token of the future": strings.Repeat("x", 10),
	} {
		if err := w.s.LoggedOut(t.Context(), token); hpcsera.CodeOf(err) != hpcsera.MalformedRequest {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	for name, claims := range map[string]map[string]any{"another user": {"sub": "bob"}, "another session": {"sid": "sid-of-bob"}} {
		if err := w.s.LoggedOut(t.Context(), w.app.Logout(claims)); err != nil || w.who(f.Secret) == "" {
			t.Errorf("%s: got %v, the session is %q", name, err, w.who(f.Secret))
		}
	}
	token, ofUser := w.app.Logout(mine), w.app.Logout(map[string]any{"sub": "alice"})
	if err := w.s.LoggedOut(t.Context(), token); err != nil || w.who(f.Secret) != "" {
		t.Errorf("got %v, the session is %q, want nobody", err, w.who(f.Secret))
	}
	w.now = w.now.Add(5 * time.Second)
	w.app.Lie(func(_ url.Values, claims map[string]any) { claims["sid"] = "the-next-sid-of-alice" })
	later := w.signedIn(signin.Begin{To: "/"})
	w.app.Lie(nil)
	for _, old := range []string{token, ofUser} {
		if err := w.s.LoggedOut(t.Context(), old); err != nil || w.who(later.Secret) == "" {
			t.Errorf("a token from before: got %v; a later session is %q, want it to go on", err, w.who(later.Secret))
		}
	}
	for _, claims := range []map[string]any{{"sub": "alice"}, {"sid": "sid-of-alice"}} {
		f := w.signedIn(signin.Begin{To: "/"})
		if err := w.s.LoggedOut(t.Context(), w.app.Logout(claims)); err != nil || w.who(f.Secret) != "" {
			t.Errorf("%v: got %v, the session is %q, want nobody", claims, err, w.who(f.Secret))
		}
	}
}

func TestForgedLogoutTokensMakeNobodyFetchKeysAllTheTime(t *testing.T) {
	w := newWorld(t)
	forge := func() string {
		header, rest, _ := strings.Cut(w.app.Logout(map[string]any{"sub": "alice"}), ".")
		claims, _, _ := strings.Cut(rest, ".")
		return header + "." + claims + "." + strings.Repeat("A", 86)
	}
	flood := func(want int64) {
		t.Helper()
		before := w.fetched.Load()
		for range 50 {
			if err := w.s.LoggedOut(t.Context(), forge()); hpcsera.CodeOf(err) != hpcsera.MalformedRequest {
				t.Errorf("a forged token: got %v, want it refused", err)
			}
		}
		if got := w.fetched.Load() - before; got != want {
			t.Errorf("50 forged tokens fetched the keys %d times, want %d", got, want)
		}
	}
	goodbye := func() error { return w.s.LoggedOut(t.Context(), w.app.Logout(map[string]any{"sub": "alice"})) }
	flood(1)
	if err := goodbye(); err != nil {
		t.Errorf("a true token in between: %v", err)
	}
	w.now = w.now.Add(29 * time.Second)
	flood(0)
	w.now = w.now.Add(time.Second)
	flood(1)
	w.app.Rotate()
	flood(0)
	w.signedIn(signin.Begin{To: "/"}) // needs the new key at once
	w.now = w.now.Add(30 * time.Second)
	if err := goodbye(); err != nil {
		t.Errorf("a true token by the new key: %v", err)
	}
}

func TestEventsOfTheAuthAppEndAccess(t *testing.T) {
	for name, c := range map[string]struct {
		event          decision.Event
		ago            time.Duration
		goes, disabled bool
	}{
		"another user left":       {decision.Event{Type: decision.Left, User: "bob"}, 0, true, false},
		"another session ended":   {decision.Event{Type: decision.SignedOut, User: "alice", Session: "sid-of-bob"}, 0, true, false},
		"an event from before":    {decision.Event{Type: decision.Left, User: "alice"}, time.Hour, true, false},
		"alice is enabled again":  {decision.Event{Type: decision.Returned, User: "alice"}, 0, true, false},
		"the session ended there": {decision.Event{Type: decision.SignedOut, User: "alice", Session: "sid-of-alice"}, 0, false, false},
		"alice left":              {decision.Event{Type: decision.Left, User: "alice"}, 0, false, true},
	} {
		w := newWorld(t)
		f := w.signedIn(signin.Begin{To: "/"})
		c.event.At = w.now.Add(-c.ago)
		for range 2 { // it may come again
			if err := w.s.Heard(t.Context(), c.event); err != nil || (w.who(f.Secret) != "") != c.goes {
				t.Errorf("%s: got %v, the session is %q", name, err, w.who(f.Secret))
			}
		}
		var alice *hpcsera.User
		err := w.store.Read(t.Context(), func(r store.Reader) (err error) {
			alice, err = r.User("alice")
			return err
		})
		if err != nil || alice.Disabled != c.disabled {
			t.Errorf("%s: alice is %+v (%v), want disabled %v", name, alice, err, c.disabled)
		}
	}
}

func TestEventsAreHeldAgainstTheAuthAppsClock(t *testing.T) {
	for name, c := range map[string]struct {
		event          decision.Event
		after          time.Duration // the sign-in
		goes, disabled bool
	}{
		"the session ended there":  {decision.Event{Type: decision.SignedOut, User: "alice", Session: "sid-of-alice"}, 5 * time.Second, false, false},
		"alice left":               {decision.Event{Type: decision.Left, User: "alice"}, 5 * time.Second, false, true},
		"alice left, and was back": {decision.Event{Type: decision.Left, User: "alice"}, -5 * time.Second, true, false},
	} {
		for _, ahead := range []time.Duration{-30 * time.Second, 30 * time.Second} {
			w := newWorld(t)
			w.ahead = ahead
			f := w.signedIn(signin.Begin{To: "/"})
			c.event.At = w.now.Add(ahead + c.after)
			if err := w.s.Heard(t.Context(), c.event); err != nil || (w.who(f.Secret) != "") != c.goes {
				t.Errorf("%s, a clock %v ahead: got %v, the session is %q", name, ahead, err, w.who(f.Secret))
			}
			var alice *hpcsera.User
			err := w.store.Read(t.Context(), func(r store.Reader) (err error) {
				alice, err = r.User("alice")
				return err
			})
			if err != nil || alice.Disabled != c.disabled {
				t.Errorf("%s, a clock %v ahead: alice is %+v (%v), want disabled %v", name, ahead, alice, err, c.disabled)
			}
		}
	}
}

func TestTheMomentOfASessionsEndDoesNotMatter(t *testing.T) {
	w := newWorld(t)
	f := w.signedIn(signin.Begin{To: "/"})
	e := decision.Event{Type: decision.SignedOut, User: "alice", Session: "sid-of-alice", At: w.now.Add(-time.Hour)}
	if err := w.s.Heard(t.Context(), e); err != nil || w.who(f.Secret) != "" {
		t.Errorf("got %v, the session is %q, want nobody", err, w.who(f.Secret))
	}
}

// told is an Auth app's list of events.
type told struct {
	events []decision.Event
	away   int
	acked  chan string
}

func (e *told) Events(ctx context.Context, _ time.Duration) ([]decision.Event, error) {
	if e.away > 0 {
		e.away--
		return nil, errors.New("the Auth app is away")
	}
	if len(e.events) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return e.events, nil
}

func (e *told) Ack(_ context.Context, ids ...string) error {
	e.events = e.events[len(ids):]
	for _, id := range ids {
		e.acked <- id
	}
	return nil
}

func TestEventsAreAppliedBeforeTheyAreAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f := w.signedIn(signin.Begin{To: "/"})
		from := &told{away: 3, acked: make(chan string, 2), events: []decision.Event{
			{ID: "ev_1", Type: decision.SignedOut, User: "alice", Session: "sid-of-bob", At: w.now}, {ID: "ev_2", Type: decision.Left, User: "alice", At: w.now},
		}}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.s.Listen(ctx, from) }()
		if first, second := <-from.acked, <-from.acked; first != "ev_1" || second != "ev_2" || w.who(f.Secret) != "" {
			t.Errorf("acknowledged %s, %s, the session is %q; want both, and nobody", first, second, w.who(f.Secret))
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAFormWaitsForItsUserOnly(t *testing.T) {
	w := newWorld(t)
	w.signedIn(signin.Begin{To: "/"})
	keep := func(user string) string {
		id, err := w.s.Keep(t.Context(), person(user), "/tokens", url.Values{"project": {"cfd"}})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	id := keep("alice")
	keep("bob")
	for name, c := range map[string][2]string{"another's": {"bob", id}, "one that is not there": {"alice", "kf_x"}, "nobody's": {"carol", id}} {
		if _, err := w.s.Kept(t.Context(), person(c[0]), c[1]); hpcsera.CodeOf(err) != hpcsera.NotFound {
			t.Errorf("%s: got %v, want not_found", name, err)
		}
	}
	if f, err := w.s.Kept(t.Context(), person("alice"), id); err != nil || f.Path != "/tokens" || f.Values.Get("project") != "cfd" {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := w.s.Take(t.Context(), person("bob"), id); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("bob takes alice's: got %v, want not_found", err)
	}
	if f, err := w.s.Take(t.Context(), person("alice"), id); err != nil || f.ID != id {
		t.Errorf("got %+v, %v", f, err)
	}
	if _, err := w.s.Take(t.Context(), person("alice"), id); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("a second time: got %v, want not_found", err)
	}
	id = keep("alice")
	w.now = w.now.Add(15 * time.Minute)
	if _, err := w.s.Kept(t.Context(), person("alice"), id); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("after a quarter of an hour: got %v, want not_found", err)
	}
}

func TestAnAuthAppThatIsAwayIsToldAndAskedAgain(t *testing.T) {
	w := newWorld(t)
	away := true
	quiet := slog.New(slog.DiscardHandler)
	var told strings.Builder
	s, err := signin.New(signin.Config{
		Store: w.store, Users: access.New(access.Config{Store: w.store, Log: quiet}), Issuer: issuer, Name: "hpc", URL: own, Assertion: w.app.Assertion,
		HTTP: &http.Client{Transport: local{http.HandlerFunc(func(res http.ResponseWriter, r *http.Request) {
			if away {
				http.Redirect(res, r, "https://evil.example.org"+r.URL.Path, http.StatusFound)
				return
			}
			w.app.ServeHTTP(res, r)
		})}},
		Key: []byte(strings.Repeat("k", 32)), Log: slog.New(slog.NewTextHandler(&told, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(context.Background(), signin.Begin{To: "/"}); hpcsera.CodeOf(err) != hpcsera.Unavailable || strings.Contains(err.Error(), "302") {
		t.Errorf("got %v, want unavailable and no raw error", err)
	}
	if !strings.Contains(told.String(), "302") {
		t.Errorf("the log says %q, want why", told.String())
	}
	away = false
	if _, err := s.Begin(t.Context(), signin.Begin{To: "/"}); err != nil {
		t.Errorf("when it is back: %v", err)
	}
}
