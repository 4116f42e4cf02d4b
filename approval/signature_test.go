package approval_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

func signer(t *testing.T, key any, err error) ssh.Signer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ed25519Signer(t *testing.T) ssh.Signer {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	return signer(t, private, err)
}

// device is a FIDO security key in software: what it signs is laid out as in
// OpenSSH's PROTOCOL.u2f, so ssh-keygen verifies it like a real one's.
type device struct {
	private ed25519.PrivateKey
	flags   byte
}

func newDevice(t *testing.T, flags byte) device {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return device{private, flags}
}

func (d device) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct {
		Type, Key, Application string
	}{ssh.KeyAlgoSKED25519, string(d.private.Public().(ed25519.PublicKey)), "ssh:"}))
	if err != nil {
		panic(err)
	}
	return key
}

func (d device) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	application, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := []byte{d.flags, 0, 0, 0, 7}
	signed := append(append(application[:], rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(d.private, signed), Rest: rest}, nil
}

// keygen runs OpenSSH's own program.
func keygen(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "ssh-keygen", args...)
	cmd.Stdin = strings.NewReader(string(stdin))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func write(t *testing.T, path string, text []byte) string {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenSSHVerifiesOurSignatures(t *testing.T) {
	rsaKey, rsaErr := rsa.GenerateKey(rand.Reader, 3072)
	ecKey, ecErr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for name, key := range map[string]ssh.Signer{
		"ed25519": ed25519Signer(t), "rsa": signer(t, rsaKey, rsaErr), "ecdsa": signer(t, ecKey, ecErr), "sk-ed25519": newDevice(t, 5),
	} {
		t.Run(name, func(t *testing.T) {
			armored, err := approval.SignSSH(key, statement())
			if err != nil {
				t.Fatalf("SignSSH: got %v, want no error", err)
			}
			dir := t.TempDir()
			allowed := write(t, filepath.Join(dir, "allowed"), append([]byte("alice "), ssh.MarshalAuthorizedKey(key.PublicKey())...))
			signature := write(t, filepath.Join(dir, "signature"), []byte(armored))
			verify := func(namespace string) (string, error) {
				return keygen(t, canonical(t, statement()), "-Y", "verify", "-f", allowed, "-I", "alice", "-n", namespace, "-s", signature)
			}
			if out, err := verify("hpcsera-code"); err != nil || !strings.Contains(out, ssh.FingerprintSHA256(key.PublicKey())) {
				t.Errorf("ssh-keygen -Y verify: got %v: %s", err, out)
			}
			if out, err := verify("git"); err == nil {
				t.Errorf("ssh-keygen -Y verify -n git: got success: %s", out)
			}
		})
	}
}

func TestWeVerifyOpenSSHsSignatures(t *testing.T) {
	for _, kind := range [][]string{{"ed25519"}, {"rsa", "-b", "2048"}, {"ecdsa", "-b", "521"}} {
		for _, hash := range []string{"sha256", "sha512"} {
			t.Run(kind[0]+" "+hash, func(t *testing.T) {
				key := filepath.Join(t.TempDir(), "key")
				if out, err := keygen(t, nil, append([]string{"-q", "-N", "", "-f", key, "-t"}, kind...)...); err != nil {
					t.Fatalf("ssh-keygen: %v: %s", err, out)
				}
				text := canonical(t, statement())
				file := write(t, key+".txt", text)
				if out, err := keygen(t, nil, "-Y", "sign", "-f", key, "-n", "hpcsera-code", "-O", "hashalg="+hash, file); err != nil {
					t.Fatalf("ssh-keygen -Y sign: %v: %s", err, out)
				}
				armored, err := os.ReadFile(file + ".sig")
				if err != nil {
					t.Fatal(err)
				}
				got, err := approval.VerifySSH(text, string(armored))
				if err != nil {
					t.Fatalf("got %v, want no error", err)
				}
				public, _ := os.ReadFile(key + ".pub")
				want, _, _, _, _ := ssh.ParseAuthorizedKey(public)
				if got.Fingerprint != ssh.FingerprintSHA256(want) || got.SecurityKey {
					t.Errorf("got %+v, want the key %s", got, ssh.FingerprintSHA256(want))
				}
			})
		}
	}
}

func TestASecurityKeyTellsPresenceAndVerification(t *testing.T) {
	for _, c := range []struct {
		flags             byte
		present, verified bool
		ok                bool
	}{
		{0x05, true, true, true},
		{0x01, true, false, true},
		{0x04, false, true, false}, // verified without a touch cannot be
		{0x00, false, false, false},
	} {
		d := newDevice(t, c.flags)
		text := canonical(t, statement())
		sig, err := sshsig.Sign(strings.NewReader(string(text)), d, sshsig.HashSHA512, approval.Namespace)
		if err != nil {
			t.Fatal(err)
		}
		got, err := approval.VerifySSH(text, string(sshsig.Armor(sig)))
		if (err == nil) != c.ok {
			t.Fatalf("flags %#x: got %v, want accepted=%t", c.flags, err, c.ok)
		}
		if c.ok && (!got.SecurityKey || got.Present != c.present || got.Verified != c.verified) {
			t.Errorf("flags %#x: got %+v", c.flags, got)
		}
		rest := sig.Signature.Rest
		for name, without := range map[string][]byte{"no flags": nil, "flags without a counter": rest[:1]} {
			sig.Signature.Rest = without
			if _, err := approval.VerifySSH(text, string(sshsig.Armor(sig))); err == nil {
				t.Errorf("flags %#x, %s: got no error", c.flags, name)
			}
		}
		// The server cannot lift the flags afterwards: the device signed them.
		sig.Signature.Rest = []byte{0x05, 0, 0, 0, 7}
		if _, err := approval.VerifySSH(text, string(sshsig.Armor(sig))); (err == nil) != (c.flags == 0x05) {
			t.Errorf("flags %#x lifted to 0x05: got %v", c.flags, err)
		}
	}
}

func TestForgedAndMangledSignaturesAreRefused(t *testing.T) {
	key := ed25519Signer(t)
	text := canonical(t, statement())
	armored, err := approval.SignSSH(key, statement())
	if err != nil {
		t.Fatal(err)
	}
	made := func(k ssh.Signer, hash sshsig.HashAlgorithm, namespace string, change func(*sshsig.Signature)) string {
		sig, err := sshsig.Sign(strings.NewReader(string(text)), k, hash, namespace)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(sig)
		}
		return string(sshsig.Armor(sig))
	}
	other := ed25519Signer(t)
	short, shortErr := rsa.GenerateKey(rand.Reader, 1024)
	block, _ := pem.Decode([]byte(armored))
	rearm := func(blob []byte, kind string, headers map[string]string) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: blob, Headers: headers}))
	}
	certificate := func() ssh.Signer {
		c := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.UserCert, ValidBefore: ssh.CertTimeInfinity}
		if err := c.SignCert(rand.Reader, other); err != nil {
			t.Fatal(err)
		}
		s, err := ssh.NewCertSigner(c, key)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct{ name, signature string }{
		{"none", ""},
		{"another namespace", made(key, sshsig.HashSHA512, "git", nil)},
		{"the trust file's namespace", made(key, sshsig.HashSHA512, "hpcsera-trust", nil)},
		{"a namespace claimed afterwards", made(key, sshsig.HashSHA512, "git", func(s *sshsig.Signature) { s.Namespace = approval.Namespace })},
		{"a key claimed afterwards", made(other, sshsig.HashSHA512, approval.Namespace, func(s *sshsig.Signature) { s.PublicKey = key.PublicKey() })},
		{"a hash claimed afterwards", made(key, sshsig.HashSHA512, approval.Namespace, func(s *sshsig.Signature) { s.HashAlgorithm = sshsig.HashSHA256 })},
		{"an unknown hash", made(key, sshsig.HashSHA512, approval.Namespace, func(s *sshsig.Signature) { s.HashAlgorithm = "sha1" })},
		{"another version", made(key, sshsig.HashSHA512, approval.Namespace, func(s *sshsig.Signature) { s.Version = 2 })},
		{"flags on a plain key", made(key, sshsig.HashSHA512, approval.Namespace, func(s *sshsig.Signature) { s.Signature.Rest = []byte{5, 0, 0, 0, 1} })},
		{"RSA with SHA-1", made(sha1Signer{signer(t, mustRSA(t), nil).(ssh.AlgorithmSigner)}, sshsig.HashSHA512, approval.Namespace, nil)},
		{"a short RSA key", made(signer(t, short, shortErr), sshsig.HashSHA512, approval.Namespace, nil)},
		{"a certificate", made(certificate(), sshsig.HashSHA512, approval.Namespace, nil)},
		{"cut short", armored[:len(armored)/2]},
		{"text after", armored + "x"},
		{"text before", "x\n" + armored},
		{"two signatures", armored + armored},
		{"headers", rearm(block.Bytes, "SSH SIGNATURE", map[string]string{"a": "b"})},
		{"another armor", rearm(block.Bytes, "PGP SIGNATURE", nil)},
		{"bytes after the signature", rearm(append(append([]byte{}, block.Bytes...), 0), "SSH SIGNATURE", nil)},
		{"blob cut short", rearm(block.Bytes[:len(block.Bytes)-1], "SSH SIGNATURE", nil)},
		{"not base64", "-----BEGIN SSH SIGNATURE-----\n!!!\n-----END SSH SIGNATURE-----\n"},
		{"endless", strings.Repeat("A", 1<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := approval.VerifySSH(text, c.signature)
			if hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
				t.Errorf("got %+v, %v, want %s", got, err, hpcsera.ApprovalRefused)
			}
		})
	}
	for i := range block.Bytes {
		changed := append([]byte{}, block.Bytes...)
		changed[i] ^= 0x01
		if got, err := approval.VerifySSH(text, rearm(changed, "SSH SIGNATURE", nil)); err == nil {
			t.Errorf("bit of byte %d of the signature turned: got %+v, want it refused", i, got)
		}
	}
	for i := range text {
		changed := append([]byte{}, text...)
		changed[i] ^= 0x01
		if _, err := approval.VerifySSH(changed, armored); err == nil {
			t.Errorf("bit of byte %d of the statement turned: got no error", i)
		}
	}
}

func mustRSA(t *testing.T) *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sha1Signer makes the RSA signatures of old times.
type sha1Signer struct{ ssh.AlgorithmSigner }

func (s sha1Signer) SignWithAlgorithm(r io.Reader, data []byte, _ string) (*ssh.Signature, error) {
	return s.AlgorithmSigner.SignWithAlgorithm(r, data, ssh.KeyAlgoRSA)
}

func TestSignSSHRefusesWhatCannotBeVerifiedLater(t *testing.T) {
	if _, err := approval.SignSSH(newDevice(t, 0), statement()); err == nil {
		t.Error("a device that nobody touched: got no error")
	}
	s := statement()
	s.NotAfter = s.NotBefore.Add(-time.Second)
	if _, err := approval.SignSSH(ed25519Signer(t), s); err == nil {
		t.Error("a statement that cannot hold: got no error")
	}
}
