package access

import (
	"context"
	"encoding/base64"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// NewToken asks for a client token. Exactly one of Roles and Preset is given.
type NewToken struct {
	User    string        `json:"user"`
	Project string        `json:"project"`
	Client  string        `json:"client"`
	Roles   string        `json:"roles,omitempty"`  // names or numbers, comma-separated
	Preset  string        `json:"preset,omitempty"` // ci, ci-code, engine, viewer
	Site    string        `json:"site,omitempty"`
	Scope   hpcsera.Scope `json:"scope,omitempty"` // client (default) or project
	Days    int           `json:"days,omitempty"`  // until its end; 0 is the default
	// NotBefore is when it begins to be good; zero is at once.
	NotBefore time.Time `json:"not_before,omitzero"`
}

// TokenMade is a new token; Secret is shown once and kept nowhere.
type TokenMade struct {
	Token  hpcsera.Token `json:"token"`
	Secret string        `json:"secret"`
}

// CreateToken makes a client token.
func (s *Service) CreateToken(ctx context.Context, by *auth.Principal, r NewToken) (TokenMade, error) {
	target := auth.Target{User: r.User, Project: r.Project, Client: r.Client}
	if err := s.allow(by, auth.CreateToken, target, ""); err != nil {
		return TokenMade{}, err
	}
	t, err := s.Wanted(r)
	if err != nil {
		return TokenMade{}, err
	}
	var made TokenMade
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		made.Token, made.Secret, err = s.IssueToken(tx, by, t)
		return err
	})
	if err != nil {
		return TokenMade{}, store.Failed("create a token of "+r.User, err)
	}
	return made, nil
}

// Wanted turns a wish for a token into the token that is meant, with its end,
// or says what cannot be.
func (s *Service) Wanted(r NewToken) (hpcsera.Token, error) {
	roles, err := rolesOf(r)
	if err != nil {
		return hpcsera.Token{}, err
	}
	if r.Days == 0 {
		r.Days = s.cfg.TokenDays
	}
	if r.Days < 1 || r.Days > s.cfg.MaxTokenDays {
		return hpcsera.Token{}, hpcsera.Errorf(hpcsera.LimitExceeded, "a token lives 1 to %d days, not %d.", s.cfg.MaxTokenDays, r.Days).At("days")
	}
	if r.Scope == "" {
		r.Scope = hpcsera.ClientScope
	}
	if r.Scope != hpcsera.ClientScope && r.Scope != hpcsera.ProjectScope {
		return hpcsera.Token{}, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a scope.", r.Scope).At("scope").Hint("Use client or project.")
	}
	t := hpcsera.Token{
		User: r.User, Project: r.Project, Client: r.Client, Site: r.Site, Scope: r.Scope, Roles: roles,
		NotBefore: r.NotBefore.UTC(), Expires: s.now().Add(time.Duration(r.Days) * 24 * time.Hour),
	}
	if !t.NotBefore.Before(t.Expires) {
		return t, hpcsera.Errorf(hpcsera.InvalidField, "the token would end at %s, before it begins.", t.Expires.Format(time.RFC3339)).At("not_before").
			Hint("Give it more days (--days): they count from now.")
	}
	return t, nil
}

func rolesOf(r NewToken) (hpcsera.Roles, error) {
	if (r.Roles == "") == (r.Preset == "") {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "a token needs either roles or the name of a set of them.").At("roles").
			Hint("Roles are numbered 1 to 8: %s.", hpcsera.Roles(255))
	}
	if r.Roles != "" {
		return hpcsera.ParseRoles(r.Roles)
	}
	set, ok := hpcsera.Presets[r.Preset]
	if !ok {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a set of roles.", r.Preset).At("preset").Hint("Use ci, ci-code, engine or viewer.")
	}
	return set, nil
}

// usable checks that a user can have tokens and agents in the projects.
func usable(r store.Reader, user string, projects []string) error {
	u, err := r.User(user)
	if err != nil {
		return missing(err, "user", user)
	}
	if u.Disabled {
		return hpcsera.Errorf(hpcsera.Conflict, "the user %s is disabled.", user).At("user")
	}
	for _, name := range projects {
		p, err := r.Project(name)
		if err != nil {
			return missing(err, "project", name)
		}
		if p.Members[user] == "" {
			return hpcsera.Errorf(hpcsera.Conflict, "%s is not a member of the project %s.", user, name).At("project").
				Hint("hpcserad project member makes one.")
		}
	}
	return nil
}

// Revocation asks to revoke a token.
type Revocation struct {
	ID   string `json:"id"`
	Stop bool   `json:"stop,omitempty"` // cancel the jobs that it started
}

