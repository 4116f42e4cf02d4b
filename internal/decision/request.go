package decision

import (
	"regexp"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hpcsera/hpcsera"
)

// Kind is what a request asks for.
type Kind string

// The kinds. For sessions and agents the user types a code that a terminal
// shows, and compares a key's fingerprint.
const (
	Token   Kind = "token"   // access for a client
	Session Kind = "session" // a key-bound session of the command line
	Agent   Kind = "agent"   // the enrolment of an agent
	Code    Kind = "code"    // consent to code, signed by a passkey
)

// MaxWords is how long a client's own words may be.
const MaxWords = 64

// Request is something that waits for a user's decision. What a kind does not
// have is absent.
type Request struct {
	ID   string `json:"id"` // rq_…, made by the deployment
	Kind Kind   `json:"kind"`
	// User is who has to decide; "" is whoever types the code whose hash
	// CodeHash is. One of them is given, and for sessions and agents the code:
	// whoever can make others' browsers open a page must not get a decision.
	User     string `json:"user,omitempty"`
	CodeHash string `json:"code_hash,omitempty"` // of HashUserCode

	Client     string        `json:"client,omitempty"` // by its registered name: who asks, or sent the code
	ClientName string        `json:"client_name,omitempty"`
	Words      string        `json:"words,omitempty"` // the client's own: CIBA's binding_message
	Project    string        `json:"project,omitempty"`
	Site       string        `json:"site,omitempty"` // "" is all
	Roles      hpcsera.Roles `json:"roles,omitempty"`
	Scope      hpcsera.Scope `json:"scope,omitempty"`
	Projects   []string      `json:"projects,omitempty"`   // an agent's
	Thumbprint string        `json:"thumbprint,omitempty"` // RFC 7638, of a session's or an agent's key
	// Host is where that key is, as it says itself. Of a token it is where the
	// user's own session of the command line is that asks in the client's name.
	Host string       `json:"host,omitempty"`
	Code *CodeDetails `json:"code,omitempty"`

	Until   time.Time `json:"until,omitzero"` // the end that is asked for; the user may choose an earlier one
	Expires time.Time `json:"expires"`        // of the request
}

// CodeDetails are what a user must see to consent to code. All of it is the
// deployment's word: the Auth app checks digests, builds the statement itself
// and shows its bytes.
type CodeDetails struct {
	Manifest   hpcsera.Manifest  `json:"manifest"`
	Contents   map[string][]byte `json:"contents,omitempty"` // of files, by path, as far as they can be shown
	Deployment string            `json:"deployment"`         // as statements name it
	Sender     string            `json:"sender"`             // the user whose token or session sent it
	Sites      []string          `json:"sites"`
	Clients    []string          `json:"clients"`    // ["*"] is all
	Submitters []string          `json:"submitters"` // ["*"] is all
	Agents     []CodeAgent       `json:"agents"`
	Limits     hpcsera.Limits    `json:"limits"` // asked for; the user may narrow them
	Days       int               `json:"days"`   // asked for; the user may choose fewer
	Runs       int               `json:"runs"`   // per agent; the user may choose fewer
	Last       *LastApproved     `json:"last,omitempty"`
}

// CodeAgent is an agent that may run the code.
type CodeAgent struct {
	Thumbprint string `json:"thumbprint"`
	Site       string `json:"site"`
	Host       string `json:"host,omitempty"`
}

// LastApproved is the version of the code that the user approved before.
type LastApproved struct {
	Approval string            `json:"approval"` // the id of its statement, which the new one replaces
	Manifest hpcsera.Manifest  `json:"manifest"`
	Contents map[string][]byte `json:"contents,omitempty"`
}

// MaxContents bounds the bytes of files in one request. A deployment leaves
// out what is longer; the page says that it cannot show it.
const MaxContents = 2 << 20

var thumbprintPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// ValidThumbprint reports whether s has the form of an RFC 7638 thumbprint.
func ValidThumbprint(s string) bool { return thumbprintPattern.MatchString(s) }

// ValidWords reports whether a client may say s to a user: at most MaxWords
// printable characters, none of which changes how others are shown.
func ValidWords(s string) bool { return printable(s, MaxWords) }

func printable(s string, most int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !containsUnprintable(s)
}

// containsUnprintable reports whether s has a character without a glyph of its
// own: unicode.IsPrint knows neither controls nor the marks that turn the
// direction of writing. The only space is the plain one.
func containsUnprintable(s string) bool {
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return true
		}
	}
	return false
}

