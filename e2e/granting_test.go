package e2e

import (
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// planted are the secrets of one test by what they are, and a look-out for them
// in the list of processes.
type planted struct {
	mu   sync.Mutex
	all  map[string]string // the hidden part, by kind
	seen map[string]bool   // programs that were looked at
	told map[string]bool   // what was found where
}

func (p *planted) plant(t *testing.T, kind, text string) string {
	t.Helper()
	hidden := hiddenPart(text)
	if len(hidden) < 16 {
		t.Fatalf("%s: %q is too short to be looked for", kind, hidden)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[kind] = hidden[:len(hidden)/2] // half of one is too much already
	return text
}

// in returns the kinds of secrets that a text holds.
func (p *planted) in(text string) (kinds []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind, hidden := range p.all {
		if strings.Contains(text, hidden) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// look reads the command line and the environment of every process.
func (p *planted) look() {
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range folders {
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(line) == 0 {
			continue // it has ended, or is the kernel's
		}
		program, _, _ := strings.Cut(string(line), "\x00")
		environment, _ := os.ReadFile(filepath.Join(dir, "environ"))
		for what, text := range map[string]string{"command line": string(line), "environment": string(environment)} {
			for _, kind := range p.in(text) {
				p.tell(kind + " in the " + what + " of " + filepath.Base(program))
			}
		}
		p.mu.Lock()
		p.seen[filepath.Base(program)] = true
		if strings.Contains(string(environment), "HPCSERA_ATTEMPT=") {
			p.seen["the job"] = true
		}
		p.mu.Unlock()
	}
}

func (p *planted) tell(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[what] = true
}

// watchProcesses looks until the function that it returns is called.
func (p *planted) watchProcesses() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			p.look()
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { close(done); <-ended }
}

// ask posts a form as client ci, which authenticates by its secret.
func (d *deployment) ask(t *testing.T, path, secret string, fields ...string) map[string]any {
	t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth("ci", url.QueryEscape(secret))
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	answer := map[string]any{}
	if err != nil || json.Unmarshal(text, &answer) != nil {
		t.Fatalf("%s: got %s, %v: %s", path, res.Status, err, text)
	}
	return answer
}

// allows decides what the browser shows, with the second factor where that is
// asked for.
func (p *local) allows(t *testing.T, button string) {
	t.Helper()
	p.press(t, button)
	if p.at.Path == "/stepup" {
		p.submit(t, "/stepup/app", "code", p.otp.code(t))
		if p.find(func(n *html.Node) bool { return n.Data == "button" && textOf(n) == button }) != nil {
			p.press(t, button)
		}
	}
}

// TestNoSecretShowsWhereItIsGrantedAndUsed plants every kind of secret there
// is, and looks for each wherever somebody else than its owner may read: in the
// list of processes all the while, then in logs, databases, both audit logs and
// pages.
func TestNoSecretShowsWhereItIsGrantedAndUsed(t *testing.T) {
	t.Parallel()
	p := &planted{all: map[string]string{}, seen: map[string]bool{}, told: map[string]bool{}}
	stop := p.watchProcesses()
	a := newAuthApp(t, freeURL(t), "log: {level: debug}")
	d := newDeployment(t, "", "")
	d.join(a)
	p.plant(t, "token", d.token)
	alice := a.invite(t, "alice")
	p.plant(t, "password", alice.password)
	p.plant(t, "TOTP secret", alice.otp.secret)
	secret := p.plant(t, "client secret", regexp.MustCompile(`hpcsera_cs\S+`).FindString(d.admin("client", "register", "ci", "--method", "secret", "--ciba", "poll")))

	l := newLogin(t, d, "local", "log_level: debug")
	p.plant(t, "agent credential", strings.TrimSpace(read(t, filepath.Join(l.home, "credential"))))
	l.startAgent(t, "")
	id := l.submit(t, l.approve(t, manifest("long", marking("while [ ! -e go ]; do sleep 0.1; done"))))
	file := filepath.Join(openDir(t), "token")
	write(t, file, d.token, 0o600)
	home := openDir(t)
	env := []string{"PATH=/usr/bin:/bin", "HOME=" + home}
	waits := start(t, nil, env, "hpcsera", "wait", id, "--server", d.url, "--token-file", file)

	// A token on demand, which alice grants.
	alice.open(t, d.url+"/signin")
	alice.open(t, d.url+"/clients/ci")
	alice.allows(t, "Let it ask me")
	if alice.at.Path == "/confirm" {
		alice.submit(t, "/confirm")
	}
	asked := d.ask(t, "/oauth/bc-authorize", secret, "scope", "openid project:cfd role:GET_JobStatus", "login_hint", "alice")
	request, _ := asked["auth_req_id"].(string)
	p.plant(t, "auth_req_id", request)
	var page string
	eventually(t, 20*time.Second, "the request in alice's inbox", func() bool {
		alice.open(t, a.url+"/")
		n := alice.find(func(n *html.Node) bool {
			return n.Data == "a" && strings.Contains(attr(n, "href"), "/requests/hpcsera/")
		})
		if n != nil {
			page = attr(n, "href")
		}
		return n != nil
	})
	alice.open(t, page)
	alice.allows(t, "Allow")
	eventually(t, 30*time.Second, "the token that alice granted", func() bool {
		got := d.ask(t, "/oauth/token", secret, "grant_type", "urn:openid:params:grant-type:ciba", "auth_req_id", request)
		token, ok := got["access_token"].(string)
		if ok {
			p.plant(t, "token on demand", token)
		} else {
			time.Sleep(5 * time.Second) // as often as a client may ask
		}
		return ok
	})
	device, _ := d.ask(t, "/oauth/device_authorization", secret, "scope", "project:cfd role:GET_JobStatus")["device_code"].(string)
	p.plant(t, "device_code", device)

	// A session at a terminal.
	login := start(t, nil, env, "hpcsera", "login", "--server", d.url)
	code := regexp.MustCompile(`\b[B-Z]{4}-[B-Z]{4}\b`)
	eventually(t, 20*time.Second, "the code of hpcsera login", func() bool { return code.MatchString(login.log.String()) || login.dead() })
	alice.open(t, a.url+"/code")
	alice.submit(t, "/code", "code", code.FindString(login.log.String()))
	if alice.at.Path == "/stepup" {
		alice.submit(t, "/stepup/app", "code", alice.otp.code(t))
	}
	alice.allows(t, "Allow")
	if status := login.exits(t, 30*time.Second); status != 0 {
		t.Fatalf("hpcsera login ended with %d:\n%s", status, login.log)
	}
	sessions, err := filepath.Glob(filepath.Join(home, ".config/hpcsera/tokens/*.session"))
	if err != nil || len(sessions) != 1 {
		t.Fatalf("the sessions kept are %v, %v", sessions, err)
	}
	p.plant(t, "session credential", strings.TrimSpace(read(t, sessions[0])))
	list := start(t, nil, env, "hpcsera", "token", "list")
	if status := list.exits(t, 30*time.Second); status != 0 || !strings.Contains(list.log.String(), "ci") {
		t.Errorf("hpcsera token list ended with %d:\n%s", status, list.log)
	}
	// People put secrets where they do not belong.
	for _, text := range []string{d.token, secret, read(t, sessions[0]), read(t, filepath.Join(l.home, "credential"))} {
		for _, address := range []string{d.url + "/api/v1/jobs/", d.url + "/clients/", d.url + "/oauth/token?code=", a.url + "/requests/hpcsera/"} {
			alice.open(t, address+strings.TrimSpace(text))
		}
	}
	control := showing(t, p, "control-"+strings.Repeat("x", 20))
	eventually(t, 10*time.Second, "the job, running", func() bool { return exists(filepath.Join(l.jobDir(id), "marker")) })
	time.Sleep(200 * time.Millisecond) // let the look-out see it
	write(t, filepath.Join(l.jobDir(id), "go"), "", 0o600)
	d.await(id, time.Minute)
	waits.exits(t, 30*time.Second)
	control.kill()
	stop()

	for _, program := range []string{"hpcserad", "hpcsera-auth", "hpcsera-agent", "hpcsera", "the job"} {
		if !p.seen[program] {
			t.Errorf("the look-out did not see %s", program)
		}
	}
	if !p.told["control in the environment of sleep"] {
		t.Errorf("the look-out does not find what is there: it found %v", p.told)
	}
	delete(p.told, "control in the environment of sleep")
	delete(p.all, "control")
	texts := map[string]string{
		"hpcserad's log": d.server.log.String(), "hpcsera-auth's log": a.server.log.String(), "the agent's log": l.agent.log.String(),
		"what hpcsera login printed": login.log.String(), "what hpcsera token list printed": list.log.String(),
		"hpcserad's audit log": d.admin("audit", "export"), "hpcsera-auth's audit log": a.admin(t, "audit", "export"),
	}
	for _, site := range []string{d.url, a.url} {
		for _, path := range []string{"/", "/tokens", "/projects", "/projects/cfd", "/clients", "/clients/ci", "/agents", "/code", "/requests", "/sessions", "/audit",
			"/account", "/account/app", "/inbox", "/activity", "/approvals"} {
			alice.open(t, site+path)
			texts["the page "+site+path] = alice.text
		}
	}
	for _, dir := range []string{d.data, a.dir} {
		if err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				texts["the file "+name] = read(t, name)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	databases := map[string]bool{}
	for where, text := range texts {
		if strings.HasPrefix(text, "SQLite format 3") {
			databases[map[bool]string{true: "hpcsera-auth", false: "hpcserad"}[strings.Contains(where, a.dir)]] = true
		}
		for _, kind := range p.in(text) {
			p.tell(kind + " in " + where)
		}
	}
	if len(databases) != 2 || !strings.Contains(texts["hpcserad's audit log"], "createToken") || !strings.Contains(texts["hpcsera-auth's audit log"], "alice") {
		t.Errorf("looked at the databases of %v, want both, and at audit logs that tell of what happened", databases)
	}
	if len(p.all) != 9 {
		t.Errorf("planted %d kinds of secrets, want 9", len(p.all))
	}
	for what := range p.told {
		t.Errorf("there is a %s", what)
	}
}

// showing starts a process that shows a secret: the look-out must find it.
func showing(t *testing.T, p *planted, text string) *process {
	t.Helper()
	p.mu.Lock()
	p.all["control"] = text
	p.mu.Unlock()
	return startCommand(t, nil, []string{"SHOWN=" + text}, "/bin/sleep", "60")
}
