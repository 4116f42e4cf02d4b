package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// programs builds the programs, once, and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hpcsera-programs-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir, "../../cmd/hpcserad", "../../cmd/hpcsera-auth", "../../cmd/hpcsera-agent", "../../cmd/hpcsera")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("the programs cannot be built: %w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if built {
		dir, _ := programs() // the error was reported
		os.RemoveAll(dir)
	}
	os.Exit(status)
}

var built bool // whether a test asked for the programs

// installation is HPCSerA as a centre installs it: the real programs, each
// with files of its own, on this host.
type installation struct {
	t       *testing.T
	dir     string
	bin     string
	url     string // of hpcserad
	authURL string // of the Auth app
	apart   bool   // whether that is a program of its own

	server, app, agent *process
	secret             string // of the token that alice made
}

// install makes an installation and starts its servers: an Auth app apart, or
// the one in hpcserad's process.
func install(t *testing.T, apart bool) *installation {
	t.Helper()
	built = true
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hpcsera-whole-") // sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	i := &installation{t: t, dir: dir, bin: bin, url: freeURL(t), apart: apart}
	i.authURL = i.url + "/auth"
	for _, name := range []string{"server", "alice", "site"} {
		i.must(os.Mkdir(filepath.Join(dir, name), 0o700))
	}
	settings := i.config(i.url, "server")
	if apart {
		i.authURL = freeURL(t)
		settings += "auth: {url: " + i.authURL + ", name: hpc}\n"
	}
	i.write("hpcserad.yaml", settings)
	i.operator("hpcserad", "init", i.dir)
	if apart {
		i.write("hpcsera-auth.yaml", i.config(i.authURL, "auth"))
		i.operator("hpcsera-auth", "init", i.dir)
		i.app = i.serve("hpcsera-auth", i.authURL)
		i.write("hpc.jwk", i.operator("hpcserad", "auth", "key"))
		i.operator("hpcsera-auth", "deployment", "add", "hpc", "--url", i.url, "--key", i.path("hpc.jwk"))
	}
	i.startServer()
	return i
}

// freeURL is the address of a port that nobody has. Programs that stop and
// start again need one that stays.
func freeURL(t *testing.T) string {
	t.Helper()
	l, address := listen(t)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return address
}

func (i *installation) config(address, data string) string {
	return fmt.Sprintf("listen: %s\npublic_url: %s\ndata_dir: %s\n", strings.Replace(address, "http://localhost", "127.0.0.1", 1), address, i.path(data))
}

func (i *installation) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

func (i *installation) path(name string) string { return filepath.Join(i.dir, name) }

func (i *installation) write(name, text string) {
	i.t.Helper()
	i.must(os.WriteFile(i.path(name), []byte(text), 0o600))
}

// origins are where pages are.
func (i *installation) origins() []string {
	return []string{i.url, strings.TrimSuffix(i.authURL, "/auth")}
}

func (i *installation) startServer() {
	i.t.Helper()
	i.server = i.serve("hpcserad", i.url)
}

