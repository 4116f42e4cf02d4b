package auth

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store store.Store
	// PublicURL is the URL under which clients and agents reach the server,
	// without a trailing slash and without /api/v1. Proofs of agents name it.
	PublicURL string
	// Key is the server's secret, at least 32 bytes, equal on all replicas.
	Key []byte
	// Used is told of each token that was accepted; nil is nobody.
	Used func(token string)
	Log  *slog.Logger
	Now  func() time.Time // nil is time.Now
}

// Request is what authentication looks at.
type Request struct {
	Authorization string   // the header
	Proofs        []string // every DPoP header
	Method        string
	Path          string // of the URL, with /api/v1, without the query
}

// Service authenticates. It may be used by many goroutines.
type Service struct {
	cfg    Config
	nonces nonces
	proofs *replays
	asking *replays // of who has no credential yet: they are not to crowd out who has one
	memory *memory
}

// New returns a service, or an error when the configuration is unusable.
func New(cfg Config) (*Service, error) {
	if len(cfg.Key) < 32 {
		return nil, errors.New("auth: the server's key has fewer than 32 bytes")
	}
	if cfg.PublicURL == "" || strings.HasSuffix(cfg.PublicURL, "/") {
		return nil, errors.New("auth: the public URL is empty or ends with a slash")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Used == nil {
		cfg.Used = func(string) {}
	}
	return &Service{cfg: cfg, nonces: newNonces(cfg.Key), proofs: newReplays(), asking: newReplays(), memory: &memory{rows: map[string]*store.Principal{}}}, nil
}

// Authenticate says who makes a request. Errors are unauthenticated (no
// credential, or one that cannot be real), token_invalid, dpop_required and
// use_dpop_nonce; the last one is answered with [Service.Nonce] in the header
// DPoP-Nonce, as is every answer to an agent.
func (s *Service) Authenticate(ctx context.Context, r Request) (*Principal, error) {
	scheme, text, _ := strings.Cut(r.Authorization, " ")
	id, hash, ok := hpcsera.ParseSecret(text)
	switch {
	case r.Authorization == "":
		return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "the request has no Authorization header.").
			Hint("Send Authorization: Bearer and a token.")
	case ok && strings.EqualFold(scheme, "Bearer") && hpcsera.ValidID("t", id):
		p, err := s.token(ctx, id, hash)
		if err == nil {
			s.cfg.Used(id)
		}
		return p, err
	case ok && strings.EqualFold(scheme, "DPoP") && hpcsera.ValidID("ag", id):
		return s.agent(ctx, id, hash, text, r)
	case ok && strings.EqualFold(scheme, "DPoP") && hpcsera.ValidID("ls", id):
		return s.session(ctx, id, hash, text, r)
	case ok:
		return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "the credential does not go with the scheme %q.", scheme).
			Hint("Tokens (hpcsera_t…) are sent as Bearer, credentials of agents (hpcsera_ag…) and of sessions (hpcsera_ls…) as DPoP.")
	}
	return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "the Authorization header holds no HPCSerA token.").
		Hint("Send Authorization: Bearer and the whole token, hpcsera_t…; this one is cut or mistyped.")
}

func (s *Service) token(ctx context.Context, id string, hash []byte) (*Principal, error) {
	row, err := s.principal(ctx, id)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(row.Hash, hash) != 1 {
		return nil, invalid("the token does not exist.", makeToken)
	}
	if err := s.good(row); err != nil {
		return nil, err
	}
	t := row.Token
	return &Principal{Token: &t, Member: row.Member}, nil
}

// principal returns the row of a token, which must not be changed.
func (s *Service) principal(ctx context.Context, id string) (*store.Principal, error) {
	row, err := s.memory.principal(ctx, s.cfg.Store, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, invalid("the token does not exist.", makeToken)
	}
	return row, store.Failed("look up token "+id, err)
}

