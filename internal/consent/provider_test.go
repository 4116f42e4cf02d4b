package consent_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

const (
	verifier = "dBjftJeZ4CVP-mBz7dAtG9mHd0uJxB4zKz5d5t5t5t5"
	callback = apiURL + decision.CallbackPath
)

// asking are the parameters of a sign-in that is as it should be.
func asking(change ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := form("client_id", "hpc", "redirect_uri", callback, "response_type", "code", "scope", "openid", "state", "s1", "nonce", "n1",
		"code_challenge", b64(sum[:]), "code_challenge_method", "S256")
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
	}
	return q
}

var forwardPattern = regexp.MustCompile(`content="0; url=([^"]+)"`)

// sentBack opens the sign-in and returns the parameters with which the browser
// is sent back to hpc; nil where it is not.
func (w *world) sentBack(user string, q url.Values) (url.Values, answer) {
	w.t.Helper()
	got := w.get(user, "/auth/oidc/authorize?"+q.Encode())
	found := forwardPattern.FindStringSubmatch(got.body)
	if found == nil {
		return nil, got
	}
	to, err := url.Parse(html.UnescapeString(found[1]))
	if err != nil || to.Scheme+"://"+to.Host+to.Path != callback {
		w.t.Fatalf("the browser is sent to %q, want %s", found[1], callback)
	}
	return to.Query(), got
}

func TestNobodyIsSentToAnAddressThatWasNotRegistered(t *testing.T) {
	w := newWorld(t)
	for name, q := range map[string]url.Values{
		"another host":            asking("redirect_uri", "https://evil.example/signin/callback"),
		"another path":            asking("redirect_uri", apiURL+"/other"),
		"more behind":             asking("redirect_uri", callback+"?x=1"),
		"another deployment's":    asking("redirect_uri", "https://other.example.org"+decision.CallbackPath),
		"http":                    asking("redirect_uri", "http://hpc.example.org"+decision.CallbackPath),
		"none":                    asking("redirect_uri", ""),
		"an unknown deployment":   asking("client_id", "unknown"),
		"two addresses":           {"client_id": {"hpc"}, "redirect_uri": {callback, "https://evil.example"}},
		"an address of a script":  asking("redirect_uri", "javascript:alert(1)"),
		"a user in the authority": asking("redirect_uri", "https://hpc.example.org@evil.example"+decision.CallbackPath),
	} {
		back, got := w.sentBack("alice", q)
		if back != nil || got.status < 400 || got.header.Get("Location") != "" || strings.Contains(got.body, "evil.example") {
			t.Errorf("%s: got status %d to %q: %s", name, got.status, got.header.Get("Location"), got.body)
		}
	}
}

func TestASignInThatIsNotSafeIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, want string
		q          url.Values
	}{
		{"no PKCE", "invalid_request", asking("code_challenge", "")},
		{"plain PKCE", "invalid_request", asking("code_challenge_method", "plain")},
		{"no method of PKCE", "invalid_request", asking("code_challenge_method", "")},
		{"no state", "invalid_request", asking("state", "")},
		{"no nonce", "invalid_request", asking("nonce", "")},
		{"implicit", "unsupported_response_type", asking("response_type", "id_token")},
		{"hybrid", "unsupported_response_type", asking("response_type", "code id_token")},
		{"a fragment", "invalid_request", asking("response_mode", "fragment")},
		{"another scope", "invalid_scope", asking("scope", "profile")},
		{"a request object", "request_not_supported", asking("request", "x")},
		{"a request elsewhere", "request_not_supported", asking("request_uri", "https://evil.example")},
		{"an unknown prompt", "invalid_request", asking("prompt", "consent")},
		{"an age that is none", "invalid_request", asking("max_age", "-1")},
		{"a parameter twice", "invalid_request", func() url.Values { q := asking(); q.Add("nonce", "n2"); return q }()},
	} {
		back, got := w.sentBack("alice", c.q)
		if back.Get("error") != c.want || back.Has("code") || back.Get("iss") != issuer {
			t.Errorf("%s: got %v (status %d), want %s and the issuer", c.name, back, got.status, c.want)
		}
	}
	if back, _ := w.sentBack("", asking("prompt", "none")); back.Get("error") != "login_required" {
		t.Errorf("prompt=none for nobody: got %v, want login_required", back)
	}
	if back, got := w.sentBack("", asking()); back != nil || got.header.Get("Location") != "/auth/signin" {
		t.Errorf("nobody: got %v to %q, want to sign in", back, got.header.Get("Location"))
	}
}

