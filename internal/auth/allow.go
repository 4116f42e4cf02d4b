package auth

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Target is what an action is about. Fields that a thing does not have are "".
type Target struct {
	Project string
	User    string // who made it
	Client  string // through which it was made
	Site    string
	Agent   string // that has the job, or that the path names
	// Member is what the person is in the project, where persons ask.
	Member hpcsera.MemberRole
	// Granted says that the token's user approved this code for the token's
	// client, which makes another client's code reachable, to read and use it.
	Granted bool
}

// Allow is the only permission check. It returns nil, not_found for what p
// does not reach, or forbidden with the role that is missing.
//
// A token reaches its own project, and therein what came through its own
// client unless the user granted the whole project; one for a site reaches
// nothing of other sites. Who else is in the project does not matter for
// reading: that is what a project is for. An agent reaches itself, its own
// jobs, and the blobs of its projects.
func Allow(p *Principal, action Action, t Target) error {
	rule, known := ruleOf(action)
	if !known {
		return hpcsera.Errorf(hpcsera.Internal, "no rule for %q", string(action))
	}
	switch {
	case p.Agent != nil:
		return allowAgent(p, rule, t)
	case p.Person != nil:
		return allowPerson(p.Person, rule, t)
	}
	return allowToken(p, rule, t)
}

// byAction is the table, made once; nothing changes it.
var byAction = func() map[Action]Rule {
	m := map[Action]Rule{}
	for _, r := range Rules() {
		m[r.Action] = r
	}
	return m
}()

func ruleOf(a Action) (Rule, bool) {
	r, ok := byAction[a]
	return r, ok
}

func allowAgent(p *Principal, rule Rule, t Target) error {
	if rule.Agents == 0 {
		return unreachable("the operation is not for agents.")
	}
	switch {
	case t.Agent != "" && t.Agent != p.Agent.ID:
		return unreachable("this agent has no such thing.")
	case rule.reach == reachesAgent && t.Agent == "":
		return unreachable("this agent has no such thing.")
	case t.Project != "" && !slices.Contains(p.Agent.Projects, t.Project):
		return unreachable("this agent has no such thing.")
	// What an agent brings is a result of a job that it has.
	case rule.Action == PutBlob && t.Agent == "":
		return unreachable("an agent uploads artifacts of its jobs only.").Hint("Name the job: ?job=ID.")
	}
	if rule.Agents&hpcsera.AgentRoles == 0 {
		return lacks(rule.Agents)
	}
	return nil
}

// StepUp is how long a second factor counts for what grants something.
const StepUp = 5 * time.Minute

// allowPerson judges somebody in person. The operator on the server's host may
// make first tokens and agents: the exception that the threat model names. It
// covers no consent to code.
func allowPerson(p *Person, rule Rule, t Target) error {
	if p.OnHost {
		if rule.persons == noPerson || rule.persons == projectMembers || rule.Action == ConsentToCode {
			return unreachable("the operation is not for operators.")
		}
		return nil
	}
	own := t.User == p.User && p.User != ""
	may := false
	switch rule.persons {
	case noPerson:
		return unreachable("the operation is for tokens and agents only.")
	case anyPerson:
		may = true
	case themselves:
		may = own
	case takesBack:
		may = own || p.Operator
	case projectOwners:
		may = t.Member == hpcsera.Owner || p.Operator && !own
	case projectMembers:
		may = t.Member != ""
	case operators:
		may = p.Operator
	}
	switch {
	// A role would let them read logs and code, which managing does not.
	case !may && rule.persons == projectOwners && p.Operator:
		return hpcsera.Errorf(hpcsera.Forbidden, "an operator takes no role in a project: %s is no owner of %s.", p.User, t.Project).
			Hint("An owner of the project can give you one.")
	case !may && rule.persons == projectOwners && t.Member != "":
		return hpcsera.Errorf(hpcsera.Forbidden, "%s is %s in the project %s; this needs owner.", p.User, t.Member, t.Project).
			Hint("An owner of the project can change that.")
	case !may && rule.persons == operators:
		return hpcsera.Errorf(hpcsera.Forbidden, "%s is no operator.", p.User).Hint("Ask the operators of this service.")
	case !may:
		return unreachable("no such thing of %s.", p.User)
	case rule.grants && p.KeyBound:
		return hpcsera.Errorf(hpcsera.Forbidden, "a session of hpcsera login grants nothing by itself.").Hint("Decide it in the browser.")
	case rule.grants && !p.SteppedUp:
		return hpcsera.Errorf(hpcsera.StepUpRequired, "this needs your second factor again.").Hint("Show it, then try again.")
	}
	return nil
}

func allowToken(p *Principal, rule Rule, t Target) error {
	token := p.Token
	if rule.InPerson() {
		return unreachable("the operation is done in person.").Hint("Sign in on the server's pages, or by hpcsera login.")
	}
	if rule.Clients == 0 && !rule.AnyToken {
		return unreachable("the operation is for agents only.")
	}
	if err := reached(p, rule, t); err != nil {
		return err
	}
	if !rule.AnyToken && rule.Clients&token.Roles == 0 {
		return lacks(rule.Clients)
	}
	if rank(p.Member) < rank(rule.least) {
		return hpcsera.Errorf(hpcsera.Forbidden, "%s is %s in the project %s; this needs %s.", token.User, p.Member, token.Project, rule.least).
			Hint("An owner of the project can change that.")
	}
	if rule.own && t.User != token.User && p.Member != hpcsera.Owner {
		return hpcsera.Errorf(hpcsera.Forbidden, "this belongs to %s; only they and owners of the project %s change it.", t.User, token.Project)
	}
	// Making something for another site is no question of reach: the site's
	// name was the sender's own.
	if rule.Action == SubmitJobs && t.Site != "" && token.Site != "" && t.Site != token.Site {
		return hpcsera.Errorf(hpcsera.Forbidden, "the token is for the site %s only.", token.Site).At("site")
	}
	return nil
}

func reached(p *Principal, rule Rule, t Target) error {
	token := p.Token
	if rule.reach != reachesSite && t.Project != token.Project {
		return unreachable("no such thing in the project %s.", token.Project)
	}
	switch only := p.OnlyClient(); {
	case rule.reach == reachesThing && only != "" && t.Client != only && (!t.Granted || rule.own):
		return unreachable("no such thing of the client %s in the project %s.", only, token.Project)
	case rule.reach == reachesOwn && t.User != token.User:
		return unreachable("no such thing of %s.", token.User)
	case rule.Action != SubmitJobs && t.Site != "" && token.Site != "" && t.Site != token.Site:
		return unreachable("no such thing at the site %s.", token.Site)
	}
	return nil
}

func rank(m hpcsera.MemberRole) int {
	return 1 + slices.Index([]hpcsera.MemberRole{hpcsera.Viewer, hpcsera.Member, hpcsera.Owner}, m)
}

func unreachable(format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.NotFound, format, args...).Hint("Check the name, and what the token is for: GET /tokens/self tells it.")
}

// lacks names the roles of which one is missing.
func lacks(any hpcsera.Roles) error {
	var names []string
	for _, r := range any.List() {
		names = append(names, fmt.Sprintf("%d %s", r, r))
	}
	return hpcsera.Errorf(hpcsera.Forbidden, "needs role %s.", strings.Join(names, " or ")).
		Hint("Make a token with that role.")
}
