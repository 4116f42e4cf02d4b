package consent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// signerOf is a user as an authenticator knows them for signing code: under
// another handle than for sign-in, so that one passkey never takes the other's
// place on the device.
type signerOf struct {
	user string
	keys []CodeKey
}

// WebAuthnID implements [webauthn.User].
func (u signerOf) WebAuthnID() []byte {
	sum := sha256.Sum256([]byte("hpcsera code signing\n" + u.user))
	return sum[:]
}

// WebAuthnName implements [webauthn.User].
func (u signerOf) WebAuthnName() string { return u.user + " (signs code)" }

// WebAuthnDisplayName implements [webauthn.User].
func (u signerOf) WebAuthnDisplayName() string { return u.WebAuthnName() }

// WebAuthnCredentials implements [webauthn.User].
func (u signerOf) WebAuthnCredentials() []webauthn.Credential {
	list := []webauthn.Credential{}
	for _, k := range u.keys {
		list = append(list, webauthn.Credential{ID: k.Credential, PublicKey: k.Key})
	}
	return list
}

// newRelyingParty asks for passkeys that check their user. They need not be
// found on the device by themselves: a page that lists passkeys to sign in
// with should not offer one that never signs anybody in.
func newRelyingParty(host, origin string) (*webauthn.WebAuthn, error) {
	rp, err := webauthn.New(&webauthn.Config{
		RPID: host, RPDisplayName: "HPCSerA", RPOrigins: []string{origin}, AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementDiscouraged, RequireResidentKey: protocol.ResidentKeyNotRequired(),
			UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys that sign code: %w", err)
	}
	return rp, nil
}

// ceremony is a registration that began. It is kept under the session's id, so
// that an answer counts for the browser that was asked, once.
type ceremony struct {
	User    string               `json:"user"`
	Session webauthn.SessionData `json:"session"`
}

const (
	ceremonyLife = 5 * time.Minute
	maxCodeKeys  = 20
)

// CodeKeys lists a user's passkeys that sign code.
func (s *Service) CodeKeys(r records.Reader, user string) ([]CodeKey, error) {
	keys, err := list[CodeKey](r, kindCodeKey, user)
	slices.SortFunc(keys, func(a, b CodeKey) int { return a.Created.Compare(b.Created) })
	return keys, err
}

// beginCodeKey returns what the browser is asked for.
func (s *Service) beginCodeKey(ctx context.Context, p Person) (options *protocol.CredentialCreation, err error) {
	err = s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		keys, err := s.CodeKeys(tx, p.User)
		if err != nil {
			return err
		}
		u := signerOf{p.User, keys}
		exclude := webauthn.WithExclusions(webauthn.Credentials(u.WebAuthnCredentials()).CredentialDescriptors())
		parameters := webauthn.WithCredentialParameters([]protocol.CredentialParameter{
			{Type: protocol.PublicKeyCredentialType, Algorithm: -7}, // ES256
			{Type: protocol.PublicKeyCredentialType, Algorithm: -8}, // EdDSA
		})
		var session *webauthn.SessionData
		if options, session, err = s.passkeys.BeginRegistration(u, exclude, parameters); err != nil {
			return fmt.Errorf("begin to register a passkey: %w", err)
		}
		return tx.Put(kindCeremony, p.Session, ceremony{p.User, *session}, records.Options{Owner: p.User, Ends: s.cfg.Now().Add(ceremonyLife)})
	})
	return options, err
}

// addCodeKeyOf registers the passkey that a browser made.
func (s *Service) addCodeKeyOf(ctx context.Context, p Person, name, credential string) error {
	if name = strings.TrimSpace(name); name == "" || len(name) > 63 || page.Show(name) != name {
		return hpcsera.Errorf(hpcsera.InvalidField, "The passkey needs a name of 1 to 63 printable characters.").At("name")
	}
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		begun, found, err := get[ceremony](tx, kindCeremony, p.Session)
		if err != nil {
			return err
		}
		if !found || begun.User != p.User {
			return hpcsera.Errorf(hpcsera.Conflict, "The registration took too long, or was finished already.").Hint("Begin again.")
		}
		if err := tx.Delete(kindCeremony, p.Session); err != nil {
			return err
		}
		keys, err := s.CodeKeys(tx, p.User)
		if err != nil {
			return err
		}
		if len(keys) >= maxCodeKeys {
			return hpcsera.Errorf(hpcsera.QuotaExceeded, "You have %d passkeys that sign code.", len(keys)).Hint("Remove one first.")
		}
		key, err := s.made(signerOf{p.User, keys}, begun, credential)
		if err != nil {
			return err
		}
		key.Name, key.User, key.Created = name, p.User, s.cfg.Now().UTC()
		if _, dead, err := get[named](tx, kindDeadKey, key.Fingerprint); err != nil || dead {
			return errors.Join(err, hpcsera.Errorf(hpcsera.Conflict, "This key was removed before and cannot come back.").Hint("Make a new passkey."))
		}
		switch err := tx.Insert(kindCodeKey, key.Fingerprint, key, records.Options{Owner: p.User}); {
		case errors.Is(err, records.ErrExists):
			return hpcsera.Errorf(hpcsera.Conflict, "This passkey is registered already.")
		case err != nil:
			return err
		}
		return s.note(tx, p.User, "code-key.add", p.User, key.Fingerprint, key.Name)
	})
}

