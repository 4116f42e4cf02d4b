package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// login is a user's account on the login node with an agent of its own.
type login struct {
	d          *deployment
	as         *user.User
	home       string // the agent's state and work directories
	spool      string
	thumbprint string
	signer     ssh.Signer // whose signature the agent trusts
	key        string     // its private key's file
	env        []string
	agent      *process
}

// newLogin enrols an agent of alice at site lab. settings are further lines of
// agent.yaml. With scheduler slurm it runs as alice, otherwise as whoever runs
// the test.
func newLogin(t *testing.T, d *deployment, scheduler string, settings ...string) *login {
	t.Helper()
	return newLoginIn(t, d, scheduler, openDir(t), settings...)
}

// newLoginIn is one whose files lie in a given folder.
func newLoginIn(t *testing.T, d *deployment, scheduler, dir string, settings ...string) *login {
	t.Helper()
	return newLoginAt(t, d, "lab", scheduler, dir, settings...)
}

// newLoginAt is one at a given site.
func newLoginAt(t *testing.T, d *deployment, site, scheduler, dir string, settings ...string) *login {
	t.Helper()
	var env []string
	var as *user.User
	if scheduler == "slurm" {
		env = append(env, "SLURM_CONF="+slurmConf(t))
	}
	if os.Getuid() == 0 && (scheduler == "slurm" || scheduler == "oar") { // OAR refuses root's jobs
		as = aliceOf(t)
	}
	return newLoginAs(t, d, site, scheduler, dir, as, env, settings...)
}

// newLoginAs is one of a given account, with what the batch system's commands
// need in their environment.
func newLoginAs(t *testing.T, d *deployment, site, scheduler, dir string, as *user.User, env []string, settings ...string) *login {
	t.Helper()
	l := &login{d: d, as: as, home: filepath.Join(dir, "hpcsera")}
	l.spool = filepath.Join(l.home, "spool")
	if err := os.Mkdir(l.home, 0o700); err != nil {
		t.Fatal(err)
	}
	l.env = append([]string{"PATH=/usr/bin:/bin", "HPCSERA_AGENT_CONFIG=" + filepath.Join(l.home, "agent.yaml"), "HOME=" + l.home}, env...)
	text := fmt.Sprintf("server: %s\nuser: alice\nsite: %s\nprojects: [cfd]\nstate_dir: %s\nscheduler: %s\npoll_interval: 3s\n%s\n",
		d.url, site, l.home, scheduler, strings.Join(settings, "\n"))
	write(t, filepath.Join(l.home, "agent.yaml"), text, 0o600)
	l.own(t)
	var status struct {
		Thumbprint string `json:"thumbprint"`
	}
	if err := json.Unmarshal([]byte(l.command(t, "", "status", "-o", "json")), &status); err != nil {
		t.Fatal(err)
	}
	l.thumbprint = status.Thumbprint
	credential := secretIn(t, d.admin("agent", "create", "--user", "alice", "--site", site, "--project", "cfd", "--thumbprint", l.thumbprint))
	l.command(t, credential+"\n", "enroll", "--credential", "-")
	l.makeKey(t)
	return l
}

// aliceOf returns the test bed's user.
func aliceOf(t *testing.T) *user.User {
	t.Helper()
	as, err := user.Lookup("alice")
	if err != nil {
		t.Fatalf("the test bed's user: %v", err)
	}
	return as
}

// moveSpool has an agent that has not run yet keep its spool elsewhere.
func (l *login) moveSpool(t *testing.T, dir string) {
	t.Helper()
	l.spool = dir
	l.configure(t, "spool_dir: "+dir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l.own(t)
}

// configure adds a line to the agent's configuration.
func (l *login) configure(t *testing.T, line string) {
	t.Helper()
	file := filepath.Join(l.home, "agent.yaml")
	write(t, file, read(t, file)+line+"\n", 0o600)
	l.own(t)
}

// in returns deployment and account for use in a subtest.
func (l *login) in(t *testing.T) (*deployment, *login) {
	c := *l
	c.d = l.d.in(t)
	return c.d, &c
}

// openDir is a temporary folder that other users can pass through.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hpcsera-e2e-home-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// own gives the files of the account to its user.
func (l *login) own(t *testing.T) {
	t.Helper()
	if l.as == nil {
		return
	}
	for _, dir := range []string{l.home, l.spool} {
		if !exists(dir) {
			continue // the agent makes it
		}
		if out, err := exec.Command("chown", "-R", l.as.Uid+":"+l.as.Gid, dir).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v %s", err, out)
		}
	}
}

// makeKey makes the user's signing key and has the agent trust it.
func (l *login) makeKey(t *testing.T) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if l.signer, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "alice")
	if err != nil {
		t.Fatal(err)
	}
	l.key = filepath.Join(l.d.dir, "signing-key")
	write(t, l.key, string(pem.EncodeToMemory(block)), 0o600)
	l.trust(t, "alice", l.signer.PublicKey())
}

// trust has the agent believe signatures of a key.
func (l *login) trust(t *testing.T, name string, key ssh.PublicKey) {
	t.Helper()
	l.command(t, string(ssh.MarshalAuthorizedKey(key)), "trust", "add", "-", "--name", name, "--plain", "--fingerprint", ssh.FingerprintSHA256(key))
}