// Validate checks what can be checked of a request alone. Both sides do: the
// sender to find its mistakes, the Auth app since it believes no deployment.
func (r Request) Validate() error {
	typed := r.Kind == Session || r.Kind == Agent
	for _, c := range []struct {
		field, value string
		ok           bool
	}{
		{"id", r.ID, hpcsera.ValidID("rq", r.ID)},
		{"user", r.User, r.User == "" || hpcsera.ValidName(r.User)},
		{"code_hash", r.CodeHash, r.CodeHash == "" || hpcsera.ValidDigest(r.CodeHash)},
		{"client", r.Client, r.Client == "" && r.Kind != Token || hpcsera.ValidName(r.Client)},
		{"client_name", r.ClientName, printable(r.ClientName, 63)},
		{"words", r.Words, ValidWords(r.Words)},
		{"project", r.Project, r.Project == "" && typed || hpcsera.ValidName(r.Project)},
		{"site", r.Site, r.Site == "" && r.Kind != Agent || hpcsera.ValidName(r.Site)},
		{"scope", string(r.Scope), r.Scope == "" || r.Kind == Token && (r.Scope == hpcsera.ClientScope || r.Scope == hpcsera.ProjectScope)},
		{"thumbprint", r.Thumbprint, typed && ValidThumbprint(r.Thumbprint) || !typed && r.Thumbprint == ""},
		{"host", r.Host, printable(r.Host, 255) && (typed || r.Kind == Token || r.Host == "")},
		{"until", r.Until.String(), !r.Until.IsZero() || r.Kind == Code},
		{"expires", r.Expires.String(), !r.Expires.IsZero()},
	} {
		if !c.ok {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot stand here.", brief(c.value)).At(c.field)
		}
	}
	for i, name := range r.Projects {
		if r.Kind != Agent || !hpcsera.ValidName(name) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot stand here.", brief(name)).At(field("projects", i))
		}
	}
	return r.validateKind()
}

// validateKind checks what a kind must and must not have.
func (r Request) validateKind() error {
	switch {
	case r.Kind != Token && r.Kind != Session && r.Kind != Agent && r.Kind != Code:
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a kind of request.", brief(string(r.Kind))).At("kind")
	case (r.Kind == Session || r.Kind == Agent) && r.CodeHash == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "a %s is granted only to whoever types its code.", r.Kind).At("code_hash")
	case r.User == "" && r.CodeHash == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "nobody could decide this.").At("user").Hint("Name the user, or give the hash of a code to type.")
	case r.Kind == Code && r.User == "":
		return hpcsera.Errorf(hpcsera.InvalidField, "consent to code is its user's.").At("user")
	case r.Kind == Token && r.Roles == 0:
		return hpcsera.Errorf(hpcsera.InvalidField, "a token without a role does nothing.").At("roles")
	case r.Kind != Token && r.Roles != 0:
		return hpcsera.Errorf(hpcsera.InvalidField, "only tokens have roles to choose.").At("roles")
	case (r.Kind == Code) != (r.Code != nil):
		return hpcsera.Errorf(hpcsera.InvalidField, "code stands in requests for consent to code, and in no others.").At("code")
	case r.Kind == Agent && len(r.Projects) == 0:
		return hpcsera.Errorf(hpcsera.InvalidField, "an agent takes work of at least one project.").At("projects")
	}
	if r.Code != nil {
		return r.Code.validate()
	}
	return nil
}

func (c *CodeDetails) validate() error {
	if err := c.Manifest.Validate(); err != nil {
		return err
	}
	if c.Last != nil {
		if err := c.Last.Manifest.Validate(); err != nil {
			return err
		}
		if !hpcsera.ValidID("ap", c.Last.Approval) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the id of an approval.", brief(c.Last.Approval)).At("code.last.approval")
		}
	}
	if !hpcsera.ValidName(c.Sender) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a user's name.", brief(c.Sender)).At("code.sender")
	}
	for i, a := range c.Agents {
		if !ValidThumbprint(a.Thumbprint) || !hpcsera.ValidName(a.Site) || !printable(a.Host, 255) {
			return hpcsera.Errorf(hpcsera.InvalidField, "this is no agent.").At(field("code.agents", i))
		}
	}
	for at, list := range map[string][]string{"code.sites": c.Sites, "code.clients": c.Clients, "code.submitters": c.Submitters} {
		for i, name := range list {
			if !hpcsera.ValidName(name) && (name != "*" || at == "code.sites") {
				return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a name.", brief(name)).At(field(at, i))
			}
		}
		if len(list) == 0 {
			return hpcsera.Errorf(hpcsera.InvalidField, "the list is empty; who or what is meant must be said.").At(at)
		}
	}
	switch {
	case len(c.Agents) == 0:
		return hpcsera.Errorf(hpcsera.InvalidField, "without an agent nobody could run the code.").At("code.agents")
	case c.Days < 1 || c.Days > 90:
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is not a number of days from 1 to 90.", c.Days).At("code.days")
	case c.Runs < 1:
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is not a number of runs.", c.Runs).At("code.runs")
	}
	return nil
}
