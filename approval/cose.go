package approval

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
)

// A passkey's public key is a COSE_Key (RFC 9053) in CTAP2's canonical CBOR.
// Of the two kinds that are accepted every byte but the coordinates is fixed,
// so they are compared, not parsed: a key has one form and one fingerprint.
var (
	coseES256 = []byte{0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21, 0x58, 0x20} // kty EC2, alg -7, crv P-256, x …
	coseY     = []byte{0x22, 0x58, 0x20}                                           // … y
	coseEdDSA = []byte{0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20} // kty OKP, alg -8, crv Ed25519, x
)

const coordinate = 32 // bytes, of both curves

// parseCOSE returns the *ecdsa.PublicKey or ed25519.PublicKey that key is.
func parseCOSE(key []byte) (crypto.PublicKey, error) {
	if x, ok := bytes.CutPrefix(key, coseEdDSA); ok && len(x) == coordinate {
		return ed25519.PublicKey(x), nil
	}
	point, ok := bytes.CutPrefix(key, coseES256)
	if ok && len(point) == coordinate+len(coseY)+coordinate && bytes.Equal(point[coordinate:coordinate+len(coseY)], coseY) {
		x, y := point[:coordinate], point[coordinate+len(coseY):]
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err == nil {
			return public, nil
		}
	}
	return nil, refused("this is not a passkey's public key (COSE, ES256 or EdDSA with Ed25519, canonical).").
		Hint("Register a passkey for signing code in the Auth app; others are not accepted.")
}

// CheckPasskey refuses COSE keys whose signatures are not accepted: other
// algorithms than ES256 and EdDSA with Ed25519, points that are not on the
// curve, and any encoding but the canonical one.
func CheckPasskey(key []byte) error {
	_, err := parseCOSE(key)
	return err
}

// PasskeyFingerprint returns SHA256: and the SHA-256 of the COSE key's bytes,
// in base64 without padding: what ssh-keygen -l does with the bytes of SSH keys.
func PasskeyFingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// verifyCOSE reports whether signature is key's over message.
func verifyCOSE(key crypto.PublicKey, message, signature []byte) bool {
	switch k := key.(type) {
	case ed25519.PublicKey:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(k, message, signature)
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(message)
		return ecdsa.VerifyASN1(k, sum[:], signature)
	}
	return false
}
