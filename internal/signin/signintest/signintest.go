// Package signintest is an Auth app for tests of those who sign in through
// one: an OpenID provider that takes everything as strictly as the real one,
// lets in whom the test names, and can be told to lie.
package signintest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/hpcsera/hpcsera/internal/decision"
)

// Provider is an Auth app that serves one deployment.
type Provider struct {
	t        testing.TB
	issuer   string
	name     string
	redirect string
	now      func() time.Time
	own      ed25519.PrivateKey // signs tokens
	theirs   ed25519.PrivateKey // of the deployment

	mu      sync.Mutex
	user    string
	methods []string
	lie     func(query url.Values, claims map[string]any)
	codes   map[string]grant
	asked   []url.Values
}

// grant is what a code stands for.
type grant struct {
	challenge string
	claims    map[string]any
}

// New returns an Auth app at issuer that knows the deployment called name at
// deployment. It lets alice in with two factors.
func New(t testing.TB, issuer, name, deployment string, now func() time.Time) *Provider {
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, theirs, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Provider{
		t: t, issuer: issuer, name: name, redirect: deployment + decision.CallbackPath, now: now, own: own, theirs: theirs,
		user: "alice", methods: []string{"pwd", "otp", "mfa"}, codes: map[string]grant{},
	}
}

// Let says whom it lets in from now on, and by which methods.
func (p *Provider) Let(user string, methods ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.user, p.methods = user, methods
}

// Lie changes what the browser brings back and what the id_token says, from
// now on. nil is the truth.
func (p *Provider) Lie(lie func(query url.Values, claims map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = lie
}

// Rotate makes the Auth app sign with another key from now on.
func (p *Provider) Rotate() {
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	p.own = own
}

// Asked returns the authorization requests so far.
func (p *Provider) Asked() []url.Values {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]url.Values{}, p.asked...)
}

// Assertion proves that the deployment asks; it is for signin.Config.
func (p *Provider) Assertion() (string, error) {
	return p.sign(p.theirs, "client-authentication+jwt", map[string]any{
		"iss": p.name, "sub": p.name, "aud": p.issuer, "jti": rand.Text(), "iat": p.now().Unix(), "exp": p.now().Add(time.Minute).Unix(),
	})
}

// Logout returns a logout token with claims, which replace the true ones; nil
// takes a claim away.
func (p *Provider) Logout(claims map[string]any) string {
	p.t.Helper()
	all := map[string]any{
		"iss": p.issuer, "aud": p.name, "iat": p.now().Unix(), "exp": p.now().Add(2 * time.Minute).Unix(), "jti": rand.Text(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	replace(all, claims)
	text, err := p.sign(p.own, "logout+jwt", all)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func replace(all, claims map[string]any) {
	for name, value := range claims {
		if all[name] = value; value == nil {
			delete(all, name)
		}
	}
}

func (p *Provider) sign(key ed25519.PrivateKey, typ string, claims any) (string, error) {
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", "k1")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key}, options)
	if err != nil {
		return "", err
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}

// ServeHTTP serves the provider below the issuer's path.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at, err := url.Parse(p.issuer)
	if err != nil {
		p.t.Error(err)
	}
	switch strings.TrimPrefix(r.URL.Path, at.Path) {
	case "/.well-known/openid-configuration":
		p.answer(w, http.StatusOK, map[string]any{
			"issuer": p.issuer, "authorization_endpoint": p.issuer + "/oidc/authorize", "token_endpoint": p.issuer + "/oidc/token",
			"jwks_uri": p.issuer + "/oidc/keys", "id_token_signing_alg_values_supported": []string{"EdDSA"},
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
			"authorization_response_iss_parameter_supported": true,
		})
	case "/oidc/keys":
		p.answer(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.own.Public(), KeyID: "k1", Algorithm: "EdDSA", Use: "sig"}}})
	case "/oidc/authorize":
		p.authorize(w, r)
	case "/oidc/token":
		p.token(w, r)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte("<!doctype html><html lang=en><title>Auth app</title><h1>Auth app</h1>"))
	}
}

func (p *Provider) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	for name, want := range map[string]string{
		"client_id": p.name, "redirect_uri": p.redirect, "response_type": "code", "scope": "openid", "code_challenge_method": "S256",
	} {
		if got := q[name]; len(got) != 1 || got[0] != want {
			http.Error(w, name+" is not as registered", http.StatusBadRequest)
			return
		}
	}
	if q.Get("state") == "" || q.Get("nonce") == "" || len(q.Get("code_challenge")) != 43 {
		http.Error(w, "state, nonce or code_challenge is missing", http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, q)
	claims := map[string]any{
		"iss": p.issuer, "aud": p.name, "sub": p.user, "preferred_username": p.user, "nonce": q.Get("nonce"), "sid": "sid-of-" + p.user,
		"iat": p.now().Unix(), "exp": p.now().Add(5 * time.Minute).Unix(), "auth_time": p.now().Unix(), "amr": p.methods,
	}
	code := rand.Text()
	back := url.Values{"state": {q.Get("state")}, "code": {code}, "iss": {p.issuer}}
	if p.lie != nil {
		p.lie(back, claims)
	}
	p.codes[code] = grant{q.Get("code_challenge"), claims}
	http.Redirect(w, r, p.redirect+"?"+back.Encode(), http.StatusFound)
}

func (p *Provider) token(w http.ResponseWriter, r *http.Request) {
	refuse := func(why string) { p.answer(w, http.StatusBadRequest, map[string]string{"error": why}) }
	if r.PostFormValue("grant_type") != "authorization_code" || r.PostFormValue("redirect_uri") != p.redirect {
		refuse("invalid_request")
		return
	}
	if !p.authentic(r.PostFormValue("client_assertion")) || r.PostFormValue("client_secret") != "" ||
		r.PostFormValue("client_assertion_type") != decision.AssertionType {
		refuse("invalid_client")
		return
	}
	p.mu.Lock()
	g, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	p.mu.Unlock()
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != g.challenge {
		refuse("invalid_grant")
		return
	}
	key := p.own
	if g.claims["key"] == "other" {
		key = p.theirs
		delete(g.claims, "key")
	}
	text, err := p.sign(key, "JWT", g.claims)
	if err != nil {
		p.t.Error(err)
	}
	p.answer(w, http.StatusOK, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "id_token": text, "expires_in": 300})
}

// authentic reports whether an assertion is the deployment's.
func (p *Provider) authentic(assertion string) bool {
	token, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return false
	}
	var c jwt.Claims
	if token.Claims(p.theirs.Public(), &c) != nil {
		return false
	}
	return c.Issuer == p.name && c.Subject == p.name && len(c.Audience) == 1 && c.Audience[0] == p.issuer && c.ID != "" && c.Expiry != nil
}
