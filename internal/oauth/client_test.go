package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
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
)

func newJWK(t *testing.T, id string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(jose.ES256)}
}

func TestFormsAreReadStrictly(t *testing.T) {
	w := newWorld(t)
	form := url.Values{"client_id": {"tool"}, "scope": {ciScope}}.Encode()
	for _, c := range []struct {
		name, method, target, kind, body string
		status                           int
	}{
		{"GET", "GET", "", "application/x-www-form-urlencoded", "", 405},
		{"JSON", "POST", "", "application/json", `{"client_id":"tool"}`, 400},
		{"no type", "POST", "", "", form, 400},
		{"another charset", "POST", "", "application/x-www-form-urlencoded; charset=utf-16", form, 400},
		{"parameters in the URL", "POST", "?client_id=tool", "application/x-www-form-urlencoded", form, 400},
		{"one twice", "POST", "", "application/x-www-form-urlencoded", form + "&scope=project:bio", 400},
		{"one twice, empty", "POST", "", "application/x-www-form-urlencoded", form + "&scope=", 400},
		{"a semicolon", "POST", "", "application/x-www-form-urlencoded", form + ";a=b", 400},
		{"a broken escape", "POST", "", "application/x-www-form-urlencoded", form + "&a=%zz", 400},
		{"no UTF-8", "POST", "", "application/x-www-form-urlencoded", form + "&a=%ff", 400},
		{"a huge one", "POST", "", "application/x-www-form-urlencoded", form + "&a=" + strings.Repeat("a", 1<<17), 413},
	} {
		r := httptest.NewRequest(c.method, publicURL+"/oauth/device_authorization"+c.target, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w.refused(c.name, w.send(r), c.status, "invalid_request")
	}
	r := httptest.NewRequest("POST", publicURL+"/oauth/device_authorization", strings.NewReader(form+"&later=extension&empty="))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	if got := w.send(r); got.status != http.StatusOK {
		t.Errorf("a form with parameters that are not known: got %d %s, want 200", got.status, got.text)
	}
}

func TestAClientThatDoesNotProveWhoItIsGetsNothing(t *testing.T) {
	w := newWorld(t)
	ask := func(edit func(*http.Request, url.Values)) reply {
		form := url.Values{"scope": {ciScope}}
		r := httptest.NewRequest(http.MethodPost, publicURL+"/oauth/device_authorization", nil)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		edit(r, form)
		body := httptest.NewRequest(http.MethodPost, publicURL+"/oauth/device_authorization", strings.NewReader(form.Encode()))
		body.Header, body.RemoteAddr = r.Header, r.RemoteAddr
		return w.send(body)
	}
	secret := w.secrets["gitlab"]
	_, err := w.access.SetClient(t.Context(), auth.OperatorOnHost(), access.Switch{Name: "pinged", Disabled: true})
	w.must(err)
	for _, c := range []struct {
		name   string
		edit   func(*http.Request, url.Values)
		status int
		code   string
	}{
		{"nobody", func(*http.Request, url.Values) {}, 401, "invalid_client"},
		{"an unknown one", func(_ *http.Request, f url.Values) { f.Set("client_id", "evil") }, 401, "invalid_client"},
		{"no name at all", func(_ *http.Request, f url.Values) { f.Set("client_id", "../x y") }, 401, "invalid_client"},
		{"one that was not registered", func(_ *http.Request, f url.Values) { f.Set("client_id", "plain") }, 401, "invalid_client"},
		{"one that is disabled", func(_ *http.Request, f url.Values) { f.Set("client_id", "pinged") }, 401, "invalid_client"},
		{"a confidential one without its secret", func(_ *http.Request, f url.Values) { f.Set("client_id", "gitlab") }, 401, "invalid_client"},
		{"a wrong secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("gitlab", secret+"x") }, 401, "invalid_client"},
		{"an empty secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("gitlab", "") }, 401, "invalid_client"},
		{"another's secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("lake", secret) }, 401, "invalid_client"},
		{"a public one with a secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("tool", "x") }, 401, "invalid_client"},
		{"a confidential one with an empty secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("gitlab", "") }, 401, "invalid_client"},
		{"one that is not registered with an empty secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("plain", "") }, 401, "invalid_client"},
		{"two, one with an empty secret", func(r *http.Request, f url.Values) { r.SetBasicAuth("tool", ""); f.Set("client_id", "gitlab") }, 400, "invalid_request"},
		{"a built-in one with a secret", func(r *http.Request, _ url.Values) { r.SetBasicAuth("cli", "x") }, 401, "invalid_client"},
		{"a token", func(r *http.Request, _ url.Values) { r.Header.Set("Authorization", "Bearer x") }, 401, "invalid_client"},
		{"two headers", func(r *http.Request, _ url.Values) {
			r.SetBasicAuth("gitlab", secret)
			r.Header.Add("Authorization", "Basic eDp4")
		}, 401, "invalid_client"},
		{"two ways", func(r *http.Request, f url.Values) {
			r.SetBasicAuth("gitlab", secret)
			f.Set("client_secret", secret)
		}, 400, "invalid_request"},
		{"two names", func(r *http.Request, f url.Values) {
			r.SetBasicAuth("gitlab", secret)
			f.Set("client_id", "tool")
		}, 400, "invalid_request"},
		{"an assertion's type alone", func(_ *http.Request, f url.Values) {
			f.Set("client_id", "lake")
			f.Set("client_assertion_type", decision.AssertionType)
		}, 400, "invalid_request"},
	} {
		got := ask(func(r *http.Request, f url.Values) { r.RemoteAddr = c.name + ":1"; c.edit(r, f) })
		w.refused(c.name, got, c.status, c.code)
	}
	for name, edit := range map[string]func(*http.Request, url.Values){
		"a public one":                      func(_ *http.Request, f url.Values) { f.Set("client_id", "tool") },
		"a public one with an empty secret": func(r *http.Request, _ url.Values) { r.SetBasicAuth("tool", "") }, // as oidc-agent does
		"the same, named twice":             func(r *http.Request, f url.Values) { r.SetBasicAuth("tool", ""); f.Set("client_id", "tool") },
		"basic":                             func(r *http.Request, _ url.Values) { r.SetBasicAuth("gitlab", url.QueryEscape(secret)) },
		"post": func(_ *http.Request, f url.Values) {
			f.Set("client_id", "gitlab")
			f.Set("client_secret", secret)
		},
		"public, with an empty secret": func(r *http.Request, _ url.Values) { r.SetBasicAuth("tool", "") },
		"public":                       func(_ *http.Request, f url.Values) { f.Set("client_id", "tool") },
	} {
		if got := ask(edit); got.status != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", name, got.status, got.text)
		}
	}
}

// assertion makes an assertion of lake's that edit may spoil.
func (w *world) assertion(key jose.JSONWebKey, alg jose.SignatureAlgorithm, edit func(map[string]any)) string {
	w.Helper()
	claims := map[string]any{"iss": "lake", "sub": "lake", "aud": publicURL + "/oauth/token", "jti": rand.Text(), "exp": w.clock().Add(time.Minute).Unix()}
	edit(claims)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	w.must(err)
	payload, err := json.Marshal(claims)
	w.must(err)
	jws, err := signer.Sign(payload)
	w.must(err)
	text, err := jws.CompactSerialize()
	w.must(err)
	return text
}

func TestAnAssertionThatIsNotTheClientsForUsNowIsRefused(t *testing.T) {
	w := newWorld(t)
	use := func(text string) reply {
		return w.post("", "/oauth/introspect", "token", "x", "client_assertion_type", decision.AssertionType, "client_assertion", text)
	}
	same := func(map[string]any) {}
	for name, text := range map[string]string{
		"another key":            w.assertion(newJWK(t, "lake-1"), jose.ES256, same),
		"another key's name":     w.assertion(newJWK(t, "lake-2"), jose.ES256, same),
		"a MAC":                  w.assertion(jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "lake-1"}, jose.HS256, same),
		"for another server":     w.assertion(w.key, jose.ES256, func(c map[string]any) { c["aud"] = "https://evil.example.org" }),
		"for a similar server":   w.assertion(w.key, jose.ES256, func(c map[string]any) { c["aud"] = publicURL + ".evil.example" }),
		"for nobody":             w.assertion(w.key, jose.ES256, func(c map[string]any) { delete(c, "aud") }),
		"by another":             w.assertion(w.key, jose.ES256, func(c map[string]any) { c["iss"] = "gitlab" }),
		"about another":          w.assertion(w.key, jose.ES256, func(c map[string]any) { c["sub"] = "gitlab" }),
		"expired":                w.assertion(w.key, jose.ES256, func(c map[string]any) { c["exp"] = w.clock().Add(-2 * time.Minute).Unix() }),
		"without an end":         w.assertion(w.key, jose.ES256, func(c map[string]any) { delete(c, "exp") }),
		"good for a year":        w.assertion(w.key, jose.ES256, func(c map[string]any) { c["exp"] = w.clock().Add(9000 * time.Hour).Unix() }),
		"not yet good":           w.assertion(w.key, jose.ES256, func(c map[string]any) { c["nbf"] = w.clock().Add(time.Hour).Unix() }),
		"without an id":          w.assertion(w.key, jose.ES256, func(c map[string]any) { delete(c, "jti") }),
		"no assertion":           "a.b.c",
		"claims of other types":  w.assertion(w.key, jose.ES256, func(c map[string]any) { c["exp"] = "soon" }),
		"a public client's name": w.assertion(w.key, jose.ES256, func(c map[string]any) { c["iss"], c["sub"] = "tool", "tool" }),
	} {
		w.refused(name, use(text), 401, "invalid_client")
	}
	good := w.assertion(w.key, jose.ES256, func(c map[string]any) { c["aud"] = []string{publicURL, "x"} })
	if got := use(good); got.status != http.StatusOK {
		t.Errorf("as it should be: got %d %s", got.status, got.text)
	}
	w.refused("again", use(good), 401, "invalid_client")
	w.refused("a secret in its place", w.post("", "/oauth/introspect", "token", "x", "client_id", "lake", "client_secret", "x"), 401, "invalid_client")
}

func TestOnlyAClientsOwnerRegistersIt(t *testing.T) {
	w := newWorld(t)
	_, err := w.access.CreateClient(t.Context(), person("alice"), access.Named{Name: "portal"})
	w.must(err)
	r := access.NewRegistration{Client: "portal", Method: hpcsera.SecretClient}
	loggedIn := &auth.Principal{Person: &auth.Person{User: "alice", KeyBound: true}}
	for name, c := range map[string]struct {
		by   *auth.Principal
		edit func(*access.NewRegistration)
		want hpcsera.Code
	}{
		"bob":                         {person("bob"), func(*access.NewRegistration) {}, hpcsera.NotFound},
		"a session of hpcsera login":  {loggedIn, func(*access.NewRegistration) {}, hpcsera.Forbidden},
		"without a second factor":     {&auth.Principal{Person: &auth.Person{User: "alice"}}, func(*access.NewRegistration) {}, hpcsera.StepUpRequired},
		"a client that is built in":   {auth.OperatorOnHost(), func(r *access.NewRegistration) { r.Client = "cli" }, hpcsera.Conflict},
		"one that does not exist":     {person("alice"), func(r *access.NewRegistration) { r.Client = "x" }, hpcsera.NotFound},
		"no method":                   {person("alice"), func(r *access.NewRegistration) { r.Method = "" }, hpcsera.InvalidField},
		"CIBA for a public client":    {person("alice"), func(r *access.NewRegistration) { r.Method, r.CIBA = hpcsera.PublicClient, hpcsera.Poll }, hpcsera.InvalidField},
		"a private key":               {person("alice"), func(r *access.NewRegistration) { r.Method, r.Keys = hpcsera.KeyClient, w.privateSet() }, hpcsera.InvalidField},
		"no keys":                     {person("alice"), func(r *access.NewRegistration) { r.Method, r.Keys = hpcsera.KeyClient, `{"keys":[]}` }, hpcsera.InvalidField},
		"ping without a URL":          {person("alice"), func(r *access.NewRegistration) { r.CIBA = hpcsera.Ping }, hpcsera.InvalidField},
		"ping in plain HTTP":          {person("alice"), func(r *access.NewRegistration) { r.CIBA, r.Notify = hpcsera.Ping, "http://a.example/x" }, hpcsera.InvalidField},
		"ping with a password inside": {person("alice"), func(r *access.NewRegistration) { r.CIBA, r.Notify = hpcsera.Ping, "https://a:b@a.example/x" }, hpcsera.InvalidField},
		"poll with a URL":             {person("alice"), func(r *access.NewRegistration) { r.CIBA, r.Notify = hpcsera.Poll, "https://a.example/x" }, hpcsera.InvalidField},
	} {
		spoilt := r
		c.edit(&spoilt)
		if _, err := w.access.Register(t.Context(), c.by, spoilt); hpcsera.CodeOf(err) != c.want {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	first, err := w.access.Register(t.Context(), person("alice"), r)
	w.must(err)
	again, err := w.access.Register(t.Context(), person("alice"), r)
	w.must(err)
	r.NewSecret = true
	other, err := w.access.Register(t.Context(), person("alice"), r)
	w.must(err)
	if first.Secret == "" || again.Secret != "" || other.Secret == "" || other.Secret == first.Secret {
		t.Errorf("got secrets %d, %d and %d characters long, want one, none, and another one", len(first.Secret), len(again.Secret), len(other.Secret))
	}
	for secret, want := range map[string]int{first.Secret: 401, other.Secret: 200} {
		if got := w.post("", "/oauth/introspect", "client_id", "portal", "client_secret", secret, "token", "x"); got.status != want {
			t.Errorf("after a new secret: got %d, want %d", got.status, want)
		}
	}
}

func (w *world) privateSet() string {
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{newJWK(w.T, "x")}})
	w.must(err)
	return string(text)
}