// RevokeToken revokes a token. Its jobs that no agent has are held; stop
// cancels all of them.
func (s *Service) RevokeToken(ctx context.Context, by *auth.Principal, r Revocation) (hpcsera.Token, error) {
	t, err := s.token(ctx, r.ID)
	if err != nil {
		return hpcsera.Token{}, err
	}
	if err := s.hidden(by, auth.RevokeToken, auth.Target{User: t.User, Project: t.Project}, "token", r.ID); err != nil {
		return hpcsera.Token{}, err
	}
	if err := s.cfg.Jobs.RevokeToken(ctx, r.ID, r.Stop, by.Actor()); err != nil {
		return hpcsera.Token{}, err
	}
	t, err = s.token(ctx, r.ID)
	return value(t), err
}

func (s *Service) token(ctx context.Context, id string) (t *hpcsera.Token, err error) {
	err = s.cfg.Store.Read(ctx, func(rd store.Reader) (err error) {
		t, _, err = rd.Token(id)
		return missing(err, "token", id)
	})
	return t, store.Failed("read token "+id, err)
}

// NewAgent asks for an enrolment. Thumbprint is what the agent printed of the
// key that it made (RFC 7638, SHA-256, base64url).
type NewAgent struct {
	User       string   `json:"user"`
	Site       string   `json:"site"`
	Projects   []string `json:"projects"`
	Thumbprint string   `json:"thumbprint"`
	Days       int      `json:"days,omitempty"` // until its end; 0 is 180
}

// AgentMade is a new enrolment; Credential is shown once and kept nowhere. It
// works only together with the agent's key.
type AgentMade struct {
	Agent      hpcsera.Agent `json:"agent"`
	Credential string        `json:"credential"`
}

// Bounds of an enrolment, in days.
const (
	agentDays    = 180
	maxAgentDays = 366
)

// CreateAgent enrols an agent. A user has one active agent at a site: a second
// one is refused with the host and the last sighting of the first.
func (s *Service) CreateAgent(ctx context.Context, by *auth.Principal, r NewAgent) (AgentMade, error) {
	target := auth.Target{User: r.User, Site: r.Site}
	if err := s.allow(by, auth.CreateAgent, target, r.Site); err != nil {
		return AgentMade{}, err
	}
	if r.Days == 0 {
		r.Days = agentDays
	}
	if r.Days < 1 || r.Days > maxAgentDays {
		return AgentMade{}, hpcsera.Errorf(hpcsera.LimitExceeded, "an enrolment lasts 1 to %d days, not %d.", maxAgentDays, r.Days).At("days")
	}
	a := hpcsera.Agent{
		User: r.User, Site: r.Site, Projects: r.Projects, Thumbprint: r.Thumbprint,
		Expires: s.now().Add(time.Duration(r.Days) * 24 * time.Hour),
	}
	var made AgentMade
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		made.Agent, made.Credential, err = s.IssueAgent(tx, by, a, false)
		return err
	})
	if err != nil {
		return AgentMade{}, store.Failed("create an agent of "+r.User, err)
	}
	return made, nil
}

func checkAgent(a hpcsera.Agent) error {
	if b, err := base64.RawURLEncoding.DecodeString(a.Thumbprint); err != nil || len(b) != 32 {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not the thumbprint of a key.", a.Thumbprint).At("thumbprint").
			Hint("hpcsera-agent status prints it.")
	}
	if len(a.Projects) == 0 {
		return hpcsera.Errorf(hpcsera.InvalidField, "an agent serves at least one project.").At("projects")
	}
	return nil
}

func (s *Service) second(first *store.Agent) error {
	host, seen := "an unknown host", "never"
	if first.Facts != nil && first.Facts.Host != "" {
		host = first.Facts.Host
	}
	if last := s.cfg.Sightings.Last(first.ID, first.LastSeen); last != nil {
		seen = "at " + last.UTC().Format(time.RFC3339)
	}
	return hpcsera.Errorf(hpcsera.Conflict, "%s has the agent %s at %s already, on %s, last seen %s.", first.User, first.ID, first.Site, host, seen).
		Hint("One agent serves all projects. To put another in its place: hpcsera-agent enroll --replace, or remove %s.", first.ID)
}

// Removal asks to end an enrolment.
type Removal struct {
	ID      string `json:"id"`
	Abandon bool   `json:"abandon,omitempty"` // end its unfinished jobs as failed
}