// made verifies a browser's answer to a registration.
func (s *Service) made(u signerOf, begun ceremony, credential string) (CodeKey, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(credential))
	if err != nil {
		return CodeKey{}, hpcsera.Errorf(hpcsera.InvalidField, "The browser's answer cannot be read: %w.", err).Hint("Try again, or another device.")
	}
	c, err := s.passkeys.CreateCredential(u, begun.Session, parsed)
	if err != nil {
		return CodeKey{}, hpcsera.Errorf(hpcsera.Forbidden, "The passkey was not accepted: %w.", err).Hint("Try again, or another device.")
	}
	// Agents compare keys byte by byte, so the one form that they know is the
	// one that is kept.
	if err := approval.CheckPasskey(c.PublicKey); err != nil {
		return CodeKey{}, err
	}
	return CodeKey{Fingerprint: approval.PasskeyFingerprint(c.PublicKey), Credential: c.ID, Key: c.PublicKey}, nil
}

// RemoveCodeKey takes a passkey away. The status list names it from now on, so
// that nothing it ever signed runs where agents have the list.
func (s *Service) RemoveCodeKey(ctx context.Context, user, fingerprint string) error {
	err := s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		key, found, err := get[CodeKey](tx, kindCodeKey, fingerprint)
		if err != nil {
			return err
		}
		if !found || key.User != user {
			return notFound("There is no such passkey of yours.")
		}
		if err := tx.Delete(kindCodeKey, fingerprint); err != nil {
			return err
		}
		if err := tx.Put(kindDeadKey, fingerprint, named{fingerprint}, records.Options{Owner: user}); err != nil {
			return err
		}
		if err := s.note(tx, user, "code-key.remove", user, fingerprint, key.Name); err != nil {
			return err
		}
		return s.newStatus(tx)
	})
	s.wake.all()
	return err
}

// trustLine is what the user's agents have to be told, by the user.
func (s *Service) trustLine(k CodeKey) string {
	return approval.PasskeyEntry{Key: k.Key, RPID: s.host, Origin: s.origin, Name: k.Name}.String()
}

// wireCredential is the browser's answer to a request to sign.
type wireCredential struct {
	ID         string          `json:"id"`
	RawID      string          `json:"rawId"`
	Type       string          `json:"type"`
	Attachment string          `json:"authenticatorAttachment,omitempty"`
	Extensions json.RawMessage `json:"clientExtensionResults,omitempty"`
	Response   struct {
		ClientData        protocol.URLEncodedBase64 `json:"clientDataJSON"`
		AuthenticatorData protocol.URLEncodedBase64 `json:"authenticatorData"`
		Signature         protocol.URLEncodedBase64 `json:"signature"`
		UserHandle        string                    `json:"userHandle,omitempty"`
	} `json:"response"`
}

// readAssertion reads the browser's answer to a request to sign.
func readAssertion(credential string) (approval.Assertion, error) {
	var w wireCredential
	err := hpcsera.Decode([]byte(credential), &w)
	var id protocol.URLEncodedBase64
	if err == nil {
		err = id.UnmarshalJSON([]byte(`"` + w.RawID + `"`))
	}
	if err != nil || w.Type != "public-key" {
		return approval.Assertion{}, hpcsera.Errorf(hpcsera.InvalidField, "The browser's answer cannot be read: %w.", err).Hint("Try again.")
	}
	return approval.Assertion{Credential: id, ClientData: w.Response.ClientData, AuthenticatorData: w.Response.AuthenticatorData, Signature: w.Response.Signature}, nil
}

// verify checks that one of user's passkeys for code signed the statement, on
// our page, and returns the signature as agents read it. The key is the one
// that was registered, not one that comes with the assertion.
func (s *Service) verify(r records.Reader, user string, statement []byte, a approval.Assertion) (CodeKey, string, error) {
	keys, err := s.CodeKeys(r, user)
	if err != nil {
		return CodeKey{}, "", err
	}
	at := slices.IndexFunc(keys, func(k CodeKey) bool { return bytes.Equal(k.Credential, a.Credential) })
	if at < 0 {
		return CodeKey{}, "", hpcsera.Errorf(hpcsera.Forbidden, "This passkey is not registered for signing code.").
			Hint("Passkeys for signing in never sign code. Register one under Code.")
	}
	key := keys[at]
	a.Key = key.Key
	signature := a.String()
	signed, err := approval.Verify(statement, signature)
	if err == nil {
		err = approval.PasskeyEntry{Key: key.Key, RPID: s.host, Origin: s.origin}.Accepts(signed)
	}
	return key, signature, err
}
