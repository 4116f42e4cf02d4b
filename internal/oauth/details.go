package oauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

// The types of authorization_details (RFC 9396). Clients ask for tokens; the
// other two are for our own programs.
const (
	tokenDetails   = "hpcsera"
	sessionDetails = "hpcsera_session"
	agentDetails   = "hpcsera_agent"
)

// details are what a client asks for, and what a token answer says was
// granted. What a type does not have is absent.
type details struct {
	Type    string        `json:"type"`
	Project string        `json:"project,omitempty"`
	Roles   roleList      `json:"roles,omitempty"`
	Site    string        `json:"site,omitempty"`
	Scope   hpcsera.Scope `json:"scope,omitempty"`
	End     time.Time     `json:"end,omitzero"`

	Projects []string `json:"projects,omitempty"` // an agent's
	Replace  bool     `json:"replace,omitempty"`  // an agent's: the one that the user has there
	User     string   `json:"user,omitempty"`     // an agent's, by its own settings; in the answer, whose it is
	Host     string   `json:"host,omitempty"`     // of an agent or a session, as it says itself

	byScope bool // asked for by scopes, and answered with them
}

// roleList is roles as a list of names, numbers or presets.
type roleList hpcsera.Roles

// UnmarshalJSON reads names and numbers.
func (l *roleList) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, (*hpcsera.Roles)(l)) }

// MarshalJSON writes names.
func (l roleList) MarshalJSON() ([]byte, error) { return json.Marshal(hpcsera.Roles(l)) }

// wanted reads what a form asks for. Whoever can send authorization_details
// does; a scope that says the same is for those who cannot.
func (s *Service) wanted(f form) (details, error) {
	text, given := f["authorization_details"]
	if !given {
		d, err := scopeDetails(f["scope"])
		if err != nil {
			return d, err
		}
		return d, s.complete(&d, invalidScope)
	}
	var list []details
	if err := hpcsera.Decode([]byte(text), &list); err != nil {
		return details{}, bad(invalidDetails, "authorization_details cannot be read: "+err.Error())
	}
	if len(list) != 1 {
		return details{}, bad(invalidDetails, "one access is asked for at a time: authorization_details must hold one object")
	}
	if err := plainScopes(f["scope"]); err != nil {
		return details{}, err
	}
	return list[0], s.complete(&list[0], invalidDetails)
}

// complete checks what was asked for and fills in what was left out. code is
// the error of what cannot be.
func (s *Service) complete(d *details, code string) error {
	usual, most := s.cfg.Access.TokenLife()
	switch d.Type {
	case tokenDetails:
		d.Scope = cmp.Or(d.Scope, hpcsera.ClientScope)
		if len(d.Projects) > 0 || d.Replace || d.Host != "" || d.User != "" {
			return bad(code, "projects, replace, host and user are not for tokens")
		}
	case sessionDetails:
		usual, most = 12*time.Hour, 12*time.Hour
		if len(d.Projects) > 0 || d.Project != "" || d.Roles != 0 || d.Site != "" || d.Scope != "" || d.Replace || d.User != "" {
			return bad(code, "a session has a host and an end, nothing else")
		}
	case agentDetails:
		usual, most = s.cfg.Access.AgentLife()
		if d.Project != "" || d.Roles != 0 || d.Scope != "" {
			return bad(code, "an agent has a user, a site, projects, a host and an end, nothing else")
		}
		if d.User != "" && !hpcsera.ValidName(d.User) {
			return bad(code, "user is not a name")
		}
	default:
		return bad(code, "the type must be hpcsera")
	}
	now := s.now().Truncate(time.Second)
	if d.End.IsZero() {
		d.End = now.Add(usual)
	}
	d.End = d.End.UTC().Truncate(time.Second)
	if !d.End.After(now) || d.End.After(now.Add(most+time.Minute)) {
		return bad(code, "the end must lie ahead, "+hpcsera.Duration(most).String()+" at most")
	}
	return nil
}

