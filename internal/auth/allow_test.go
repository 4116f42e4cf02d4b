package auth_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// clientRoles is the contract's table, written down a second time on purpose:
// for each action the roles of which a client's token needs one. "any" is any
// token, "" is no client at all.
var clientRoles = map[auth.Action]string{
	"submitJobs": "6", "submitJobs:code": "4", "listJobs": "1", "getJob": "1", "patchJob": "7", "patchJob:values": "6",
	"deleteJob": "8", "retryJob": "6", "listJobEvents": "1", "listEvents": "1", "getJobLog": "1", "appendJobLog": "",
	"listArtifacts": "1", "getArtifact": "1", "putJobStatus": "2", "postCode": "4", "listCode": "5", "getCode": "5",
	"deleteCode": "4", "headBlob": "4,5,6", "getBlob": "5", "putBlob": "4,6", "postApproval": "4", "listApprovals": "5",
	"getApproval": "5", "postWork": "", "postReports": "", "renewAgent": "", "listSites": "any", "getSite": "any",
	"getTokenSelf": "any", "deleteTokenSelf": "any",
	"listTokens": "", "requestToken": "", "createToken": "", "revokeToken": "", "listAgents": "", "createAgent": "", "extendAgent": "", "removeAgent": "", "listProjects": "",
	"createProject": "", "setMember": "", "listClients": "", "createClient": "", "changeClient": "", "enableClient": "", "readAudit": "",
	"manageService": "", "createSession": "", "listSessions": "", "endSession": "", "consentToCode": "", "listUsers": "", "readCode": "",
}

const agentID = "ag_00000000000000000001"

func token(edit func(*hpcsera.Token)) *auth.Principal {
	t := &hpcsera.Token{ID: "t_00000000000000000001", User: "alice", Project: "cfd", Client: "gitlab", Scope: hpcsera.ClientScope, Roles: 255}
	if edit != nil {
		edit(t)
	}
	return &auth.Principal{Token: t, Member: hpcsera.Member}
}

func agent() *auth.Principal {
	return &auth.Principal{Agent: &store.Agent{Agent: hpcsera.Agent{ID: agentID, User: "alice", Site: "gwdg", Projects: []string{"cfd", "melt"}}}}
}

// own is what alice made through gitlab.
var own = auth.Target{Project: "cfd", User: "alice", Client: "gitlab", Site: "gwdg"}

func TestEveryActionHasARowAndAnExpectation(t *testing.T) {
	seen := map[auth.Action]bool{}
	for _, r := range auth.Rules() {
		if _, ok := clientRoles[r.Action]; !ok || seen[r.Action] {
			t.Errorf("action %s: expected=%v seen twice=%v", r.Action, ok, seen[r.Action])
		}
		seen[r.Action] = true
	}
	if got, want := len(seen), len(clientRoles); got != want {
		t.Errorf("actions: got %d, want %d", got, want)
	}
}

func TestEachOf256RoleSetsOpensExactlyItsActions(t *testing.T) {
	for _, r := range auth.Rules() {
		want := clientRoles[r.Action]
		for set := 0; set < 256; set++ {
			p := token(func(t *hpcsera.Token) { t.Roles = hpcsera.Roles(set) })
			p.Member = hpcsera.Owner
			err := auth.Allow(p, r.Action, own)
			var code hpcsera.Code
			switch {
			case want == "":
				code = hpcsera.NotFound
			case want == "any":
			case !holdsOne(hpcsera.Roles(set), want):
				code = hpcsera.Forbidden
			}
			if got := hpcsera.CodeOf(err); got != code {
				t.Errorf("%s with roles [%v]: got %q (%v), want %q", r.Action, hpcsera.Roles(set), got, err, code)
			}
			if code == hpcsera.Forbidden {
				first := strings.Split(want, ",")[0]
				role, _ := hpcsera.ParseRoles(first)
				if name := fmt.Sprintf("needs role %s %s", first, role); !strings.Contains(err.Error(), name) {
					t.Errorf("%s with roles [%v]: got %q, want it to say %q", r.Action, hpcsera.Roles(set), err, name)
				}
			}
		}
	}
}

func holdsOne(set hpcsera.Roles, list string) bool {
	want, err := hpcsera.ParseRoles(list)
	return err == nil && set&want != 0
}

