package oauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// ciba asks alice, with parameters in place of the usual ones.
func (w *world) ciba(client string, params ...string) reply {
	w.Helper()
	return w.post(client, "/oauth/bc-authorize", append([]string{"scope", "openid " + ciScope, "login_hint", "alice"}, params...)...)
}

// redeem collects what CIBA asked for.
func (w *world) redeem(client string, asked reply) reply {
	w.Helper()
	w.wait(6 * time.Second)
	return w.post(client, "/oauth/token", "grant_type", cibaGrant, "auth_req_id", asked.str("auth_req_id"))
}

func TestNobodyIsAskedByAClientThatTheyDidNotEnable(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, client string
		params       []string
		status       int
		code         string
	}{
		{"a user who did not enable it", "gitlab", []string{"login_hint", "bob"}, 400, "unknown_user_id"},
		{"a user who does not exist", "gitlab", []string{"login_hint", "mallory"}, 400, "unknown_user_id"},
		{"no user's name", "gitlab", []string{"login_hint", "Alice <a@b.c>"}, 400, "unknown_user_id"},
		{"nobody", "gitlab", []string{"login_hint", ""}, 400, "invalid_request"},
		{"by an id_token", "gitlab", []string{"id_token_hint", "a.b.c"}, 400, "invalid_request"},
		{"by a token", "gitlab", []string{"login_hint_token", "a.b.c"}, 400, "invalid_request"},
		{"a signed request", "gitlab", []string{"request", "a.b.c"}, 400, "invalid_request"},
		{"without openid", "gitlab", []string{"scope", ciScope}, 400, "invalid_scope"},
		{"without a project", "gitlab", []string{"scope", "openid"}, 400, "invalid_scope"},
		{"another's project", "gitlab", []string{"scope", "openid project:bio role:1"}, 403, "access_denied"},
		{"a site that does not exist", "gitlab", []string{"scope", "openid project:cfd role:1 site:x"}, 403, "access_denied"},
		{"65 characters", "gitlab", []string{"binding_message", strings.Repeat("ä", 65)}, 400, "invalid_binding_message"},
		{"a line of its own", "gitlab", []string{"binding_message", "ok\nAllow everything"}, 400, "invalid_binding_message"},
		{"letters that turn others", "gitlab", []string{"binding_message", "a\u202eb"}, 400, "invalid_binding_message"},
		{"an end that is none", "gitlab", []string{"requested_expiry", "-1"}, 400, "invalid_request"},
		{"a session", "gitlab", []string{"scope", "openid", "authorization_details", `[{"type":"hpcsera_session"}]`}, 400, "invalid_authorization_details"},
		{"a client without CIBA", "tool", nil, 400, "unauthorized_client"},
		{"our own client", "cli", nil, 400, "unauthorized_client"},
		{"a client that proved nothing", "", []string{"client_id", "gitlab"}, 401, "invalid_client"},
	} {
		w.refused(c.name, w.ciba(c.client, c.params...), c.status, c.code)
	}
	_, err := w.access.SetUser(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "alice", Disabled: true})
	w.must(err)
	w.refused("a user who is disabled", w.ciba("gitlab"), 400, "unknown_user_id")
	_, err = w.access.SetUser(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "alice"})
	w.must(err)
	_, err = w.access.EnableClient(t.Context(), person("alice"), access.Enabling{User: "alice", Client: "gitlab"})
	w.must(err)
	w.refused("a user who does not want it any more", w.ciba("gitlab"), 400, "unknown_user_id")
	if len(w.app.posted) != 0 {
		t.Errorf("alice was asked %d times, want 0", len(w.app.posted))
	}
}

