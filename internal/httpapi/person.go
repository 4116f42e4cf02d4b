package httpapi

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
)

// Users in person ask for what is theirs; internal/access decides, also for an
// operator, who sees others' on the pages.

// ListTokens lists the user's tokens.
func (h handlers) ListTokens(ctx context.Context, _ gen.ListTokensRequestObject) (gen.ListTokensResponseObject, error) {
	by := callOf(ctx).principal
	list, err := h.cfg.Access.Tokens(ctx, by, access.Filter{User: by.User()})
	return gen.ListTokens200JSONResponse{Tokens: list}, err
}

// RequestToken files the user's wish for a token.
func (h handlers) RequestToken(ctx context.Context, r gen.RequestTokenRequestObject) (gen.RequestTokenResponseObject, error) {
	by := callOf(ctx).principal
	wish := access.NewToken{
		User: by.User(), Project: r.Body.Project, Client: r.Body.Client, Roles: r.Body.Roles.String(), Preset: r.Body.For,
		Site: r.Body.Site, Scope: r.Body.Scope, Days: r.Body.Days,
	}
	wanted, err := h.cfg.Access.Wanted(wish)
	if err != nil {
		return nil, err
	}
	asked, err := h.cfg.Grants.Ask(ctx, by, wanted)
	return gen.RequestToken202JSONResponse(asked), err
}

// RevokeToken revokes a token.
func (h handlers) RevokeToken(ctx context.Context, r gen.RevokeTokenRequestObject) (gen.RevokeTokenResponseObject, error) {
	token, err := h.cfg.Access.RevokeToken(ctx, callOf(ctx).principal, access.Revocation{ID: r.Id, Stop: value(r.Params.Stop)})
	return gen.RevokeToken200JSONResponse(token), err
}

// ListAgents lists the user's agents.
func (h handlers) ListAgents(ctx context.Context, _ gen.ListAgentsRequestObject) (gen.ListAgentsResponseObject, error) {
	by := callOf(ctx).principal
	list, err := h.cfg.Access.Agents(ctx, by, access.Filter{User: by.User()})
	return gen.ListAgents200JSONResponse{Agents: list}, err
}

// RemoveAgent ends an enrolment.
func (h handlers) RemoveAgent(ctx context.Context, r gen.RemoveAgentRequestObject) (gen.RemoveAgentResponseObject, error) {
	agent, err := h.cfg.Access.RemoveAgent(ctx, callOf(ctx).principal, access.Removal{ID: r.Id, Abandon: value(r.Params.Abandon)})
	return gen.RemoveAgent200JSONResponse(agent), err
}

// RenewAgent gives an agent a new credential for its key.
func (h handlers) RenewAgent(ctx context.Context, r gen.RenewAgentRequestObject) (gen.RenewAgentResponseObject, error) {
	renewed, err := h.cfg.Access.RenewAgent(ctx, callOf(ctx).principal, r.Id)
	return gen.RenewAgent200JSONResponse(renewed), err
}

// ListProjects lists the user's projects.
func (h handlers) ListProjects(ctx context.Context, _ gen.ListProjectsRequestObject) (gen.ListProjectsResponseObject, error) {
	list, err := h.cfg.Access.Projects(ctx, callOf(ctx).principal, access.Filter{})
	return gen.ListProjects200JSONResponse{Projects: list}, err
}

// ListClients lists the clients.
func (h handlers) ListClients(ctx context.Context, _ gen.ListClientsRequestObject) (gen.ListClientsResponseObject, error) {
	list, err := h.cfg.Access.Clients(ctx, callOf(ctx).principal, access.Filter{})
	return gen.ListClients200JSONResponse{Clients: list}, err
}

// ListSessions lists the user's sessions.
func (h handlers) ListSessions(ctx context.Context, _ gen.ListSessionsRequestObject) (gen.ListSessionsResponseObject, error) {
	by := callOf(ctx).principal
	list, err := h.cfg.Access.Sessions(ctx, by, access.Filter{User: by.User()})
	return gen.ListSessions200JSONResponse{Sessions: list}, err
}

// EndSession ends a session.
func (h handlers) EndSession(ctx context.Context, r gen.EndSessionRequestObject) (gen.EndSessionResponseObject, error) {
	return gen.EndSession204Response{}, h.cfg.Access.EndSession(ctx, callOf(ctx).principal, access.Named{Name: r.Id})
}

// ReadAudit returns what concerns the user in the audit log.
func (h handlers) ReadAudit(ctx context.Context, r gen.ReadAuditRequestObject) (gen.ReadAuditResponseObject, error) {
	by := callOf(ctx).principal
	page := access.AuditPage{User: by.User(), Before: value(r.Params.Before), Limit: value(r.Params.Limit)}
	lines, err := h.cfg.Access.Audit(ctx, by, page)
	list := hpcsera.AuditList{Lines: lines}
	if page.Limit == 0 {
		page.Limit = access.AuditLimit
	}
	if len(lines) == page.Limit {
		list.Next = lines[len(lines)-1].Number
	}
	return gen.ReadAudit200JSONResponse(list), err
}
