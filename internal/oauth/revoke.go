package oauth

import (
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// revoke takes back a client's own token (RFC 7009). A token that is not valid
// is revoked well enough, so the answer is the same.
func (s *Service) revoke(r *request) (any, error) {
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	text := r.form["token"]
	if text == "" {
		return nil, bad(invalidRequest, "token is missing")
	}
	if id, _, ok := hpcsera.ParseSecret(text); ok && !strings.HasPrefix(id, "t_") {
		return nil, bad(unsupportedTokenType, "sessions and agents are ended in person")
	}
	p, err := s.own(r, c, text)
	if err != nil || p == nil {
		return struct{}{}, err
	}
	return struct{}{}, s.cfg.Revoke(r.Context(), p.Token.ID, false, "client:"+c.name)
}

// introspection says what a token is (RFC 7662 section 2.2).
type introspection struct {
	Active   bool      `json:"active"`
	Scope    string    `json:"scope,omitempty"`
	ClientID string    `json:"client_id,omitempty"`
	Username string    `json:"username,omitempty"`
	Type     string    `json:"token_type,omitempty"`
	Expires  int64     `json:"exp,omitempty"`
	Issued   int64     `json:"iat,omitempty"`
	Subject  string    `json:"sub,omitempty"`
	Issuer   string    `json:"iss,omitempty"`
	ID       string    `json:"jti,omitempty"`
	Details  []details `json:"authorization_details,omitempty"`
}

// introspect tells a client about its own tokens. Of every other text it says
// that it is not active, and not why.
func (s *Service) introspect(r *request) (any, error) {
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	if c.public {
		return nil, noClient()
	}
	text := r.form["token"]
	if text == "" {
		return nil, bad(invalidRequest, "token is missing")
	}
	p, err := s.own(r, c, text)
	if err != nil || p == nil {
		return introspection{}, err
	}
	t := *p.Token
	return introspection{
		Active: true, Scope: scopes(t), ClientID: t.Client, Username: t.User, Type: "Bearer", Expires: t.Expires.Unix(), Issued: t.Created.Unix(),
		Subject: t.User, Issuer: s.cfg.PublicURL, ID: t.ID, Details: granted(t),
	}, nil
}

// own returns a token that is valid and the client's, nil for every other.
func (s *Service) own(r *request, c caller, text string) (*auth.Principal, error) {
	p, err := s.cfg.Auth.Look(r.Context(), text)
	switch code := hpcsera.CodeOf(err); {
	case code == hpcsera.Unauthenticated || code == hpcsera.TokenInvalid:
		return nil, nil
	case err != nil:
		return nil, err
	case p.Token.Client != c.name:
		return nil, nil
	}
	return p, nil
}
