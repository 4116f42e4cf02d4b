package approval

import (
	"bytes"
	"crypto/rsa"
	"encoding/pem"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
)

// Namespace keeps signatures under code apart from all other uses of an SSH
// key: a signature under a git commit or a login never passes as consent.
const Namespace = "hpcsera-code"

// minRSABits is what OpenSSH itself still accepts.
const minRSABits = 2048

// maxSignature bounds what Verify reads.
const maxSignature = 64 << 10

// Kind is how a signature was made.
type Kind string

// The kinds of signatures.
const (
	SSH     Kind = "ssh"     // SSHSIG, as ssh-keygen -Y makes it
	Passkey Kind = "passkey" // a WebAuthn assertion, made in a browser
)

// Signature says which key signed and how.
type Signature struct {
	Kind        Kind
	Fingerprint string // SHA256:…, as ssh-keygen -l prints it; of a passkey see [PasskeyFingerprint]
	// Present: the device that holds the key was touched. Verified: its PIN or a
	// fingerprint was given for this very signature. Both together make a second
	// factor; the device signed both. Of passkeys, both are set.
	Present, Verified bool

	// Of SSH signatures.
	Key         ssh.PublicKey
	SecurityKey bool // the key lives in a FIDO device

	// Of passkeys. Whether they are those of a trusted page is for whoever
	// trusts the key to say ([PasskeyEntry.Accepts]).
	Origin   string   // of the page that asked, by the browser's word
	RPIDHash [32]byte // SHA-256 of the relying party's id, by the device's word
}

// Verify checks a signature of either kind over the statement's bytes: an
// armored SSHSIG ([VerifySSH]), or a passkey's [Assertion] as JSON. It does not
// say whether the key may sign, nor whether statement is one.
func Verify(statement []byte, signature string) (*Signature, error) {
	if strings.HasPrefix(strings.TrimSpace(signature), "{") {
		return verifyPasskey(statement, signature)
	}
	return VerifySSH(statement, signature)
}

// The bits of a FIDO device's flags that its signature covers (CTAP2
// authenticatorData: UP and UV).
const (
	flagPresent  = 0x01
	flagVerified = 0x04
)

// CheckKey refuses keys whose signatures are not accepted: DSA, RSA below
// 2048 bits, certificates.
func CheckKey(key ssh.PublicKey) error {
	if _, ok := key.(*ssh.Certificate); ok {
		return refused("certificates are not accepted; their authority would decide instead of the user.").Hint("Use the plain key.")
	}
	switch key.Type() {
	case ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521:
		return nil
	case ssh.KeyAlgoRSA:
		if c, ok := key.(ssh.CryptoPublicKey); ok {
			if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() >= minRSABits {
				return nil
			}
		}
		return refused("the RSA key is shorter than %d bits.", minRSABits).Hint("Make a new one: ssh-keygen -t ed25519.")
	}
	return refused("keys of type %s are not accepted.", key.Type()).Hint("Make a new one: ssh-keygen -t ed25519.")
}

// IsSecurityKey reports whether key lives in a FIDO device.
func IsSecurityKey(key ssh.PublicKey) bool {
	return key.Type() == ssh.KeyAlgoSKED25519 || key.Type() == ssh.KeyAlgoSKECDSA256
}

// SignSSH signs the canonical bytes of s and returns the armored signature,
// which ssh-keygen -Y verify -n hpcsera-code understands. A security key asks
// its user meanwhile, so the call can take as long as a person does.
func SignSSH(signer ssh.Signer, s Statement) (string, error) {
	if err := CheckKey(signer.PublicKey()); err != nil {
		return "", err // before anybody is asked to touch anything
	}
	text, err := s.Canonical()
	if err != nil {
		return "", err
	}
	return signSSH(signer, text, Namespace)
}

func signSSH(signer ssh.Signer, text []byte, namespace string) (string, error) {
	signature, err := sshsig.Sign(bytes.NewReader(text), signer, sshsig.HashSHA512, namespace)
	if err != nil {
		return "", hpcsera.Errorf(hpcsera.Conflict, "the key did not sign: %w.", err)
	}
	armored := string(sshsig.Armor(signature))
	// Read back what was made: an ssh-agent is another program.
	if _, err := verifySSH(text, armored, namespace); err != nil {
		return "", err
	}
	return armored, nil
}

// VerifySSH checks an armored SSHSIG over statement and returns who signed.
// It refuses other namespaces, hashes other than SHA-256 and SHA-512, RSA with
// SHA-1, keys that CheckKey refuses, and anything beside the signature. It
// does not say whether the key may sign, nor whether statement is one.
func VerifySSH(statement []byte, armored string) (*Signature, error) {
	return verifySSH(statement, armored, Namespace)
}

func verifySSH(statement []byte, armored, namespace string) (*Signature, error) {
	if len(armored) > maxSignature {
		return nil, refused("a signature of %d bytes is too long.", len(armored))
	}
	text := strings.TrimSpace(armored)
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 || len(block.Headers) > 0 || !strings.HasPrefix(text, "-----BEGIN "+sshsig.PEMType+"-----") {
		return nil, refused("this is not one armored SSH signature.").Hint("It begins with -----BEGIN SSH SIGNATURE-----, and nothing stands beside it.")
	}
	sig, err := sshsig.ParseSignature(block.Bytes)
	if err != nil {
		return nil, refused("the signature cannot be read: %w.", err)
	}
	if !bytes.Equal(sig.Marshal(), block.Bytes) {
		return nil, refused("the signature holds more than a signature.")
	}
	if sig.Namespace != namespace {
		return nil, refused("the signature is for %q, not for %q.", sig.Namespace, namespace).Hint("Sign with ssh-keygen -Y sign -n %s.", namespace)
	}
	if err := CheckKey(sig.PublicKey); err != nil {
		return nil, err
	}
	if err := sshsig.Verify(bytes.NewReader(statement), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return nil, refused("the signature does not belong to these bytes: %w.", err)
	}
	out := &Signature{Kind: SSH, Key: sig.PublicKey, Fingerprint: ssh.FingerprintSHA256(sig.PublicKey)}
	if IsSecurityKey(sig.PublicKey) {
		var device struct {
			Flags   byte
			Counter uint32
		}
		if err := ssh.Unmarshal(sig.Signature.Rest, &device); err != nil {
			return nil, refused("the security key's flags cannot be read: %w.", err)
		}
		out.SecurityKey, out.Present, out.Verified = true, device.Flags&flagPresent != 0, device.Flags&flagVerified != 0
	} else if len(sig.Signature.Rest) > 0 {
		return nil, refused("the signature holds more than a signature.")
	}
	return out, nil
}
