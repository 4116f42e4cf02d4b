package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// bed is a deployment to be measured: a server, and an agent of user bench.
type bed struct {
	dir        string
	config     string
	url        string
	metrics    string
	token      string
	scheduler  string
	thumbprint string
	signer     ssh.Signer
	server     *exec.Cmd
	http       *http.Client
}

func newBed(ctx context.Context) (*bed, error) {
	dir, err := os.MkdirTemp("", "hpcsera-bench-")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir, config: filepath.Join(dir, "hpcserad.yaml"), scheduler: "local"}
	b.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 128}}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if exec.CommandContext(ctx, "sinfo").Run() == nil {
		b.scheduler = "slurm"
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", dir, "./cmd/hpcserad", "./cmd/hpcsera-agent")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		return b, fmt.Errorf("build: %w", err)
	}
	listen, metrics := address(), address()
	b.url, b.metrics = "http://"+listen, "http://"+metrics
	text := fmt.Sprintf("listen: %s\npublic_url: %s\nmetrics: %s\ndata_dir: %s\nadmin_socket: %s\nlog: {level: warn}\n",
		listen, b.url, metrics, filepath.Join(dir, "data"), filepath.Join(dir, "admin.sock"))
	if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
		return b, err
	}
	if _, err := b.admin("init", dir); err != nil {
		return b, err
	}
	if err := b.startServer(); err != nil {
		return b, err
	}
	for _, args := range [][]string{
		{"user", "add", "bench"}, {"project", "add", "speed", "--member", "bench=owner"}, {"client", "add", "cli"},
		{"site", "add", "lab"}, {"site", "add", "nobody"},
	} {
		if _, err := b.admin(args...); err != nil {
			return b, err
		}
	}
	out, err := b.admin("token", "create", "--user", "bench", "--project", "speed", "--client", "cli", "--roles", "1,4,5,6,7,8")
	if err != nil {
		return b, err
	}
	b.token = secret(out)
	return b, b.enroll()
}

func (b *bed) close() {
	if b.server != nil && b.server.Process != nil {
		_ = b.server.Process.Signal(syscall.SIGTERM)
		_ = b.server.Wait()
	}
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
}

func address() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer l.Close()
	return l.Addr().String()
}

// startServer starts hpcserad and waits until it is ready.
func (b *bed) startServer() error {
	b.server = exec.Command(filepath.Join(b.dir, "hpcserad"), "serve", "--config", b.config)
	log, err := os.OpenFile(filepath.Join(b.dir, "hpcserad.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	b.server.Stdout, b.server.Stderr = log, log
	if err := b.server.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if res, err := b.http.Get(b.url + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	text, _ := os.ReadFile(log.Name())
	return fmt.Errorf("hpcserad is not ready:\n%s", text)
}

func (b *bed) admin(args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(b.dir, "hpcserad"), append(args, "--config", b.config)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hpcserad %s: %w: %s", strings.Join(args, " "), err, &errs)
	}
	return string(out), nil
}

func secret(out string) string {
	for _, word := range strings.Fields(out) {
		if _, _, ok := hpcsera.ParseSecret(word); ok {
			return word
		}
	}
	return ""
}

// enroll makes the agent's files: configuration, key, credential, trust.
func (b *bed) enroll() error {
	home := filepath.Join(b.dir, "agent")
	if err := os.Mkdir(home, 0o700); err != nil {
		return err
	}
	text := fmt.Sprintf("server: %s\nuser: bench\nsite: lab\nprojects: [speed]\nstate_dir: %s\nscheduler: %s\n", b.url, home, b.scheduler)
	if b.scheduler == "slurm" {
		recorders, err := b.recorders()
		if err != nil {
			return err
		}
		text += "max_jobs: 10000\n" + recorders
	}
	if err := os.WriteFile(filepath.Join(home, "agent.yaml"), []byte(text), 0o600); err != nil {
		return err
	}
	var status struct{ Thumbprint string }
	out, err := b.agentCommand("", "status", "-o", "json")
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return err
	}
	b.thumbprint = status.Thumbprint
	if out, err = b.admin("agent", "create", "--user", "bench", "--site", "lab", "--project", "speed", "--thumbprint", b.thumbprint); err != nil {
		return err
	}
	if _, err := b.agentCommand(secret(out)+"\n", "enroll", "--credential", "-"); err != nil {
		return err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	if b.signer, err = ssh.NewSignerFromKey(private); err != nil {
		return err
	}
	key := b.signer.PublicKey()
	_, err = b.agentCommand(string(ssh.MarshalAuthorizedKey(key)), "trust", "add", "-", "--name", "bench", "--plain", "--fingerprint", ssh.FingerprintSHA256(key))
	return err
}

func (b *bed) agentCmd(args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(b.dir, "hpcsera-agent"), append(args, "--config", filepath.Join(b.dir, "agent", "agent.yaml"))...)
	return cmd
}

func (b *bed) agentCommand(stdin string, args ...string) (string, error) {
	cmd := b.agentCmd(args...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("hpcsera-agent %s: %w: %s", strings.Join(args, " "), err, &errs)
	}
	return string(out), nil
}

// approve files code with a signature, for both sites.
func (b *bed) approve(m hpcsera.Manifest) (string, error) {
	s, err := approval.ForManifest(m, hpcsera.RunPart{}, approval.Options{
		Deployment: b.url, User: "bench", Project: "speed", Sites: []string{"lab", "nobody"}, Agents: []string{b.thumbprint}, Runs: 1_000_000,
	})
	if err != nil {
		return "", err
	}
	signature, err := approval.SignSSH(b.signer, s)
	if err != nil {
		return "", err
	}
	text, err := s.Canonical()
	if err != nil {
		return "", err
	}
	if _, err := b.call("POST", "/code", m); err != nil {
		return "", err
	}
	_, err = b.call("POST", "/approvals", map[string]any{"statement": text, "signature": signature})
	return s.Code, err
}

// call makes one request; any status but 2xx is an error.
func (b *bed) call(method, path string, in any) ([]byte, error) {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return nil, err
		}
	}
	return b.send(method, path, body)
}

func (b *bed) send(method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, b.url+"/api/v1"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", hpcsera.NewID("k"))
	}
	res, err := b.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, text)
	}
	return text, err
}
