package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

func (w *world) tokenFor(client string) access.TokenMade {
	w.Helper()
	made, err := w.access.CreateToken(w.Context(), person("alice"), access.NewToken{User: "alice", Project: "cfd", Client: client, Preset: "ci", Site: "gwdg"})
	w.must(err)
	return made
}

func (w *world) bearer(secret string) error {
	_, err := w.auth.Authenticate(w.Context(), auth.Request{Authorization: "Bearer " + secret})
	return err
}

func TestAClientTakesBackItsOwnTokensOnly(t *testing.T) {
	w := newWorld(t)
	made := w.tokenFor("gitlab")
	session, _ := hpcsera.NewSecret(hpcsera.NewID("ls"))
	w.refused("no client", w.post("", "/oauth/revoke", "token", made.Secret), 401, "invalid_client")
	w.refused("no token", w.post("gitlab", "/oauth/revoke"), 400, "invalid_request")
	w.refused("a session's credential", w.post("cli", "/oauth/revoke", "token", session), 400, "unsupported_token_type")
	for name, client := range map[string]string{"another client": "tool", "our own client": "cli"} {
		if got := w.post(client, "/oauth/revoke", "token", made.Secret); got.status != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200, as for a token that is none", name, got.status, got.text)
		}
	}
	for _, text := range []string{"x", "a.b.c", made.Secret[:len(made.Secret)-1]} {
		if got := w.post("gitlab", "/oauth/revoke", "token", text, "token_type_hint", "refresh_token"); got.status != http.StatusOK {
			t.Errorf("%.5s: got %d %s, want 200 (RFC 7009)", text, got.status, got.text)
		}
	}
	w.must(w.bearer(made.Secret))
	for range 2 {
		if got := w.post("gitlab", "/oauth/revoke", "token", made.Secret); got.status != http.StatusOK {
			t.Errorf("its own: got %d %s", got.status, got.text)
		}
	}
	if err := w.bearer(made.Secret); hpcsera.CodeOf(err) != hpcsera.TokenInvalid {
		t.Errorf("after it was revoked: got %v", err)
	}
}

func TestAClientLearnsOfItsOwnTokensOnly(t *testing.T) {
	w := newWorld(t)
	made := w.tokenFor("gitlab")
	w.refused("a public client", w.post("tool", "/oauth/introspect", "token", made.Secret), 401, "invalid_client")
	w.refused("no token", w.post("gitlab", "/oauth/introspect"), 400, "invalid_request")
	inactive := func(name, text string) {
		t.Helper()
		if got := w.post("gitlab", "/oauth/introspect", "token", text); got.status != http.StatusOK || got.text != `{"active":false}` {
			t.Errorf("%s: got %d %s, want that it is not active, and nothing else", name, got.status, got.text)
		}
	}
	inactive("another's", w.tokenFor("tool").Secret)
	inactive("no token", "a.b.c")
	forged, _ := hpcsera.NewSecret(made.Token.ID)
	inactive("a forged one", forged)
	got := w.post("gitlab", "/oauth/introspect", "token", made.Secret)
	for name, want := range map[string]any{"active": true, "username": "alice", "sub": "alice", "client_id": "gitlab", "iss": publicURL, "token_type": "Bearer",
		"scope": "project:cfd role:GET_JobStatus role:POST_Job role:DELETE_Job site:gwdg", "exp": float64(made.Token.Expires.Unix())} {
		if got.body[name] != want {
			t.Errorf("%s: got %v, want %v", name, got.body[name], want)
		}
	}
	w.wait(31 * 24 * time.Hour)
	inactive("an expired one", made.Secret)
}

func TestTheMetadataNamesWhatIsThere(t *testing.T) {
	w := newWorld(t)
	var texts []string
	for _, path := range []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"} {
		got := w.send(httptest.NewRequest(http.MethodGet, publicURL+path, nil))
		texts = append(texts, got.text)
		if got.status != http.StatusOK || got.str("issuer") != publicURL {
			t.Fatalf("%s: got %d %s", path, got.status, got.text)
		}
		for name, value := range got.body {
			target, is := strings.CutPrefix(got.str(name), publicURL)
			if !is || !strings.HasSuffix(name, "_endpoint") {
				continue
			}
			if answer := w.post("", target); answer.str("error") == "" {
				t.Errorf("%s is %v, where nothing answers as OAuth does", name, value)
			}
		}
	}
	if texts[0] != texts[1] {
		t.Errorf("the two documents differ:\n%s\n%s", texts[0], texts[1])
	}
}
