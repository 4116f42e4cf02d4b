package session_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// provider is an institution's OpenID provider that does what it is told,
// right or wrong. One person is signed in there.
type provider struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey
	now func() time.Time

	mu        sync.Mutex
	person    map[string]any // claims
	spoil     func(claims map[string]any)
	signer    *rsa.PrivateKey // of tokens, when it is another
	gone      bool            // refresh tokens are refused
	refresh   string          // the only one that is taken: each works once
	mute      bool            // userinfo fails
	down      bool
	codes     map[string]url.Values // by code: what was asked for
	refreshes int
	methods   []string // how it says that it takes a client's secret
	method    string   // how it takes it; "" is in any way
	strange   int      // requests with the secret elsewhere
	stingy    bool     // it gives no refresh token
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{
		t: t, key: key, now: time.Now, codes: map[string]url.Values{},
		person: map[string]any{"sub": "s-1", "preferred_username": "Alice", "email": "alice@uni.example", "email_verified": true, "groups": []string{"grp-cfd", "grp-other"}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.json(w, map[string]any{
			"token_endpoint_auth_methods_supported": p.methods,
			"issuer":                                p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/jwks",
			"userinfo_endpoint": p.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"RS256"},
			"authorization_response_iss_parameter_supported": true,
		})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		p.json(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &p.key.PublicKey, KeyID: "k", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.mute {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		p.json(w, p.person)
	})
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		down := p.down
		p.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *provider) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

func (p *provider) json(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) sign(claims map[string]any) string {
	key := p.key
	if p.signer != nil {
		key = p.signer
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// authorize plays the person who says yes at the institution, and returns the
// code.
func (p *provider) authorize(address string) (code string, asked url.Values) {
	u, err := url.Parse(address)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	code = rand.Text()
	p.codes[code] = u.Query()
	return code, u.Query()
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fail := func(code string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code})
	}
	method := "client_secret_post"
	if _, _, ok := r.BasicAuth(); ok {
		method = "client_secret_basic"
	}
	if p.method != "" && method != p.method {
		p.strange++
		fail("invalid_client")
		return
	}
	if r.PostFormValue("grant_type") == "refresh_token" {
		p.refreshes++
		if p.gone || r.PostFormValue("refresh_token") != p.refresh {
			fail("invalid_grant")
			return
		}
		p.refresh = rand.Text()
		p.json(w, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "refresh_token": p.refresh})
		return
	}
	asked, ok := p.codes[r.PostFormValue("code")]
	delete(p.codes, r.PostFormValue("code"))
	sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") || r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") {
		fail("invalid_grant")
		return
	}
	claims := maps.Clone(p.person)
	maps.Copy(claims, map[string]any{
		"iss": p.URL, "aud": "hpcsera", "nonce": asked.Get("nonce"), "sid": "abroad-1",
		"iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	if p.spoil != nil {
		p.spoil(claims)
	}
	if p.refresh = rand.Text(); p.stingy {
		p.refresh = ""
	}
	p.json(w, map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 60, "refresh_token": p.refresh, "id_token": p.sign(claims)})
}

// logout makes a back-channel logout token.
func (p *provider) logout(change ...func(map[string]any)) string {
	claims := map[string]any{
		"iss": p.URL, "aud": "hpcsera", "sub": "s-1", "jti": rand.Text(), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}},
	}
	for _, c := range change {
		c(claims)
	}
	return p.sign(claims)
}