func TestWhatATokenDoesNotReachDoesNotExist(t *testing.T) {
	for _, c := range []struct {
		name   string
		p      *auth.Principal
		action auth.Action
		target auth.Target
		want   hpcsera.Code
	}{
		{"another project's job", token(nil), auth.GetJob, auth.Target{Project: "melt", User: "alice", Client: "gitlab"}, hpcsera.NotFound},
		{"another client's job", token(nil), auth.GetJob, auth.Target{Project: "cfd", User: "alice", Client: "flowable"}, hpcsera.NotFound},
		{"another client's job, with the project granted", token(project), auth.GetJob, auth.Target{Project: "cfd", User: "alice", Client: "flowable"}, ""},
		{"another project's job, with the project granted", token(project), auth.GetJob, auth.Target{Project: "melt", User: "alice", Client: "gitlab"}, hpcsera.NotFound},
		{"a job at another site than the token's", token(atHLRS), auth.GetJob, own, hpcsera.NotFound},
		{"a submission to another site than the token's", token(atHLRS), auth.SubmitJobs, own, hpcsera.Forbidden},
		{"another site than the token's", token(atHLRS), auth.GetSite, auth.Target{Site: "gwdg"}, hpcsera.NotFound},
		{"another client's code", token(nil), auth.GetCode, auth.Target{Project: "cfd", User: "bob", Client: "flowable"}, hpcsera.NotFound},
		{"another client's code that the user approved for this one", token(nil), auth.GetCode, auth.Target{Project: "cfd", User: "bob", Client: "flowable", Granted: true}, ""},
		{"deleting it", token(nil), auth.DeleteCode, auth.Target{Project: "cfd", User: "alice", Client: "flowable", Granted: true}, hpcsera.NotFound},
		{"another project's code, whatever was approved", token(nil), auth.GetCode, auth.Target{Project: "melt", User: "bob", Client: "flowable", Granted: true}, hpcsera.NotFound},
		{"another user's approval", token(nil), auth.GetApproval, auth.Target{Project: "cfd", User: "bob"}, hpcsera.NotFound},
		{"another user's approval, with the project granted", token(project), auth.GetApproval, auth.Target{Project: "cfd", User: "bob"}, hpcsera.NotFound},
		{"filing an approval for another user", token(nil), auth.PostApproval, auth.Target{Project: "cfd", User: "bob"}, hpcsera.NotFound},
		{"an agent's operation, even one's own agent", token(nil), auth.PostWork, auth.Target{Agent: agentID, Project: "cfd", User: "alice"}, hpcsera.NotFound},
		{"an unreached job without the role: reach comes first", token(noRoles), auth.DeleteJob, auth.Target{Project: "melt"}, hpcsera.NotFound},
		{"a reached job without the role", token(noRoles), auth.DeleteJob, own, hpcsera.Forbidden},
	} {
		if got := hpcsera.CodeOf(auth.Allow(c.p, c.action, c.target)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func project(t *hpcsera.Token) { t.Scope = hpcsera.ProjectScope }
func atHLRS(t *hpcsera.Token)  { t.Site = "hlrs" }
func noRoles(t *hpcsera.Token) { t.Roles = 0 }

func TestMembershipLimitsWhatRolesAllow(t *testing.T) {
	bobs := own
	bobs.User = "bob"
	reads := map[auth.Action]bool{}
	for _, a := range []auth.Action{
		auth.ListJobs, auth.GetJob, auth.ListJobEvents, auth.ListEvents, auth.GetJobLog, auth.ListArtifacts, auth.GetArtifact,
		auth.ListCode, auth.GetCode, auth.HeadBlob, auth.GetBlob, auth.ListApprovals, auth.GetApproval,
		auth.ListSites, auth.GetSite, auth.GetTokenSelf, auth.DeleteTokenSelf,
	} {
		reads[a] = true
	}
	changes := map[auth.Action]bool{auth.PatchJob: true, auth.PatchValues: true, auth.DeleteJob: true, auth.PutJobStatus: true, auth.DeleteCode: true}
	for _, r := range auth.Rules() {
		if clientRoles[r.Action] == "" {
			continue
		}
		for _, c := range []struct {
			member hpcsera.MemberRole
			target auth.Target
			denied bool
		}{
			{hpcsera.Viewer, own, !reads[r.Action]},
			{hpcsera.Member, own, false},
			{hpcsera.Member, bobs, changes[r.Action]},
			{hpcsera.Owner, bobs, false},
			{"", own, true},
		} {
			private := r.Action == auth.PostApproval || r.Action == auth.ListApprovals || r.Action == auth.GetApproval
			if private && c.target.User == "bob" {
				continue // not reached at all: told apart above
			}
			p := token(nil)
			p.Member = c.member
			want := hpcsera.Code("")
			if c.denied {
				want = hpcsera.Forbidden
			}
			if got := hpcsera.CodeOf(auth.Allow(p, r.Action, c.target)); got != want {
				t.Errorf("%s by %q on %s's thing: got %q, want %q", r.Action, c.member, c.target.User, got, want)
			}
		}
	}
}

func TestAgentsReachOnlyTheirOwn(t *testing.T) {
	open := map[auth.Action]auth.Target{
		auth.PostWork:     {Agent: agentID},
		auth.PostReports:  {Agent: agentID},
		auth.AppendJobLog: {Agent: agentID, Project: "cfd"},
		auth.PutBlob:      {Agent: agentID, Project: "cfd"},
		auth.HeadBlob:     {Project: "cfd"},
		auth.GetBlob:      {Project: "melt"},
	}
	for _, r := range auth.Rules() {
		target, ok := open[r.Action]
		if !ok {
			if got := hpcsera.CodeOf(auth.Allow(agent(), r.Action, own)); got != hpcsera.NotFound {
				t.Errorf("%s by an agent: got %q, want %q", r.Action, got, hpcsera.NotFound)
			}
			continue
		}
		other := target
		other.Agent = "ag_00000000000000000002"
		if got := hpcsera.CodeOf(auth.Allow(agent(), r.Action, other)); got != hpcsera.NotFound {
			t.Errorf("%s of another agent's thing: got %q, want %q", r.Action, got, hpcsera.NotFound)
		}
		if target.Project != "" {
			foreign := target
			foreign.Project = "physics"
			if got := hpcsera.CodeOf(auth.Allow(agent(), r.Action, foreign)); got != hpcsera.NotFound {
				t.Errorf("%s in a project that the agent does not serve: got %q, want %q", r.Action, got, hpcsera.NotFound)
			}
		}
		if err := auth.Allow(agent(), r.Action, target); err != nil {
			t.Errorf("%s of its own: got %v, want nil", r.Action, err)
		}
	}
	if got := hpcsera.CodeOf(auth.Allow(agent(), auth.PutBlob, auth.Target{Project: "cfd"})); got != hpcsera.NotFound {
		t.Errorf("an upload by an agent without a job: got %q, want %q", got, hpcsera.NotFound)
	}
}

func TestUnknownActionIsDenied(t *testing.T) {
	for _, p := range []*auth.Principal{token(nil), agent()} {
		if auth.Allow(p, "dropTables", own) == nil {
			t.Error("an action without a rule was allowed")
		}
	}
}