func TestOnlyTheUserLetsAClientAsk(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		by   *auth.Principal
		want hpcsera.Code
	}{
		"another user":            {person("bob"), hpcsera.NotFound},
		"an operator":             {&auth.Principal{Person: &auth.Person{User: "root", Operator: true, SteppedUp: true}}, hpcsera.NotFound},
		"a session":               {&auth.Principal{Person: &auth.Person{User: "alice", KeyBound: true}}, hpcsera.Forbidden},
		"without a second factor": {&auth.Principal{Person: &auth.Person{User: "alice"}}, hpcsera.StepUpRequired},
		"the user":                {person("alice"), ""},
	} {
		if _, err := w.access.EnableClient(t.Context(), c.by, access.Enabling{User: "alice", Client: "lake", Enabled: true}); hpcsera.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	stop := access.Enabling{User: "alice", Client: "pinged"}
	if _, err := w.access.EnableClient(t.Context(), person("bob"), stop); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("bob stops a client of alice's: got %v", err)
	}
	_, err := w.access.EnableClient(t.Context(), &auth.Principal{Person: &auth.Person{User: "alice", KeyBound: true}}, stop)
	w.must(err)
	list, err := w.access.EnabledClients(t.Context(), person("alice"), access.Filter{User: "alice"})
	if err != nil || len(list) != 2 {
		t.Errorf("got %d clients (%v), want gitlab and lake", len(list), err)
	}
}

func TestCIBAGivesATokenAndSaysWhoDecided(t *testing.T) {
	w := newWorld(t)
	asked := w.ciba("gitlab", "binding_message", "Deploy 42", "requested_expiry", "120")
	r := w.app.last()
	if asked.status != http.StatusOK || asked.body["expires_in"] != 120.0 || asked.body["interval"] != 5.0 || r.User != "alice" || r.Words != "Deploy 42" || r.CodeHash != "" {
		t.Fatalf("got %d %s, and the user is asked %+v", asked.status, asked.text, r)
	}
	w.refused("before the user decided", w.redeem("gitlab", asked), 400, "authorization_pending")
	other := w.app.yes(r)
	other.User = "bob"
	if err := w.apply(w.app.sign(other)); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
		t.Errorf("bob decides what alice was asked: got %v", err)
	}
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	w.refused("by another client", w.redeem("tool", asked), 400, "unauthorized_client")
	got := w.redeem("gitlab", asked)
	if got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.text)
	}
	claims := w.openIDToken(got.str("id_token"))
	half := sha256.Sum256([]byte(got.str("access_token")))
	for name, want := range map[string]any{"iss": publicURL, "sub": "alice", "aud": "gitlab", "at_hash": base64.RawURLEncoding.EncodeToString(half[:16])} {
		if claims[name] != want {
			t.Errorf("id_token: %s is %v, want %v", name, claims[name], want)
		}
	}
	w.refused("again", w.redeem("gitlab", asked), 400, "invalid_grant")
}

// openIDToken verifies an id_token with the keys that the server shows.
func (w *world) openIDToken(text string) (claims map[string]any) {
	w.Helper()
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, publicURL+"/oauth/jwks", nil))
	if strings.Contains(rec.Body.String(), `"d"`) {
		w.Error("the JWKS shows a private key")
	}
	var set jose.JSONWebKeySet
	w.must(json.Unmarshal(rec.Body.Bytes(), &set))
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.ES256})
	w.must(err)
	payload, err := jws.Verify(set.Key(jws.Signatures[0].Protected.KeyID)[0])
	w.must(err)
	w.must(json.Unmarshal(payload, &claims))
	return claims
}

