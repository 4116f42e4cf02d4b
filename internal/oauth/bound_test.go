package oauth_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

func newSigner(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) thumbprint(key ed25519.PrivateKey) string {
	sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	w.must(err)
	return base64.RawURLEncoding.EncodeToString(sum)
}

func (w *world) proof(key ed25519.PrivateKey, nonce string) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, (&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	w.must(err)
	payload, err := json.Marshal(map[string]any{"jti": rand.Text(), "htm": "POST", "htu": publicURL + "/oauth/token", "iat": w.clock().Unix(), "nonce": nonce})
	w.must(err)
	jws, err := signer.Sign(payload)
	w.must(err)
	text, err := jws.CompactSerialize()
	w.must(err)
	return text
}

// withProof collects with a proof of a key.
func (w *world) withProof(key ed25519.PrivateKey, client, code string) reply {
	w.Helper()
	return w.proven(w.proof(key, w.auth.Nonce()), client, code)
}

func (w *world) proven(proof, client, code string) reply {
	w.Helper()
	form := url.Values{"grant_type": {deviceGrant}, "device_code": {code}}
	if w.secrets[client] == "" {
		form.Set("client_id", client)
	}
	r := httptest.NewRequest(http.MethodPost, publicURL+"/oauth/token", strings.NewReader(form.Encode()))
	if w.secrets[client] != "" {
		r.SetBasicAuth(client, w.secrets[client])
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("DPoP", proof)
	return w.send(r)
}

const sessionWish = `[{"type":"hpcsera_session","host":"alices-laptop"}]`

func agentWish(more string) string {
	return `[{"type":"hpcsera_agent","site":"gwdg","projects":["cfd"],"host":"login1"` + more + `}]`
}

func TestASessionGoesOnlyToTheKeyThatTheUserSaw(t *testing.T) {
	w := newWorld(t)
	key, thief := newSigner(t), newSigner(t)
	for name, jkt := range map[string]string{"no key": "", "no thumbprint": "x"} {
		w.refused(name, w.post("cli", "/oauth/device_authorization", "authorization_details", sessionWish, "dpop_jkt", jkt), 400, "invalid_request")
	}
	w.refused("another client", w.post("tool", "/oauth/device_authorization", "authorization_details", sessionWish, "dpop_jkt", w.thumbprint(key)), 400, "unauthorized_client")
	asked, r := w.device("cli", "authorization_details", sessionWish, "dpop_jkt", w.thumbprint(key))
	if r.Kind != decision.Session || r.Thumbprint != w.thumbprint(key) || r.Host != "alices-laptop" || r.CodeHash == "" || r.User != "" {
		t.Errorf("the user is asked %+v", r)
	}
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	code := asked.str("device_code")
	w.refused("without a proof", w.collect("cli", asked), 400, "invalid_dpop_proof")
	other := w.proof(thief, w.auth.Nonce())
	for range 2 { // keys cost nothing, so what they sign is not remembered
		w.refused("by another key", w.proven(other, "cli", code), 400, "invalid_grant")
	}
	stale := w.proven(w.proof(key, "x"), "cli", code)
	w.refused("with an old nonce", stale, 400, "use_dpop_nonce")
	if stale.header.Get("DPoP-Nonce") == "" {
		t.Error("no nonce is given to try again with")
	}
	proof := w.proof(key, w.auth.Nonce())
	got := w.proven(proof, "cli", code)
	if got.status != http.StatusOK || got.str("token_type") != "DPoP" || !strings.HasPrefix(got.str("access_token"), "hpcsera_ls") || got.body["expires_in"] != 43194.0 {
		t.Fatalf("got %d %s", got.status, got.text)
	}
	w.refused("the same proof again", w.proven(proof, "cli", code), 400, "invalid_dpop_proof")
	sessions, err := w.access.Sessions(t.Context(), person("alice"), access.Filter{User: "alice"})
	if err != nil || len(sessions) != 1 || sessions[0].Thumbprint != w.thumbprint(key) || sessions[0].Host != "alices-laptop" {
		t.Fatalf("got %v (%v), want the session", sessions, err)
	}
	if err := w.access.EndSession(t.Context(), person("bob"), access.Named{Name: sessions[0].ID}); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("bob ends alice's session: got %v", err)
	}
	w.must(w.access.EndSession(t.Context(), person("alice"), access.Named{Name: sessions[0].ID}))
	if rest, err := w.access.Sessions(t.Context(), person("alice"), access.Filter{User: "alice"}); err != nil || len(rest) != 0 {
		t.Errorf("after its end: got %v (%v)", rest, err)
	}
}