// redeem changes a code at the token endpoint as a client does.
func (w *world) redeem(c *decision.Client, change ...string) (int, map[string]any) {
	w.t.Helper()
	assertion, err := c.Assertion()
	if err != nil {
		w.t.Fatal(err)
	}
	f := form("grant_type", "authorization_code", "redirect_uri", callback, "code_verifier", verifier,
		"client_assertion_type", decision.AssertionType, "client_assertion", assertion)
	for i := 0; i < len(change); i += 2 {
		f.Set(change[i], change[i+1])
	}
	r := httptest.NewRequest(http.MethodPost, "https://auth.example.org/auth/oidc/token", strings.NewReader(f.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := w.send("", r)
	var body map[string]any
	if err := json.Unmarshal([]byte(got.body), &body); err != nil {
		w.t.Fatalf("status %d, body %q: %v", got.status, got.body, err)
	}
	return got.status, body
}

// code signs alice in and returns the code.
func (w *world) code() string {
	w.t.Helper()
	back, got := w.sentBack("alice", asking())
	if back.Get("code") == "" || back.Get("state") != "s1" || back.Get("iss") != issuer {
		w.t.Fatalf("got %v (status %d), want a code, the state and the issuer", back, got.status)
	}
	return back.Get("code")
}

func TestACodeWorksOnceForItsDeploymentAndItsBrowser(t *testing.T) {
	w := newWorld(t)
	stranger, err := decision.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		client     *decision.Client
		change     []string
	}{
		{"another deployment", "invalid_grant", w.other, nil},
		{"another verifier", "invalid_grant", w.api, []string{"code_verifier", strings.Repeat("x", 43)}},
		{"no verifier", "invalid_grant", w.api, []string{"code_verifier", ""}},
		{"another address", "invalid_grant", w.api, []string{"redirect_uri", apiURL}},
		{"another grant", "unsupported_grant_type", w.api, []string{"grant_type", "password"}},
		{"another key", "invalid_client", w.client("hpc", stranger), nil},
		{"another client_id", "invalid_client", w.api, []string{"client_id", "other"}},
		{"a secret", "invalid_client", w.api, []string{"client_assertion_type", "", "client_secret", "x"}},
		{"no assertion", "invalid_client", w.api, []string{"client_assertion", ""}},
		{"another code", "invalid_grant", w.api, []string{"code", "x"}},
	} {
		status, body := w.redeem(c.client, append([]string{"code", w.code()}, c.change...)...)
		if body["error"] != c.want || status/100 != 4 {
			t.Errorf("%s: got %d %v, want %s", c.name, status, body, c.want)
		}
	}
	// A code that somebody else showed is gone.
	code := w.code()
	w.redeem(w.other, "code", code)
	if status, body := w.redeem(w.api, "code", code); body["error"] != "invalid_grant" {
		t.Errorf("after another deployment showed it: got %d %v, want invalid_grant", status, body)
	}
	code = w.code()
	if status, body := w.redeem(w.api, "code", code); status != http.StatusOK || body["id_token"] == nil {
		t.Fatalf("got %d %v, want an id_token", status, body)
	}
	if status, body := w.redeem(w.api, "code", code); body["error"] != "invalid_grant" {
		t.Errorf("again: got %d %v, want invalid_grant", status, body)
	}
	code = w.code()
	w.clock.pass(61 * time.Second)
	if status, body := w.redeem(w.api, "code", code); body["error"] != "invalid_grant" {
		t.Errorf("a minute later: got %d %v, want invalid_grant", status, body)
	}
}

func TestAnIndependentLibraryTakesTheSignIn(t *testing.T) {
	w := newWorld(t)
	ctx := oidc.ClientContext(t.Context(), &http.Client{Transport: decision.Local(w.web)})
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatal(err)
	}
	config := oauth2.Config{ClientID: "hpc", Endpoint: provider.Endpoint(), RedirectURL: callback, Scopes: []string{oidc.ScopeOpenID}}
	config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	proof := oauth2.GenerateVerifier()
	address, err := url.Parse(config.AuthCodeURL("s2", oidc.Nonce("n2"), oauth2.S256ChallengeOption(proof)))
	if err != nil {
		t.Fatal(err)
	}
	back, got := w.sentBack("alice", address.Query())
	if back.Get("code") == "" {
		t.Fatalf("got %v (status %d)", back, got.status)
	}
	assertion, err := w.api.Assertion()
	if err != nil {
		t.Fatal(err)
	}
	token, err := config.Exchange(ctx, back.Get("code"), oauth2.VerifierOption(proof),
		oauth2.SetAuthURLParam("client_assertion_type", decision.AssertionType), oauth2.SetAuthURLParam("client_assertion", assertion))
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := token.Extra("id_token").(string)
	check := provider.VerifierContext(ctx, &oidc.Config{ClientID: "hpc", SupportedSigningAlgs: []string{oidc.EdDSA}, Now: w.clock.now})
	id, err := check.Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Name     string   `json:"preferred_username"`
		Session  string   `json:"sid"`
		Class    string   `json:"acr"`
		Methods  []string `json:"amr"`
		AuthTime int64    `json:"auth_time"`
	}
	if err := id.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if id.Subject != "alice" || claims.Name != "alice" || id.Nonce != "n2" || claims.Session != "se_alice" || claims.Class != "urn:hpcsera:acr:2" ||
		strings.Join(claims.Methods, " ") != "pwd otp mfa" || claims.AuthTime != w.clock.now().Unix() {
		t.Errorf("got %s %+v", id.Subject, claims)
	}
	// An id_token is no decision.
	keys, err := w.api.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d, err := decision.Verify(raw, w.expected(keys)); err == nil {
		t.Errorf("taken for a decision: %+v", d)
	}
	stranger := provider.VerifierContext(ctx, &oidc.Config{ClientID: "other", SupportedSigningAlgs: []string{oidc.EdDSA}, Now: w.clock.now})
	if _, err := stranger.Verify(ctx, raw); err == nil {
		t.Error("another deployment takes the id_token")
	}
}