// good refuses a token that may not be used now.
func (s *Service) good(row *store.Principal) error {
	now := s.cfg.Now()
	switch {
	case row.Revoked != nil:
		return invalid("the token was revoked.", makeToken)
	case now.Before(row.NotBefore):
		return invalid("the token is good from %s on.", "Wait until then, or use another.", row.NotBefore.UTC().Format(time.RFC3339))
	case !now.Before(row.Expires):
		return invalid("the token expired at %s.", makeToken, row.Expires.UTC().Format(time.RFC3339))
	case row.UserDisabled:
		return invalid("the user %s is disabled.", askOperator, row.User)
	case row.ClientDisabled:
		return invalid("the client %s is disabled.", askOperator, row.Client)
	case row.Member == "":
		return invalid("%s is not a member of the project %s any more.", "Ask an owner of the project: no other token helps.", row.User, row.Project)
	}
	return nil
}

func (s *Service) agent(ctx context.Context, id string, hash []byte, credential string, r Request) (*Principal, error) {
	proof, err := s.boundProof(r, credential)
	if err != nil {
		return nil, err
	}
	row, user, err := s.enrolment(ctx, id)
	if err != nil {
		return nil, err
	}
	// How an agent stands is told only to who holds its secret.
	// While an agent renews, the old credential and the new one are both good.
	current := subtle.ConstantTimeCompare(row.Hash, hash) == 1
	renewed := len(row.Renewed) > 0 && subtle.ConstantTimeCompare(row.Renewed, hash) == 1
	if !current && !renewed {
		return nil, invalid("the agent does not exist.", enrol)
	}
	if err := s.standing(row, user); err != nil {
		return nil, err
	}
	if err := s.sameKey(id, row.Thumbprint, proof); err != nil {
		return nil, err
	}
	if renewed {
		if err := s.renewed(ctx, row, hash); err != nil {
			return nil, err
		}
	}
	return &Principal{Agent: row}, nil
}

// renewed makes the new credential the only one: its first use shows that the
// agent received it.
func (s *Service) renewed(ctx context.Context, a *store.Agent, hash []byte) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		row, err := tx.Agent(a.ID)
		if err != nil || !bytes.Equal(row.Renewed, hash) {
			return err
		}
		row.Hash, row.Renewed = row.Renewed, nil
		return tx.UpdateAgent(*row)
	})
	return store.Failed("renew agent "+a.ID, err)
}

// boundProof checks what comes with a credential that is bound to a key, as
// far as it needs no look-up.
func (s *Service) boundProof(r Request, credential string) (proof, error) {
	p, err := readProof(r.Proofs, r.Method, s.cfg.PublicURL+r.Path, s.cfg.Now())
	if err == nil {
		err = p.goesWith(credential)
	}
	if err == nil && !s.nonces.valid(p.Nonce, s.cfg.Now()) {
		err = oldNonce()
	}
	return p, err
}

func oldNonce() error {
	return hpcsera.Errorf(hpcsera.UseDPoPNonce, "the proof has no nonce of this server, or an old one.").
		Hint("Make the proof again with the nonce in DPoP-Nonce.")
}

// sameKey refuses a proof by another key than the credential's, and one that
// was used before. id is whom replays are counted for.
func (s *Service) sameKey(id, thumbprint string, p proof) error {
	if subtle.ConstantTimeCompare([]byte(thumbprint), []byte(p.thumbprint)) != 1 {
		return hpcsera.Errorf(hpcsera.DPoPRequired, "the proof was made with another key than the credential is bound to.").
			Hint("The credential works only with the key whose thumbprint is %s.", thumbprint)
	}
	return s.proofs.first(id, p.ID, s.cfg.Now())
}

