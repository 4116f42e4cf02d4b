package approval

import (
	"bytes"
	"encoding/json"
	"regexp"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
)

// TrustType is the first word of every statement about trust.
const TrustType = "hpcsera-trust/v1"

// TrustNamespace keeps signatures under trust statements apart from those
// under code: who may sign code has not thereby said whom else to trust.
const TrustNamespace = "hpcsera-trust"

// TrustStatement changes the trust files of a user's agents: a key that they
// trust already says which keys to add and which to remove. The same rules of
// form hold as for a [Statement].
type TrustStatement struct {
	ID         string            // tr_…, random; an agent follows each id once
	Deployment string            // the server's URL, in the form of [Deployment]
	User       string            // whose agents are meant
	Sites      []string          // names of sites
	Agents     []string          // RFC 7638 thumbprints of the agents
	Add        []json.RawMessage // entries, each an object as in a trust file's list of keys
	Remove     []string          // fingerprints; taken out before Add
	NotBefore  time.Time         // UTC, whole seconds
	NotAfter   time.Time         // UTC, whole seconds; not part of the time itself
}

// wireTrust is a trust statement as JSON: no member is optional.
type wireTrust struct {
	Type       string            `json:"type"`
	ID         string            `json:"id"`
	Deployment string            `json:"deployment"`
	User       string            `json:"user"`
	Sites      []string          `json:"sites"`
	Agents     []string          `json:"agents"`
	Add        []json.RawMessage `json:"add"`
	Remove     []string          `json:"remove"`
	NotBefore  string            `json:"not_before"`
	NotAfter   string            `json:"not_after"`
}

func (s TrustStatement) validate() error {
	for _, c := range []struct {
		field, value string
		ok           bool
	}{
		{"id", s.ID, hpcsera.ValidID("tr", s.ID)},
		{"deployment", s.Deployment, validDeployment(s.Deployment)},
		{"user", s.User, hpcsera.ValidName(s.User)},
	} {
		if !c.ok {
			return refused("%q cannot stand here.", c.value).At(c.field)
		}
	}
	if err := validateList(s.Sites, hpcsera.ValidName, false); err != nil {
		return err.At("sites")
	}
	if err := validateList(s.Agents, thumbprintPattern.MatchString, false); err != nil {
		return err.At("agents")
	}
	if len(s.Add)+len(s.Remove) == 0 {
		return refused("it adds and removes nothing.").At("add")
	}
	if len(s.Remove) > 0 {
		if err := validateList(s.Remove, ValidFingerprint, false); err != nil {
			return err.At("remove")
		}
	}
	return validateTimes(s.NotBefore, s.NotAfter)
}

var fingerprintPattern = regexp.MustCompile(`^SHA256:[A-Za-z0-9+/]{43}$`)

// ValidFingerprint reports whether s has the form of a key's fingerprint.
func ValidFingerprint(s string) bool { return fingerprintPattern.MatchString(s) }

// Canonical returns the bytes to be signed.
func (s TrustStatement) Canonical() ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	add := s.Add
	if add == nil {
		add = []json.RawMessage{}
	}
	return canonicalJSON(wireTrust{
		Type: TrustType, ID: s.ID, Deployment: s.Deployment, User: s.User, Sites: s.Sites, Agents: s.Agents,
		Add: add, Remove: explicit(s.Remove), NotBefore: s.NotBefore.Format(timeForm), NotAfter: s.NotAfter.Format(timeForm),
	})
}

// ParseTrust reads a trust statement from the bytes that were signed. It
// accepts only what Canonical writes. What stands in Add is for the reader of
// trust files to judge.
func ParseTrust(text []byte) (TrustStatement, error) {
	if len(text) > maxStatement {
		return TrustStatement{}, refused("a statement of %d bytes is too long.", len(text))
	}
	var w wireTrust
	if err := hpcsera.Decode(text, &w); err != nil {
		return TrustStatement{}, asRefused(err)
	}
	if w.Type != TrustType {
		return TrustStatement{}, refused("%q is not %q.", w.Type, TrustType).At("type")
	}
	s := TrustStatement{ID: w.ID, Deployment: w.Deployment, User: w.User, Sites: w.Sites, Agents: w.Agents, Add: w.Add, Remove: w.Remove}
	err := parseTimes([]timeField{{"not_before", w.NotBefore, &s.NotBefore}, {"not_after", w.NotAfter, &s.NotAfter}})
	if err != nil {
		return TrustStatement{}, err
	}
	again, err := s.Canonical()
	if err != nil {
		return TrustStatement{}, err
	}
	if !bytes.Equal(again, text) {
		return TrustStatement{}, refused("the statement lacks a member or is not in canonical form (RFC 8785).")
	}
	return s, nil
}

// SignTrust signs the canonical bytes of s and returns the armored signature.
func SignTrust(signer ssh.Signer, s TrustStatement) (string, error) {
	if err := CheckKey(signer.PublicKey()); err != nil {
		return "", err
	}
	text, err := s.Canonical()
	if err != nil {
		return "", err
	}
	return signSSH(signer, text, TrustNamespace)
}

// VerifyTrust checks an armored SSHSIG in the namespace [TrustNamespace], as
// ssh-keygen -Y sign makes it, and returns who signed. Passkeys sign code only.
func VerifyTrust(statement []byte, armored string) (*Signature, error) {
	return verifySSH(statement, armored, TrustNamespace)
}
