package auth

import (
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Principal is who makes a request: exactly one of Token and Agent is set.
// It describes one moment; do not keep it beyond its request.
type Principal struct {
	Token  *hpcsera.Token     // a client's token
	Member hpcsera.MemberRole // of the token's user in the token's project
	Agent  *store.Agent       // an agent's credential; its Projects are those that it serves now
}

// User returns the name of the user for whom the principal acts.
func (p *Principal) User() string {
	if p.Agent != nil {
		return p.Agent.User
	}
	return p.Token.User
}

// Projects returns the projects that the principal reaches at all.
func (p *Principal) Projects() []string {
	if p.Agent != nil {
		return slices.Clone(p.Agent.Projects)
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
	if p.Agent != nil {
		return p.Agent.Site
	}
	return p.Token.Site
}
