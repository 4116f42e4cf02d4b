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

// The grant types of the token endpoint. There are no refresh tokens: a token
// lasts as long as the user said, and a new one is the user's to give.
const (
	deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
	cibaGrant   = "urn:openid:params:grant-type:ciba"
)

// tokenAnswer is a credential (RFC 6749 section 5.1, RFC 9396 section 7).
type tokenAnswer struct {
	AccessToken string    `json:"access_token"`
	TokenType   string    `json:"token_type"`
	Expires     int       `json:"expires_in"`
	Scope       string    `json:"scope,omitempty"`
	Details     []details `json:"authorization_details,omitempty"`
	IDToken     string    `json:"id_token,omitempty"`
}

// token gives what was decided to the client that asked, once.
func (s *Service) token(r *request) (any, error) {
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	var id string
	var ok bool
	f, param := deviceFlow, "device_code"
	switch r.form["grant_type"] {
	case "":
		return nil, bad(invalidRequest, "grant_type is missing")
	case deviceGrant:
	case cibaGrant:
		if c.public || c.registration.CIBA == "" {
			return nil, bad(unauthorizedClient, "the client is not registered for CIBA")
		}
		f, param = cibaFlow, "auth_req_id"
	default:
		return nil, bad(unsupportedGrantType, "the grant types are "+deviceGrant+" and "+cibaGrant)
	}
	if r.form[param] == "" {
		return nil, bad(invalidRequest, param+" is missing")
	}
	if id, ok = s.referred(f, r.form[param]); !ok {
		return nil, s.stray(r)
	}
	bound, err := s.bound(r.Context(), c, f, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, s.stray(r)
	}
	if err != nil {
		return nil, store.Failed("look up grant "+id, err)
	}
	key := ""
	if proofs := r.Header.Values("DPoP"); len(proofs) > 0 {
		if key, err = s.cfg.Auth.Prove(auth.Request{Proofs: proofs, Method: r.Method, Path: r.URL.EscapedPath()}, bound); err != nil {
			return nil, err
		}
		r.header.Set("DPoP-Nonce", s.cfg.Auth.Nonce())
	}
	return s.redeem(r.Context(), c, f, id, key)
}

// bound returns the thumbprint of the key that a client's grant is bound to: ""
// where it is to none, or can no longer be collected.
func (s *Service) bound(ctx context.Context, c caller, f flow, id string) (thumbprint string, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		var g grant
		if err := r.Document(grants, id, s.now(), &g); err != nil {
			return err
		}
		if g.Client != c.name || g.Flow != f {
			return store.ErrNotFound
		}
		if s.now().Before(g.ends()) {
			thumbprint = g.Request.Thumbprint
		}
		return nil
	})
	return thumbprint, err
}

// stray answers a poll for what there is not, within the address's allowance.
func (s *Service) stray(r *request) error {
	if !s.strays.admit(s.cfg.Address(r.Request), s.now()) {
		return fault{429, slowDown, "too many polls for requests that do not exist, from this address"}
	}
	return bad(invalidGrant, "there is no such request")
}

// redeem looks where the grant is, and makes what was granted.
func (s *Service) redeem(ctx context.Context, c caller, f flow, id, key string) (answer tokenAnswer, err error) {
	var g grant
	var refused, told error
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		g, refused, told = grant{}, nil, nil
		if err := tx.Document(grants, id, s.now(), &g); err != nil {
			return err
		}
		// Another client learns nothing, not even that the request is open.
		if g.Client != c.name || g.Flow != f {
			return store.ErrNotFound
		}
		if told = s.told(&g, key); told != nil {
			return tx.PutDocument(g.document(), g)
		}
		answer, refused = s.issue(tx, g)
		if refused != nil {
			return refused
		}
		g.State = used
		return tx.PutDocument(g.document(), g)
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return answer, bad(invalidGrant, "there is no such request")
	case refused != nil && final(refused):
		return answer, s.giveUp(ctx, g, refused)
	case err != nil:
		return answer, store.Failed("redeem grant "+id, err)
	case told != nil:
		return answer, told
	}
	if f == cibaFlow {
		if answer.IDToken, err = s.idToken(g, answer.AccessToken); err != nil {
			return tokenAnswer{}, err
		}
	}
	return answer, nil
}

