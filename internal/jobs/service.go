package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store     store.Store
	Blobs     blob.Store
	Logs      blob.Logs
	Code      CodeBook
	Sightings *auth.Sightings
	// Key is the server's secret, at least 32 bytes, equal on all replicas.
	Key []byte
	// Stopping ends long polls and streams early when it is closed, so that a
	// server can stop without cutting anybody off. nil never is.
	Stopping <-chan struct{}
	// Still re-checks the principal of a stream; [auth.Service.Still].
	Still func(context.Context, *auth.Principal) error
	Log   *slog.Logger
	Now   func() time.Time // nil is time.Now
	// SilentAfter is how long the holder of a term must be silent before
	// another instance of its agent gets the term. 0 is 90 seconds.
	SilentAfter time.Duration
}

// CodeBook is what jobs need to know of code; internal/code keeps it. Its
// methods see the transaction or snapshot that the job's own change is in.
type CodeBook interface {
	// Resolve finds the code that p means by ref: a digest, NAME, or
	// NAME@DIGEST. The errors are unknown_code.
	Resolve(r store.Reader, p *auth.Principal, ref string) (*store.Code, error)
	// File files new code for p. m is valid and digest is its digest.
	File(tx store.Tx, p *auth.Principal, m hpcsera.Manifest, digest string, at time.Time) error
	// Covering returns the newest approval under which the job may start, or
	// nil when none covers it. It returns limit_exceeded when one covers all
	// but the resources and attributes that the job asks for.
	Covering(r store.Reader, j *store.Job, steps []hpcsera.Step, at time.Time) (*hpcsera.Approval, error)
}

// Service is the life of jobs. It may be used by many goroutines.
type Service struct{ cfg Config }

// New returns a service, or an error when the configuration is unusable.
func New(cfg Config) (*Service, error) { panic("in work") }
