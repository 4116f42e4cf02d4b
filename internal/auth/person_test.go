package auth_test

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// inPerson is the table of what persons may, written down a second time on
// purpose: who may, and + where it needs the second factor and no key-bound
// session. Actions that are not here are for tokens and agents.
var inPerson = map[auth.Action]string{
	"listTokens": "takes back", "requestToken": "self", "createToken": "self +", "revokeToken": "takes back", "listAgents": "takes back", "createAgent": "self +", "extendAgent": "self +",
	"removeAgent": "takes back", "listProjects": "any", "createProject": "any +", "setMember": "owner +", "listClients": "any",
	"createClient": "any +", "changeClient": "takes back +", "enableClient": "self +", "readAudit": "takes back", "manageService": "operator +",
	"createSession": "self +", "listSessions": "takes back", "endSession": "takes back", "consentToCode": "self +",
	"listUsers": "operator", "readCode": "member",
}

func TestAPersonMayWhatTheTableSaysAndNothingElse(t *testing.T) {
	persons := map[string]*auth.Person{
		"alice herself":           {User: "alice", SteppedUp: true},
		"alice, long ago":         {User: "alice"},
		"alice, by hpcsera login": {User: "alice", KeyBound: true, SteppedUp: true},
		"bob":                     {User: "bob", SteppedUp: true},
		"bob, owner":              {User: "bob", SteppedUp: true},
		"bob, member":             {User: "bob", SteppedUp: true},
		"an operator":             {User: "root", Operator: true, SteppedUp: true},
		"alice, operator":         {User: "alice", Operator: true, SteppedUp: true},
		"alice, operator, member": {User: "alice", Operator: true, SteppedUp: true},
		"alice, operator, owner":  {User: "alice", Operator: true, SteppedUp: true},
		"nobody":                  {SteppedUp: true},
	}
	for _, r := range auth.Rules() {
		rule, second := strings.CutSuffix(inPerson[r.Action], " +")
		for name, p := range persons {
			target := auth.Target{User: "alice", Project: "cfd", Client: "gitlab", Site: "gwdg"}
			switch name {
			case "bob, owner", "alice, operator, owner":
				target.Member = hpcsera.Owner
			case "bob, member", "alice, operator, member":
				target.Member = hpcsera.Member
			}
			if rule == "any" {
				target.User = p.User
			}
			may := map[string]bool{
				"any": true, "self": p.User == "alice", "takes back": p.User == "alice" || p.Operator,
				// An operator is not let into a project by themselves.
				"owner": target.Member == hpcsera.Owner || p.Operator && p.User != "alice", "operator": p.Operator, "member": target.Member != "",
			}[rule]
			want := hpcsera.Code("")
			switch {
			case !may && (rule == "operator" || rule == "owner" && (target.Member != "" || p.Operator)):
				want = hpcsera.Forbidden
			case !may:
				want = hpcsera.NotFound
			case second && p.KeyBound:
				want = hpcsera.Forbidden
			case second && !p.SteppedUp:
				want = hpcsera.StepUpRequired
			}
			if got := hpcsera.CodeOf(auth.Allow(&auth.Principal{Person: p}, r.Action, target)); got != want {
				t.Errorf("%s, %s: got %q, want %q", r.Action, name, got, want)
			}
		}
		if rule != "" && (r.Clients != 0 || r.Agents != 0 || r.AnyToken) {
			t.Errorf("%s: both in person and by token", r.Action)
		}
	}
}

func TestNoTokenAndNoAgentDoesWhatIsDoneInPerson(t *testing.T) {
	for action := range inPerson {
		for name, p := range map[string]*auth.Principal{"a token with all roles": token(nil), "an agent": agent()} {
			if got := hpcsera.CodeOf(auth.Allow(p, action, auth.Target{Project: "cfd", User: "alice", Client: "gitlab", Site: "gwdg"})); got != hpcsera.NotFound {
				t.Errorf("%s by %s: got %q, want not_found", action, name, got)
			}
		}
	}
}

func TestTheOperatorOnTheHostReadsNoLogsAndRunsNoCode(t *testing.T) {
	for _, r := range auth.Rules() {
		rule, person := inPerson[r.Action]
		person = person && rule != "member" && r.Action != auth.ConsentToCode
		got := hpcsera.CodeOf(auth.Allow(auth.OperatorOnHost(), r.Action, auth.Target{User: "alice", Project: "cfd"}))
		if person && got != "" || !person && got != hpcsera.NotFound {
			t.Errorf("%s: got %q, in person %v", r.Action, got, person)
		}
	}
}