// Prove checks the proof of a request that brings no credential yet, to the
// token endpoint (RFC 9449, section 5), and returns the thumbprint of the key
// that made it. bound is that of the key that something is to be had with. A
// proof by another gains nothing, so it may come again: keys cost nothing, and
// remembering all would fill the memory. Errors are dpop_required and
// use_dpop_nonce, and unavailable where no more can be remembered.
func (s *Service) Prove(r Request, bound string) (thumbprint string, err error) {
	p, err := readProof(r.Proofs, r.Method, s.cfg.PublicURL+r.Path, s.cfg.Now())
	switch {
	case err != nil:
		return "", err
	case p.Access != "":
		return "", badProof("ath is given, but there is no credential to go with.")
	case !s.nonces.valid(p.Nonce, s.cfg.Now()):
		return "", oldNonce()
	case p.thumbprint != bound:
		return p.thumbprint, nil
	}
	return p.thumbprint, s.asking.first(p.thumbprint, p.ID, s.cfg.Now())
}

// Look says what a client's token is, without counting it as used: whoever
// asks is not its bearer. Everything else than a token that is good now is an
// error.
func (s *Service) Look(ctx context.Context, text string) (*Principal, error) {
	id, hash, ok := hpcsera.ParseSecret(text)
	if !ok || !hpcsera.ValidID("t", id) {
		return nil, hpcsera.Errorf(hpcsera.Unauthenticated, "this is no client's token.")
	}
	return s.token(ctx, id, hash)
}

// enrolment reads an agent with the projects that it serves now, and its user.
func (s *Service) enrolment(ctx context.Context, id string) (row *store.Agent, user *hpcsera.User, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		if row, err = r.Agent(id); err != nil {
			return err
		}
		if user, err = r.User(row.User); err != nil {
			return err
		}
		row.Projects, err = Serves(r, row)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, invalid("the agent does not exist.", enrol)
	}
	return row, user, store.Failed("look up agent "+id, err)
}

// standing refuses an agent that may not work any more.
func (s *Service) standing(row *store.Agent, user *hpcsera.User) error {
	switch {
	case row.Removed:
		return invalid("the agent was removed.", enrol)
	case !s.cfg.Now().Before(row.Expires):
		return invalid("the agent's enrolment ended at %s.", enrol, row.Expires.UTC().Format(time.RFC3339))
	case user.Disabled:
		return invalid("the user %s is disabled.", askOperator, row.User)
	}
	return nil
}

// Serves returns the projects that an agent serves now: those it was enrolled
// for of which its user is still a member. Without membership neither bytes nor
// jobs of a project reach the agent; with it again, they do.
func Serves(r store.AccessReader, a *store.Agent) ([]string, error) {
	member, err := r.Memberships(a.User)
	return slices.DeleteFunc(slices.Clone(a.Projects), func(p string) bool { return !slices.Contains(member, p) }), err
}

// Nonce returns a nonce for the next proof of an agent; every replica accepts
// it for 60 seconds. Take it when the answer is written, not before a long
// poll.
func (s *Service) Nonce() string { return s.nonces.make(s.cfg.Now()) }

// Still checks a principal of a request that lasts, such as an event stream:
// it returns the error that Authenticate would return now. Streams call it
// every few seconds, so that they end soon after a revocation.
func (s *Service) Still(ctx context.Context, p *Principal) error {
	if p.Agent != nil {
		row, user, err := s.enrolment(ctx, p.Agent.ID)
		if err != nil {
			return err
		}
		return s.standing(row, user)
	}
	if p.Person != nil {
		if !p.Person.KeyBound {
			return nil // a browser's session is its pages' business
		}
		_, _, err := s.sessionRow(ctx, p.Person.Session)
		return err
	}
	row, err := s.principal(ctx, p.Token.ID)
	if err != nil {
		return err
	}
	return s.good(row)
}

// What to do about a credential that is refused: whoever is disabled gains
// nothing by another one.
const (
	makeToken   = "Make another: hpcsera token create, or Tokens on the server's pages."
	askOperator = "Ask the server's operator: no other token or credential helps."
	enrol       = "Enrol the agent again: hpcsera-agent enroll."
)

func invalid(format, hint string, args ...any) error {
	return hpcsera.Errorf(hpcsera.TokenInvalid, format, args...).Hint("%s", hint)
}
