package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// join makes an Auth app serve a deployment: each gets to know the other.
func (d *deployment) join(a *authApp) {
	d.t.Helper()
	config := read(d.t, d.config)
	write(d.t, d.config, config+"auth: {url: '"+a.url+"', name: hpcsera}\n", 0o600)
	key := filepath.Join(d.dir, "deployment.jwk")
	write(d.t, key, d.admin("auth", "key"), 0o600)
	a.admin(d.t, "deployment", "add", "hpcsera", "--url", d.url, "--key", key)
	d.stopServer()
	d.startServer("")
}

// oidcAgent is Debian's oidc-agent of somebody: a program that knows OpenID
// providers, and nothing of us.
type oidcAgent struct{ env []string }

func newOIDCAgent(t *testing.T) *oidcAgent {
	t.Helper()
	if _, err := exec.LookPath("oidc-gen"); err != nil {
		t.Fatal("oidc-agent is not installed (Debian's package oidc-agent-cli): run `make test`, which installs it")
	}
	dir := openDir(t) // its socket's path is short there
	if err := os.MkdirAll(filepath.Join(dir, ".oidc-agent"), 0o700); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	o := &oidcAgent{env: []string{"PATH=/usr/bin:/bin", "HOME=" + dir, "TMPDIR=" + dir, "OIDC_SOCK=" + socket}}
	p := startCommand(t, nil, o.env, "oidc-agent", "--console", "--no-autoload", "--socket-path="+socket)
	eventually(t, 10*time.Second, "oidc-agent ready", func() bool {
		if p.dead() {
			t.Fatalf("oidc-agent ended: %v\n%s", p.err, p.log)
		}
		return exists(socket)
	})
	return o
}

// asks begins the device flow as its manual says, with no more than a public
// client's name and scopes, and returns the program once it shows a code.
//
// What oidc-agent 4.2.6 wants: the metadata at openid-configuration alone, which
// it reads before every request; http only where the host is this one. What it
// sends: "Authorization: Basic" with the client's name and an empty password,
// also at the token endpoint, where it names the client nowhere else; "openid "
// behind the scopes, with the blank. It needs no id_token and no refresh token.
func (o *oidcAgent) asks(t *testing.T, d *deployment, client, scope string) (p *process, page, code string) {
	t.Helper()
	p = startCommand(t, nil, o.env, "oidc-gen", "hpc", "--only-at", "--iss="+d.url, "--client-id="+client, "--client-secret=",
		"--scope="+scope, "--flow=device", "--manual", "--no-url-call", "--prompt=none", "--confirm-default")
	p.tells = true
	shown := regexp.MustCompile(`(?s)visit:\s+(\S+)\s+And enter the code: (\S+)`)
	eventually(t, 20*time.Second, "oidc-gen's code", func() bool {
		found := shown.FindStringSubmatch(p.log.String())
		if found != nil {
			page, code = found[1], found[2]
		}
		return found != nil || p.dead()
	})
	return p, page, code
}

// self asks the API what a token is.
func (d *deployment) self(token string) (status int, is hpcsera.Token) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, d.url+"/api/v1/tokens/self", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		if err := json.NewDecoder(res.Body).Decode(&is); err != nil {
			d.t.Fatal(err)
		}
	}
	return res.StatusCode, is
}

// TestOIDCAgentGetsATokenByDeviceFlow from the real server, while its user
// decides in the real Auth app: each no first.
func TestOIDCAgentGetsATokenByDeviceFlow(t *testing.T) {
	t.Parallel()
	a, _ := federated(t, map[string]claims{"alice": {"preferred_username": "alice"}})
	d := newDeployment(t, "", "")
	d.join(a)
	d.admin("client", "register", "ci")
	o := newOIDCAgent(t)
	const scope = "project:cfd role:GET_JobStatus role:POST_Job site:lab"

	for client, scope := range map[string]string{
		"nobody": scope,                             // is no client
		"ci":     "project:cfd role:GET_Everything", // is no role
	} {
		p, _, code := o.asks(t, d, client, scope)
		if status := p.exits(t, 20*time.Second); status == 0 || code != "" || strings.Contains(p.log.String(), "hpcsera_") {
			t.Errorf("%s asks for %s: got status %d and the code %q, want a refusal:\n%s", client, scope, status, code, p.log)
		}
	}

	denied, page, code := o.asks(t, d, "ci", scope)
	if page != a.url+"/code" {
		t.Fatalf("oidc-gen sends its user to %q, want %s/code; it printed:\n%s", page, a.url, denied.log)
	}
	// She comes from her institution, which names her and decides nothing: that
	// takes a factor of her own.
	alice, own := newBrowser(t), phone{}
	alice.open(t, page)
	alice.link(t, "Sign in with Example University")
	alice.agreesThere(t, "alice")
	if alice.at.String() != page {
		t.Errorf("from her institution alice comes to %s, want %s", alice.at, page)
	}
	alice.open(t, a.url+"/account/app")
	own.secret = strings.ReplaceAll(alice.marked(t, "secret"), " ", "")
	handedOut.add(own.secret)
	alice.submit(t, "/account/app", "code", own.code(t))
	alice.open(t, page)
	alice.submit(t, "/code", "code", "BCDF-GHJK") // nobody's
	alice.want(t, http.StatusUnprocessableEntity, "")
	alice.open(t, page)
	alice.submit(t, "/code", "code", code)
	if alice.at.Path != "/stepup" {
		t.Fatalf("without a factor the code leads to %s: %s", alice.at, alice.said())
	}
	alice.submit(t, "/stepup/app", "code", own.shown(t))
	alice.want(t, http.StatusUnauthorized, "The code is wrong or was used before.")
	if denied.dead() {
		t.Errorf("oidc-gen ended before anything was decided:\n%s", denied.log)
	}
	alice.submit(t, "/stepup/app", "code", own.code(t))
	alice.press(t, "Deny")
	alice.want(t, http.StatusOK, "")
	if status := denied.exits(t, 30*time.Second); status == 0 || strings.Contains(denied.log.String(), "hpcsera_") {
		t.Errorf("denied: oidc-gen ended with status %d, want a refusal:\n%s", status, denied.log)
	}

	p, page, code := o.asks(t, d, "ci", scope)
	alice.open(t, page)
	alice.submit(t, "/code", "code", strings.ToLower(code))
	alice.want(t, http.StatusOK, "ci")
	for _, want := range []string{"hpcsera", d.url, "cfd", "lab", "GET_JobStatus", "POST_Job"} {
		if !strings.Contains(alice.said(), want) {
			t.Errorf("the page does not say %q: %s", want, alice.said())
		}
	}
	alice.press(t, "Allow", "roles", "1") // less than was asked for; the step-up still holds
	if status := p.exits(t, 30*time.Second); status != 0 {
		t.Fatalf("oidc-gen ended with status %d:\n%s", status, p.log)
	}
	token := secretIn(t, p.log.String())
	status, is := d.self(token)
	if status != http.StatusOK || is.User != "alice" || is.Project != "cfd" || is.Client != "ci" || is.Site != "lab" || is.Roles != hpcsera.RolesOf(1) {
		t.Errorf("the token: got status %d and %+v, want alice's for ci in cfd at lab with GET_JobStatus", status, is)
	}
	d.admin("token", "revoke", is.ID)
	if status, _ := d.self(token); status != http.StatusUnauthorized {
		t.Errorf("after its revocation: got status %d, want 401", status)
	}
}
