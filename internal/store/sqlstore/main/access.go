package sqlstore

import (
	"cmp"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// Lists are sorted here, not by the engines: PostgreSQL's order depends on its
// locale.

// User returns a user.
func (r *reader) User(name string) (*hpcsera.User, error) {
	row, err := r.q.User(r.ctx, name)
	if err != nil {
		return nil, r.failed(err, "user %s", name)
	}
	return userOf(row), nil
}

func userOf(row gen.User) *hpcsera.User {
	return &hpcsera.User{Name: row.Name, Operator: row.Operator, Disabled: row.Disabled, Created: moment(row.Created)}
}

// Users returns all users by name.
func (r *reader) Users() ([]*hpcsera.User, error) {
	rows, err := r.q.Users(r.ctx)
	if err != nil {
		return nil, r.failed(err, "users")
	}
	return each(rows, userOf, func(u *hpcsera.User) string { return u.Name }), nil
}

// each converts rows and sorts them by name.
func each[R, T any](rows []R, convert func(R) *T, name func(*T) string) []*T {
	list := make([]*T, len(rows))
	for i, row := range rows {
		list[i] = convert(row)
	}
	slices.SortFunc(list, func(a, b *T) int { return cmp.Compare(name(a), name(b)) })
	return list
}

// Project returns a project with its members.
func (r *reader) Project(name string) (*hpcsera.Project, error) {
	row, err := r.q.Project(r.ctx, name)
	if err != nil {
		return nil, r.failed(err, "project %s", name)
	}
	members, err := r.q.Members(r.ctx, name)
	if err != nil {
		return nil, r.failed(err, "members of %s", name)
	}
	return projectOf(row, members), nil
}

func projectOf(row gen.Project, members []gen.Member) *hpcsera.Project {
	p := &hpcsera.Project{Name: row.Name, Created: moment(row.Created), Members: map[string]hpcsera.MemberRole{}}
	for _, m := range members {
		p.Members[m.User] = hpcsera.MemberRole(m.Role)
	}
	return p
}

// Projects returns all projects by name, with their members.
func (r *reader) Projects() ([]*hpcsera.Project, error) {
	rows, err := r.q.Projects(r.ctx)
	if err != nil {
		return nil, r.failed(err, "projects")
	}
	all, err := r.q.AllMembers(r.ctx)
	if err != nil {
		return nil, r.failed(err, "members")
	}
	members := map[string][]gen.Member{}
	for _, m := range all {
		members[m.Project] = append(members[m.Project], m)
	}
	convert := func(row gen.Project) *hpcsera.Project { return projectOf(row, members[row.Name]) }
	return each(rows, convert, func(p *hpcsera.Project) string { return p.Name }), nil
}

// Memberships returns the projects of which a user is a member, by name.
func (r *reader) Memberships(user string) ([]string, error) {
	list, err := r.q.Memberships(r.ctx, user)
	if err != nil {
		return nil, r.failed(err, "memberships of %s", user)
	}
	slices.Sort(list)
	return list, nil
}

// Client returns a client.
func (r *reader) Client(name string) (*hpcsera.Client, error) {
	row, err := r.q.Client(r.ctx, name)
	if err != nil {
		return nil, r.failed(err, "client %s", name)
	}
	return clientOf(row), nil
}

func clientOf(row gen.Client) *hpcsera.Client {
	return &hpcsera.Client{Name: row.Name, Owner: row.Owner, Disabled: row.Disabled, Created: moment(row.Created)}
}

// Clients returns all clients by name.
func (r *reader) Clients() ([]*hpcsera.Client, error) {
	rows, err := r.q.Clients(r.ctx)
	if err != nil {
		return nil, r.failed(err, "clients")
	}
	return each(rows, clientOf, func(c *hpcsera.Client) string { return c.Name }), nil
}

// Site returns a site without its agents.
func (r *reader) Site(name string) (*hpcsera.Site, error) {
	row, err := r.q.Site(r.ctx, name)
	if err != nil {
		return nil, r.failed(err, "site %s", name)
	}
	return siteOf(row), nil
}

func siteOf(row gen.Site) *hpcsera.Site {
	return &hpcsera.Site{Name: row.Name, Disabled: row.Disabled, Created: moment(row.Created)}
}

// Sites returns all sites by name, without their agents.
func (r *reader) Sites() ([]*hpcsera.Site, error) {
	rows, err := r.q.Sites(r.ctx)
	if err != nil {
		return nil, r.failed(err, "sites")
	}
	return each(rows, siteOf, func(s *hpcsera.Site) string { return s.Name }), nil
}
