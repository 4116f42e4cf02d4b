package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/hpcsera/hpcsera"
)

// vault seals what has to be read again, so that no hash can stand for it: the
// secrets of authenticator apps and the tokens of institutions. Somebody who
// has a copy of the database alone can use neither.
type vault struct{ keys []cipher.AEAD }

// newVault takes the keys of the Auth app: the first seals, all open, so that
// a new one can be put in front.
func newVault(keys [][]byte) (*vault, error) {
	v := &vault{}
	for _, key := range keys {
		if len(key) < 32 {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "a key of the Auth app has %d bytes.", len(key)).At("keys").Hint("It needs 32 random ones.")
		}
		// Whatever else the key is used for, this use has one of its own.
		own, err := hkdf.Key(sha256.New, key, nil, "hpcsera auth records", 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(own)
		if err != nil {
			return nil, err
		}
		sealer, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		v.keys = append(v.keys, sealer)
	}
	if len(v.keys) == 0 {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the Auth app has no key.").At("keys").Hint("Give it 32 random bytes.")
	}
	return v, nil
}

// seal hides a text. whose binds it to its owner: put into somebody else's
// record it cannot be opened.
func (v *vault) seal(text, whose string) string {
	return base64.RawURLEncoding.EncodeToString(v.keys[0].Seal(nil, nil, []byte(text), []byte(whose)))
}

func (v *vault) open(sealed, whose string) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil {
		return "", fmt.Errorf("sealed text of %s: %w", whose, err)
	}
	for _, key := range v.keys {
		if text, openErr := key.Open(nil, nil, raw, []byte(whose)); openErr == nil {
			return string(text), nil
		}
	}
	return "", hpcsera.Errorf(hpcsera.Internal, "a sealed text of %s was not sealed with a key of this Auth app", whose)
}
