package web

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// agentRow is an agent in the list.
type agentRow struct {
	*hpcsera.Agent
	State, Kind string
	Soon        bool // its enrolment ends soon
}

// seenLately is how long after its last poll an agent counts as running. It
// polls at least once a minute.
const seenLately = 5 * time.Minute

func (s *Site) agents(v *visit) error {
	user := v.subject()
	all, err := s.cfg.Access.Agents(v.Context(), v.by, access.Filter{User: user})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b *hpcsera.Agent) int { return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.ID, b.ID)) })
	var rows []agentRow
	for _, a := range all {
		rows = append(rows, s.agentRow(a))
	}
	line, err := s.enrolLine(v)
	if err != nil {
		return err
	}
	return s.show(v, "agents", struct {
		Other, Enrol string
		Agents       []agentRow
	}{other(v, user), line, rows})
}

// agentRow says how an agent is.
func (s *Site) agentRow(a *hpcsera.Agent) agentRow {
	now := s.cfg.Now()
	row := agentRow{Agent: a, Soon: a.Expires.Sub(now) < agentSoon}
	switch {
	case !now.Before(a.Expires):
		row.State, row.Kind = "ended", "bad"
	case a.LastSeen == nil:
		row.State, row.Kind = "never seen", "warn"
	case now.Sub(*a.LastSeen) < seenLately:
		row.State, row.Kind = "running", "ok"
	case a.Facts != nil && a.Facts.FromCron:
		row.State = "comes from cron"
	default:
		row.State, row.Kind = "silent", "warn"
	}
	return row
}

// enrolLine is what the visitor types on an HPC system. What only they know
// stands there in capitals.
func (s *Site) enrolLine(v *visit) (string, error) {
	sites, err := s.cfg.Access.Sites(v.Context(), v.by, access.Filter{})
	if err != nil {
		return "", err
	}
	projects, err := s.ownProjects(v)
	if err != nil {
		return "", err
	}
	return enrolLine(s.cfg.URL, v.user(), sites, projects), nil
}

func enrolLine(server, user string, sites []*hpcsera.Site, projects []*hpcsera.Project) string {
	site, names := "SITE", []string{}
	if len(sites) == 1 {
		site = sites[0].Name
	}
	for _, p := range projects {
		names = append(names, p.Name)
	}
	if len(names) == 0 {
		names = []string{"PROJECT"}
	}
	return "hpcsera-agent enroll --server " + server + " --user " + user + " --site " + site + " --project " + strings.Join(names, ",")
}

// renewAgent lets an enrolment last longer: the same agent with the same key.
func (s *Site) renewAgent(v *visit) error {
	if _, err := s.cfg.Access.ExtendAgent(v.Context(), v.by, v.PathValue("agent")); err != nil {
		return err
	}
	return s.done(v, "agent-renewed", "/agents")
}

// askRemove says what removing an agent ends.
func (s *Site) askRemove(v *visit) error {
	a, err := s.cfg.Access.Agent(v.Context(), v.by, v.PathValue("agent"))
	if err != nil {
		return err
	}
	return s.show(v, "agent_remove", struct {
		access.AgentState
		Other string
	}{a, other(v, a.User)})
}

func (s *Site) removeAgent(v *visit) error {
	gone, err := s.cfg.Access.RemoveAgent(v.Context(), v.by, access.Removal{ID: v.PathValue("agent"), Abandon: v.text("abandon") == "yes"})
	if err != nil {
		return err
	}
	to := "/agents"
	if name := other(v, gone.User); name != "" {
		to += "?" + url.Values{"user": {name}}.Encode()
	}
	return s.done(v, "agent-removed", to)
}