// told says what a client that polls is told, nil where it gets what was
// granted. It notes the poll in g.
func (s *Service) told(g *grant, key string) error {
	now := s.now()
	since := now.Sub(g.Polled)
	g.Polled = now
	switch {
	case g.State == used:
		return bad(invalidGrant, "what was granted was collected already")
	case g.State == denied:
		return bad(accessDenied, "the user said no")
	case !now.Before(g.ends()):
		return bad(expiredToken, "the request expired")
	// A client is told of its key's lack before it is told to wait, and a
	// thief of a device_code is told no more than that.
	case g.Request.Thumbprint != "" && key == "":
		return bad(invalidProof, "a DPoP proof is needed")
	case g.Request.Thumbprint != "" && key != g.Request.Thumbprint:
		return bad(invalidGrant, "the proof was made with another key than the one that asked")
	case g.Request.Thumbprint == "" && key != "":
		return bad(invalidRequest, "tokens are not bound to a key: leave the DPoP header out")
	case g.State == pending && since < g.Interval-g.Interval/pollSlack:
		g.Interval += interval
		return bad(slowDown, "wait "+g.Interval.String()+" between two polls")
	case g.State == pending:
		return bad(authorizationPending, "the user did not decide yet")
	}
	return nil
}

// pollSlack is the part of the interval that is forgiven: a network can deliver
// two polls closer together than they were sent.
const pollSlack = 5

// issue makes what was granted, on behalf of the user who decided. The
// decision was made with a second factor: the Auth app signs none otherwise.
func (s *Service) issue(tx store.Tx, g grant) (tokenAnswer, error) {
	by := &auth.Principal{Person: &auth.Person{User: g.User, SteppedUp: true}}
	r := g.Request
	left := func(until time.Time) int { return int(until.Sub(s.now()).Seconds()) }
	switch r.Kind {
	case decision.Session:
		row, secret, err := s.cfg.Access.IssueSession(tx, by, hpcsera.Session{User: g.User, Thumbprint: r.Thumbprint, Host: r.Host, Expires: g.Until})
		return tokenAnswer{AccessToken: secret, TokenType: "DPoP", Expires: left(row.Expires),
			Details: []details{{Type: sessionDetails, Host: row.Host, End: row.Expires}}}, err
	case decision.Agent:
		if g.For != "" && g.For != g.User {
			return tokenAnswer{}, hpcsera.Errorf(hpcsera.Conflict, "%s decided, and the agent's settings say user: %s.", g.User, g.For).
				Hint("Write the right name into agent.yaml, or sign in as %s, and ask again.", g.For)
		}
		row, secret, err := s.cfg.Access.IssueAgent(tx, by, hpcsera.Agent{
			User: g.User, Site: r.Site, Projects: r.Projects, Thumbprint: r.Thumbprint, Expires: g.Until,
		}, g.Replace)
		return tokenAnswer{AccessToken: secret, TokenType: "DPoP", Expires: left(row.Expires),
			Details: []details{{Type: agentDetails, User: row.User, Site: row.Site, Projects: row.Projects, Host: r.Host, Replace: g.Replace, End: row.Expires}}}, err
	}
	row, secret, err := s.cfg.Access.IssueToken(tx, by, token(g))
	answer := tokenAnswer{AccessToken: secret, TokenType: "Bearer", Expires: left(row.Expires)}
	if g.ByScope {
		answer.Scope = scopes(row)
	} else {
		answer.Details = granted(row)
	}
	return answer, err
}

// token is what a grant of a token is for: as decided, or before that as
// asked.
func token(g grant) hpcsera.Token {
	t := hpcsera.Token{
		User: g.User, Project: g.Request.Project, Client: g.Request.Client, Site: g.Request.Site, Scope: g.Request.Scope, Roles: g.Roles, Expires: g.Until,
	}
	if g.State != decided {
		t.User, t.Roles, t.Expires = cmp.Or(g.User, g.Request.User), g.Request.Roles, g.Request.Until
	}
	return t
}

// final reports whether an error will be the same next time: what the user
// granted cannot be made any more, for instance since a project was left.
func final(err error) bool {
	var e *hpcsera.Error
	return errors.As(err, &e) && e.Code != hpcsera.Unavailable && e.Code != hpcsera.StorageFull && e.Code != hpcsera.Internal
}

// giveUp ends a grant whose credential was refused.
func (s *Service) giveUp(ctx context.Context, g grant, why error) error {
	line := s.line(g, "grant.issue", "user:"+g.User)
	line.Refused = hpcsera.CodeOf(why)
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		g.State = denied
		if err := tx.PutDocument(g.document(), g); err != nil {
			return err
		}
		return tx.Note(line)
	})
	if err != nil {
		return store.Failed("end grant "+g.Request.ID, err)
	}
	// Our own programs tell their user what to do; clients are told that it
	// was refused, and no more about the user.
	if builtin(g.Client) {
		return bad(accessDenied, why.Error())
	}
	return bad(accessDenied, "what the user granted cannot be given any more")
}
