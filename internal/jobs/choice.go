package jobs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// choice finds the site of each job of one request. It remembers what it read,
// so that ten thousand jobs read a site once.
type choice struct {
	s       *Service
	r       store.Reader
	now     time.Time
	user    string
	project string
	bound   string // the one site that the token is for, or ""
	places  map[string]*place
	own     []string // sites where the user has an agent for the project, by name
	asked   bool     // own is known
	// keyed says that the request has an Idempotency-Key, so that its jobs may be
	// those of lost hours.
	keyed bool
	epoch int64 // the deployment's; 0 before it was asked for
}

// place is a site as a job's user sees it.
type place struct {
	name    string
	drained bool
	facts   *hpcsera.Facts // nil where the user's agent told none yet
	agents  []*store.Agent // of the user, enrolled there for the project
	served  bool           // there is one
	active  bool           // and it came lately
}

// untold says whether an agent there may have jobs of which a database that was
// put back has not heard yet.
func (p *place) untold(epoch int64) bool {
	return slices.ContainsFunc(p.agents, func(a *store.Agent) bool { return a.Epoch != epoch && a.Created.Before(time.Unix(epoch, 0)) })
}

func (s *Service) choose(r store.Reader, user, project, bound string, now time.Time) *choice {
	return &choice{s: s, r: r, user: user, project: project, bound: bound, now: now, places: map[string]*place{}}
}

// candidates returns the sites that a job may go to, in their order.
func (c *choice) candidates(sites hpcsera.Sites) ([]*place, error) {
	names := sites.Names()
	switch {
	case len(names) > 0:
	case c.bound != "":
		names = []string{c.bound}
	default:
		var err error
		if names, err = c.ownSites(); err != nil {
			return nil, err
		}
	}
	var list []*place
	for _, name := range names {
		p, err := c.place(name)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	if len(list) == 0 {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "the job names no site, and %s has no agent for the project %s at any.", c.user, c.project).At("site").
			Hint("Write site: and the name of one; GET /sites lists them.")
	}
	return list, nil
}

func (c *choice) ownSites() ([]string, error) {
	if c.asked {
		return c.own, nil
	}
	rows, err := c.r.Agents(c.user, "")
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		p, err := c.place(row.Site)
		if err != nil {
			return nil, err
		}
		if p.served {
			c.own = append(c.own, row.Site)
		}
	}
	slices.Sort(c.own)
	c.own, c.asked = slices.Compact(c.own), true
	return c.own, nil
}

func (c *choice) place(name string) (*place, error) {
	if known := c.places[name]; known != nil {
		return known, nil
	}
	site, err := c.r.Site(name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, hpcsera.Errorf(hpcsera.UnknownSite, "there is no site %q.", name).At("site").Hint("GET /sites lists them.")
	} else if err != nil {
		return nil, err
	}
	found := &place{name: name, drained: site.Disabled}
	rows, err := c.r.Agents(c.user, name)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		projects, err := auth.Serves(c.r, row)
		if err != nil {
			return nil, err
		}
		if slices.Contains(projects, c.project) && c.now.Before(row.Expires) {
			found.served, found.facts = true, row.Facts
			found.active = found.active || !c.s.silent(row, c.now)
			found.agents = append(found.agents, row)
		}
	}
	c.places[name] = found
	return found, nil
}

// pick returns the site where a job goes: the first that can take it now; else
// the first that could, where an agent of the user is enrolled and the operator
// has not drained the site; else the first that could. A job is refused when
// what was told of every site says that it cannot honour the job.
func (c *choice) pick(spec hpcsera.JobSpec, m hpcsera.Manifest) (string, error) {
	list, err := c.candidates(spec.Site)
	if err != nil {
		return "", err
	}
	if err := c.uncertain(list); err != nil {
		return "", err
	}
	var refusals []*hpcsera.Error
	best, rank := "", 0
	for _, p := range list {
		if err := p.takes(spec, m); err != nil {
			refusals = append(refusals, err)
			continue
		}
		if now := p.rank(); now > rank {
			best, rank = p.name, now
		}
	}
	if best == "" {
		return "", together(refusals)
	}
	return best, nil
}

// uncertain refuses to choose for a request that may be repeated, while an agent
// that it might have gone to has not told a database that was put back what it
// has: at another site the same job would run once more. Keys are older than
// their answers' time only by mistake.
func (c *choice) uncertain(list []*place) error {
	if !c.keyed || len(list) < 2 {
		return nil
	}
	if c.epoch == 0 {
		var err error
		if c.epoch, err = c.r.Epoch(); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(list, func(p *place) bool { return p.untold(c.epoch) })
	if i < 0 || c.now.Sub(time.Unix(c.epoch, 0)) > answersKept {
		return nil
	}
	return hpcsera.Errorf(hpcsera.Unavailable, "the server was put back from a backup, and the agent at %s has not told yet which jobs it has; this may be one of them.", list[i].name).At("site").
		Hint("Send it again in some minutes, or see to it that the agent runs. A new job can name one site.")
}

// rank is 3 for a site whose agent takes a job now, 2 for one that it can wait
// for, and 1 for one where nobody takes it as things are.
func (p *place) rank() int {
	switch {
	case p.drained || !p.served:
		return 1
	case !p.active:
		return 2
	}
	return 3
}

func (p *place) takes(spec hpcsera.JobSpec, m hpcsera.Manifest) *hpcsera.Error {
	if p.facts == nil {
		return nil
	}
	var refusal *hpcsera.Error
	if err := p.facts.Takes(p.name, spec.At(p.name), m); err == nil || !errors.As(spec.In(p.name, err), &refusal) {
		return nil
	}
	return refusal
}

// together makes one refusal of those of all sites. Its field is the first's.
func together(list []*hpcsera.Error) error {
	first := *list[0]
	if len(list) > 1 {
		var words []string
		for _, e := range list {
			words = append(words, fmt.Sprintf("%s: %s %s", e.Field, e.Message, e.Advice))
		}
		first.Message, first.Advice = "none of the sites can take the job. "+strings.Join(words, " "), ""
	}
	return &first
}
