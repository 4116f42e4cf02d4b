package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// bin is the folder of the programs under test.
var bin string

func TestMain(m *testing.M) {
	standIn()
	dir, err := os.MkdirTemp("", "hpcsera-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = dir
	runAbreast()
	build := exec.Command("go", "build", "-tags", "failpoint", "-o", dir, "../cmd/hpcserad", "../cmd/hpcsera-auth", "../cmd/hpcsera-agent", "../cmd/hpcsera")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: the programs cannot be built: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	for _, fault := range showKillTable(os.Stdout) {
		fmt.Fprintln(os.Stderr, "e2e:", fault)
		code = max(code, 1)
	}
	os.Exit(code)
}

// runAbreast lets more tests run at once than there are processors, unless the
// command line says how many: they wait most of their time, for Slurm and for
// clocks.
func runAbreast() {
	flag.Parse()
	told := false
	flag.Visit(func(f *flag.Flag) { told = told || f.Name == "test.parallel" })
	if told {
		return
	}
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err) // no such flag: this is no test binary
	}
}

// slurmConf returns the configuration of the test bed's Slurm. A missing one
// fails the test: nothing here is shown on a stand-in.
func slurmConf(t *testing.T) string {
	t.Helper()
	conf := os.Getenv("HPCSERA_TEST_SLURM")
	if conf == "" {
		t.Fatal("HPCSERA_TEST_SLURM is not set: start the test bed and take over what it prints, as `make test` does: eval \"$(test/testbed/slurm up --dbd)\"")
	}
	return conf
}

// process is a program that runs, with what it printed.
type process struct {
	cmd   *exec.Cmd
	log   *buffer
	done  chan struct{}
	err   error
	tells bool // printing a secret is what it is for
}

// buffer collects what a program prints.
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

// start runs one of our programs in the background, as somebody else where as
// is not nil.
func start(t *testing.T, as *user.User, env []string, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, as, env, filepath.Join(bin, name), args...)
}

// startCommand is start for any program.
func startCommand(t *testing.T, as *user.User, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), log: &buffer{}, done: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, p.log, p.log
	p.cmd.SysProcAttr = credential(t, as)
	p.cmd.Dir = "/"
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		<-p.done
		if told := handedOut.in(p.log.String()); told != "" && !p.tells {
			t.Errorf("%s %s printed a secret: %s", name, strings.Join(args, " "), told)
		}
	})
	return p
}

func credential(t *testing.T, as *user.User) *syscall.SysProcAttr {
	t.Helper()
	if as == nil {
		return &syscall.SysProcAttr{}
	}
	uid, _ := strconv.Atoi(as.Uid)
	gid, _ := strconv.Atoi(as.Gid)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// exits waits for the process's end and returns its status.
func (p *process) exits(t *testing.T, limit time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(limit):
		t.Fatalf("%s goes on after %v:\n%s", p.cmd, limit, p.log)
	}
	return p.cmd.ProcessState.ExitCode()
}

// dead reports whether the process has ended.
func (p *process) dead() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// eventually waits for a condition; what tells the reader what was missing.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %v: %s", limit, what)
}

// deployment is one API server with one user, project, client and site.
type deployment struct {
	t       *testing.T
	dir     string
	data    string // the server's own folder
	config  string
	url     string
	addr    string
	token   string // of client ci: all client roles
	server  *process
	extra   []string // environment of the server
	program string   // another build of hpcserad; "" for the one under test
	mu      *sync.Mutex
}

// in returns the deployment for use in a subtest.
func (d *deployment) in(t *testing.T) *deployment {
	c := *d
	c.t = t
	return &c
}

// newDeployment starts a server on database ("" for SQLite) with the given
// failpoints.
func newDeployment(t *testing.T, database string, failpoint string) *deployment {
	t.Helper()
	return deploy(t, filepath.Join(t.TempDir(), "data"), database, failpoint)
}

// newDeploymentIn is one with SQLite that keeps its data in a given folder.
func newDeploymentIn(t *testing.T, data string) *deployment {
	t.Helper()
	return deploy(t, data, "", "")
}

func deploy(t *testing.T, data, database, failpoint string) *deployment {
	t.Helper()
	addr := freeAddress(t)
	return deployAt(t, addr, "http://"+addr, data, database, failpoint)
}

// deployAt listens at addr, and is known to everybody by url.
func deployAt(t *testing.T, addr, url, data, database, failpoint string) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: t.TempDir(), data: data, addr: addr, url: url, mu: &sync.Mutex{}}
	d.config = filepath.Join(d.dir, "hpcserad.yaml")
	text := fmt.Sprintf("listen: %s\npublic_url: %s\ndata_dir: %s\nadmin_socket: %s\n", d.addr, d.url, data, filepath.Join(d.dir, "admin.sock"))
	if database != "" {
		text += "database: " + database + "\n"
	}
	write(t, d.config, text, 0o600)
	d.admin("init", d.dir)
	d.startServer("")
	d.admin("user", "add", "alice")
	d.admin("project", "add", "cfd", "--member", "alice=owner")
	d.admin("client", "add", "ci")
	d.admin("site", "add", "lab")
	d.token = d.newToken("--roles", "1,2,4,5,6,7,8")
	if failpoint != "" {
		d.stopServer()
		d.startServer(failpoint)
	}
	return d
}

func (d *deployment) setToken(token string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.token = token
}

