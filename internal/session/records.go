package session

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The kinds of our records. Keys that could be guessed or stolen are hashes.
const (
	accountKind  = "account"  // by name
	handleKind   = "handle"   // an account's name, by what its passkeys call it
	identityKind = "identity" // who somebody is at an institution; owner is the account
	linkKind     = "link"     // a one-time link, by the hash of its code
	visitKind    = "visit"    // somebody on the way in, by the hash of a cookie
	sessionKind  = "session"  // by the hash of a cookie; owner is the account
	triesKind    = "tries"    // wrong tries
)

// account is a person's record.
type account struct {
	Name     string
	Mail     string `json:",omitempty"`
	Operator bool   `json:",omitempty"`
	Disabled bool   `json:",omitempty"` // by an operator
	Left     bool   `json:",omitempty"` // by the institution's word; its next word undoes it
	Created  time.Time

	Password string     `json:",omitempty"` // "" where there is none
	Handle   []byte     // how passkeys call the account: random, so that a key tells no name
	App      *appFactor `json:",omitempty"`
	Passkeys []passkey  `json:",omitempty"`
	Recovery []string   `json:",omitempty"` // hashes of the codes that are left

	Institution string   `json:",omitempty"` // that vouches for the account
	Projects    []string `json:",omitempty"` // by the institution's word
}

// usable reports whether the account may be used at all.
func (a *account) usable() bool { return !a.Disabled && !a.Left }

// factors reports whether there is a second factor besides recovery codes.
func (a *account) factors() bool { return a.App != nil || len(a.Passkeys) > 0 }

// link lets its bearer make or renew one account.
type link struct {
	User     string `json:",omitempty"` // "" lets the bearer choose: the first operator
	Mail     string `json:",omitempty"`
	Operator bool   `json:",omitempty"`
	Renew    bool   `json:",omitempty"` // the account exists, and gets new factors
}

// visit is what is known of somebody who is not signed in yet.
type visit struct {
	User   string `json:",omitempty"` // whose password was right
	Return string `json:",omitempty"` // where to go in the end
	ceremony
	Setup  *setup  `json:",omitempty"`
	Abroad *abroad `json:",omitempty"`
}

// ceremony is a factor that is being used or made.
type ceremony struct {
	Passkey *webauthn.SessionData `json:",omitempty"`
	App     string                `json:",omitempty"` // the secret of an authenticator app, sealed
}

// setup is an account in the making. Nothing of it exists until its second
// factor does.
type setup struct {
	Link     string // the key of its record
	Name     string
	Mail     string
	Password string // hashed
	Handle   []byte
}

// abroad is a sign-in that waits for an institution's answer.
type abroad struct{ Institution, State, Nonce, Verifier string }

// stored is a session's record.
type stored struct {
	Session
	ceremony
}

// newSecret makes what a cookie or a link carries, and the key under which its
// record is found.
func newSecret() (secret, key string) {
	b := make([]byte, 32)
	rand.Read(b)
	secret = base64.RawURLEncoding.EncodeToString(b)
	return secret, keyOf(secret)
}

func keyOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

func getAccount(r records.Reader, name string) (*account, error) {
	var a account
	if err := r.Get(accountKind, name, &a); err != nil {
		return nil, err
	}
	return &a, nil
}

func putAccount(tx records.Tx, a *account) error {
	return tx.Put(accountKind, a.Name, a, records.Options{})
}

// insertAccount makes an account; records.ErrExists says that the name is
// taken.
func insertAccount(tx records.Tx, a *account) error {
	if err := tx.Insert(accountKind, a.Name, a, records.Options{}); err != nil {
		return err
	}
	return tx.Put(handleKind, handleKey(a.Handle), a.Name, records.Options{})
}

func handleKey(handle []byte) string { return base64.RawURLEncoding.EncodeToString(handle) }

func newHandle() []byte {
	b := make([]byte, 32)
	rand.Read(b)
	return b
}

// Person is what others may know of an account.
type Person struct {
	Name        string
	Mail        string
	Operator    bool
	Disabled    bool // cannot sign in, and nothing may be done in their name
	Institution string
	Projects    []string // by the institution's word
	Created     time.Time
}

func (a *account) person() Person {
	return Person{
		Name: a.Name, Mail: a.Mail, Operator: a.Operator, Disabled: !a.usable(), Institution: a.Institution,
		Projects: slices.Clone(a.Projects), Created: a.Created,
	}
}

// User returns a person, within the caller's transaction, or not_found.
func User(r records.Reader, name string) (Person, error) {
	a, err := getAccount(r, name)
	if errors.Is(err, records.ErrNotFound) {
		return Person{}, hpcsera.Errorf(hpcsera.NotFound, "there is no account %s.", name)
	}
	if err != nil {
		return Person{}, err
	}
	return a.person(), nil
}
