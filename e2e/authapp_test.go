package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// authApp is the Auth app as a program of its own.
type authApp struct {
	dir, config, url string
	server           *process
}

// newAuthApp writes the configuration of an Auth app, with further lines, and
// starts it.
func newAuthApp(t *testing.T, url string, settings ...string) *authApp {
	t.Helper()
	a := &authApp{dir: t.TempDir(), url: url}
	a.config = filepath.Join(a.dir, "hpcsera-auth.yaml")
	text := fmt.Sprintf("listen: 127.0.0.1:%s\npublic_url: %s\nadmin_socket: %s\n%s\n",
		port(url), url, filepath.Join(openDir(t), "admin.sock"), strings.Join(settings, "\n"))
	write(t, a.config, text, 0o600)
	a.admin(t, "init", a.dir)
	a.start(t)
	return a
}

// freeURL is where a program can be found by a browser: passkeys and cookies
// hang on a name, not on an address.
func freeURL(t *testing.T) string {
	t.Helper()
	return "http://localhost:" + port(freeAddress(t))
}

// port is what follows the last colon.
func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func (a *authApp) start(t *testing.T) {
	t.Helper()
	a.server = start(t, nil, []string{"PATH=/usr/bin:/bin"}, "hpcsera-auth", "serve", "--config", a.config)
	eventually(t, 20*time.Second, "hpcsera-auth ready", func() bool {
		if a.server.dead() {
			t.Fatalf("hpcsera-auth ended: %v\n%s", a.server.err, a.server.log)
		}
		res, err := http.Get(a.url + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

// stop stops the program as its operator would.
func (a *authApp) stop(t *testing.T) {
	t.Helper()
	if err := a.server.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := a.server.exits(t, 20*time.Second); status != 0 {
		t.Fatalf("hpcsera-auth ended with status %d:\n%s", status, a.server.log)
	}
}

// admin runs an operator's command and returns what it printed.
func (a *authApp) admin(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "hpcsera-auth"), append(args, "--config", a.config)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("hpcsera-auth %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// accountRow is one of the Auth app's accounts, as its operator sees it.
type accountRow struct {
	Name, Mail, Institution string
	Operator, Disabled      bool
	Projects                []string
}

// accounts lists the accounts by name.
func (a *authApp) accounts(t *testing.T) map[string]accountRow {
	t.Helper()
	var list []accountRow
	if err := json.Unmarshal([]byte(a.admin(t, "user", "list", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]accountRow{}
	for _, row := range list {
		all[row.Name] = row
	}
	return all
}

// trail is the audit log, one "ACTOR ACTION USER" for each line.
func (a *authApp) trail(t *testing.T) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(a.admin(t, "audit", "export")) {
		var l struct{ Actor, Action, User string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		all = append(all, l.Actor+" "+l.Action+" "+l.User)
	}
	return all
}

// who says who is signed in at the Auth app in this browser, "" for nobody. The
// page that it shows stays.
func (a *authApp) who(t *testing.T, b *browser) string {
	t.Helper()
	w := b.window()
	w.open(t, a.url+"/account")
	if w.at.Path == "/signin" {
		return ""
	}
	w.want(t, http.StatusOK, "Where you are signed in")
	return w.title()
}

// local is somebody with an account of the Auth app's own.
type local struct {
	*browser
	app            *authApp
	name, password string
	recovery       []string
	otp            phone
}

// invite has the operator invite somebody, who sets the account up in a
// browser: a password and an authenticator app.
func (a *authApp) invite(t *testing.T, name string, args ...string) *local {
	t.Helper()
	_, link, found := strings.Cut(a.admin(t, append([]string{"user", "add", name}, args...)...), a.url)
	if !found {
		t.Fatal("hpcsera-auth user add prints no link")
	}
	p := &local{browser: newBrowser(t), app: a, name: name, password: rand.Text()}
	handedOut.add(p.password)
	p.open(t, a.url+strings.Fields(link)[0])
	p.submit(t, "/setup", "password", p.password, "again", p.password)
	p.otp.secret = strings.ReplaceAll(p.marked(t, "secret"), " ", "")
	handedOut.add(p.otp.secret)
	p.submit(t, "/setup/app", "code", p.otp.code(t))
	p.want(t, http.StatusOK, "Each of them replaces your second factor once")
	p.recovery = p.codes(t)
	return p
}

// codes are the recovery codes that the page shows.
func (p *local) codes(t *testing.T) []string {
	t.Helper()
	var list []string
	for n := range p.browser.page.Descendants() {
		if n.Data == "li" && strings.Contains(attr(n.Parent, "class"), "codes") {
			list = append(list, textOf(n))
		}
	}
	if len(list) != 10 {
		t.Fatalf("%s shows the recovery codes %q, want 10", p.at, list)
	}
	return list
}

// stepUp shows the second factor once more.
func (p *local) stepUp(t *testing.T) {
	t.Helper()
	p.open(t, p.app.url+"/stepup")
	p.submit(t, "/stepup/app", "code", p.otp.code(t))
}

// period is how long an app shows a code, in seconds.
const period = 30

// phone is an authenticator app. Codes work once each, so it waits for the
// next one where it must.
type phone struct {
	secret string
	last   int64 // step of the code that was shown last
}

func (p *phone) code(t *testing.T) string {
	t.Helper()
	var step int64
	// A step too early counts as a clock that is fast.
	eventually(t, 2*time.Minute, "the next code", func() bool {
		now := time.Now().Unix() / period
		step = max(now-1, p.last+1)
		return step <= now+1
	})
	p.last = step
	return p.shown(t)
}

// shown is the code that was used last.
func (p *phone) shown(t *testing.T) string {
	t.Helper()
	code, err := totp.GenerateCode(p.secret, time.Unix(p.last*period, 0))
	if err != nil {
		t.Fatal(err)
	}
	return code
}