func TestADeploymentMayAskForAFreshProof(t *testing.T) {
	w := newWorld(t)
	w.clock.pass(10 * time.Minute)
	for name, q := range map[string]url.Values{"an age": asking("max_age", "300"), "no age": asking("max_age", "0", "state", "s3"), "login": asking("prompt", "login", "state", "s4")} {
		if back, got := w.sentBack("alice", q); back != nil || got.header.Get("Location") != "/auth/stepup" {
			t.Errorf("%s: got %v to %q, want to step up", name, back, got.header.Get("Location"))
		}
		w.clock.pass(time.Second)
		w.people.arrive("alice")
		if back, got := w.sentBack("alice", q); back.Get("code") == "" {
			t.Errorf("%s, after stepping up: got %v (status %d), want a code", name, back, got.status)
		}
		w.clock.pass(time.Second)
		if back, _ := w.sentBack("alice", q); name != "an age" && back != nil {
			t.Errorf("%s, the same address again: got %v, want a new proof", name, back)
		}
		w.clock.pass(10 * time.Minute)
	}
	w.people.arrive("alice")
	w.clock.pass(time.Second)
	// Even a proof of a second ago is older than this wish for a new one.
	if back, _ := w.sentBack("alice", asking("prompt", "login", "state", "s5")); back != nil {
		t.Errorf("prompt=login: got %v, want a new proof", back)
	}
	if back, _ := w.sentBack("alice", asking("max_age", "300")); back.Get("code") == "" {
		t.Errorf("an age that is reached: got %v, want a code", back)
	}
}

func TestStrangersLeaveLittleToRemember(t *testing.T) {
	w := newWorld(t)
	login := func(user string, n int) answer {
		_, got := w.sentBack(user, asking("prompt", "login", "state", fmt.Sprint("s", n)))
		return got
	}
	for n := range mostVisits {
		if got := login("", n); got.header.Get("Location") != "/auth/signin" {
			t.Fatalf("sign-in %d: got status %d to %q, want to sign in", n+1, got.status, got.header.Get("Location"))
		}
	}
	if got := login("", mostVisits); got.status != http.StatusTooManyRequests {
		t.Errorf("one more: got status %d, want 429", got.status)
	}
	w.clock.pass(time.Second)
	if got := login("alice", mostVisits); got.header.Get("Location") != "/auth/stepup" {
		t.Errorf("somebody who is signed in: got status %d to %q, want to step up", got.status, got.header.Get("Location"))
	}
}

