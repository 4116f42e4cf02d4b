package approval_test

import (
	"bufio"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera/approval"
)

// keyFile makes a key with OpenSSH and returns its path and fingerprint.
func keyFile(t *testing.T, kind, passphrase string) (path, fingerprint string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	if out, err := keygen(t, nil, "-q", "-t", kind, "-N", passphrase, "-f", path); err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	out, err := keygen(t, nil, "-lf", path+".pub")
	if err != nil {
		t.Fatalf("ssh-keygen -l: %v: %s", err, out)
	}
	return path, strings.Fields(out)[1]
}

// sshAgent starts OpenSSH's agent and returns its socket.
func sshAgent(t *testing.T, keys ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	cmd := exec.CommandContext(t.Context(), "ssh-agent", "-D", "-a", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // printed once it listens
		t.Fatalf("ssh-agent: %v", err)
	}
	for _, key := range keys {
		add := exec.CommandContext(t.Context(), "ssh-add", "-q", key)
		add.Env = []string{"SSH_AUTH_SOCK=" + socket}
		if text, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ssh-add: %v: %s", err, text)
		}
	}
	return socket
}

func signsAs(t *testing.T, s ssh.Signer, err error, fingerprint string) {
	t.Helper()
	if err != nil {
		t.Fatalf("LoadSigner: got %v, want no error", err)
	}
	armored, err := approval.SignSSH(s, statement())
	if err != nil {
		t.Fatalf("SignSSH: got %v, want no error", err)
	}
	got, err := approval.VerifySSH(canonical(t, statement()), armored)
	if err != nil || got.Fingerprint != fingerprint {
		t.Errorf("got %+v, %v, want a signature by %s", got, err, fingerprint)
	}
}

func TestLoadSignerReadsKeyFiles(t *testing.T) {
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		path, fingerprint := keyFile(t, kind, "")
		s, err := approval.LoadSigner(t.Context(), path, approval.KeySource{})
		signsAs(t, s, err, fingerprint)
		s, err = approval.LoadSigner(t.Context(), path+".pub", approval.KeySource{})
		signsAs(t, s, err, fingerprint)
	}
}

func TestLoadSignerAsksForAPassphrase(t *testing.T) {
	path, fingerprint := keyFile(t, "ed25519", "open sesame")
	var asked string
	ask := func(answer string, err error) func(string) ([]byte, error) {
		return func(p string) ([]byte, error) { asked = p; return []byte(answer), err }
	}
	s, err := approval.LoadSigner(t.Context(), path, approval.KeySource{Passphrase: ask("open sesame", nil)})
	signsAs(t, s, err, fingerprint)
	if asked != path {
		t.Errorf("asked for %q, want %q", asked, path)
	}
	if _, err := approval.LoadSigner(t.Context(), path, approval.KeySource{Passphrase: ask("wrong", nil)}); err == nil || !strings.Contains(err.Error(), "not the passphrase") {
		t.Errorf("wrong passphrase: got %v", err)
	}
	if _, err := approval.LoadSigner(t.Context(), path, approval.KeySource{Passphrase: ask("", errors.New("gone"))}); err == nil || !strings.Contains(err.Error(), "gone") {
		t.Errorf("nobody answers: got %v", err)
	}
	if _, err := approval.LoadSigner(t.Context(), path, approval.KeySource{}); err == nil || !strings.Contains(err.Error(), "ssh-add") {
		t.Errorf("nobody to ask: got %v, want advice to use ssh-add", err)
	}
}

func TestLoadSignerUsesTheAgent(t *testing.T) {
	edPath, edPrint := keyFile(t, "ed25519", "")
	rsaPath, rsaPrint := keyFile(t, "rsa", "")
	alone := approval.KeySource{Agent: sshAgent(t, edPath)}
	both := approval.KeySource{Agent: sshAgent(t, edPath, rsaPath)}

	s, err := approval.LoadSigner(t.Context(), "", alone)
	signsAs(t, s, err, edPrint)
	s, err = approval.LoadSigner(t.Context(), rsaPrint, both)
	signsAs(t, s, err, rsaPrint)
	s, err = approval.LoadSigner(t.Context(), edPath+".pub", both)
	signsAs(t, s, err, edPrint)

	if _, err := approval.LoadSigner(t.Context(), "", both); err == nil || !strings.Contains(err.Error(), rsaPrint) {
		t.Errorf("two keys and none named: got %v, want an error that lists them", err)
	}
	if _, err := approval.LoadSigner(t.Context(), rsaPrint, alone); err == nil || !strings.Contains(err.Error(), edPrint) {
		t.Errorf("a key that is not there: got %v, want an error that lists the others", err)
	}
	if _, err := approval.LoadSigner(t.Context(), "", approval.KeySource{}); err == nil || !strings.Contains(err.Error(), "SSH_AUTH_SOCK") {
		t.Errorf("no agent: got %v", err)
	}
}

func TestALockedKeyInTheAgentNeedsNoPassphrase(t *testing.T) {
	path, fingerprint := keyFile(t, "ed25519", "")
	socket := sshAgent(t, path)
	if out, err := keygen(t, nil, "-q", "-p", "-P", "", "-N", "open sesame", "-f", path); err != nil {
		t.Fatalf("ssh-keygen -p: %v: %s", err, out)
	}
	s, err := approval.LoadSigner(t.Context(), path, approval.KeySource{Agent: socket})
	signsAs(t, s, err, fingerprint)
}

// The private file of a security key cannot be read as a key: ssh-agent has it,
// and the public file beside it says which one it is.
func TestAFileThatIsNoKeyStandsForTheOneInTheAgent(t *testing.T) {
	path, fingerprint := keyFile(t, "ed25519", "")
	socket := sshAgent(t, path)
	write(t, path, []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"))
	s, err := approval.LoadSigner(t.Context(), path, approval.KeySource{Agent: socket})
	signsAs(t, s, err, fingerprint)
	if _, err := approval.LoadSigner(t.Context(), path, approval.KeySource{}); err == nil || !strings.Contains(err.Error(), "ssh-add "+path) {
		t.Errorf("without the ssh-agent: got %v, want it to name ssh-add", err)
	}
}

func TestLoadSignerRefusesOtherFiles(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "x"), []byte("hello"))
	for _, name := range []string{file, file + "-missing"} {
		if _, err := approval.LoadSigner(t.Context(), name, approval.KeySource{}); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