// RemoveAgent ends an enrolment. With unfinished jobs it is refused unless they
// are abandoned.
func (s *Service) RemoveAgent(ctx context.Context, by *auth.Principal, r Removal) (hpcsera.Agent, error) {
	now := s.now()
	var gone *store.Agent
	err := s.cfg.Store.Read(ctx, func(rd store.Reader) (err error) {
		gone, err = rd.Agent(r.ID)
		return missing(err, "agent", r.ID)
	})
	if err != nil {
		return hpcsera.Agent{}, store.Failed("read agent "+r.ID, err)
	}
	target := auth.Target{User: gone.User, Site: gone.Site, Agent: r.ID}
	if err := s.hidden(by, auth.RemoveAgent, target, "agent", r.ID); err != nil {
		return hpcsera.Agent{}, err
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, now)
		if err != nil {
			return err
		}
		if gone, err = tx.Agent(r.ID); err != nil {
			return missing(err, "agent", r.ID)
		}
		if gone.Removed {
			return nil
		}
		unfinished, err := tx.UnfinishedByAgent(r.ID)
		if err != nil {
			return err
		}
		if unfinished > 0 && !r.Abandon {
			return hpcsera.Errorf(hpcsera.Conflict, "the agent has %d jobs that have not ended.", unfinished).
				Hint("Let them end, or give them up: abandon ends them as failed/agent_removed, whatever they do on the site.")
		}
		if err := s.cfg.Jobs.Abandon(tx, ledger, r.ID); err != nil {
			return err
		}
		gone.Removed = true
		if err := tx.UpdateAgent(*gone); err != nil {
			return err
		}
		return s.note(tx, by, auth.RemoveAgent, target, r.ID, "")
	})
	if err != nil {
		return hpcsera.Agent{}, store.Failed("remove agent "+r.ID, err)
	}
	return gone.Agent, nil
}

// Filter narrows a list where it is not "".
type Filter struct {
	User string `json:"user,omitempty"`
	Site string `json:"site,omitempty"`
}

// Users lists all users.
func (s *Service) Users(ctx context.Context, by *auth.Principal, _ Filter) ([]*hpcsera.User, error) {
	return list(ctx, s, by, auth.ListUsers, auth.Target{}, func(r store.Reader) ([]*hpcsera.User, error) { return r.Users() })
}

// Projects lists the projects with their members: a user's own, and all for
// operators.
func (s *Service) Projects(ctx context.Context, by *auth.Principal, _ Filter) ([]*hpcsera.Project, error) {
	return list(ctx, s, by, auth.ListProjects, auth.Target{User: by.User()}, func(r store.Reader) ([]*hpcsera.Project, error) {
		all, err := r.Projects()
		if by.Person.Operator {
			return all, err
		}
		return slices.DeleteFunc(all, func(p *hpcsera.Project) bool { return p.Members[by.User()] == "" }), err
	})
}

// Clients lists all clients: whoever makes a token chooses among them.
func (s *Service) Clients(ctx context.Context, by *auth.Principal, _ Filter) ([]*hpcsera.Client, error) {
	return list(ctx, s, by, auth.ListClients, auth.Target{User: by.User()}, func(r store.Reader) ([]*hpcsera.Client, error) { return r.Clients() })
}

// Sites lists all sites.
func (s *Service) Sites(ctx context.Context, by *auth.Principal, _ Filter) ([]*hpcsera.Site, error) {
	return list(ctx, s, by, auth.ListClients, auth.Target{User: by.User()}, func(r store.Reader) ([]*hpcsera.Site, error) { return r.Sites() })
}

// Tokens lists tokens, without their secrets, which nobody has.
func (s *Service) Tokens(ctx context.Context, by *auth.Principal, f Filter) ([]*hpcsera.Token, error) {
	return list(ctx, s, by, auth.ListTokens, auth.Target{User: f.User}, func(r store.Reader) ([]*hpcsera.Token, error) { return r.Tokens(f.User) })
}

// Agents lists enrolments that were not removed.
func (s *Service) Agents(ctx context.Context, by *auth.Principal, f Filter) ([]*hpcsera.Agent, error) {
	return list(ctx, s, by, auth.ListAgents, auth.Target{User: f.User}, func(r store.Reader) ([]*hpcsera.Agent, error) {
		rows, err := r.Agents(f.User, f.Site)
		agents := make([]*hpcsera.Agent, len(rows))
		for i, row := range rows {
			row.LastSeen = s.cfg.Sightings.Last(row.ID, row.LastSeen)
			agents[i] = &row.Agent
		}
		return agents, err
	})
}

func list[T any](ctx context.Context, s *Service, by *auth.Principal, action auth.Action, t auth.Target, read func(store.Reader) ([]*T, error)) ([]*T, error) {
	if err := auth.Allow(by, action, t); err != nil {
		return nil, err
	}
	var rows []*T
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		rows, err = read(r)
		return err
	})
	if rows == nil {
		rows = []*T{}
	}
	return rows, store.Failed("list", err)
}
