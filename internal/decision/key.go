package decision

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

// Key is a private Ed25519 key that signs messages, and the id under which its
// public half is known: its RFC 7638 thumbprint, so that two keys never share
// one. Printed, it shows its id only.
type Key struct {
	id      string
	private ed25519.PrivateKey
}

// NewKey makes a key.
func NewKey() (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("make a key: %w", err)
	}
	return keyOf(private)
}

// DeriveKey returns the key for a purpose that follows from a secret of 32
// bytes or more. It is the same each time, so it need not be kept, and tells
// nothing of keys for other purposes.
func DeriveKey(secret []byte, purpose string) (Key, error) {
	if len(secret) < 32 {
		return Key{}, errors.New("derive a key: the secret is shorter than 32 bytes")
	}
	seed, err := hkdf.Key(sha256.New, secret, nil, purpose, ed25519.SeedSize)
	if err != nil {
		return Key{}, fmt.Errorf("derive a key: %w", err)
	}
	return keyOf(ed25519.NewKeyFromSeed(seed))
}

func keyOf(private ed25519.PrivateKey) (Key, error) {
	public := jose.JSONWebKey{Key: private.Public()}
	sum, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return Key{}, fmt.Errorf("take a key's thumbprint: %w", err)
	}
	return Key{base64.RawURLEncoding.EncodeToString(sum), private}, nil
}

// ParseKey reads what [Key.PEM] writes.
func ParseKey(text []byte) (Key, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, hpcsera.Errorf(hpcsera.InvalidField, "this is not one private key in PEM.")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Key{}, hpcsera.Errorf(hpcsera.InvalidField, "the private key cannot be read: %w.", err)
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Key{}, hpcsera.Errorf(hpcsera.InvalidField, "the private key is not an Ed25519 key.")
	}
	return keyOf(private)
}

// PEM returns the private key as PKCS #8 in PEM.
func (k Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fmt.Errorf("write key %s: %w", k.id, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ID returns the key's id.
func (k Key) ID() string { return k.id }

// String returns the id, so that no log shows the key.
func (k Key) String() string { return "key " + k.id }

// GoString returns what String does.
func (k Key) GoString() string { return k.String() }

// Public returns the public half, as a JWKS carries it.
func (k Key) Public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(jose.EdDSA), Use: "sig"}
}

// ParsePublicKey reads a public key as JWK. Private keys are refused: they are
// nobody's but their owner's.
func ParsePublicKey(text []byte) (jose.JSONWebKey, error) {
	var key jose.JSONWebKey
	if err := json.Unmarshal(text, &key); err != nil {
		return key, hpcsera.Errorf(hpcsera.InvalidField, "this is not a key as JWK: %w.", err).Hint("hpcserad auth key prints it.")
	}
	public, ok := key.Key.(ed25519.PublicKey)
	if !ok || !key.Valid() {
		return jose.JSONWebKey{}, hpcsera.Errorf(hpcsera.InvalidField, "this is not a public Ed25519 key as JWK.").
			Hint("hpcserad auth key prints it.")
	}
	plain := jose.JSONWebKey{Key: public}
	sum, err := plain.Thumbprint(crypto.SHA256)
	if err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("take a key's thumbprint: %w", err)
	}
	return jose.JSONWebKey{Key: public, KeyID: base64.RawURLEncoding.EncodeToString(sum), Algorithm: string(jose.EdDSA), Use: "sig"}, nil
}

// Sign returns claims as a compact JWS of the given type, such as JWT for an
// OpenID Connect id_token.
func (k Key) Sign(typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("write a %s: %w", typ, err)
	}
	options := (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("kid", k.id)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: k.private}, options)
	if err != nil {
		return "", fmt.Errorf("sign a %s: %w", typ, err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign a %s: %w", typ, err)
	}
	return jws.CompactSerialize()
}

// maxToken bounds what Open reads; a decision carries a statement, which is
// its largest part.
const maxToken = 4 << 20

// Open verifies a compact JWS of the given type with one of keys, and reads
// its claims strictly into claims, a pointer. It refuses every algorithm but
// EdDSA and any header beside alg, kid and typ: no key comes with the message.
func Open(text, typ string, keys []jose.JSONWebKey, claims any) error {
	if len(text) > maxToken {
		return refused("a token of %d bytes is too long.", len(text))
	}
	head, _, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.Strict().DecodeString(head)
	if err != nil {
		return refused("this is not a signed token.")
	}
	var header struct {
		Algorithm string `json:"alg"`
		KeyID     string `json:"kid"`
		Type      string `json:"typ"`
	}
	if err := hpcsera.Decode(raw, &header); err != nil {
		return refused("the token's header cannot be accepted: %w.", err)
	}
	if header.Type != typ {
		return refused("the token is a %q, not a %q.", brief(header.Type), typ)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return refused("the token is not signed with EdDSA.")
	}
	for _, key := range keys {
		if key.KeyID != header.KeyID {
			continue
		}
		payload, err := jws.Verify(key)
		if err != nil {
			return refused("the token's signature is wrong.")
		}
		if err := hpcsera.Decode(payload, claims); err != nil {
			return refused("the token cannot be accepted: %w.", err)
		}
		return nil
	}
	return refused("the token is signed with a key that is not known here.")
}

// refused is the error of everything that is no message for us.
func refused(format string, args ...any) *hpcsera.Error {
	e := hpcsera.Errorf(hpcsera.Unauthenticated, format, args...)
	// The trail names what was wrong inside; the code is the same for all.
	var inner *hpcsera.Error
	if errors.As(e.Cause, &inner) {
		e.Field = inner.Field
	}
	return e
}
