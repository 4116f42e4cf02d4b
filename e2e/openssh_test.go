package e2e

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
)

// keygen runs OpenSSH's own program.
func keygen(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", args...)
	cmd.Stdin = strings.NewReader(string(stdin))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sign signs a text with a key's file as a user types it, and returns the
// signature.
func sign(t *testing.T, key, namespace string, text []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "statement.json")
	write(t, file, string(text), 0o600)
	if out, err := keygen(t, nil, "-q", "-Y", "sign", "-f", key, "-n", namespace, file); err != nil {
		t.Fatalf("ssh-keygen -Y sign: %v: %s", err, out)
	}
	return read(t, file+".sig")
}

// TestAnAgentRunsWhatOpenSSHSigned and nothing that it signed for another
// purpose or with a key that the agent does not know.
func TestAnAgentRunsWhatOpenSSHSigned(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "local")
	stranger := filepath.Join(t.TempDir(), "stranger")
	if out, err := keygen(t, nil, "-q", "-t", "ed25519", "-N", "", "-f", stranger); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	l.startAgent(t, "")
	signed := func(name, key, namespace string) (hpcsera.Manifest, []byte, string, string) {
		t.Helper()
		m := manifest(name, marking("echo "+name))
		s := l.statement(t, m)
		text, err := s.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		return m, text, sign(t, key, namespace, text), s.Code
	}
	for _, namespace := range []string{"git", "file", "hpcsera-trust"} {
		m, text, signature, _ := signed("other-"+namespace, l.key, namespace)
		d.call("POST", "/code", m, nil)
		res, body, err := d.try("POST", "/approvals", mustJSON(t, map[string]any{"statement": text, "signature": signature}), nil)
		if err != nil || res.StatusCode/100 != 4 {
			t.Errorf("signed for %s: got %v, %v: %s, want it refused", namespace, res.Status, err, body)
		}
	}
	m, text, signature, code := signed("by-a-stranger", stranger, "hpcsera-code")
	l.file(m, text, signature)
	refused := l.submit(t, code)
	m, text, signature, code = signed("by-alice", l.key, "hpcsera-code")
	l.file(m, text, signature)
	id := l.submit(t, code)
	if j := d.await(id, time.Minute); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 {
		t.Errorf("signed by alice: job is %s (%s: %s), ran %d times, want succeeded, once\n%s", j.State, j.Reason, j.Message, l.runs(t, id), l.agent.log)
	}
	if j := d.await(refused, time.Minute, hpcsera.Failed); j.Reason != hpcsera.ApprovalInvalid || l.runs(t, refused) != 0 {
		t.Errorf("signed by a stranger: job is %s (%s: %s), ran %d times, want %s and never", j.State, j.Reason, j.Message, l.runs(t, refused), hpcsera.ApprovalInvalid)
	}
}

// TestOpenSSHVerifiesWhatTheClientSigned with the statement as it is on file,
// and only that.
func TestOpenSSHVerifiesWhatTheClientSigned(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "local")
	job := filepath.Join(d.dir, "job.yaml")
	write(t, job, "name: greet\nscript: |\n  #!/bin/sh\n  echo hello\n", 0o600)
	stdout, stderr, code := d.cli(nil, l.signing("approve", job, "--yes", "--output", "json")...)
	if code != 0 {
		t.Fatalf("hpcsera approve ended %d\n%s%s", code, stdout, stderr)
	}
	var filed hpcsera.Approval
	if err := json.Unmarshal([]byte(stdout), &filed); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	d.call("GET", "/approvals/"+filed.ID, nil, &filed)
	dir := t.TempDir()
	allowed, signature := filepath.Join(dir, "allowed"), filepath.Join(dir, "signature")
	write(t, allowed, "alice "+string(ssh.MarshalAuthorizedKey(l.signer.PublicKey())), 0o600)
	write(t, signature, filed.Signature, 0o600)
	verify := func(statement []byte, namespace string) (string, error) {
		return keygen(t, statement, "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", signature)
	}
	if out, err := verify(append(filed.Statement, '\n'), "hpcsera-code"); err == nil {
		t.Errorf("one byte more: got success: %s", out)
	}
	if out, err := verify(filed.Statement, "git"); err == nil {
		t.Errorf("for another purpose: got success: %s", out)
	}
	if out, err := verify(filed.Statement, "hpcsera-code"); err != nil || !strings.Contains(out, ssh.FingerprintSHA256(l.signer.PublicKey())) {
		t.Errorf("ssh-keygen -Y verify: got %v: %s, want the signature by %s accepted", err, out, ssh.FingerprintSHA256(l.signer.PublicKey()))
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
