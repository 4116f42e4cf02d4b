package access

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
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
	Mailer    Mailer // nil: reminders go to the log
	// Refused is told of each refusal, for the audit log. It must not wait:
	// whoever is refused can try a thousand times a second. nil is nobody.
	Refused func(hpcsera.AuditLine)
	Log     *slog.Logger
	Now     func() time.Time // nil is time.Now
	// TokenDays is how long a token lives when nobody says, MaxTokenDays how
	// long at most. 0 are 30 and 90.
	TokenDays, MaxTokenDays int
	// Institutions lets people into the projects that their institutions name,
	// by the word of the Auth app. Owners of projects then do not decide alone
	// who is in.
	Institutions bool
}

// Jobs is what taking access back does to jobs; internal/jobs does it.
type Jobs interface {
	// RevokeToken revokes a token and holds its jobs that no agent has; stop
	// cancels all its jobs. It leaves the line in the audit log.
	RevokeToken(ctx context.Context, id string, stop bool, actor string) error
	// Abandon ends the unfinished jobs of an agent.
	Abandon(tx store.Tx, ledger *store.Ledger, agent string) error
}

// Service changes who may what. It may be used by many goroutines.
type Service struct {
	cfg     Config
	started time.Time
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Refused == nil {
		cfg.Refused = func(hpcsera.AuditLine) {}
	}
	if cfg.TokenDays == 0 {
		cfg.TokenDays = 30
	}
	if cfg.MaxTokenDays == 0 {
		cfg.MaxTokenDays = 90
	}
	return &Service{cfg: cfg, started: cfg.Now()}
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Second) }

// Named asks about one thing by its name or id.
type Named struct {
	Name string `json:"name"`
}

// Switch enables or disables a user or a client, or opens or drains a site.
type Switch struct {
	Name     string `json:"name"`
	Disabled bool   `json:"disabled"`
}

// allow asks whether by may. A refusal changes nothing, so it is told to the
// audit log and costs no transaction.
func (s *Service) allow(by *auth.Principal, action auth.Action, t auth.Target, about string) error {
	err := auth.Allow(by, action, t)
	if err != nil {
		s.cfg.Refused(hpcsera.AuditLine{
			At: s.now(), Actor: by.Actor(), Action: string(action), User: t.User, Project: t.Project, About: hpcsera.Brief(about, maxAbout), Refused: hpcsera.CodeOf(err),
		})
	}
	return err
}

// maxAbout is longer than every name and id. What was asked for in vain may be as
// long as a form.
const maxAbout = 100

// hidden is allow for one thing of kind that has that name: one that by does not reach
// does not exist, in the same words.
func (s *Service) hidden(by *auth.Principal, action auth.Action, t auth.Target, kind, name string) error {
	err := s.allow(by, action, t, name)
	if hpcsera.CodeOf(err) == hpcsera.NotFound {
		return missing(store.ErrNotFound, kind, name)
	}
	return err
}

// note leaves the line of what was done, in the same transaction.
func (s *Service) note(tx store.Tx, by *auth.Principal, action auth.Action, t auth.Target, about, detail string) error {
	return tx.Note(hpcsera.AuditLine{
		At: s.now(), Actor: by.Actor(), Action: string(action), User: t.User, Project: t.Project, About: about, Detail: detail,
	})
}

// NewUser asks for a user.
type NewUser struct {
	Name     string `json:"name"`
	Operator bool   `json:"operator,omitempty"`
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, by *auth.Principal, r NewUser) (hpcsera.User, error) {
	u := hpcsera.User{Name: r.Name, Operator: r.Operator, Created: s.now()}
	if err := s.allow(by, auth.ManageService, auth.Target{User: r.Name}, "user "+r.Name); err != nil {
		return hpcsera.User{}, err
	}
	return u, s.create(ctx, by, "user", u.Name, func(tx store.Tx) error { return tx.InsertUser(u) })
}

// SetUser disables or enables a user. Tokens and agents of a disabled user are
// refused from the next request on.
func (s *Service) SetUser(ctx context.Context, by *auth.Principal, r Switch) (hpcsera.User, error) {
	var u *hpcsera.User
	err := s.set(ctx, by, "user", r, func(tx store.Tx) (err error) {
		if u, err = tx.User(r.Name); err != nil {
			return err
		}
		u.Disabled = r.Disabled
		return tx.UpdateUser(*u)
	})
	return value(u), err
}

// NewProject asks for a project.
type NewProject struct {
	Name    string                        `json:"name"`
	Members map[string]hpcsera.MemberRole `json:"members,omitempty"`
}

// CreateProject makes a project with its members. Whoever makes it in person
// is its owner.
func (s *Service) CreateProject(ctx context.Context, by *auth.Principal, r NewProject) (hpcsera.Project, error) {
	p := hpcsera.Project{Name: r.Name, Created: s.now(), Members: map[string]hpcsera.MemberRole{}}
	target := auth.Target{Project: r.Name, User: by.User()}
	if err := s.allow(by, auth.CreateProject, target, r.Name); err != nil {
		return hpcsera.Project{}, err
	}
	for user, role := range r.Members {
		p.Members[user] = role
	}
	if by.User() != "" {
		p.Members[by.User()] = hpcsera.Owner
	}
	err := s.create(ctx, by, "project", r.Name, func(tx store.Tx) error {
		if err := tx.InsertProject(hpcsera.Project{Name: p.Name, Created: p.Created}); err != nil {
			return err
		}
		for user, role := range p.Members {
			if err := setMember(tx, NewMember{Project: r.Name, User: user, Role: role}); err != nil {
				return err
			}
		}
		return nil
	})
	return p, err
}

