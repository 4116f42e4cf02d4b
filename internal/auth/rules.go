package auth

import "github.com/hpcsera/hpcsera"

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
	ListSites       Action = "listSites"       // GET /sites
	GetSite         Action = "getSite"         // GET /sites/{name}
	GetTokenSelf    Action = "getTokenSelf"    // GET /tokens/self
	DeleteTokenSelf Action = "deleteTokenSelf" // DELETE /tokens/self
)

// Rule is one row of the permission table. A principal passes with any one of
// the roles in its column.
type Rule struct {
	Action  Action
	Clients hpcsera.Roles // of client tokens
	Agents  hpcsera.Roles // of agent credentials
	// AnyToken lets every valid client token in, whatever its roles.
	AnyToken bool
}

// Roles returns the union of both columns: what the contract's x-role says.
func (r Rule) Roles() hpcsera.Roles { return r.Clients | r.Agents }

// Rules returns the whole table, a row for each action.
func Rules() []Rule { panic("in work") }

// Target is what an action is about. Fields that a thing does not have are "".
type Target struct {
	Project string
	User    string // who made it
	Client  string // through which it was made
	Site    string
	Agent   string // that has the job, or that the path names
	// Granted says that the token's user approved this code for the token's
	// client, which makes another client's code reachable.
	Granted bool
}

// Allow is the only permission check. It returns nil, not_found for what p
// does not reach, or forbidden with the role that is missing.
func Allow(p *Principal, action Action, t Target) error { panic("in work") }
