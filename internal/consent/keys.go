package consent

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// Keys under decisions and id_tokens rotate. A new one is published for a
// while before it signs, so that whoever keeps the JWKS has it by then, and
// for as long after its successor signs as anything it signed may be read.
const (
	keyAge       = 90 * 24 * time.Hour
	keyLead      = 24 * time.Hour
	keyAftermath = codeDecisionLife + 24*time.Hour
)

// signingKey is a key as it is stored: sealed, since whoever reads the
// database must not be able to decide.
type signingKey struct {
	ID      string    `json:"id"`
	Sealed  []byte    `json:"sealed"`
	Created time.Time `json:"created"`
}

// rotate makes the first key, and a new one when the newest is old enough,
// and erases those whose time is over.
func (s *Service) rotate(tx records.Tx) error {
	keys, err := s.storedKeys(tx)
	if err != nil {
		return err
	}
	now := s.cfg.Now()
	if len(keys) == 0 || now.Sub(keys[len(keys)-1].Created) >= keyAge-keyLead {
		key, err := decision.NewKey()
		if err != nil {
			return err
		}
		text, err := key.PEM()
		if err != nil {
			return err
		}
		made := signingKey{ID: key.ID(), Sealed: s.seal.seal(key.ID(), text), Created: now}
		if err := tx.Insert(kindSigningKey, made.ID, made, records.Options{}); err != nil {
			return fmt.Errorf("keep a new key: %w", err)
		}
		if err := s.note(tx, "", "key.new", "", made.ID, ""); err != nil {
			return err
		}
		keys = append(keys, made)
	}
	for i := range len(keys) - 1 {
		if now.Sub(keys[i+1].Created) >= keyLead+keyAftermath {
			if err := tx.Delete(kindSigningKey, keys[i].ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// storedKeys returns the keys, the oldest first.
func (s *Service) storedKeys(r records.Reader) ([]signingKey, error) {
	keys, err := list[signingKey](r, kindSigningKey, "")
	slices.SortFunc(keys, func(a, b signingKey) int { return a.Created.Compare(b.Created) })
	return keys, err
}

// signer returns the key that signs now: the newest that was published for
// long enough, or the first one ever.
func (s *Service) signer(r records.Reader) (decision.Key, error) {
	keys, err := s.storedKeys(r)
	if err != nil {
		return decision.Key{}, err
	}
	if len(keys) == 0 {
		return decision.Key{}, errors.New("there is no signing key yet")
	}
	use := keys[0]
	for _, k := range keys[1:] {
		if s.cfg.Now().Sub(k.Created) >= keyLead {
			use = k
		}
	}
	return s.open(use)
}

func (s *Service) open(k signingKey) (decision.Key, error) {
	text, err := s.seal.open(k.ID, k.Sealed)
	if err != nil {
		return decision.Key{}, fmt.Errorf("open key %s, which another key file sealed: %w", k.ID, err)
	}
	return decision.ParseKey(text)
}

// Prepare makes the first keys and the first status list, so that the first
// request finds them.
func (s *Service) Prepare(ctx context.Context) error {
	return errors.Join(s.cfg.Store.Write(ctx, s.rotate), s.renewStatus(ctx))
}

// publicKeys serves the JWKS.
func (s *Service) publicKeys(w http.ResponseWriter, r *http.Request) {
	set := jose.JSONWebKeySet{}
	err := s.cfg.Store.Read(r.Context(), func(rd records.Reader) error {
		set.Keys = []jose.JSONWebKey{}
		keys, err := s.storedKeys(rd)
		for _, stored := range keys {
			var key decision.Key
			if key, err = s.open(stored); err != nil {
				return err
			}
			set.Keys = append(set.Keys, key.Public())
		}
		return err
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	writeJSON(w, http.StatusOK, set)
}

// sealer encrypts what the database keeps, each under its own name, so that
// sealed things cannot be exchanged for one another. Its first key seals, all
// open: secrets rotate with overlap.
type sealer struct{ keys []cipher.AEAD }

func newSealer(secrets ...[]byte) (s sealer, err error) {
	for _, secret := range secrets {
		if len(secret) < 32 {
			return s, errors.New("a secret of the Auth app is shorter than 32 bytes")
		}
		key, err := hkdf.Key(sha256.New, secret, nil, "hpcsera-auth signing keys", 32)
		if err != nil {
			return s, fmt.Errorf("derive the sealing key: %w", err)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return s, fmt.Errorf("derive the sealing key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return s, fmt.Errorf("derive the sealing key: %w", err)
		}
		s.keys = append(s.keys, aead)
	}
	return s, nil
}

func (s sealer) seal(name string, text []byte) []byte {
	nonce := make([]byte, s.keys[0].NonceSize())
	rand.Read(nonce)
	return s.keys[0].Seal(nonce, nonce, text, []byte(name))
}

func (s sealer) open(name string, sealed []byte) (text []byte, err error) {
	for _, key := range s.keys {
		n := key.NonceSize()
		if len(sealed) < n {
			return nil, errors.New("it is cut short")
		}
		if text, err = key.Open(nil, sealed[:n], sealed[n:], []byte(name)); err == nil {
			return text, nil
		}
	}
	return nil, err
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // whoever asked is gone if this fails
}
