package auth

import (
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Action is what somebody wants to do: the operationId of the API, or a part
// of an operation that needs a role of its own (written operation:part).
type Action string

// The actions.
const (
	SubmitJobs      Action = "submitJobs"      // POST /jobs
	SubmitNewCode   Action = "submitJobs:code" // POST /jobs that carries new code
	ListJobs        Action = "listJobs"        // GET /jobs
	GetJob          Action = "getJob"          // GET /jobs/{id}
	PatchJob        Action = "patchJob"        // PATCH /jobs/{id}
	PatchValues     Action = "patchJob:values" // PATCH /jobs/{id} that changes values
	DeleteJob       Action = "deleteJob"       // DELETE /jobs/{id}: cancel, purge
	RetryJob        Action = "retryJob"        // POST /jobs/{id}/retry
	ListJobEvents   Action = "listJobEvents"   // GET /jobs/{id}/events
	ListEvents      Action = "listEvents"      // GET /events
	GetJobLog       Action = "getJobLog"       // GET /jobs/{id}/logs/{stream}
	AppendJobLog    Action = "appendJobLog"    // PUT /jobs/{id}/logs/{stream}
	ListArtifacts   Action = "listArtifacts"   // GET /jobs/{id}/artifacts
	GetArtifact     Action = "getArtifact"     // GET /jobs/{id}/artifacts/{path}
	PutJobStatus    Action = "putJobStatus"    // PUT /jobs/{id}/status
	PostCode        Action = "postCode"        // POST /code
	ListCode        Action = "listCode"        // GET /code
	GetCode         Action = "getCode"         // GET /code/{digest}
	DeleteCode      Action = "deleteCode"      // DELETE /code/{digest}
	HeadBlob        Action = "headBlob"        // HEAD /blobs/{digest}
	GetBlob         Action = "getBlob"         // GET /blobs/{digest}
	PutBlob         Action = "putBlob"         // PUT /blobs/{digest}
	PostApproval    Action = "postApproval"    // POST /approvals
	ListApprovals   Action = "listApprovals"   // GET /approvals
	GetApproval     Action = "getApproval"     // GET /approvals/{id}
	PostWork        Action = "postWork"        // POST /agents/{id}/work
	PostReports     Action = "postReports"     // POST /agents/{id}/reports
	RenewAgent      Action = "renewAgent"      // POST /agents/{id}/renew
	ListSites       Action = "listSites"       // GET /sites
	GetSite         Action = "getSite"         // GET /sites/{name}
	GetTokenSelf    Action = "getTokenSelf"    // GET /tokens/self
	DeleteTokenSelf Action = "deleteTokenSelf" // DELETE /tokens/self

	// In person.
	ListTokens    Action = "listTokens"    // GET /tokens
	RequestToken  Action = "requestToken"  // POST /tokens: ask oneself in the Auth app
	CreateToken   Action = "createToken"   // on the pages, and by a decision
	RevokeToken   Action = "revokeToken"   // DELETE /tokens/{id}
	ListAgents    Action = "listAgents"    // GET /agents
	CreateAgent   Action = "createAgent"   // enrolment
	ExtendAgent   Action = "extendAgent"   // a new end of an enrolment, on the pages
	RemoveAgent   Action = "removeAgent"   // DELETE /agents/{id}
	ListProjects  Action = "listProjects"  // GET /projects
	CreateProject Action = "createProject" // a new one, whose owner its maker is
	SetMember     Action = "setMember"     // who is in a project
	ListClients   Action = "listClients"   // GET /clients
	CreateClient  Action = "createClient"  // registers an external service
	ChangeClient  Action = "changeClient"  // its keys, URLs, whether it is disabled
	EnableClient  Action = "enableClient"  // let a client ask for tokens out of band
	ReadAudit     Action = "readAudit"     // GET /audit
	ManageService Action = "manageService" // users and sites
	CreateSession Action = "createSession" // hpcsera login
	ListSessions  Action = "listSessions"  // GET /sessions
	EndSession    Action = "endSession"    // DELETE /sessions/{id}
	ConsentToCode Action = "consentToCode" // files an approval signed in the Auth app
	ListUsers     Action = "listUsers"     // who there is
	ReadCode      Action = "readCode"      // a project's code and the approvals on file, on the pages
)

// reach says how it is decided whether a principal reaches a target at all.
type reach uint8

const (
	reachesProject reach = iota // its own project: where something is made or listed
	reachesThing                // a thing of its project, of its client unless the whole project was granted
	reachesOwn                  // a thing of its own user
	reachesSite                 // a site, or nothing in particular
	reachesAgent                // agents only: themselves, or a job they have
)

// persons says which persons a rule lets in. Operators manage the service:
// they take back what others granted, and grant nothing in a user's name,
// except on the server's own host.
type persons uint8

const (
	noPerson       persons = iota
	anyPerson              // every user
	themselves             // the user whom the thing belongs to
	takesBack              // the same, and operators
	projectOwners          // owners of the project, and operators for others than themselves
	projectMembers         // whoever is in the project: operators see no code
	operators              // operators only
)

// Rule is one row of the permission table. A principal passes with any one of
// the roles in its column; an empty column lets nobody of that kind in.
type Rule struct {
	Action  Action
	Clients hpcsera.Roles // of client tokens
	Agents  hpcsera.Roles // of agent credentials
	// AnyToken lets every valid client token in, whatever its roles.
	AnyToken bool

	reach reach
	// least is what the token's user must be in the project. Whoever changes a
	// thing of somebody else must be owner, too, where own is set.
	least hpcsera.MemberRole
	own   bool

	// persons says who may in person. grants wants a second factor that was
	// shown lately, and refuses key-bound sessions.
	persons persons
	grants  bool
}

// Roles returns the union of both columns: what the contract's x-role says.
func (r Rule) Roles() hpcsera.Roles { return r.Clients | r.Agents }

// InPerson reports whether persons do it, and neither tokens nor agents.
func (r Rule) InPerson() bool { return r.persons != noPerson }

// Operation returns the operationId, without the part.
func (a Action) Operation() string {
	operation, _, _ := strings.Cut(string(a), ":")
	return operation
}

// Rules returns the whole table, a row for each action.
func Rules() []Rule {
	const (
		viewer, member = hpcsera.Viewer, hpcsera.Member
		project, thing = reachesProject, reachesThing
	)
	of := hpcsera.RolesOf
	return []Rule{
		{Action: SubmitJobs, Clients: of(6), reach: thing, least: member},
		{Action: SubmitNewCode, Clients: of(4), reach: project, least: member},
		{Action: ListJobs, Clients: of(1), reach: project, least: viewer},
		{Action: GetJob, Clients: of(1), reach: thing, least: viewer},
		{Action: PatchJob, Clients: of(7), reach: thing, least: member, own: true},
		{Action: PatchValues, Clients: of(6), reach: thing, least: member, own: true},
		{Action: DeleteJob, Clients: of(8), reach: thing, least: member, own: true},
		{Action: RetryJob, Clients: of(6), reach: thing, least: member},
		{Action: ListJobEvents, Clients: of(1), reach: thing, least: viewer},
		{Action: ListEvents, Clients: of(1), reach: project, least: viewer},
		{Action: GetJobLog, Clients: of(1), reach: thing, least: viewer},
		{Action: AppendJobLog, Agents: of(2), reach: reachesAgent},
		{Action: ListArtifacts, Clients: of(1), reach: thing, least: viewer},
		{Action: GetArtifact, Clients: of(1), reach: thing, least: viewer},
		{Action: PutJobStatus, Clients: of(2), reach: thing, least: member, own: true},

		{Action: PostCode, Clients: of(4), reach: project, least: member},
		{Action: ListCode, Clients: of(5), reach: project, least: viewer},
		{Action: GetCode, Clients: of(5), reach: thing, least: viewer},
		{Action: DeleteCode, Clients: of(4), reach: thing, least: member, own: true},
		// Blobs belong to projects. Whoever uploads asks first what is here.
		{Action: HeadBlob, Clients: of(4, 5, 6), Agents: of(2, 5), reach: project, least: viewer},
		{Action: GetBlob, Clients: of(5), Agents: of(5), reach: project, least: viewer},
		// Role 2 in a client's token is for annotations, progress and message
		// only; it is the agents' role 2 that brings artifacts.
		{Action: PutBlob, Clients: of(4, 6), Agents: of(2), reach: project, least: member},
		{Action: PostApproval, Clients: of(4), reach: reachesOwn, least: member},
		{Action: ListApprovals, Clients: of(5), reach: reachesOwn, least: viewer},
		{Action: GetApproval, Clients: of(5), reach: reachesOwn, least: viewer},

		{Action: PostWork, Agents: of(3), reach: reachesAgent},
		{Action: PostReports, Agents: of(2), reach: reachesAgent},
		{Action: RenewAgent, Agents: of(3), reach: reachesAgent},

		{Action: ListSites, AnyToken: true, reach: reachesSite, least: viewer},
		{Action: GetSite, AnyToken: true, reach: reachesSite, least: viewer},
		{Action: GetTokenSelf, AnyToken: true, reach: reachesSite, least: viewer},
		{Action: DeleteTokenSelf, AnyToken: true, reach: reachesSite, least: viewer},

		{Action: ListTokens, persons: takesBack},
		// A wish grants nothing: it is decided in the Auth app.
		{Action: RequestToken, persons: themselves},
		{Action: CreateToken, persons: themselves, grants: true},
		{Action: RevokeToken, persons: takesBack},
		{Action: ListAgents, persons: takesBack},
		{Action: CreateAgent, persons: themselves, grants: true},
		{Action: ExtendAgent, persons: themselves, grants: true},
		{Action: RemoveAgent, persons: takesBack},
		{Action: ListProjects, persons: anyPerson},
		{Action: CreateProject, persons: anyPerson, grants: true},
		{Action: SetMember, persons: projectOwners, grants: true},
		{Action: ListClients, persons: anyPerson},
		{Action: CreateClient, persons: anyPerson, grants: true},
		{Action: ChangeClient, persons: takesBack, grants: true},
		{Action: EnableClient, persons: themselves, grants: true},
		{Action: ReadAudit, persons: takesBack},
		{Action: ManageService, persons: operators, grants: true},
		{Action: CreateSession, persons: themselves, grants: true},
		{Action: ListSessions, persons: takesBack},
		{Action: EndSession, persons: takesBack},
		{Action: ConsentToCode, persons: themselves, grants: true},
		{Action: ListUsers, persons: operators},
		{Action: ReadCode, persons: projectMembers},
	}
}
