package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/hpcsera/hpcsera"
)

// TestTheTokenPageIsTrueWordForWord types what doc/tokens.md tells a client
// without a browser to type, into bash with curl, and is the user who decides
// in the server's own Auth app.
func TestTheTokenPageIsTrueWordForWord(t *testing.T) {
	t.Parallel()
	page := tokenPage(t)
	d := newDeployment(t, "", "")
	alice := d.firstPerson("alice")

	// The client with a secret is registered on the pages, by whoever owns it.
	alice.open(t, d.url+"/clients")
	alice.press(t, "Register", "name", "portal")
	alice.press(t, "Save", "method", "secret", "ciba", "poll")
	portal := []string{"CLIENT=portal", "CLIENT_SECRET=" + alice.secretShown(t)}
	alice.open(t, d.url+"/clients/portal")
	alice.press(t, "Let it ask me")
	alice.want(t, http.StatusOK, "may ask you")
	alice.stepUp(t)

	t.Run("device flow", func(t *testing.T) {
		c := d.in(t).types(page("Prepare", "Device flow", "Use it", "Look at it", "Give it back"), portal...)
		alice.typesCode(t, c)
		alice.want(t, http.StatusOK, "portal")
		alice.press(t, "Allow", "roles", "1", "roles", "6") // one less than was asked for
		c.ends(t, hpcsera.RolesOf(1, 6), `"active":true`, "401\n")
	})
	t.Run("CIBA", func(t *testing.T) {
		c := d.in(t).types(page("Prepare", "CIBA", "Use it", "Look at it", "Give it back"), portal...)
		eventually(t, 20*time.Second, "the request lies in the inbox", func() bool {
			c.goesOn(t)
			alice.open(t, alice.auth+"/")
			return strings.Contains(alice.said(), "A token for the client portal")
		})
		alice.link(t, "Look at it")
		alice.want(t, http.StatusOK, "Build 4711")
		alice.press(t, "Allow")
		c.ends(t, hpcsera.RolesOf(1, 6, 8), `"active":true`, "401\n")
	})
	t.Run("without a secret", func(t *testing.T) {
		d.admin("client", "register", "ci") // the operator's way, without a method
		c := d.in(t).types(page("Prepare", "Without a secret", "Device flow", "Use it", "Give it back"), "CLIENT=ci", "CLIENT_SECRET=")
		alice.typesCode(t, c)
		alice.press(t, "Allow")
		c.ends(t, hpcsera.RolesOf(1, 6, 8), "401\n")
	})
	t.Run("denied", func(t *testing.T) {
		c := d.in(t).types(page("Prepare", "Device flow", "Use it"), portal...)
		alice.typesCode(t, c)
		alice.press(t, "Deny")
		if status := c.exits(t, 40*time.Second); status == 0 || !strings.Contains(c.log.String(), "access_denied") || exists(c.token) {
			t.Errorf("got status %d and %q, want a refusal and no token", status, c.log)
		}
	})
}

// tokenPage reads the shell blocks of doc/tokens.md, which are all typed: the
// test is to name each section that has one.
func tokenPage(t *testing.T) func(sections ...string) string {
	t.Helper()
	text := map[string]string{}
	for _, part := range regexp.MustCompile(`(?m)^##+ `).Split(read(t, "../doc/tokens.md"), -1)[1:] {
		title, body, _ := strings.Cut(part, "\n")
		for _, block := range regexp.MustCompile("(?ms)^```bash\n(.*?)^```$").FindAllStringSubmatch(body, -1) {
			text[title] += block[1]
		}
	}
	typed := map[string]bool{}
	t.Cleanup(func() {
		for title := range text {
			if !typed[title] && !t.Failed() {
				t.Errorf("nobody typed what doc/tokens.md has below %q", title)
			}
		}
	})
	return func(sections ...string) string {
		script := ""
		for _, title := range sections {
			if text[title] == "" {
				t.Fatalf("doc/tokens.md has nothing to type below %q", title)
			}
			typed[title] = true
			script += text[title]
		}
		return script
	}
}

// typist is somebody who types a script, in a folder of its own.
type typist struct {
	*process
	d     *deployment
	token string // where the token is kept
}

// types begins to type a script with the variables that the page wants.
func (d *deployment) types(script string, environ ...string) *typist {
	d.t.Helper()
	dir := openDir(d.t)
	env := append([]string{"PATH=/usr/bin:/bin", "HPCSERA_SERVER=" + d.url, "PROJECT=cfd", "LOGIN=alice"}, environ...)
	file := filepath.Join(dir, "typed")
	write(d.t, file, "cd "+dir+"\n"+script, 0o600)
	return &typist{startCommand(d.t, nil, env, "bash", "-euo", "pipefail", file), d, filepath.Join(dir, "token.curl")}
}

