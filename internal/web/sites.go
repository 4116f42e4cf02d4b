package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// sites lists the HPC systems. Everybody sees them; operators change them.
func (s *Site) sites(v *visit) error {
	all, err := s.cfg.Access.Sites(v.Context(), v.by, access.Filter{})
	if err != nil {
		return err
	}
	return s.show(v, "sites", struct {
		Name     string
		Sites    []*hpcsera.Site
		Operator bool
	}{v.PostFormValue("name"), all, v.operator()})
}

// site shows what the visitor's own agent told of one of them.
func (s *Site) site(v *visit) error {
	all, err := s.cfg.Access.Sites(v.Context(), v.by, access.Filter{})
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(one *hpcsera.Site) bool { return one.Name == v.PathValue("site") })
	if i < 0 {
		return hpcsera.Errorf(hpcsera.NotFound, "there is no site %q.", v.PathValue("site")).Hint("The list of sites has those there are.")
	}
	agents, err := s.cfg.Access.Agents(v.Context(), v.by, access.Filter{User: v.user(), Site: all[i].Name})
	if err != nil {
		return err
	}
	var rows []agentRow
	for _, a := range agents {
		rows = append(rows, s.agentRow(a))
	}
	projects, err := s.ownProjects(v)
	if err != nil {
		return err
	}
	return s.show(v, "site", struct {
		*hpcsera.Site
		Agents []agentRow
		Enrol  string
	}{all[i], rows, enrolLine(s.cfg.URL, v.user(), all[i:i+1], projects)})
}

// nodeHas tells what a node of a queue has, as far as it is known.
func nodeHas(q hpcsera.Queue) string {
	var has []string
	if q.CoresPerNode > 0 {
		has = append(has, fmt.Sprintf("%d cores", q.CoresPerNode))
	}
	if q.MemoryPerNode > 0 {
		has = append(has, bytes(int64(q.MemoryPerNode)))
	}
	if q.GPUsPerNode > 0 {
		has = append(has, fmt.Sprintf("%d GPUs", q.GPUsPerNode))
	}
	return unbroken(has)
}

// unbroken joins words for a narrow column, where a number stays with its unit.
func unbroken(words []string) string {
	for i, w := range words {
		words[i] = strings.ReplaceAll(w, " ", "\u00a0")
	}
	return strings.Join(words, ", ")
}

// howLong tells a queue's longest duration, and the one of jobs that name none.
func howLong(q hpcsera.Queue) string {
	var words []string
	if q.MaxDuration > 0 {
		words = append(words, "at most "+q.MaxDuration.String())
	}
	if q.DefaultDuration > 0 {
		words = append(words, "by default "+q.DefaultDuration.String())
	}
	return unbroken(words)
}

func (s *Site) createSite(v *visit) error {
	if _, err := s.cfg.Access.CreateSite(v.Context(), v.by, access.Named{Name: v.text("name")}); err != nil {
		return err
	}
	return s.done(v, "site-made", "/sites")
}

func (s *Site) drainSite(v *visit) error {
	off := v.text("drained") == "yes"
	if _, err := s.cfg.Access.SetSite(v.Context(), v.by, access.Switch{Name: v.PathValue("site"), Disabled: off}); err != nil {
		return err
	}
	return s.done(v, cmp.Or(map[bool]string{true: "site-drained"}[off], "site-undrained"), "/sites")
}