// serve starts a server and waits until it answers.
func (i *installation) serve(program, address string) *process {
	i.t.Helper()
	p := i.start(nil, program, "serve", "--config", i.path(program+".yaml"))
	within(i.t, program+" is ready", func() bool {
		p.lives(i.t)
		res, err := http.Get(address + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return p
}

// operator runs a command of a server's operator and returns what it printed.
func (i *installation) operator(program string, args ...string) string {
	i.t.Helper()
	out, errs, status := i.try(nil, "", program, append(args, "--config", i.path(program+".yaml"))...)
	if status != 0 {
		i.t.Fatalf("%s %s ended with %d:\n%s%s", program, strings.Join(args, " "), status, out, errs)
	}
	return out
}

// user runs hpcsera as alice does on her own computer, in her folder there.
func (i *installation) user(args ...string) (stdout, stderr string, status int) {
	i.t.Helper()
	return i.try(append(i.userEnv(), "HPCSERA_TOKEN="+i.secret), "", "hpcsera", args...)
}

func (i *installation) userEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "HOME=" + i.path("alice"), "HPCSERA_SERVER=" + i.url}
}

// onSite runs hpcsera-agent as alice does at the site. input is what she types.
func (i *installation) onSite(input string, args ...string) string {
	i.t.Helper()
	out, errs, status := i.try(i.siteEnv(), input, "hpcsera-agent", args...)
	if status != 0 {
		i.t.Fatalf("hpcsera-agent %s ended with %d:\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

func (i *installation) siteEnv() []string {
	return []string{"PATH=/usr/bin:/bin", "HOME=" + i.path("site")}
}

// try runs a command to its end.
func (i *installation) try(env []string, input, program string, args ...string) (stdout, stderr string, status int) {
	i.t.Helper()
	ctx, cancel := context.WithTimeout(i.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(i.bin, program), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env, cmd.Dir = strings.NewReader(input), &out, &errs, env, i.path("alice")
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		i.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// process is a program that runs, with what it printed.
type process struct {
	cmd  *exec.Cmd
	log  buffer
	done chan struct{}
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a program in the background until the test ends. Where the test
// fails its log is shown; a token in it fails the test.
func (i *installation) start(env []string, program string, args ...string) *process {
	i.t.Helper()
	p := &process{cmd: exec.Command(filepath.Join(i.bin, program), args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = env, &p.log, &p.log, i.dir
	i.must(p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.done) }()
	i.t.Cleanup(func() {
		p.stop(i.t)
		if i.t.Failed() {
			i.t.Logf("%s printed:\n%s", program, &p.log)
		}
		if hidden := secretPart(i.secret); hidden != "" && strings.Contains(p.log.String(), hidden) {
			i.t.Errorf("%s printed the token", program)
		}
	})
	return p
}

// secretPart is what of a token nobody else may see.
func secretPart(token string) string { return token[strings.LastIndex(token, "_")+1:] }

// lives fails the test where the program has ended.
func (p *process) lives(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatalf("%s ended:\n%s", p.cmd, &p.log)
	default:
	}
}

// stop ends the program as its operator does.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		t.Errorf("%s does not stop:\n%s", p.cmd, &p.log)
	}
}

// ends waits for the program's own, good end.
func (p *process) ends(t *testing.T) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("%s does not end:\n%s", p.cmd, &p.log)
	}
	if status := p.cmd.ProcessState.ExitCode(); status != 0 {
		t.Fatalf("%s ended with %d:\n%s", p.cmd, status, &p.log)
	}
}

// says waits until the program's log holds a line with all the words.
func (p *process) says(t *testing.T, words ...string) string {
	t.Helper()
	var found string
	within(t, fmt.Sprintf("%s says %q", filepath.Base(p.cmd.Path), words), func() bool {
		p.lives(t)
		for line := range strings.Lines(p.log.String()) {
			if found = line; containsAll(line, words) {
				return true
			}
		}
		return false
	})
	return found
}

func containsAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// within waits until something holds.
func within(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// joins makes alice's account at the Auth app, by the link that an operator
// hands her, with a passkey, and signs her in at hpcserad.
func (i *installation) joins(link string) *browser {
	i.t.Helper()
	b := newBrowser(i.t, i.origins()...)
	b.authenticator()
	b.open(link)
	if b.field("name") == "" {
		b.fill("Name", "alice")
	}
	b.fill("Password", "four words in a row")
	b.fill("Password, once more", "four words in a row")
	b.press("Continue")
	b.press("Make a passkey")
	b.reads("recovery codes")
	b.open(i.url + "/")
	b.press("Sign in")
	b.reads("Hello, alice")
	return b
}

var linkIn = regexp.MustCompile(`http://localhost:\S+/setup\S+`)

// link finds the one-time link in what a program printed.
func (i *installation) link(text string) string {
	i.t.Helper()
	found := linkIn.FindString(text)
	if found == "" {
		i.t.Fatalf("there is no link in %q", text)
	}
	return found
}

// makesAToken makes project, client and token on hpcserad's pages; i.secret is
// the token's.
func (i *installation) makesAToken(b *browser) {
	i.t.Helper()
	b.open(i.url + "/projects")
	b.fill("Name", "cfd")
	b.press("Make the project")
	b.open(i.url + "/clients")
	b.fill("Name", "laptop")
	b.press("Register")
	b.press("Make a token")
	b.choose("Hand in new code, too")
	b.press("Make the token")
	b.reads("Copy it now")
	if i.secret = b.field("secret"); !strings.HasPrefix(i.secret, "hpcsera_") {
		i.t.Fatal("the page shows no token")
	}
}

// movesIn has alice configure her agent at the site, which the operator
// registers.
func (i *installation) movesIn(settings string) {
	i.t.Helper()
	i.operator("hpcserad", "site", "add", "lab")
	i.must(os.Mkdir(i.path("site/.hpcsera"), 0o700))
	i.write("site/.hpcsera/agent.yaml", "server: "+i.url+"\nuser: alice\nsite: lab\nprojects: [cfd]\nscheduler: local\npoll_interval: 3s\n"+settings)
}

// configures adds to the agent's settings.
func (i *installation) configures(settings string) {
	i.t.Helper()
	const file = "site/.hpcsera/agent.yaml"
	text, err := os.ReadFile(i.path(file))
	i.must(err)
	i.write(file, string(text)+settings)
}

// enrols takes the credential that the operator makes for the agent's key.
func (i *installation) enrols() {
	i.t.Helper()
	var status struct {
		Thumbprint string `json:"thumbprint"`
	}
	i.must(json.Unmarshal([]byte(i.onSite("", "status", "-o", "json")), &status))
	made := i.operator("hpcserad", "agent", "create", "--user", "alice", "--site", "lab", "--project", "cfd", "--thumbprint", status.Thumbprint)
	for _, word := range strings.Fields(made) {
		if _, _, ok := hpcsera.ParseSecret(word); ok {
			i.onSite(word+"\n", "enroll", "--credential", "-")
			return
		}
	}
	i.t.Fatalf("there is no credential in %q", made)
}

// allows types the code that a program shows on its terminal into the Auth
// app, and allows what it asks for once both show the same fingerprint.
func (i *installation) allows(b *browser, p *process, pictures string) {
	i.t.Helper()
	p.says(i.t, "Waiting until")
	shown := regexp.MustCompile(`(?m)^ +(http\S+)\n +(\S{4}-\S{4})\n[^:]+:\n\n +(\S{43})$`).FindStringSubmatch(p.log.String())
	if shown == nil {
		i.t.Fatalf("the terminal shows no address, code and fingerprint:\n%s", &p.log)
	}
	b.open(shown[1])
	if typed := b.field("code"); typed != "" {
		i.t.Errorf("the code %q is there before anybody typed", typed)
	}
	b.screenshot("auth-code")
	b.fill("Code", shown[2])
	b.press("Continue")
	if got := b.text(".secret.fingerprint"); got != shown[3] {
		i.t.Errorf("the page shows the fingerprint %s, the terminal %s", got, shown[3])
	}
	b.screenshot(pictures)
	b.press("Allow")
	p.ends(i.t)
}

// submits hands a job in that may wait, and returns its id and what alice is
// told.
func (i *installation) submits(script string, args ...string) (id, told string) {
	i.t.Helper()
	i.write("alice/job.yaml", job(script))
	out, errs, status := i.user(append([]string{"submit", "job.yaml", "--site", "lab", "--wait-approval"}, args...)...)
	if status != 0 {
		i.t.Fatalf("submit ended with %d:\n%s%s", status, out, errs)
	}
	return strings.TrimSpace(out), errs
}

// job is a job file whose script is the line given.
func job(script string) string {
	return "name: hello\nscript: |\n  " + script + "\nparameters:\n  whom: {type: string, maxLength: 100, default: world}\n" +
		"artifacts: [out.txt]\nlimits: {node_count: 1, duration: 10m}\nattributes: {duration: 1m}\n"
}

// ends waits for a job's end and returns it.
func (i *installation) ends(id string) hpcsera.Job {
	i.t.Helper()
	var j hpcsera.Job
	within(i.t, id+" ends", func() bool {
		j = i.status(id)
		return j.State.Final()
	})
	return j
}

func (i *installation) status(id string) hpcsera.Job {
	i.t.Helper()
	res, text := i.call("/jobs/" + id)
	if res.StatusCode != http.StatusOK {
		i.t.Fatalf("job %s: %s %s", id, res.Status, text)
	}
	var j hpcsera.Job
	i.must(json.Unmarshal(text, &j))
	return j
}

// call asks the API with the token.
func (i *installation) call(path string) (*http.Response, []byte) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), http.MethodGet, i.url+"/api/v1"+path, http.NoBody)
	i.must(err)
	req.Header.Set("Authorization", "Bearer "+i.secret)
	res, err := http.DefaultClient.Do(req)
	i.must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	i.must(err)
	return res, text
}
