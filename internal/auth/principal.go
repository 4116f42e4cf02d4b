package auth

import (
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Principal is who makes a request: exactly one of Token, Agent and Person is
// set. It describes one moment; do not keep it beyond its request.
type Principal struct {
	Token  *hpcsera.Token     // a client's token
	Member hpcsera.MemberRole // of the token's user in the token's project
	Agent  *store.Agent       // an agent's credential; its Projects are those that it serves now
	Person *Person            // somebody in person
}

// Person is a user in person: in a browser session, at a terminal with a
// key-bound session (hpcsera login), or by a decision signed in the Auth app.
type Person struct {
	User     string
	Operator bool   // manages the service
	Session  string // its id
	// KeyBound is set for hpcsera login: it lists and takes back; whatever
	// grants is decided in the Auth app.
	KeyBound bool
	// SteppedUp says that the person showed a second factor within [StepUp].
	SteppedUp bool
	// OnHost is the operator who can open admin.sock, without a name.
	OnHost bool
}

// OperatorOnHost is whoever can open the server's admin.sock.
func OperatorOnHost() *Principal {
	return &Principal{Person: &Person{Operator: true, OnHost: true}}
}

// User returns the name of the user for whom the principal acts; "" for the
// operator on the host.
func (p *Principal) User() string {
	switch {
	case p.Agent != nil:
		return p.Agent.User
	case p.Person != nil:
		return p.Person.User
	}
	return p.Token.User
}

// Actor names the principal in the audit log.
func (p *Principal) Actor() string {
	switch {
	case p.Agent != nil:
		return "agent:" + p.Agent.ID
	case p.Person == nil:
		return "token:" + p.Token.ID
	case p.Person.OnHost:
		return "operator"
	}
	return "user:" + p.Person.User
}

// Projects returns the projects that a token or an agent reaches at all.
func (p *Principal) Projects() []string {
	switch {
	case p.Agent != nil:
		return slices.Clone(p.Agent.Projects)
	case p.Person != nil:
		return nil
	}
	return []string{p.Token.Project}
}

// OnlyClient returns the client to whose jobs and code the principal is
// limited, or "" where the user granted the whole project.
func (p *Principal) OnlyClient() string {
	if p.Token != nil && p.Token.Scope != hpcsera.ProjectScope {
		return p.Token.Client
	}
	return ""
}

// OnlySite returns the site to which the principal is limited, or "".
func (p *Principal) OnlySite() string {
	switch {
	case p.Agent != nil:
		return p.Agent.Site
	case p.Person != nil:
		return ""
	}
	return p.Token.Site
}
