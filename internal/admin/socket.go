package admin

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/operator"
)

// The operations. Each takes the JSON of one request type and answers with
// that of one answer type; see the methods of [access.Service].
const (
	OpCreateUser    = "user-create"     // access.NewUser: hpcsera.User
	OpSetUser       = "user-set"        // access.Switch: hpcsera.User
	OpUsers         = "users"           // access.Filter: []hpcsera.User
	OpCreateProject = "project-create"  // access.NewProject: hpcsera.Project
	OpSetMember     = "project-member"  // access.NewMember: hpcsera.Project
	OpProjects      = "projects"        // access.Filter: []hpcsera.Project
	OpCreateClient  = "client-create"   // access.Named: hpcsera.Client
	OpSetClient     = "client-set"      // access.Switch: hpcsera.Client
	OpClients       = "clients"         // access.Filter: []hpcsera.Client
	OpRegister      = "client-register" // access.NewRegistration: access.RegistrationMade
	OpCreateSite    = "site-create"     // access.Named: hpcsera.Site
	OpSetSite       = "site-set"        // access.Switch: hpcsera.Site
	OpSites         = "sites"           // access.Filter: []hpcsera.Site
	OpCreateAgent   = "agent-create"    // access.NewAgent: access.AgentMade
	OpRemoveAgent   = "agent-remove"    // access.Removal: hpcsera.Agent
	OpAgents        = "agents"          // access.Filter: []hpcsera.Agent
	OpCreateToken   = "token-create"    // access.NewToken: access.TokenMade
	OpRevokeToken   = "token-revoke"    // access.Revocation: hpcsera.Token
	OpTokens        = "tokens"          // access.Filter: []hpcsera.Token
)

// The audit log.
const (
	OpVerifyAudit = "audit-verify" // audit.Verification: audit.Verified
	OpAudit       = "audit"        // audit.Pages: []hpcsera.AuditLine
)

// New serves the operations of s and book on admin.sock.
func New(s *access.Service, book *audit.Log, log *slog.Logger) http.Handler {
	return operator.Handler(log, map[string]operator.Operation{
		OpCreateUser: on(s.CreateUser), OpSetUser: on(s.SetUser), OpUsers: on(s.Users),
		OpCreateProject: on(s.CreateProject), OpSetMember: on(s.SetMember), OpProjects: on(s.Projects),
		OpCreateClient: on(s.CreateClient), OpSetClient: on(s.SetClient), OpClients: on(s.Clients), OpRegister: on(s.Register),
		OpCreateSite: on(s.CreateSite), OpSetSite: on(s.SetSite), OpSites: on(s.Sites),
		OpCreateAgent: on(s.CreateAgent), OpRemoveAgent: on(s.RemoveAgent), OpAgents: on(s.Agents),
		OpCreateToken: on(s.CreateToken), OpRevokeToken: on(s.RevokeToken), OpTokens: on(s.Tokens),
		OpVerifyAudit: on(book.Verify), OpAudit: on(book.Export),
	})
}

// on makes an operation of what the operator on the host does.
func on[Req, Ans any](f func(context.Context, *auth.Principal, Req) (Ans, error)) operator.Operation {
	return operator.On(func(ctx context.Context, r Req) (Ans, error) { return f(ctx, auth.OperatorOnHost(), r) })
}
