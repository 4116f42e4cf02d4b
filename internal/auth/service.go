package auth

import (
	"context"
	"log/slog"
	"time"

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
	Log *slog.Logger
	Now func() time.Time // nil is time.Now
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
	cfg Config
}

// New returns a service, or an error when the configuration is unusable.
func New(cfg Config) (*Service, error) { panic("in work") }

// Authenticate says who makes a request. Errors are unauthenticated (no
// credential, or one that cannot be real), token_invalid, dpop_required and
// use_dpop_nonce; the last one is answered with [Service.Nonce] in the header
// DPoP-Nonce, as is every answer to an agent.
func (s *Service) Authenticate(ctx context.Context, r Request) (*Principal, error) { panic("in work") }

// Nonce returns a nonce for the next proof of an agent; every replica accepts
// it for 60 seconds. Take it when the answer is written, not before a long
// poll.
func (s *Service) Nonce() string { panic("in work") }

// Still checks a principal of a request that lasts, such as an event stream:
// it returns the error that Authenticate would return now. Streams call it
// every few seconds, so that they end soon after a revocation.
func (s *Service) Still(ctx context.Context, p *Principal) error { panic("in work") }
