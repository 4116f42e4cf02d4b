package session

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// passkey is a key that signs a person in. Keys that sign code are others, and
// another feature's.
type passkey struct {
	Label      string
	Added      time.Time
	Used       time.Time
	Credential webauthn.Credential
}

// id names a passkey in forms.
func (p passkey) id() string { return handleKey(p.Credential.ID) }

// keyring is an account as the library sees it.
type keyring struct{ *account }

func (k keyring) WebAuthnID() []byte          { return k.Handle }
func (k keyring) WebAuthnName() string        { return k.Name }
func (k keyring) WebAuthnDisplayName() string { return k.Name }
func (k keyring) WebAuthnCredentials() []webauthn.Credential {
	var list []webauthn.Credential
	for _, p := range k.Passkeys {
		list = append(list, p.Credential)
	}
	return list
}

// beginCreate asks for a new passkey of an account, on a device that has none
// of it yet.
func (s *Service) beginCreate(a *account) (*protocol.CredentialCreation, *webauthn.SessionData, error) {
	var have []protocol.CredentialDescriptor
	for _, p := range a.Passkeys {
		have = append(have, p.Credential.Descriptor())
	}
	return s.passkeys.BeginRegistration(keyring{a}, webauthn.WithExclusions(have))
}

// create checks a new passkey and adds it to the account, which the caller
// stores.
func (s *Service) create(a *account, session *webauthn.SessionData, response, label string) error {
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(response))
	if err != nil {
		return badPasskey(err)
	}
	c, err := s.passkeys.CreateCredential(keyring{a}, *session, parsed)
	if err != nil {
		return badPasskey(err)
	}
	if !c.Flags.UserVerified {
		return badPasskey(errors.New("the device did not check its owner"))
	}
	if slices.ContainsFunc(a.Passkeys, func(p passkey) bool { return bytes.Equal(p.Credential.ID, c.ID) }) {
		return badPasskey(errors.New("the account has it already"))
	}
	a.Passkeys = append(a.Passkeys, passkey{Label: cleanLabel(label, len(a.Passkeys)+1), Added: s.cfg.Now(), Credential: *c})
	return nil
}

// cleanLabel keeps what a person calls a key within what can be shown.
func cleanLabel(label string, number int) string {
	label = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, strings.TrimSpace(label))
	if runes := []rune(label); len(runes) > 64 {
		label = string(runes[:64])
	}
	if label == "" {
		return fmt.Sprintf("Passkey %d", number)
	}
	return label
}

// beginGet asks for a passkey: one of the account, or any where a is nil.
func (s *Service) beginGet(a *account) (*protocol.CredentialAssertion, *webauthn.SessionData, error) {
	uv := webauthn.WithUserVerification(protocol.VerificationRequired)
	if a == nil {
		return s.passkeys.BeginDiscoverableLogin(uv)
	}
	if len(a.Passkeys) == 0 {
		return nil, nil, hpcsera.Errorf(hpcsera.Conflict, "This account has no passkey.")
	}
	return s.passkeys.BeginLogin(keyring{a}, uv)
}

// check verifies the answer to beginGet and returns whose passkey it was, with
// its use noted in the account, which the caller stores.
func (s *Service) check(r records.Reader, session *webauthn.SessionData, response string) (*account, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(response))
	if err != nil {
		return nil, badPasskey(err)
	}
	find := func(handle []byte) (*account, error) {
		var name string
		if err := r.Get(handleKind, handleKey(handle), &name); err != nil {
			return nil, err
		}
		return getAccount(r, name)
	}
	var used *webauthn.Credential
	var a *account
	if len(session.UserID) > 0 {
		if a, err = find(session.UserID); err == nil {
			used, err = s.passkeys.ValidateLogin(keyring{a}, *session, parsed)
		}
	} else {
		_, used, err = s.passkeys.ValidatePasskeyLogin(func(_, handle []byte) (webauthn.User, error) {
			var err error
			a, err = find(handle)
			return keyring{a}, err
		}, *session, parsed)
	}
	if err != nil {
		return nil, badPasskey(err)
	}
	if used.Authenticator.CloneWarning {
		return nil, badPasskey(errors.New("its counter went back: there may be a copy of it"))
	}
	for i := range a.Passkeys {
		if bytes.Equal(a.Passkeys[i].Credential.ID, used.ID) {
			a.Passkeys[i].Credential, a.Passkeys[i].Used = *used, s.cfg.Now()
		}
	}
	return a, nil
}

// badPasskey hides which check failed; the cause is for the log.
func badPasskey(cause error) error {
	var detailed *protocol.Error
	if errors.As(cause, &detailed) {
		cause = fmt.Errorf("%s: %s", detailed.Details, detailed.DevInfo)
	}
	return hpcsera.Errorf(hpcsera.Unauthenticated, "The passkey was not accepted%w", hidden{cause}).
		Hint("Try again, or use another way.")
}

// hidden is a cause that is wrapped and not told.
type hidden struct{ error }

func (hidden) Error() string   { return "." }
func (h hidden) Unwrap() error { return h.error }
