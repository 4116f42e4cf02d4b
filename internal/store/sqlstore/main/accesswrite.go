package sqlstore

import (
	"fmt"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// inserted turns the count of an INSERT that leaves existing rows alone into
// ErrExists.
func (t *tx) inserted(n int64, err error, what, name string) error {
	if err != nil {
		return t.failed(err, "insert %s %s", what, name)
	}
	if n == 0 {
		return fmt.Errorf("%s %s %w", what, name, store.ErrExists)
	}
	return nil
}

// InsertUser files a user.
func (t *tx) InsertUser(u hpcsera.User) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.InsertUser(t.ctx, gen.InsertUserParams{Name: u.Name, Operator: u.Operator, Disabled: u.Disabled, Created: micros(u.Created)})
	return t.inserted(n, err, "user", u.Name)
}

// UpdateUser stores a user's flags.
func (t *tx) UpdateUser(u hpcsera.User) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.UpdateUser(t.ctx, gen.UpdateUserParams{Operator: u.Operator, Disabled: u.Disabled, Name: u.Name})
	return t.changed(n, err, "update user %s", u.Name)
}

// InsertProject files a project with its members, who have to exist.
func (t *tx) InsertProject(p hpcsera.Project) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.InsertProject(t.ctx, gen.InsertProjectParams{Name: p.Name, Created: micros(p.Created)})
	if err := t.inserted(n, err, "project", p.Name); err != nil {
		return err
	}
	for user, role := range p.Members {
		if err := t.SetMember(p.Name, user, role); err != nil {
			return err
		}
	}
	return nil
}

// SetMember gives a user a role in a project, or takes it with role "". Both
// have to exist.
func (t *tx) SetMember(project, user string, role hpcsera.MemberRole) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	if _, err := t.q.Project(t.ctx, project); err != nil {
		return t.failed(err, "project %s", project)
	}
	if _, err := t.q.User(t.ctx, user); err != nil {
		return t.failed(err, "user %s", user)
	}
	var err error
	if role == "" {
		err = t.q.DeleteMember(t.ctx, gen.DeleteMemberParams{Project: project, User: user})
	} else {
		err = t.q.SetMember(t.ctx, gen.SetMemberParams{Project: project, User: user, Role: string(role)})
	}
	if err != nil {
		return t.failed(err, "member %s of %s", user, project)
	}
	return nil
}

// InsertClient files a client.
func (t *tx) InsertClient(c hpcsera.Client) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.InsertClient(t.ctx, gen.InsertClientParams{Name: c.Name, Owner: c.Owner, Disabled: c.Disabled, Created: micros(c.Created)})
	return t.inserted(n, err, "client", c.Name)
}

// UpdateClient stores a client's flags.
func (t *tx) UpdateClient(c hpcsera.Client) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.UpdateClient(t.ctx, gen.UpdateClientParams{Disabled: c.Disabled, Name: c.Name})
	return t.changed(n, err, "update client %s", c.Name)
}

// InsertSite files a site.
func (t *tx) InsertSite(s hpcsera.Site) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.InsertSite(t.ctx, gen.InsertSiteParams{Name: s.Name, Disabled: s.Disabled, Created: micros(s.Created)})
	return t.inserted(n, err, "site", s.Name)
}

// UpdateSite stores a site's flags.
func (t *tx) UpdateSite(s hpcsera.Site) error {
	if err := t.touchAccess(); err != nil {
		return err
	}
	n, err := t.q.UpdateSite(t.ctx, gen.UpdateSiteParams{Disabled: s.Disabled, Name: s.Name})
	return t.changed(n, err, "update site %s", s.Name)
}
