package client

import (
	"context"
	"errors"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

// What a user does in person. The client needs a session's credential and its
// key; a token is refused.

// Tokens lists the user's tokens, without their texts.
func (c *Client) Tokens(ctx context.Context) ([]*hpcsera.Token, error) {
	list, err := decode[hpcsera.TokenList](read(c.whole.ListTokens(ctx)))
	return list.Tokens, err
}

// RequestToken asks the user for a token. Collect with [Wait] returns it when
// the user granted it.
func (c *Client) RequestToken(ctx context.Context, wish hpcsera.TokenWish) (hpcsera.AskedToken, error) {
	return decode[hpcsera.AskedToken](read(c.whole.RequestToken(ctx, wish)))
}

// RevokeToken revokes a token; stop also cancels the jobs that it started.
func (c *Client) RevokeToken(ctx context.Context, id string, stop bool) (hpcsera.Token, error) {
	return decode[hpcsera.Token](read(c.whole.RevokeToken(ctx, id, &api.RevokeTokenParams{Stop: &stop})))
}

// Agents lists the user's agents.
func (c *Client) Agents(ctx context.Context) ([]*hpcsera.Agent, error) {
	list, err := decode[hpcsera.AgentList](read(c.whole.ListAgents(ctx)))
	return list.Agents, err
}

// RemoveAgent ends an enrolment; abandon ends its unfinished jobs as failed.
func (c *Client) RemoveAgent(ctx context.Context, id string, abandon bool) (hpcsera.Agent, error) {
	return decode[hpcsera.Agent](read(c.whole.RemoveAgent(ctx, id, &api.RemoveAgentParams{Abandon: &abandon})))
}

// Projects lists the user's projects.
func (c *Client) Projects(ctx context.Context) ([]*hpcsera.Project, error) {
	list, err := decode[hpcsera.ProjectList](read(c.whole.ListProjects(ctx)))
	return list.Projects, err
}

// Clients lists whom tokens can be for.
func (c *Client) Clients(ctx context.Context) ([]*hpcsera.Client, error) {
	list, err := decode[hpcsera.ClientList](read(c.whole.ListClients(ctx)))
	return list.Clients, err
}

// Sessions lists the user's sessions.
func (c *Client) Sessions(ctx context.Context) ([]*hpcsera.Session, error) {
	list, err := decode[hpcsera.SessionList](read(c.whole.ListSessions(ctx)))
	return list.Sessions, err
}

// EndSession ends a session, this one or another.
func (c *Client) EndSession(ctx context.Context, id string) error {
	_, err := read(c.whole.EndSession(ctx, id))
	return err
}

// Audit returns what concerns the user in the audit log, the newest first, and
// the cursor of older lines, 0 when there are none.
func (c *Client) Audit(ctx context.Context, before int64, limit int) (hpcsera.AuditList, error) {
	params := &api.ReadAuditParams{Limit: &limit}
	if before > 0 {
		params.Before = &before
	}
	return decode[hpcsera.AuditList](read(c.whole.ReadAudit(ctx, params)))
}

// Session returns the id of the client's own session.
func (c *Client) Session() (string, error) {
	id, _, ok := hpcsera.ParseSecret(c.opts.Token.Reveal())
	if !ok || !hpcsera.ValidID("ls", id) {
		return "", errors.New("the client has no session")
	}
	return id, nil
}
