package policy

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// Kind says what stands behind a start: how far a site, or a security officer,
// may believe that a person wanted it.
type Kind string

// The kinds of trust.
const (
	SecurityKey Kind = "sk"      // an SSH key in a FIDO device, with touch and PIN
	Passkey     Kind = "passkey" // signed in the Auth app
	Plain       Kind = "plain"   // an SSH key in a file
	ServersWord Kind = "server"  // nobody signed: trust.code is server
)

// Kinds lists every kind of trust.
var Kinds = []Kind{SecurityKey, Passkey, Plain, ServersWord}

// Key is one entry of the trust file. What is absent does not restrict.
type Key struct {
	// Key is as in authorized_keys: type, base64, comment; or a passkey's line
	// without a name (approval.PasskeyEntry).
	Key  string `json:"key"`
	Name string `json:"name"` // for people
	// Plain accepts signatures without proof that a person was there: those
	// of keys in files, which whoever copies the file can make.
	Plain    bool       `json:"plain,omitempty"`
	Projects []string   `json:"projects,omitempty"`
	Limits   *Caps      `json:"limits,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"`
	Runs     int        `json:"runs,omitempty"` // per approval, beside the statement's own

	print string // its fingerprint, where the file was read
}

// Caps restrict what an entry's key can allow, whatever it signed.
type Caps struct {
	NodeCount      int              `json:"node_count,omitempty"`
	Duration       hpcsera.Duration `json:"duration,omitempty"`
	Memory         hpcsera.Bytes    `json:"memory,omitempty"`
	QueueNames     []string         `json:"queue_names,omitempty"`
	Accounts       []string         `json:"accounts,omitempty"`
	ReservationIDs []string         `json:"reservation_ids,omitempty"`
	Requeue        *bool            `json:"requeue,omitempty"`
}

// credential is what an entry's line stands for: an SSH key, or a passkey.
type credential struct {
	ssh         ssh.PublicKey
	passkey     *approval.PasskeyEntry
	fingerprint string
	name        string // the line's own: an SSH key's comment
}

// parseCredential reads a line of either kind.
func parseCredential(line []byte) (credential, error) {
	text := strings.TrimRight(string(line), "\r\n")
	if approval.IsPasskeyEntry(text) {
		entry, err := approval.ParsePasskeyEntry(text)
		if err != nil {
			return credential{}, err
		}
		return credential{passkey: &entry, fingerprint: entry.Fingerprint(), name: entry.Name}, nil
	}
	public, err := parsePublic(line)
	if err != nil {
		return credential{}, err
	}
	_, comment, _, _, _ := ssh.ParseAuthorizedKey(line)
	return credential{ssh: public, fingerprint: ssh.FingerprintSHA256(public), name: strings.TrimSpace(comment)}, nil
}

// line returns the credential as it stands in an entry.
func (c credential) line() string {
	if c.passkey != nil {
		nameless := *c.passkey
		nameless.Name = ""
		return nameless.String()
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c.ssh)))
}

// proves reports whether the credential's signatures can prove that a person
// was there.
func (c credential) proves() bool { return c.passkey != nil || approval.IsSecurityKey(c.ssh) }

// parsePublic reads one line of an authorized_keys file without options:
// options would say what sshd must enforce, and nobody would enforce it here.
func parsePublic(line []byte) (ssh.PublicKey, error) {
	public, _, options, rest, err := ssh.ParseAuthorizedKey(line)
	switch {
	case err != nil:
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "this is not a public SSH key: %w.", err).At("key")
	case len(options) > 0:
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the key has options (%s), which only sshd would enforce.", strings.Join(options, ",")).At("key")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "there is more than one key.").At("key").Hint("Add them one by one.")
	}
	if err := approval.CheckKey(public); err != nil {
		return nil, err
	}
	return public, nil
}

// fingerprint returns the entry's fingerprint; Load and add have checked that
// the key can be read.
func (k Key) fingerprint() string {
	if k.print != "" {
		return k.print
	}
	c, err := parseCredential([]byte(k.Key))
	if err != nil {
		return ""
	}
	return c.fingerprint
}

