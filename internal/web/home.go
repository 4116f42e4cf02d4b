package web

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// overview is the start of somebody who is signed in.
type overview struct {
	User     string
	Operator bool
	Steps    []step // until all are done
	Todo     []todo
	Tokens   int // that work
	Projects int
	Agents   []*hpcsera.Agent
	Inbox    string
	Server   string
}

// step is one of the first steps.
type step struct {
	Done        bool
	Title, Text string
	Path, Press string // "" is nothing to press
	Command     string
}

// todo is something that needs the user soon.
type todo struct{ Kind, Text, Path, Press string }

// Agents and tokens that end within these are told about.
const (
	agentSoon   = 14 * 24 * time.Hour
	tokenSoon   = 7 * 24 * time.Hour
	agentSilent = time.Hour
)

// home is the start: who is not signed in learns what this is.
func (s *Site) home(v *visit) error {
	if v.session == nil {
		return s.show(v, "welcome", struct{ Auth string }{s.cfg.AuthURL})
	}
	own := access.Filter{User: v.user()}
	ctx := v.Context()
	tokens, err := s.cfg.Access.Tokens(ctx, v.by, own)
	if err != nil {
		return err
	}
	agents, err := s.cfg.Access.Agents(ctx, v.by, own)
	if err != nil {
		return err
	}
	projects, err := s.ownProjects(v)
	if err != nil {
		return err
	}
	clients, err := s.cfg.Access.Clients(ctx, v.by, access.Filter{})
	if err != nil {
		return err
	}
	sites, err := s.cfg.Access.Sites(ctx, v.by, access.Filter{})
	if err != nil {
		return err
	}
	o := overview{User: v.user(), Operator: v.operator(), Projects: len(projects), Agents: agents, Inbox: s.cfg.AuthURL + "/", Server: s.cfg.URL}
	now := s.cfg.Now()
	for _, t := range tokens {
		if state, _ := stateOf(t, now); state == "" {
			o.Tokens++
			if t.Expires.Sub(now) < tokenSoon {
				o.Todo = append(o.Todo, todo{"warn", "A token for " + t.Client + " in " + t.Project + " ends soon.", "/tokens", "See tokens"})
			}
		}
	}
	for _, a := range agents {
		o.Todo = append(o.Todo, needs(a, now)...)
	}
	o.Steps = steps(projects, agents, clients, o.Tokens, enrolLine(s.cfg.URL, v.user(), sites, projects))
	if v.operator() && len(sites) == 0 {
		o.Steps = append([]step{{
			Title: "Register a site", Path: "/sites", Press: "Register a site",
			Text: "A site is an HPC system. Users enrol their agents for it, so it comes before everything else.",
		}}, o.Steps...)
	}
	return s.show(v, "home", o)
}

// needs says what an agent needs of its owner.
func needs(a *hpcsera.Agent, now time.Time) []todo {
	var list []todo
	switch left := a.Expires.Sub(now); {
	case left <= 0:
		list = append(list, todo{"bad", "The enrolment of your agent at " + a.Site + " has ended. Jobs wait there until you enrol it again.", "/agents", "See agents"})
	case left < agentSoon:
		list = append(list, todo{"warn", "The enrolment of your agent at " + a.Site + " ends soon. Enrol it again before.", "/agents", "See agents"})
	case a.LastSeen == nil:
		list = append(list, todo{"warn", "Your agent at " + a.Site + " was enrolled and has never come. Start it there: hpcsera-agent run.", "/agents", "See agents"})
	case now.Sub(*a.LastSeen) > agentSilent && (a.Facts == nil || !a.Facts.FromCron):
		list = append(list, todo{"warn", "Your agent at " + a.Site + " was not seen for a while. Jobs for that site wait.", "/agents", "See agents"})
	}
	return list
}

// steps are what somebody new does first, in this order; nil when all is done.
func steps(projects []*hpcsera.Project, agents []*hpcsera.Agent, clients []*hpcsera.Client, tokens int, enrol string) []step {
	list := []step{
		{
			Done: len(projects) > 0, Title: "Have a project", Path: "/projects", Press: "Make a project",
			Text: "A project keeps jobs, code and people together. Make one, or ask an owner to add you to theirs.",
		},
		{
			Done: len(agents) > 0, Title: "Enrol an agent", Path: "/agents", Press: "How to enrol", Command: enrol,
			Text: "An agent runs with your rights on the HPC system and fetches your jobs. Nobody can reach the system through it from outside.",
		},
		{
			Done: len(clients) > 0, Title: "Have a client", Path: "/clients", Press: "Register a client",
			Text: "A client is the program that starts jobs for you: a GitLab, a workflow engine, or the command line.",
		},
		{
			Done: tokens > 0, Title: "Give it a token", Path: "/tokens/new", Press: "Make a token",
			Text: "A token lets one client do what you choose, in one project, until you take it back.",
		},
	}
	for _, s := range list {
		if !s.Done {
			return list
		}
	}
	return nil
}