func TestAUserIsNotBombedWithRequests(t *testing.T) {
	w := newWorld(t)
	for i := range 5 {
		if got := w.ciba("gitlab"); got.status != http.StatusOK {
			t.Fatalf("%d: got %d %s", i, got.status, got.text)
		}
	}
	lines := len(w.lines())
	w.refused("one too many", w.ciba("gitlab"), 429, "slow_down")
	w.refused("and another", w.ciba("gitlab"), 429, "slow_down")
	// A refusal is told and not written at once: whoever is refused may go on.
	if n := len(w.lines()); n != lines {
		t.Errorf("%d lines for what was refused, want none", n-lines)
	}
	if r := w.refusals; len(r) != 2 || r[0] != r[1] || r[0].Refused != hpcsera.QuotaExceeded || r[0].User != "alice" || r[0].About != "client gitlab" {
		t.Errorf("the audit log was told %+v", r)
	}
	if n := len(w.app.posted); n != 5 {
		t.Errorf("alice was asked %d times, want 5", n)
	}
	w.must(w.apply(w.app.sign(w.app.no(w.app.last()))))
	if got := w.ciba("gitlab"); got.status != http.StatusOK {
		t.Errorf("after one was decided: got %d %s", got.status, got.text)
	}
	w.refused("and again", w.ciba("gitlab"), 429, "slow_down")
	w.wait(11 * time.Minute)
	if got := w.ciba("gitlab"); got.status != http.StatusOK {
		t.Errorf("after they expired: got %d %s", got.status, got.text)
	}
}

// The Auth app counts for itself, and its users mute clients there.
func TestAClientIsToldThatTheAuthAppDoesNotAsk(t *testing.T) {
	w := newWorld(t)
	wish, err := w.access.Wanted(access.NewToken{User: "alice", Project: "cfd", Client: "gitlab", Preset: "ci"})
	w.must(err)
	for code, want := range map[hpcsera.Code]struct {
		status int
		code   string
	}{hpcsera.QuotaExceeded: {429, "slow_down"}, hpcsera.Forbidden: {403, "access_denied"}} {
		w.app.refuses = code
		w.refused(string(code), w.ciba("gitlab"), want.status, want.code)
		if r := w.refusals; len(r) == 0 || r[len(r)-1].Refused != code || r[len(r)-1].User != "alice" {
			t.Errorf("%s: the audit log is told %+v, want the refusal", code, r)
		}
		if _, err := w.oauth.Ask(t.Context(), person("alice"), wish); hpcsera.CodeOf(err) != code {
			t.Errorf("%s: alice asks herself: got %v", code, err)
		}
	}
	w.app.refuses = ""
	if got := w.ciba("gitlab"); got.status != http.StatusOK {
		t.Errorf("later: got %d %s", got.status, got.text)
	}
}

func TestAClientIsPingedWhenItsUserDecided(t *testing.T) {
	w := newWorld(t)
	got := make(chan string, 10)
	failing := true
	endpoint := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if failing {
			failing = false
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		body, _ := io.ReadAll(r.Body)
		got <- fmt.Sprint(r.Method, " ", r.Header.Get("Authorization"), " ", r.Header.Get("Content-Type"), " ", string(body))
		rw.WriteHeader(http.StatusNoContent)
	}))
	defer endpoint.Close()
	w.register(access.NewRegistration{Client: "pinged", Method: hpcsera.SecretClient, CIBA: hpcsera.Ping, Notify: endpoint.URL + "/cb"})
	w.useNotifier(endpoint.Client())
	stop := w.run()
	defer stop()
	for name, token := range map[string]string{"none": "", "one that breaks a header": "a b", "one that is too long": strings.Repeat("a", 1025)} {
		w.refused(name, w.ciba("pinged", "client_notification_token", token), 400, "invalid_request")
	}
	asked := w.ciba("pinged", "client_notification_token", "8d67dc78-7faa-4d41")
	d := w.app.yes(w.app.last())
	w.app.deliver(d.ID, w.app.sign(d))
	want := `POST Bearer 8d67dc78-7faa-4d41 application/json {"auth_req_id":"` + asked.str("auth_req_id") + `"}`
	select {
	case ping := <-got:
		if ping != want {
			t.Errorf("got %s, want %s", ping, want)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the client is not pinged")
	}
	if answer := w.redeem("pinged", asked); answer.status != http.StatusOK || answer.str("id_token") == "" {
		t.Errorf("after the ping: got %d %s", answer.status, answer.text)
	}
}