// restricted reports whether the entry's key may do less than its owner.
func (k Key) restricted() bool {
	return len(k.Projects) > 0 || k.Limits != nil || k.NotAfter != nil || k.Runs > 0
}

// counts says how far the entry's signature s may be believed, or why not at all.
func (k Key) counts(s *approval.Signature, in Context) (Kind, error) {
	if s.Kind == approval.Passkey {
		return Passkey, k.countsAsPasskey(s, in)
	}
	switch {
	case s.SecurityKey && s.Present && s.Verified:
		return SecurityKey, nil
	case k.Plain:
		return Plain, nil
	case !s.SecurityKey:
		return "", refuse(hpcsera.ApprovalInvalid, "the signing key %q is a plain key, and its trust entry does not say plain: true.", k.Name)
	}
	return "", refuse(hpcsera.ApprovalInvalid,
		"the security key %q signed without %s.", k.Name, cmp.Or(map[bool]string{true: "a touch"}[!s.Present], "its PIN or a fingerprint"))
}

// countsAsPasskey holds the signature against the page that the entry names. A
// page of the API server's own could show one thing and have another signed.
func (k Key) countsAsPasskey(s *approval.Signature, in Context) error {
	c, err := parseCredential([]byte(k.Key))
	if err == nil && c.passkey == nil {
		err = errors.New("not a passkey's entry") // two fingerprints alike: cannot be
	}
	if err != nil {
		return forged("the trust entry %q is not that of the passkey: %w", k.Name, err)
	}
	if err := c.passkey.Accepts(s); err != nil {
		return forgedBy(err)
	}
	if !in.PasskeySameOrigin && sameOrigin(s.Origin, in.Deployment) {
		e := hpcsera.Errorf(hpcsera.ApprovalRefused, "the passkey %q signed on a page of the API server itself, which could show other code than it has signed.", k.Name).
			Hint("Sign with an SSH key, or say trust: {passkey_same_origin: true} in agent.yaml if you trust the server that far.")
		return &Refusal{Reason: hpcsera.ApprovalInvalid, Err: e}
	}
	return nil
}

// sameOrigin reports whether a page of this origin is one of the server's.
func sameOrigin(origin, server string) bool {
	form, err := approval.Deployment(server)
	return err != nil || form == origin || strings.HasPrefix(form, origin+"/")
}

// allows holds the job against the key's own entry.
func (k Key) allows(s approval.Statement, r hpcsera.RunPart, steps []hpcsera.Step) error {
	if len(k.Projects) > 0 && !slices.Contains(k.Projects, s.Project) {
		return refuse(hpcsera.RejectedByPolicy, "key %q is trusted for project %s, not for %s.", k.Name, strings.Join(k.Projects, ", "), s.Project)
	}
	if k.Limits == nil {
		return nil
	}
	if err := k.Limits.limits(r, s.Limits).Within(r, steps); err != nil {
		return &Refusal{Reason: hpcsera.RejectedByPolicy, Err: hpcsera.Errorf(hpcsera.LimitExceeded, "beyond what key %q may allow: %w", k.Name, err)}
	}
	return nil
}

// limits returns c as limits in which what c leaves open is what the
// statement has or the run part asks for.
func (c Caps) limits(r hpcsera.RunPart, signed hpcsera.Limits) hpcsera.Limits {
	open := func(list []string, word string) []string {
		if list == nil {
			return []string{word}
		}
		return list
	}
	requeue := true
	if c.Requeue != nil {
		requeue = *c.Requeue
	}
	return hpcsera.Limits{
		NodeCount:      cmp.Or(c.NodeCount, signed.NodeCount),
		Duration:       cmp.Or(c.Duration, signed.Duration),
		Memory:         cmp.Or(c.Memory, signed.Memory),
		QueueNames:     open(c.QueueNames, r.Attributes.QueueName),
		Accounts:       open(c.Accounts, r.Attributes.Account),
		ReservationIDs: open(c.ReservationIDs, r.Attributes.ReservationID),
		Requeue:        requeue,
	}
}