func TestDeploymentsLearnThatASessionEndedAndThatAUserLeft(t *testing.T) {
	pushed := make(chan string, 10)
	here := http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		pushed <- r.Host + r.URL.Path + " " + string(body)
		out.WriteHeader(http.StatusNoContent)
	})
	w := newWorld(t, func(c *consent.Config) { c.Push = &http.Client{Transport: decision.Local(here)} })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.auth.Run(ctx) }()
	defer func() { stop(); <-ended }()
	w.redeem(w.api, "code", w.code())
	unused := w.code()
	if err := w.store.Write(t.Context(), func(tx records.Tx) error { return w.auth.SignedOut(tx, "alice", "se_alice") }); err != nil {
		t.Fatal(err)
	}
	events, err := w.api.Events(t.Context(), 0)
	if err != nil || len(events) != 1 || events[0].Type != decision.SignedOut || events[0].Session != "se_alice" || events[0].User != "alice" {
		t.Fatalf("got %+v, %v, want that alice's session ended", events, err)
	}
	if events, err := w.other.Events(t.Context(), 0); err != nil || len(events) != 0 {
		t.Errorf("a deployment where she was not: got %v, %v", events, err)
	}
	if status, body := w.redeem(w.api, "code", unused); status != http.StatusBadRequest {
		t.Errorf("a code of the ended session: got %d %v, want it refused", status, body)
	}
	got := <-pushed
	where, text, _ := strings.Cut(got, " logout_token=")
	if where != "hpc.example.org"+decision.LogoutPath {
		t.Errorf("pushed to %q", where)
	}
	provider, err := oidc.NewProvider(oidc.ClientContext(t.Context(), &http.Client{Transport: decision.Local(w.web)}), issuer)
	if err != nil {
		t.Fatal(err)
	}
	token, err := provider.VerifierContext(oidc.ClientContext(t.Context(), &http.Client{Transport: decision.Local(w.web)}),
		&oidc.Config{ClientID: "hpc", SupportedSigningAlgs: []string{oidc.EdDSA}, Now: w.clock.now}).Verify(t.Context(), text)
	if err != nil {
		t.Fatalf("the logout token: %v", err)
	}
	var claims struct {
		Session string                    `json:"sid"`
		Events  map[string]map[string]any `json:"events"`
		Nonce   *string                   `json:"nonce"`
	}
	if err := token.Claims(&claims); err != nil || claims.Session != "se_alice" || claims.Nonce != nil || claims.Events["http://schemas.openid.net/event/backchannel-logout"] == nil {
		t.Errorf("got %+v, %v", claims, err)
	}
	if err := w.api.Ack(t.Context(), events[0].ID); err != nil {
		t.Fatal(err)
	}
	r := w.post(w.tokenRequest())
	if err := w.store.Write(t.Context(), func(tx records.Tx) error { return w.auth.Left(tx, "alice") }); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*decision.Client{"hpc": w.api, "other": w.other} {
		if events, err := c.Events(t.Context(), 0); err != nil || len(events) != 1 || events[0].Type != decision.Left {
			t.Errorf("%s: got %+v, %v, want that alice left", name, events, err)
		}
	}
	if got := w.get("alice", path("hpc", r.ID)); got.status != http.StatusNotFound {
		t.Errorf("what waited for her: got status %d, want it gone", got.status)
	}
	<-pushed
	<-pushed
}

// A mix-up: the user starts at one deployment, and a malicious Auth app answers
// in the place of the honest one. The issuer in the answer tells them apart.
func TestAnswersOfTwoAuthAppsCannotBeMixedUp(t *testing.T) {
	w := newWorld(t)
	for name, q := range map[string]url.Values{"a code": asking(), "an error": asking("scope", "x")} {
		back, _ := w.sentBack("alice", q)
		if len(back["iss"]) != 1 || back.Get("iss") != issuer {
			t.Errorf("%s: got the issuer %v, want %s", name, back["iss"], issuer)
		}
	}
	// An assertion for another Auth app, which that one could pass on.
	elsewhere := decision.NewClient(decision.Config{Issuer: "https://evil.example", Name: "hpc", Key: w.key, HTTP: &http.Client{}, Now: w.clock.now})
	if status, body := w.redeem(elsewhere, "code", w.code()); body["error"] != "invalid_client" {
		t.Errorf("an assertion for another Auth app: got %d %v, want invalid_client", status, body)
	}
}