// command runs one command of the agent and returns what it printed.
func (l *login) command(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "hpcsera-agent"), args...)
	cmd.Env, cmd.Stdin, cmd.SysProcAttr, cmd.Dir = l.env, strings.NewReader(stdin), credential(t, l.as), "/"
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("hpcsera-agent %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// startAgent starts the agent's daemon with failpoints.
func (l *login) startAgent(t *testing.T, failpoint string, env ...string) *process {
	t.Helper()
	l.agent = start(t, l.as, append(append(l.env, "HPCSERA_FAILPOINT="+failpoint), env...), "hpcsera-agent", "run")
	return l.agent
}

// jobDir is where a job's own files are.
func (l *login) jobDir(id string) string { return filepath.Join(l.home, "work", id) }

// runs counts how often a job's program ran, by the lines that it wrote
// itself into its own marker file.
func (l *login) runs(t *testing.T, id string) int {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.jobDir(id), "marker"))
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

// marking is a script that leaves one line in its marker file per run.
func marking(then string) string {
	return "#!/bin/sh\necho \"$HPCSERA_ATTEMPT $$\" >> marker\n" + then + "\n"
}

// manifest is a code part of one batch script.
func manifest(name, script string) hpcsera.Manifest {
	return hpcsera.Manifest{Name: name, Program: hpcsera.Program{Script: script}}
}

// limits wide enough for what the tests ask for.
var wide = &hpcsera.Limits{NodeCount: 4, Duration: hpcsera.Duration(time.Hour), Memory: 1 << 36, QueueNames: []string{"debug", "batch", "nope"}, ReservationIDs: []string{"nope"}, Requeue: true}

// approve signs a code part as the user would and files the statement.
func (l *login) approve(t *testing.T, m hpcsera.Manifest, options ...func(*approval.Options)) string {
	t.Helper()
	s := l.statement(t, m, options...)
	signature, err := approval.SignSSH(l.signer, s)
	if err != nil {
		t.Fatal(err)
	}
	text, err := s.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	l.file(m, text, signature)
	return s.Code
}

// statement is what alice says about a code part for her agent at lab.
func (l *login) statement(t *testing.T, m hpcsera.Manifest, options ...func(*approval.Options)) approval.Statement {
	t.Helper()
	o := approval.Options{Deployment: l.d.url, User: "alice", Project: "cfd", Sites: []string{"lab"}, Agents: []string{l.thumbprint}}
	for _, change := range options {
		change(&o)
	}
	s, err := approval.ForManifest(m, hpcsera.RunPart{}, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// file hands in a code part with a signed statement about it.
func (l *login) file(m hpcsera.Manifest, text []byte, signature string) hpcsera.Approval {
	l.d.t.Helper()
	if res := l.d.call("POST", "/code", m, nil); res.StatusCode/100 != 2 {
		l.d.t.Fatalf("POST /code: %s", res.Status)
	}
	var filed hpcsera.Approval
	l.d.call("POST", "/approvals", map[string]any{"statement": text, "signature": signature}, &filed)
	return filed
}

// submit sends a job on approved code and returns its id.
func (l *login) submit(t *testing.T, code string, change ...func(*hpcsera.JobSpec)) string {
	t.Helper()
	spec := hpcsera.JobSpec{Code: code, RunPart: hpcsera.RunPart{Site: "lab"}}
	for _, c := range change {
		c(&spec)
	}
	var j hpcsera.Job
	l.d.call("POST", "/jobs", jobBody(t, spec), &j, "Idempotency-Key", hpcsera.NewID("k"))
	return j.ID
}

// jobBody is a spec without the empty fields of the code part.
func jobBody(t *testing.T, spec hpcsera.JobSpec) map[string]any {
	t.Helper()
	b, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	body := map[string]any{}
	if err := json.Unmarshal(b, &body); err != nil {
		t.Fatal(err)
	}
	if spec.Code != "" {
		delete(body, "name")
	}
	return body
}

// handedPorts counts the ports that were handed out. Tests that run at once
// must not be given the same one between its being found free and its being
// used, and neither the kernel's ports for clients nor the test bed's lie here.
var handedPorts atomic.Int64

const firstPort, endPorts = 61000, 65500

func freeAddress(t *testing.T) string {
	t.Helper()
	for range endPorts - firstPort {
		port := firstPort + (int64(os.Getpid())+handedPorts.Add(1))%(endPorts-firstPort)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if listener, err := net.Listen("tcp", address); err == nil {
			listener.Close()
			return address
		}
	}
	t.Fatalf("no port is free between %d and %d", firstPort, endPorts)
	return ""
}

func digestHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// putBlob uploads bytes as client ci.
func (d *deployment) putBlob(content []byte) {
	d.t.Helper()
	req, err := http.NewRequest("PUT", d.url+"/api/v1/blobs/sha256:"+digestHex(content), bytes.NewReader(content))
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	req.Header.Set("Content-Type", "application/octet-stream")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		d.t.Fatalf("PUT blob: %s", res.Status)
	}
}