// scopeDetails reads scopes such as "project:cfd role:GET_JobStatus site:gwdg".
func scopeDetails(scope string) (details, error) {
	d := details{Type: tokenDetails, byScope: true}
	once := map[string]*string{}
	var span string
	once["project"], once["site"], once["scope"] = &d.Project, &d.Site, &span
	for _, word := range strings.Fields(scope) {
		kind, name, _ := strings.Cut(word, ":")
		switch {
		case standard(word):
		case once[kind] != nil && name != "" && *once[kind] == "":
			*once[kind] = name
		case kind == "role":
			set, err := hpcsera.ParseRoles(name)
			if err != nil {
				return d, bad(invalidScope, "no such role: "+name)
			}
			d.Roles |= roleList(set)
		case kind == "for" && hpcsera.Presets[name] != 0:
			d.Roles |= roleList(hpcsera.Presets[name])
		default:
			return d, bad(invalidScope, "not understood, or given twice: "+word)
		}
	}
	d.Scope = hpcsera.Scope(span)
	if d.Project == "" || d.Roles == 0 {
		return d, bad(invalidScope, "say which project and which roles: scope=project:NAME role:NAME, or authorization_details")
	}
	return d, nil
}

// standard are scopes of OpenID Connect, which clients send out of habit. They
// ask for nothing that a token here could do.
func standard(scope string) bool {
	switch scope {
	case "openid", "offline_access", "profile", "email":
		return true
	}
	return false
}

// plainScopes refuses scopes beside authorization_details that could
// contradict them.
func plainScopes(scope string) error {
	for _, word := range strings.Fields(scope) {
		if !standard(word) {
			return bad(invalidScope, "beside authorization_details a scope says nothing: "+word)
		}
	}
	return nil
}

// request is what the Auth app is to ask. Its id, whom it asks, and its end
// are the caller's.
func (d details) request(client, thumbprint string) decision.Request {
	r := decision.Request{ID: hpcsera.NewID("rq"), Kind: decision.Token, Client: client, ClientName: client, Until: d.End}
	switch d.Type {
	case sessionDetails:
		r.Kind, r.Thumbprint, r.Host = decision.Session, thumbprint, d.Host
	case agentDetails:
		r.Kind, r.Thumbprint, r.Host, r.Site, r.Projects = decision.Agent, thumbprint, d.Host, d.Site, d.Projects
		r.Words = d.agentWords()
	default:
		r.Project, r.Site, r.Roles, r.Scope = d.Project, d.Site, hpcsera.Roles(d.Roles), d.Scope
	}
	return r
}

// agentWords say what an agent's wish has beside what every request has, as
// long as the page takes it.
func (d details) agentWords() string {
	whose, replaced := "", ""
	if d.User != "" {
		whose = "agent of " + d.User
	}
	if d.Replace {
		replaced = "in place of the agent that you have there"
	}
	for _, words := range []string{strings.Trim(whose+", "+replaced, ", "), replaced} {
		if words != "" && decision.ValidWords(words) {
			return words
		}
	}
	return ""
}

// valid holds the request against what the Auth app takes, in OAuth's words.
func (d details) valid(r decision.Request) error {
	code := invalidDetails
	if d.byScope {
		code = invalidScope
	}
	err := r.Validate()
	var e *hpcsera.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e) && e.Field == "words":
		return bad(invalidWords, "at most 64 printable characters")
	case errors.As(err, &e):
		return bad(code, e.Field+": "+e.Message)
	}
	return err
}

// scopes writes a token as the scopes that ask for it.
func scopes(t hpcsera.Token) string {
	words := []string{"project:" + t.Project}
	for _, role := range t.Roles.List() {
		words = append(words, "role:"+role.String())
	}
	if t.Site != "" {
		words = append(words, "site:"+t.Site)
	}
	if t.Scope == hpcsera.ProjectScope {
		words = append(words, "scope:project")
	}
	return strings.Join(words, " ")
}

// granted says what a token is, as authorization_details.
func granted(t hpcsera.Token) []details {
	return []details{{Type: tokenDetails, Project: t.Project, Roles: roleList(t.Roles), Site: t.Site, Scope: t.Scope, End: t.Expires}}
}
