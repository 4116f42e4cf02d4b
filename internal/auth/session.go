package auth

import (
	"context"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// LoginSessions are the documents of key-bound sessions, by id and owned by
// their user.
const LoginSessions store.Kind = "login_session"

// LoginSession is a key-bound session as it is stored. internal/access makes
// and ends them.
type LoginSession struct {
	hpcsera.Session
	Hash []byte `json:"hash"` // SHA-256 of the credential's secret
}

// session says who sends a request with the credential of hpcsera login.
func (s *Service) session(ctx context.Context, id string, hash []byte, credential string, r Request) (*Principal, error) {
	proof, err := s.boundProof(r, credential)
	if err != nil {
		return nil, err
	}
	p, row, err := s.sessionRow(ctx, id)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(row.Hash, hash) != 1 {
		return nil, noSession()
	}
	return p, s.sameKey(id, row.Thumbprint, proof)
}

// sessionRow reads a session and refuses one that may not be used any more.
func (s *Service) sessionRow(ctx context.Context, id string) (*Principal, LoginSession, error) {
	var row LoginSession
	var user *hpcsera.User
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		if err := r.Document(LoginSessions, id, s.cfg.Now(), &row); err != nil {
			return err
		}
		var err error
		user, err = r.User(row.User)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, row, noSession()
	case err != nil:
		return nil, row, store.Failed("look up session "+id, err)
	case !s.cfg.Now().Before(row.Expires):
		return nil, row, hpcsera.Errorf(hpcsera.TokenInvalid, "the session ended at %s.", row.Expires.UTC().Format(time.RFC3339)).Hint("Sign in again: hpcsera login.")
	case user.Disabled:
		return nil, row, invalid("the user %s is disabled.", askOperator, row.User)
	}
	return &Principal{Person: &Person{User: row.User, Operator: user.Operator, Session: id, KeyBound: true}}, row, nil
}

func noSession() error {
	return hpcsera.Errorf(hpcsera.TokenInvalid, "the session does not exist any more.").Hint("Sign in again: hpcsera login.")
}