func TestAnAgentIsEnrolledForTheKeyThatTheUserSaw(t *testing.T) {
	w := newWorld(t)
	enroll := func(key ed25519.PrivateKey, wish string) reply {
		t.Helper()
		asked, r := w.device("hpcsera-agent", "authorization_details", wish, "dpop_jkt", w.thumbprint(key))
		w.must(w.apply(w.app.sign(w.app.yes(r))))
		w.wait(6 * time.Second)
		return w.withProof(key, "hpcsera-agent", asked.str("device_code"))
	}
	for name, wish := range map[string]string{
		"no site": `[{"type":"hpcsera_agent","projects":["cfd"]}]`, "no project": `[{"type":"hpcsera_agent","site":"gwdg"}]`,
		"roles": agentWish(`,"roles":["1"]`), "a host that lies in two lines": `[{"type":"hpcsera_agent","site":"gwdg","projects":["cfd"],"host":"a\nb"}]`,
	} {
		w.refused(name, w.post("hpcsera-agent", "/oauth/device_authorization", "authorization_details", wish, "dpop_jkt", w.thumbprint(newSigner(t))), 400, "invalid_authorization_details")
	}
	w.refused("a token", w.post("hpcsera-agent", "/oauth/device_authorization", "scope", ciScope), 400, "unauthorized_client")
	w.refused("another's project", enroll(newSigner(t), strings.Replace(agentWish(""), "cfd", "bio", 1)), 400, "access_denied")

	first := enroll(newSigner(t), agentWish(""))
	id, _, ok := hpcsera.ParseSecret(first.str("access_token"))
	if first.status != http.StatusOK || first.str("token_type") != "DPoP" || !ok || !hpcsera.ValidID("ag", id) {
		t.Fatalf("got %d %s", first.status, first.text)
	}
	second := enroll(newSigner(t), agentWish(""))
	w.refused("a second one", second, 400, "access_denied")
	if !strings.Contains(second.str("error_description"), id) {
		t.Errorf("got %q, want the first one named", second.str("error_description"))
	}
	key := newSigner(t)
	replaced := enroll(key, agentWish(`,"replace":true`))
	again, _, _ := hpcsera.ParseSecret(replaced.str("access_token"))
	agents, err := w.access.Agents(t.Context(), person("alice"), access.Filter{User: "alice"})
	if err != nil || replaced.status != http.StatusOK || again != id || len(agents) != 1 || agents[0].Thumbprint != w.thumbprint(key) {
		t.Errorf("replaced: got %d %s, and agents %v (%v)", replaced.status, replaced.text, agents, err)
	}
	if !strings.Contains(w.app.last().Words, "in place of") {
		t.Errorf("the user is not told that an agent is replaced: %+v", w.app.last())
	}
}

func TestAUsersWishIsDecidedAndCollected(t *testing.T) {
	w := newWorld(t)
	loggedIn := &auth.Principal{Person: &auth.Person{User: "alice", KeyBound: true}}
	w.must(w.store.Write(t.Context(), func(tx store.Tx) error {
		made, _, err := w.access.IssueSession(tx, person("alice"), hpcsera.Session{User: "alice", Host: "alices-laptop"})
		loggedIn.Person.Session = made.ID
		return err
	}))
	wish, err := w.access.Wanted(access.NewToken{User: "alice", Project: "cfd", Client: "gitlab", Preset: "ci"})
	w.must(err)
	for name, c := range map[string]struct {
		by   *auth.Principal
		edit func(*hpcsera.Token)
		want hpcsera.Code
	}{
		"bob":                        {person("bob"), func(*hpcsera.Token) {}, hpcsera.NotFound},
		"another's project":          {loggedIn, func(t *hpcsera.Token) { t.Project = "bio" }, hpcsera.Conflict},
		"a client that is not there": {loggedIn, func(t *hpcsera.Token) { t.Client = "x" }, hpcsera.NotFound},
		"no roles":                   {loggedIn, func(t *hpcsera.Token) { t.Roles = 0 }, hpcsera.InvalidField},
	} {
		spoilt := wish
		c.edit(&spoilt)
		if _, err := w.oauth.Ask(t.Context(), c.by, spoilt); hpcsera.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	asked, err := w.oauth.Ask(t.Context(), loggedIn, wish)
	w.must(err)
	r := w.app.last()
	if r.Host != "alices-laptop" {
		t.Errorf("the user is told of a session at %q, want alices-laptop: it must not look like the client", r.Host)
	}
	if r.User != "alice" || r.ID != asked.ID || asked.URL != w.app.RequestURL(r.ID) {
		t.Errorf("got %+v, and the user is asked %+v", asked, r)
	}
	poll := func(client string) reply {
		w.wait(6 * time.Second)
		return w.post(client, "/oauth/token", "grant_type", deviceGrant, "device_code", asked.DeviceCode)
	}
	w.refused("before the decision", poll("cli"), 400, "authorization_pending")
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	w.refused("by the client that it is for", poll("gitlab"), 400, "invalid_grant")
	got := poll("cli")
	p, err := w.auth.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + got.str("access_token")})
	if err != nil || p.Token.Client != "gitlab" || p.Token.User != "alice" {
		t.Errorf("got %d %s: %+v (%v)", got.status, got.text, p, err)
	}
}
