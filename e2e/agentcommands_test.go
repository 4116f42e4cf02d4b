package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// TestAgentFromCron runs `once` now and then, as cron would, and overlapping.
func TestAgentFromCron(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	id := l.submit(t, l.approve(t, manifest("cron", marking("echo from cron"))))
	l.command(t, "", "once")
	if j := d.job(id); j.State == hpcsera.Pending {
		t.Fatalf("after one run the job is %s (%s)", j.State, j.Reason)
	}
	eventually(t, time.Minute, "the program has run", func() bool { return l.runs(t, id) == 1 })
	two := make(chan *process, 2)
	for range 2 {
		go func() { two <- start(t, l.as, l.env, "hpcsera-agent", "once") }()
	}
	for range 2 {
		p := <-two
		<-p.done
		if p.err != nil {
			t.Errorf("an overlapping run ended with %v\n%s", p.err, p.log)
		}
	}
	for range 5 {
		if d.job(id).State.Final() {
			break
		}
		l.command(t, "", "once")
	}
	if j := d.job(id); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 {
		t.Errorf("job is %s (%s: %s), ran %d times, want succeeded once", j.State, j.Reason, j.Message, l.runs(t, id))
	}
	if got := d.get("/jobs/" + id + "/logs/stdout"); got != "from cron\n" {
		t.Errorf("stdout is %q", got)
	}
	// Beside a living daemon a run from cron has nothing to do, and says so.
	l.startAgent(t, "")
	eventually(t, 20*time.Second, "the daemon is connected", func() bool { return strings.Contains(l.agent.log.String(), "connected") })
	l.command(t, "", "once")
	if l.agent.dead() {
		t.Errorf("a run from cron ended the daemon:\n%s", l.agent.log)
	}
}

// TestDoctorSeesASoundSite and an unsound one.
func TestDoctorSeesASoundSite(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	report := l.command(t, "", "doctor")
	for _, check := range []string{"state", "server", "credential", "scheduler", "spool", "spool shared"} {
		if !strings.Contains(report, "ok    "+check) {
			t.Errorf("no sound %s in\n%s", check, report)
		}
	}
	if !strings.Contains(report, "/srun") || !strings.Contains(report, "doorbell was heard") {
		t.Errorf("want the launch line and the doorbell told in\n%s", report)
	}
	d.admin("agent", "remove", secretID(t, read(t, filepath.Join(l.home, "credential"))))
	out, err := l.try(t, "doctor", "--submit=false")
	if err == nil || !strings.Contains(out, "FAIL  credential") || !strings.Contains(out, "hpcsera-agent enroll") {
		t.Errorf("after the agent was removed doctor ended with %v and\n%s", err, out)
	}
	d.stopServer()
	if err := os.Chmod(l.home, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "hpcsera-agent"), "doctor", "--submit=false")
	cmd.Env, cmd.SysProcAttr, cmd.Dir = l.env, credential(t, l.as), "/"
	dead, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(dead), "FAIL  server") || !strings.Contains(string(dead), "chmod 700") {
		t.Errorf("doctor ended with %v and\n%s\nwant the dead server and the open folder told", err, dead)
	}
}

// secretID is the id in a credential.
func secretID(t *testing.T, text string) string {
	t.Helper()
	id, _, ok := hpcsera.ParseSecret(strings.TrimSpace(text))
	if !ok {
		t.Fatal("the credential is none")
	}
	return id
}

// TestAgentGoesThroughAProxyToAServerWithItsOwnAuthority: the server's name is
// known to the proxy alone, and its certificate to ca_file alone.
func TestAgentGoesThroughAProxyToAServerWithItsOwnAuthority(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	certificate, key := selfSigned(t, d.dir, "hpcsera.test")
	d.stopServer()
	_, port, err := net.SplitHostPort(d.addr)
	if err != nil {
		t.Fatal(err)
	}
	public := "https://hpcsera.test:" + port
	text := strings.Replace(read(t, d.config), "public_url: "+d.url, "public_url: "+public+"\ntls: {certificate: "+certificate+", key: "+key+"}", 1)
	write(t, d.config, text, 0o600)
	tunnels, proxy := connectProxy(t, d.addr)
	server := start(t, nil, os.Environ(), "hpcserad", "serve", "--config", d.config)
	eventually(t, 20*time.Second, "hpcserad with TLS", func() bool {
		c, err := net.Dial("tcp", d.addr)
		if err == nil {
			c.Close()
		}
		return err == nil && !server.dead()
	})
	d.url = public
	l := newLogin(t, d, "slurm")
	l.env = append(l.env, "HTTPS_PROXY="+proxy)
	out, err := l.try(t, "doctor", "--submit=false")
	if err == nil || !strings.Contains(out, "certificate") {
		t.Errorf("without ca_file doctor ended with %v and\n%s\nwant the unknown authority told", err, out)
	}
	write(t, filepath.Join(l.home, "ca.pem"), read(t, certificate), 0o644)
	l.configure(t, "ca_file: "+filepath.Join(l.home, "ca.pem"))
	if out, err := l.try(t, "doctor", "--submit=false"); err != nil {
		t.Errorf("doctor ended with %v and\n%s", err, out)
	}
	l.startAgent(t, "")
	eventually(t, 20*time.Second, "the agent connected through the proxy", func() bool { return strings.Contains(l.agent.log.String(), "connected") })
	if tunnels.Load() == 0 {
		t.Error("nothing went through the proxy")
	}
}

// try runs a command of the agent that may fail.
func (l *login) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "hpcsera-agent"), args...)
	cmd.Env, cmd.SysProcAttr, cmd.Dir = l.env, credential(t, l.as), "/"
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// selfSigned writes a certificate for name that is its own authority.
func selfSigned(t *testing.T, dir, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certificate, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), 0o600)
	return certificate, key
}

// connectProxy tunnels every CONNECT to one address and counts them.
func connectProxy(t *testing.T, target string) (*atomic.Int64, string) {
	t.Helper()
	var tunnels atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
			return
		}
		upstream, err := net.Dial("tcp", target)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer upstream.Close()
		tunnels.Add(1)
		w.WriteHeader(http.StatusOK)
		client, early, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		// The server may have read the beginning of what the client sends.
		go func() { _, _ = io.Copy(upstream, early); upstream.Close() }()
		_, _ = io.Copy(client, upstream)
	}))
	t.Cleanup(proxy.Close)
	return &tunnels, proxy.URL
}