func (d *deployment) newToken(args ...string) string {
	d.t.Helper()
	out := d.admin(append([]string{"token", "create", "--user", "alice", "--project", "cfd", "--client", "ci"}, args...)...)
	return secretIn(d.t, out)
}

// secrets are the hidden parts of tokens and credentials: no program that a
// test starts may print one.
type secrets struct {
	mu   sync.Mutex
	list []string
}

var handedOut secrets

func (s *secrets) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hidden := hiddenPart(text)
	s.list = append(s.list, hidden[:len(hidden)/2]) // half of one is too much already
}

// hiddenPart is what nobody may see of a secret: a token's id may be told, and
// so may what a device_code is about.
func hiddenPart(text string) string {
	if strings.HasPrefix(text, "hpcsera_") {
		return strings.SplitN(text, "_", 3)[2]
	}
	return text[strings.LastIndexByte(text, '.')+1:]
}

// in returns the line of a text that holds one, "" for none.
func (s *secrets) in(text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hidden := range s.list {
		if at := strings.Index(text, hidden); at >= 0 {
			begin := strings.LastIndex(text[:at], "\n") + 1
			line, _, _ := strings.Cut(text[begin:], "\n")
			return line
		}
	}
	return ""
}

// secretIn finds the token or credential in what an operator's command printed.
func secretIn(t *testing.T, out string) string {
	t.Helper()
	for _, word := range strings.Fields(out) {
		if _, _, ok := hpcsera.ParseSecret(word); ok {
			handedOut.add(word)
			return word
		}
	}
	t.Fatalf("no token in %q", out)
	return ""
}

func (d *deployment) startServer(failpoint string) {
	d.t.Helper()
	env := append(os.Environ(), "HPCSERA_FAILPOINT="+failpoint)
	p := startCommand(d.t, nil, append(env, d.extra...), d.hpcserad(), "serve", "--config", d.config)
	d.mu.Lock()
	d.server = p
	d.mu.Unlock()
	eventually(d.t, 20*time.Second, "hpcserad ready; it printed:\n"+p.log.String(), func() bool {
		if p.dead() {
			if failpoint != "" {
				return true // killed at the point already
			}
			d.t.Fatalf("hpcserad ended: %v\n%s", p.err, p.log)
		}
		res, err := http.Get(d.url + "/readyz")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
}

func (d *deployment) hpcserad() string { return cmp.Or(d.program, filepath.Join(bin, "hpcserad")) }

func (d *deployment) stopServer() {
	d.t.Helper()
	_ = d.server.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.server.done:
	case <-time.After(20 * time.Second):
		d.t.Fatalf("hpcserad does not stop:\n%s", d.server.log)
	}
}

// admin runs an operator's command and returns what it printed.
func (d *deployment) admin(args ...string) string {
	d.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "hpcserad"), append(args, "--config", d.config)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		d.t.Fatalf("hpcserad %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// call makes a request as client ci and decodes the answer into out. It tries
// again while the server cannot be reached, as our clients do.
func (d *deployment) call(method, path string, in, out any, header ...string) *http.Response {
	d.t.Helper()
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			d.t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		res, text, err := d.try(method, path, body, header)
		if err != nil {
			if time.Now().After(deadline) {
				d.t.Fatalf("%s %s: %v", method, path, err)
			}
			continue
		}
		if out != nil && res.StatusCode/100 == 2 {
			if err := json.Unmarshal(text, out); err != nil {
				d.t.Fatalf("%s %s: %v in %s", method, path, err, text)
			}
		}
		if res.StatusCode/100 != 2 && out != nil {
			d.t.Fatalf("%s %s: %s: %s", method, path, res.Status, text)
		}
		return res
	}
}

func (d *deployment) try(method, path string, body []byte, header []string) (*http.Response, []byte, error) {
	return d.tryWithin(0, method, path, body, header)
}

// tryWithin gives the answer a limit; 0 is none.
func (d *deployment) tryWithin(limit time.Duration, method, path string, body []byte, header []string) (*http.Response, []byte, error) {
	ctx := context.Background()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, d.url+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	req.Header.Set("Authorization", "Bearer "+d.token)
	d.mu.Unlock()
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res, text, err
}

func (d *deployment) job(id string) hpcsera.Job {
	d.t.Helper()
	var j hpcsera.Job
	d.call("GET", "/jobs/"+id, nil, &j)
	return j
}

// await waits until the job is final, or in one of the states.
func (d *deployment) await(id string, limit time.Duration, states ...hpcsera.State) hpcsera.Job {
	d.t.Helper()
	var j hpcsera.Job
	deadline := time.Now().Add(limit)
	for time.Now().Before(deadline) {
		j = d.job(id)
		for _, s := range states {
			if j.State == s {
				return j
			}
		}
		if j.State.Final() {
			if len(states) > 0 {
				d.t.Fatalf("job %s is %s (%s: %s), want one of %v", id, j.State, j.Reason, j.Message, states)
			}
			return j
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.t.Fatalf("job %s is still %s (%s: %s) after %v, want %v", id, j.State, j.Reason, j.Message, limit, states)
	return j
}

// clientEnv is the environment of a user's client.
func (d *deployment) clientEnv() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.dir, "HPCSERA_SERVER=" + d.url, "HPCSERA_TOKEN=" + d.token}
}

// cli runs the client as its user would and returns its output and status.
func (d *deployment) cli(env []string, args ...string) (stdout, stderr string, code int) {
	d.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "hpcsera"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env = append(d.clientEnv(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		d.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func write(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