// goesOn fails the test if the script ended.
func (c *typist) goesOn(t *testing.T) {
	t.Helper()
	if c.dead() {
		t.Fatalf("what the page says ended: %v\n%s", c.err, c.log)
	}
}

// ends waits for the script's end. It has shown what a token is, with roles,
// and has printed some texts.
func (c *typist) ends(t *testing.T, roles hpcsera.Roles, printed ...string) {
	t.Helper()
	if status := c.exits(t, 40*time.Second); status != 0 {
		t.Fatalf("what the page says ended with status %d:\n%s", status, c.log)
	}
	self, is := regexp.MustCompile(`\{"id":"t_.*\}`).FindString(c.log.String()), hpcsera.Token{}
	if err := json.Unmarshal([]byte(self), &is); err != nil || is.User != "alice" || is.Project != "cfd" || is.Roles != roles {
		t.Errorf("tokens/self answered %q (%v), want a token of alice for cfd with %s", self, err, roles)
	}
	for _, text := range printed {
		if !strings.Contains(c.log.String(), text) {
			t.Errorf("what the page says printed %q, want %q in it", c.log, text)
		}
	}
	// It is revoked, and its secret stands in its file alone.
	token := secretIn(t, strings.NewReplacer(`"`, " ").Replace(read(t, c.token)))
	if status, _ := c.d.self(token); status != http.StatusUnauthorized {
		t.Errorf("the token in the end: got status %d, want 401", status)
	}
	if info, err := os.Stat(c.token); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: got %v (%v), want one for its owner alone", info, err)
	}
}

// person is somebody at the server's pages, with an account of the Auth app
// inside it.
type person struct {
	*browser
	d    *deployment
	auth string // the Auth app
	name string
	otp  phone
}

// firstPerson opens the link that hpcserad prints at its first start, and
// signs in.
func (d *deployment) firstPerson(name string) *person {
	d.t.Helper()
	link := regexp.MustCompile(`http\S+/setup\?code=\S+`).FindString(d.server.log.String())
	if link == "" {
		d.t.Fatalf("hpcserad printed no link:\n%s", d.server.log)
	}
	return d.setUp(name, link)
}

// setUp makes the account that a link is for: a password, an authenticator
// app. Its person signs in at the server's pages.
func (d *deployment) setUp(name, link string) *person {
	d.t.Helper()
	p := &person{browser: newBrowser(d.t), d: d, auth: link[:strings.Index(link, "/setup")], name: name}
	const password = "four words in a row"
	p.open(d.t, link)
	p.submit(d.t, "/setup", "name", name, "password", password, "again", password)
	p.otp.secret = strings.ReplaceAll(p.marked(d.t, "secret"), " ", "")
	handedOut.add(p.otp.secret)
	p.submit(d.t, "/setup/app", "code", p.otp.code(d.t))
	p.want(d.t, http.StatusOK, "Each of them replaces your second factor once")
	p.open(d.t, d.url+"/")
	p.link(d.t, "Sign in")
	p.want(d.t, http.StatusOK, "Hello, "+name)
	return p
}

// secretShown is the token or secret that the page shows once.
func (p *person) secretShown(t *testing.T) string {
	t.Helper()
	field := p.find(func(n *html.Node) bool { return n.Data == "input" && attr(n, "id") == "secret" })
	if field == nil {
		t.Fatalf("%s (status %d) shows no secret; it says: %s", p.at, p.status, p.said())
	}
	secret := attr(field, "value")
	handedOut.add(secret)
	return secret
}

// stepUp shows the second factor once more.
func (p *person) stepUp(t *testing.T) {
	t.Helper()
	p.open(t, p.auth+"/stepup")
	p.submit(t, "/stepup/app", "code", p.otp.code(t))
}

// typesCode types the code that a client shows where the client says.
func (p *person) typesCode(t *testing.T, c *typist) {
	t.Helper()
	var shown []string
	eventually(t, 20*time.Second, "the client shows a code", func() bool {
		c.goesOn(t)
		shown = regexp.MustCompile(`Open (\S+) and type the code (\S+)`).FindStringSubmatch(c.log.String())
		return shown != nil
	})
	if want := p.auth + "/code"; shown[1] != want {
		t.Fatalf("the client sends its user to %s, want %s", shown[1], want)
	}
	p.open(t, shown[1])
	p.submit(t, "/code", "code", shown[2])
}
