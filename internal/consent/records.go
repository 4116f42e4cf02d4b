package consent

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// The kinds of documents that belong to this package. A key with several parts
// has slashes between them; no part can hold one.
const (
	kindDeployment = "deployment" // NAME
	kindAssertion  = "assertion"  // DEPLOYMENT/ID: was used
	kindRequest    = "request"    // DEPLOYMENT/ID, of its user
	kindClosed     = "closed"     // DEPLOYMENT/ID: a request that was decided or cancelled
	kindUserCode   = "user-code"  // the code's hash: names a request
	kindDecision   = "decision"   // DEPLOYMENT/ID, of its deployment
	kindEvent      = "event"      // DEPLOYMENT/ID, of its deployment
	kindPush       = "push"       // an event's DEPLOYMENT/ID: is still to be pushed
	kindRate       = "rate"       // what is counted
	kindMute       = "mute"       // USER/DEPLOYMENT/CLIENT, of its user
	kindCodeKey    = "code-key"   // fingerprint, of its user
	kindCeremony   = "code-key-ceremony"
	kindConfirmed  = "confirmed"   // USER/THUMBPRINT: an agent's key that its user compared
	kindSigned     = "signed"      // id of a statement, of its user
	kindWithdrawn  = "withdrawn"   // id of a statement, of its user
	kindDeadKey    = "dead-key"    // fingerprint, of its user
	kindStatus     = "status-list" // current
	kindSigningKey = "signing-key" // id
	kindGrant      = "grant"       // hash of an authorization code
	kindLogin      = "login"       // a sign-in that is under way
	kindRelying    = "relying"     // SESSION/DEPLOYMENT, of its session
)

// Deployment is an API server that the operator registered.
type Deployment struct {
	Name      string            `json:"name"` // shown to users, and its client id
	URL       string            `json:"url"`
	Keys      []jose.JSONWebKey `json:"keys"` // the newest last; two while they rotate
	Redirects []string          `json:"redirects"`
	Logout    string            `json:"logout,omitempty"` // where logout tokens are pushed to
	Disabled  bool              `json:"disabled,omitempty"`
	Created   time.Time         `json:"created"`
}

// pending is a request that was not decided yet.
type pending struct {
	Deployment string           `json:"deployment"`
	Request    decision.Request `json:"request"`
	Posted     time.Time        `json:"posted"`
	User       string           `json:"user,omitempty"` // who was asked, or typed the code first
	// Draft is the statement that the user is about to sign: built from what
	// they chose, shown, and then signed byte by byte.
	Draft []byte `json:"draft,omitempty"`
}

// Shown identifies what a page shows of the request. The page's forms send it
// back: a deployment may replace a request, and nobody is to consent to another
// one than they read.
func (p pending) Shown() (string, error) {
	text, err := json.Marshal(p.Request)
	if err != nil {
		return "", fmt.Errorf("digest request %s: %w", p.key(), err)
	}
	return hpcsera.DigestOf(text), nil
}

// as refuses a form of a page that showed another request.
func (p pending) as(shown string) error {
	now, err := p.Shown()
	if err == nil && now != shown {
		err = hpcsera.Errorf(hpcsera.Conflict, "The request has changed since you looked at it.").Hint("Read it again.")
	}
	return err
}

// nobody owns requests until somebody types their code.
const nobody = "-"

func (p pending) key() string { return p.Deployment + "/" + p.Request.ID }

func (p pending) options() records.Options {
	owner := p.User
	if owner == "" {
		owner = nobody
	}
	return records.Options{Owner: owner, Ends: p.Request.Expires}
}

// named is a document that names another.
type named struct {
	Key string `json:"key"`
}

// kept is a decision until its deployment has it.
type kept struct {
	Text    string    `json:"text"`
	Decided time.Time `json:"decided"`
}

// CodeKey is a passkey that signs code and nothing else.
type CodeKey struct {
	Name        string    `json:"name"`
	Fingerprint string    `json:"fingerprint"`
	Credential  []byte    `json:"credential"`
	Key         []byte    `json:"key"` // COSE
	User        string    `json:"user"`
	Created     time.Time `json:"created"`
}

// Signed is consent to code: given here, or elsewhere and told by a deployment.
type Signed struct {
	ID         string     `json:"id"`
	User       string     `json:"user"`
	Deployment string     `json:"deployment"`
	Project    string     `json:"project"`
	Name       string     `json:"name"`
	Code       string     `json:"code"` // digest
	Key        string     `json:"key"`  // fingerprint of the key that signed
	Elsewhere  bool       `json:"elsewhere,omitempty"`
	Signed     time.Time  `json:"signed"`
	NotAfter   time.Time  `json:"not_after"`
	Withdrawn  *time.Time `json:"withdrawn,omitempty"`
	ReplacedBy string     `json:"replaced_by,omitempty"` // the approval that ended this one
}

// get reads a document; found is false where there is none.
func get[T any](r records.Reader, kind, key string) (doc T, found bool, err error) {
	switch err := r.Get(kind, key, &doc); {
	case errors.Is(err, records.ErrNotFound):
		return doc, false, nil
	case err != nil:
		return doc, false, fmt.Errorf("read %s %s: %w", kind, key, err)
	}
	return doc, true, nil
}

// list reads the documents of an owner, all for "".
func list[T any](r records.Reader, kind, owner string) ([]T, error) {
	docs := []T{}
	err := r.List(kind, owner, func(key string, text []byte) error {
		var doc T
		if err := json.Unmarshal(text, &doc); err != nil {
			return fmt.Errorf("read %s %s: %w", kind, key, err)
		}
		docs = append(docs, doc)
		return nil
	})
	return docs, err
}

// note adds a line to the audit log. about is an id or a name and detail words
// for people; neither may hold a secret.
func (s *Service) note(tx records.Tx, actor, action, user, about, detail string) error {
	return tx.Note(records.AuditLine{At: s.cfg.Now(), Actor: actor, Action: action, User: user, About: about, Detail: detail})
}

// noteRefused adds a line about something that was tried and not allowed.
func (s *Service) noteRefused(tx records.Tx, actor, action, user, about, detail string) error {
	return tx.Note(records.AuditLine{At: s.cfg.Now(), Actor: actor, Action: action, User: user, About: about, Detail: detail, Refused: true})
}

// count counts an event under a key and refuses it above the limit within the
// window, which begins with the first one.
func (s *Service) count(tx records.Tx, key string, limit int, window time.Duration) (ok bool, err error) {
	var c struct {
		Count int       `json:"count"`
		Ends  time.Time `json:"ends"`
	}
	switch err := tx.Get(kindRate, key, &c); {
	case errors.Is(err, records.ErrNotFound):
		c.Ends = s.cfg.Now().Add(window)
	case err != nil:
		return false, fmt.Errorf("count %s: %w", key, err)
	}
	if c.Count >= limit {
		return false, nil
	}
	c.Count++
	return true, tx.Put(kindRate, key, c, records.Options{Ends: c.Ends})
}

func notFound(format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.NotFound, format, args...)
}
