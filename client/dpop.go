package client

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Key is the key pair that an agent made at its enrolment, or the command line
// at a login. The credential is useless without it (DPoP, RFC 9449).
type Key struct {
	private ed25519.PrivateKey
	public  jose.JSONWebKey
}

// LoadKey reads the key at path, or makes one there, readable by its owner
// alone.
func LoadKey(path string) (*Key, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("key: %s is not PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("key: %s: %w", path, err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key: %s is not an Ed25519 key", path)
	}
	return keyOf(private), nil
}

func newKey(path string) (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	err = pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	return keyOf(private), nil
}

func keyOf(private ed25519.PrivateKey) *Key {
	return &Key{private: private, public: jose.JSONWebKey{Key: private.Public()}}
}

// Thumbprint returns the key's RFC 7638 thumbprint, which names the agent in
// statements and binds its credential.
func (k *Key) Thumbprint() string {
	sum, err := k.public.Thumbprint(crypto.SHA256)
	if err != nil {
		panic(err) // an Ed25519 key always has one
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// proof returns the DPoP header for one request (RFC 9449 section 4.2). Without
// a credential it has no ath: at the token endpoint there is none yet.
func (k *Key) proof(method, url, credential, nonce string, now time.Time) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		return "", fmt.Errorf("dpop: %w", err)
	}
	bound := ""
	if credential != "" {
		sum := sha256.Sum256([]byte(credential))
		bound = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	return jwt.Signed(signer).Claims(struct {
		ID     string `json:"jti"`
		Method string `json:"htm"`
		URL    string `json:"htu"`
		Issued int64  `json:"iat"`
		ATH    string `json:"ath,omitempty"`
		Nonce  string `json:"nonce,omitempty"`
	}{rand.Text(), method, url, now.Unix(), bound, nonce}).Serialize()
}
