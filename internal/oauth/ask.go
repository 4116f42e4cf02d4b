package oauth

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// askLife is how long a request of a user to himself waits.
const askLife = time.Hour

// Ask files a user's own wish for a token, as the Auth app is to ask it of him:
// a session at a terminal grants nothing by itself. The client of our command
// line collects the token when it was granted.
func (s *Service) Ask(ctx context.Context, by *auth.Principal, t hpcsera.Token) (hpcsera.AskedToken, error) {
	if err := auth.Allow(by, auth.RequestToken, auth.Target{User: t.User, Project: t.Project, Client: t.Client}); err != nil {
		return hpcsera.AskedToken{}, err
	}
	g := grant{Flow: deviceFlow, Client: hpcsera.CLIClient, Interval: s.cfg.Interval, Request: decision.Request{
		ID: hpcsera.NewID("rq"), Kind: decision.Token, User: t.User, Client: t.Client, ClientName: t.Client,
		Project: t.Project, Site: t.Site, Roles: t.Roles, Scope: t.Scope, Until: t.Expires, Expires: s.now().Truncate(time.Second).Add(askLife),
	}}
	if err := g.Request.Validate(); err != nil {
		return hpcsera.AskedToken{}, err
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		if g.Request.Host, err = s.hostOf(r, by.Person); err != nil {
			return err
		}
		return s.cfg.Access.Usable(r, t)
	})
	if err != nil {
		return hpcsera.AskedToken{}, store.Failed("look up what a token is for", err)
	}
	if err := s.open(ctx, g, by.Actor()); err != nil {
		var f fault
		if errors.As(err, &f) {
			if f.code == accessDenied {
				return hpcsera.AskedToken{}, hpcsera.Errorf(hpcsera.Forbidden, "you muted the client %s.", t.Client).Hint("Take that back: %s.", s.cfg.Issuer)
			}
			return hpcsera.AskedToken{}, hpcsera.Errorf(hpcsera.QuotaExceeded, "%s.", f.text).Hint("Decide those that wait: %s.", s.cfg.Issuer)
		}
		return hpcsera.AskedToken{}, err
	}
	return hpcsera.AskedToken{
		ID: g.Request.ID, URL: s.cfg.Inbox.RequestURL(g.Request.ID), Expires: g.Request.Expires, Interval: int(s.cfg.Interval.Seconds()),
		DeviceCode: s.reference(deviceFlow, g.Request.ID),
	}, nil
}

// hostOf says where the session that asks is. The user must not take it for the
// client, in whose name it asks.
func (s *Service) hostOf(r store.Reader, p *auth.Person) (string, error) {
	if !p.KeyBound {
		return "", nil
	}
	var row auth.LoginSession
	err := r.Document(auth.LoginSessions, p.Session, s.now(), &row)
	return cmp.Or(row.Host, "an unknown host"), err
}
