package web

import (
	"cmp"
	"maps"
	"net/url"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// projects lists the visitor's projects, and all for operators.
func (s *Site) projects(v *visit) error {
	all, err := s.cfg.Access.Projects(v.Context(), v.by, access.Filter{})
	if err != nil {
		return err
	}
	return s.show(v, "projects", struct {
		User, Name string
		Projects   []*hpcsera.Project
	}{v.user(), v.PostFormValue("name"), all})
}

func (s *Site) createProject(v *visit) error {
	made, err := s.cfg.Access.CreateProject(v.Context(), v.by, access.NewProject{Name: v.text("name")})
	if err != nil {
		return err
	}
	return s.done(v, "project-made", "/projects/"+made.Name)
}

// member is somebody in a project.
type member struct {
	Name string
	Role hpcsera.MemberRole
	You  bool
	// MayWrite says whether the visitor changes their role: operators not their
	// own.
	MayWrite bool
}

// memberRoles say what a member may, the least first.
var memberRoles = []struct {
	Role  hpcsera.MemberRole
	Means string
}{
	{hpcsera.Viewer, "reads jobs, logs and code"},
	{hpcsera.Member, "submits jobs, and cancels their own"},
	{hpcsera.Owner, "does all, and decides who is in"},
}

// project shows who is in a project; its owners change that.
func (s *Site) project(v *visit) error {
	p, err := s.projectOf(v)
	if err != nil {
		return err
	}
	role := p.Members[v.user()]
	owner := role == hpcsera.Owner
	var members []member
	for _, name := range slices.SortedFunc(maps.Keys(p.Members), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(p.Members[b]), rank(p.Members[a])), cmp.Compare(a, b))
	}) {
		you := name == v.user()
		members = append(members, member{name, p.Members[name], you, owner || v.operator() && !you})
	}
	return s.show(v, "project", struct {
		Project  *hpcsera.Project
		Role     hpcsera.MemberRole
		Members  []member
		Roles    any
		MayWrite bool
		Member   string // of an earlier try
	}{p, role, members, memberRoles, owner || v.operator(), v.PostFormValue("member")})
}

func rank(r hpcsera.MemberRole) int {
	return slices.Index([]hpcsera.MemberRole{hpcsera.Viewer, hpcsera.Member, hpcsera.Owner}, r)
}

// projectOf returns the project of the path, if the visitor sees it.
func (s *Site) projectOf(v *visit) (*hpcsera.Project, error) {
	name := v.PathValue("project")
	all, err := s.cfg.Access.Projects(v.Context(), v.by, access.Filter{})
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
	}
	return nil, cmp.Or(err, error(hpcsera.Errorf(hpcsera.NotFound, "there is no project %q of yours.", name)))
}

func (s *Site) setMember(v *visit) error {
	r := access.NewMember{Project: v.PathValue("project"), User: v.text("member"), Role: hpcsera.MemberRole(v.text("role"))}
	if _, err := s.projectOf(v); err != nil {
		return err
	}
	if r.Role == "" && v.text("remove") != "yes" {
		return hpcsera.Errorf(hpcsera.InvalidField, "say what %q is to be in the project.", r.User).At("role")
	}
	if _, err := s.cfg.Access.SetMember(v.Context(), v.by, r); err != nil {
		return err
	}
	notice, to := "member-set", "/projects/"+url.PathEscape(r.Project)
	if r.Role == "" {
		notice = "member-removed"
		if r.User == v.user() && !v.operator() {
			to = "/projects"
		}
	}
	return s.done(v, notice, to)
}
