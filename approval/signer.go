package approval

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/hpcsera/hpcsera"
)

// KeySource is where LoadSigner finds what a key's name alone does not give.
type KeySource struct {
	Agent      string                            // path of the ssh-agent's socket (SSH_AUTH_SOCK), or ""
	Passphrase func(path string) ([]byte, error) // asks for a key file's passphrase; nil where nobody can be asked
}

// LoadSigner returns the key that name stands for: a private key file, a
// public key file or a fingerprint (SHA256:…) whose private key is in the
// ssh-agent, or "" for the only key there. Keys that live in a FIDO device are
// always used through the ssh-agent.
//
// ctx ends the connections to the ssh-agent, also those that the signer makes
// when it signs.
func LoadSigner(ctx context.Context, name string, from KeySource) (ssh.Signer, error) {
	if name == "" || strings.HasPrefix(name, "SHA256:") {
		return from.byFingerprint(ctx, name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the key cannot be read: %w.", err).At("key")
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		signer, agentErr := from.byFingerprint(ctx, ssh.FingerprintSHA256(public))
		if agentErr == nil {
			return signer, nil
		}
		// As ssh-keygen -Y sign does: the private key may lie beside it.
		private, cut := strings.CutSuffix(name, ".pub")
		if _, err := os.Stat(private); !cut || err != nil {
			return nil, agentErr
		}
		if text, err = os.ReadFile(private); err != nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "the key cannot be read: %w.", err).At("key")
		}
		name = private
	}
	return from.parse(ctx, name, text)
}

func (from KeySource) parse(ctx context.Context, name string, text []byte) (ssh.Signer, error) {
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		if locked.PublicKey != nil {
			if signer, err := from.byFingerprint(ctx, ssh.FingerprintSHA256(locked.PublicKey)); err == nil {
				return signer, nil
			}
		}
		if from.Passphrase == nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "%s is locked by a passphrase, and nobody can be asked for it.", name).At("key").
				Hint("Load it into your ssh-agent: ssh-add %s.", name)
		}
		passphrase, askErr := from.Passphrase(name)
		if askErr != nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "no passphrase for %s: %w.", name, askErr).At("key")
		}
		signer, err = ssh.ParsePrivateKeyWithPassphrase(text, passphrase)
		if errors.Is(err, x509.IncorrectPasswordError) {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "this is not the passphrase of %s.", name).At("key")
		}
	}
	if err == nil {
		return signer, CheckKey(signer.PublicKey())
	}
	// The file of a security key is no key, but its name for the device.
	if text, readErr := os.ReadFile(name + ".pub"); readErr == nil {
		if public, _, _, _, parseErr := ssh.ParseAuthorizedKey(text); parseErr == nil {
			if signer, agentErr := from.byFingerprint(ctx, ssh.FingerprintSHA256(public)); agentErr == nil {
				return signer, nil
			}
		}
	}
	return nil, hpcsera.Errorf(hpcsera.InvalidField, "%s is not a private key that can be used here: %w.", name, err).At("key").
		Hint("A security key (sk-…) is used through the ssh-agent: ssh-add %s.", name)
}

// byFingerprint finds a key in the ssh-agent; "" means the only one.
func (from KeySource) byFingerprint(ctx context.Context, fingerprint string) (ssh.Signer, error) {
	if from.Agent == "" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "no ssh-agent is running (SSH_AUTH_SOCK is not set).").At("key").
			Hint("Name a private key file, or start ssh-agent and add the key.")
	}
	var keys []*agent.Key
	err := from.ask(ctx, func(a agent.ExtendedAgent) (err error) {
		keys, err = a.List()
		return err
	})
	if err != nil {
		return nil, err
	}
	var usable []ssh.PublicKey
	var shown []string
	for _, k := range keys {
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil || CheckKey(public) != nil {
			continue // certificates and old keys beside the others
		}
		if ssh.FingerprintSHA256(public) == fingerprint {
			return agentSigner{from, public, ctx}, nil
		}
		usable, shown = append(usable, public), append(shown, ssh.FingerprintSHA256(public)+" "+k.Comment)
	}
	if fingerprint == "" && len(usable) == 1 {
		return agentSigner{from, usable[0], ctx}, nil
	}
	if len(usable) == 0 {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the ssh-agent holds no key that can be used here.").At("key").Hint("Add one: ssh-add FILE.")
	}
	if fingerprint == "" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the ssh-agent holds %d keys.", len(usable)).At("key").
			Hint("Name one of them: %s.", strings.Join(shown, ", "))
	}
	return nil, hpcsera.Errorf(hpcsera.InvalidField, "the ssh-agent does not hold %s.", fingerprint).At("key").
		Hint("Add it with ssh-add FILE, or use one of these: %s.", strings.Join(shown, ", "))
}

// ask calls the ssh-agent over a connection of its own, so that none has to
// be kept.
func (from KeySource) ask(ctx context.Context, call func(agent.ExtendedAgent) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", from.Agent)
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the ssh-agent cannot be reached: %w.", err).At("key")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := call(agent.NewClient(conn)); err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the ssh-agent refused: %w.", err).At("key")
	}
	return nil
}

// agentSigner signs with a key in the ssh-agent.
type agentSigner struct {
	from   KeySource
	public ssh.PublicKey
	ctx    context.Context // ssh.Signer has no room for one; LoadSigner says what it bounds
}

func (s agentSigner) PublicKey() ssh.PublicKey { return s.public }

func (s agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

// SignWithAlgorithm knows the one algorithm that is not a key's own: RSA with
// SHA-512.
func (s agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (signature *ssh.Signature, err error) {
	var flags agent.SignatureFlags
	if algorithm == ssh.KeyAlgoRSASHA512 {
		flags = agent.SignatureFlagRsaSha512
	}
	err = s.from.ask(s.ctx, func(a agent.ExtendedAgent) (err error) {
		signature, err = a.SignWithFlags(s.public, data, flags)
		return err
	})
	return signature, err
}