// NewMember sets what a user is in a project; the role "" removes the user.
type NewMember struct {
	Project string             `json:"project"`
	User    string             `json:"user"`
	Role    hpcsera.MemberRole `json:"role,omitempty"`
}

// SetMember changes a project's members. The tokens of somebody who was
// removed are refused from the next request on. A project keeps an owner.
func (s *Service) SetMember(ctx context.Context, by *auth.Principal, r NewMember) (hpcsera.Project, error) {
	target := auth.Target{Project: r.Project, User: r.User}
	member, err := s.member(ctx, r.Project, by.User())
	if err != nil {
		return hpcsera.Project{}, s.failed(err, "project", r.Project)
	}
	target.Member = member
	if err := s.allow(by, auth.SetMember, target, r.User); err != nil {
		return hpcsera.Project{}, err
	}
	var p *hpcsera.Project
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if err := setMember(tx, r); err != nil {
			return err
		}
		if p, err = tx.Project(r.Project); err != nil {
			return err
		}
		if by.User() != "" && !slices.Contains(slices.Collect(maps.Values(p.Members)), hpcsera.Owner) {
			return hpcsera.Errorf(hpcsera.Conflict, "the project %s would have no owner.", r.Project).At("role").Hint("Make somebody else owner first.")
		}
		return s.note(tx, by, auth.SetMember, target, r.User, cmp.Or(string(r.Role), "removed"))
	})
	return value(p), s.failed(err, "project", r.Project)
}

// member returns what a user is in a project, "" for a stranger.
func (s *Service) member(ctx context.Context, project, user string) (role hpcsera.MemberRole, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		p, err := r.Project(project)
		if err == nil {
			role = p.Members[user]
		}
		return err
	})
	return role, err
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
func (s *Service) CreateClient(ctx context.Context, by *auth.Principal, r Named) (hpcsera.Client, error) {
	c := hpcsera.Client{Name: r.Name, Owner: by.User(), Created: s.now()}
	if err := s.allow(by, auth.CreateClient, auth.Target{Client: r.Name, User: by.User()}, r.Name); err != nil {
		return hpcsera.Client{}, err
	}
	return c, s.create(ctx, by, "client", c.Name, func(tx store.Tx) error { return tx.InsertClient(c) })
}

// SetClient disables or enables a client, as SetUser does a user.
func (s *Service) SetClient(ctx context.Context, by *auth.Principal, r Switch) (hpcsera.Client, error) {
	var c *hpcsera.Client
	err := s.set(ctx, by, "client", r, func(tx store.Tx) (err error) {
		if c, err = tx.Client(r.Name); err != nil {
			return err
		}
		c.Disabled = r.Disabled
		return tx.UpdateClient(*c)
	})
	return value(c), err
}

// CreateSite registers a site.
func (s *Service) CreateSite(ctx context.Context, by *auth.Principal, r Named) (hpcsera.Site, error) {
	site := hpcsera.Site{Name: r.Name, Created: s.now(), Agents: []hpcsera.Agent{}}
	if err := s.allow(by, auth.ManageService, auth.Target{Site: r.Name}, "site "+r.Name); err != nil {
		return hpcsera.Site{}, err
	}
	return site, s.create(ctx, by, "site", site.Name, func(tx store.Tx) error { return tx.InsertSite(site) })
}

// SetSite drains a site or opens it again. A drained site's agents get no new
// jobs; what they have goes on, and they report it.
func (s *Service) SetSite(ctx context.Context, by *auth.Principal, r Switch) (hpcsera.Site, error) {
	var site *hpcsera.Site
	err := s.set(ctx, by, "site", r, func(tx store.Tx) (err error) {
		if site, err = tx.Site(r.Name); err != nil {
			return err
		}
		site.Disabled = r.Disabled
		return tx.UpdateSite(*site)
	})
	return value(site), err
}

// set stops a thing or lets it go on, which operators do.
func (s *Service) set(ctx context.Context, by *auth.Principal, kind string, r Switch, change func(store.Tx) error) error {
	target := auth.Target{}
	if kind == "user" {
		target.User = r.Name
	}
	about := kind + " " + r.Name
	if err := s.allow(by, auth.ManageService, target, about); err != nil {
		return err
	}
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return s.note(tx, by, auth.ManageService, target, about, switched(kind, r.Disabled))
	})
	return s.failed(err, kind, r.Name)
}

func switched(kind string, off bool) string {
	if kind == "site" {
		return map[bool]string{true: "drained", false: "open"}[off]
	}
	return map[bool]string{true: "disabled", false: "enabled"}[off]
}

// create inserts a thing after a look at its name.
func (s *Service) create(ctx context.Context, by *auth.Principal, kind, name string, insert func(store.Tx) error) error {
	if !hpcsera.ValidName(name) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q cannot name a %s.", name, kind).At("name").Hint("Use 1 to 63 of a-z, 0-9 and the hyphen.")
	}
	target := auth.Target{User: by.User()}
	switch kind {
	case "user":
		target.User = name
	case "project":
		target.Project = name
	}
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if err := insert(tx); err != nil {
			return err
		}
		return tx.Note(hpcsera.AuditLine{At: s.now(), Actor: by.Actor(), Action: kind + ".create", User: target.User, Project: target.Project, About: name})
	})
	if errors.Is(err, store.ErrExists) {
		return hpcsera.Errorf(hpcsera.Conflict, "there is a %s %s already.", kind, name).At("name").Hint("Choose another name.")
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
