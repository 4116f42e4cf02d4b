package admin

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store     store.Store
	Jobs      Jobs
	Sightings *auth.Sightings
	Log       *slog.Logger
	Now       func() time.Time // nil is time.Now
	// TokenDays is how long a token lives when nobody says, MaxTokenDays how
	// long at most. 0 are 30 and 90.
	TokenDays, MaxTokenDays int
}

// Jobs is what the operator's operations do to jobs; internal/jobs does it.
type Jobs interface {
	// RevokeToken revokes a token and holds its jobs that no agent has.
	RevokeToken(ctx context.Context, id string) error
	// Abandon ends the unfinished jobs of an agent.
	Abandon(tx store.Tx, ledger *store.Ledger, agent string) error
}

// Service does what the operator asks. It may be used by many goroutines.
type Service struct{ cfg Config }

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.TokenDays == 0 {
		cfg.TokenDays = 30
	}
	if cfg.MaxTokenDays == 0 {
		cfg.MaxTokenDays = 90
	}
	return &Service{cfg: cfg}
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Second) }

// Named asks about one thing by its name or id.
type Named struct {
	Name string `json:"name"`
}

// Switch enables or disables a user, a client or a site.
type Switch struct {
	Name     string `json:"name"`
	Disabled bool   `json:"disabled"`
}

// NewUser asks for a user.
type NewUser struct {
	Name     string `json:"name"`
	Operator bool   `json:"operator,omitempty"`
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, r NewUser) (hpcsera.User, error) {
	u := hpcsera.User{Name: r.Name, Operator: r.Operator, Created: s.now()}
	return u, s.create(ctx, "user", u.Name, func(tx store.Tx) error { return tx.InsertUser(u) })
}

// SetUser disables or enables a user. Tokens and agents of a disabled user are
// refused from the next request on.
func (s *Service) SetUser(ctx context.Context, r Switch) (hpcsera.User, error) {
	var u *hpcsera.User
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if u, err = tx.User(r.Name); err != nil {
			return err
		}
		u.Disabled = r.Disabled
		return tx.UpdateUser(*u)
	})
	return value(u), s.failed(err, "user", r.Name)
}

// NewProject asks for a project.
type NewProject struct {
	Name    string                        `json:"name"`
	Members map[string]hpcsera.MemberRole `json:"members,omitempty"`
}

// CreateProject makes a project with its members.
func (s *Service) CreateProject(ctx context.Context, r NewProject) (hpcsera.Project, error) {
	p := hpcsera.Project{Name: r.Name, Created: s.now(), Members: map[string]hpcsera.MemberRole{}}
	err := s.create(ctx, "project", r.Name, func(tx store.Tx) error {
		if err := tx.InsertProject(p); err != nil {
			return err
		}
		for user, role := range r.Members {
			if err := setMember(tx, NewMember{Project: r.Name, User: user, Role: role}); err != nil {
				return err
			}
		}
		return nil
	})
	for user, role := range r.Members {
		p.Members[user] = role
	}
	return p, err
}

// NewMember sets what a user is in a project; the role "" removes the user.
type NewMember struct {
	Project string             `json:"project"`
	User    string             `json:"user"`
	Role    hpcsera.MemberRole `json:"role,omitempty"`
}

// SetMember changes a project's members. The tokens of somebody who was
// removed are refused from the next request on.
func (s *Service) SetMember(ctx context.Context, r NewMember) (hpcsera.Project, error) {
	var p *hpcsera.Project
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if err := setMember(tx, r); err != nil {
			return err
		}
		p, err = tx.Project(r.Project)
		return err
	})
	return value(p), s.failed(err, "project", r.Project)
}

func setMember(tx store.Tx, r NewMember) error {
	if !slices.Contains([]hpcsera.MemberRole{"", hpcsera.Viewer, hpcsera.Member, hpcsera.Owner}, r.Role) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a role in a project.", r.Role).At("role").Hint("Use viewer, member or owner.")
	}
	if _, err := tx.Project(r.Project); err != nil {
		return missing(err, "project", r.Project)
	}
	if _, err := tx.User(r.User); err != nil {
		return missing(err, "user", r.User)
	}
	return tx.SetMember(r.Project, r.User, r.Role)
}

// CreateClient registers a client.
func (s *Service) CreateClient(ctx context.Context, r Named) (hpcsera.Client, error) {
	c := hpcsera.Client{Name: r.Name, Created: s.now()}
	return c, s.create(ctx, "client", c.Name, func(tx store.Tx) error { return tx.InsertClient(c) })
}

// SetClient disables or enables a client, as SetUser does a user.
func (s *Service) SetClient(ctx context.Context, r Switch) (hpcsera.Client, error) {
	var c *hpcsera.Client
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if c, err = tx.Client(r.Name); err != nil {
			return err
		}
		c.Disabled = r.Disabled
		return tx.UpdateClient(*c)
	})
	return value(c), s.failed(err, "client", r.Name)
}

// CreateSite registers a site.
func (s *Service) CreateSite(ctx context.Context, r Named) (hpcsera.Site, error) {
	site := hpcsera.Site{Name: r.Name, Created: s.now(), Agents: []hpcsera.Agent{}}
	return site, s.create(ctx, "site", site.Name, func(tx store.Tx) error { return tx.InsertSite(site) })
}

// SetSite disables or enables a site. A disabled site's agents get no new
// jobs; what they have goes on, and they report it.
func (s *Service) SetSite(ctx context.Context, r Switch) (hpcsera.Site, error) {
	var site *hpcsera.Site
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if site, err = tx.Site(r.Name); err != nil {
			return err
		}
		site.Disabled = r.Disabled
		return tx.UpdateSite(*site)
	})
	return value(site), s.failed(err, "site", r.Name)
}

// create inserts a thing after a look at its name.
func (s *Service) create(ctx context.Context, kind, name string, insert func(store.Tx) error) error {
	if !hpcsera.ValidName(name) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot name a %s.", name, kind).At("name").Hint("Use 1 to 63 of a-z, 0-9 and the hyphen.")
	}
	err := s.cfg.Store.Write(ctx, insert)
	if errors.Is(err, store.ErrExists) {
		return hpcsera.Errorf(hpcsera.Conflict, "there is a %s %s already.", kind, name).At("name")
	}
	return s.failed(err, kind, name)
}

func (s *Service) failed(err error, kind, name string) error {
	return store.Failed("change "+kind+" "+name, missing(err, kind, name))
}

// missing names what does not exist.
func missing(err error, kind, name string) error {
	if errors.Is(err, store.ErrNotFound) {
		return hpcsera.Errorf(hpcsera.NotFound, "there is no %s %q.", kind, name).At(kind)
	}
	return err
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
