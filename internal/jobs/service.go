package jobs

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
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
	// StatusList returns the Auth app's newest signed list of withdrawn approvals,
	// "" while there is none; it travels to agents as it is. nil is none.
	StatusList func() string
	Log        *slog.Logger
	Now        func() time.Time // nil is time.Now
	// SilentAfter is how long the holder of a term must be silent before
	// another instance of its agent gets the term. 0 is 90 seconds.
	SilentAfter time.Duration
}

// CodeBook is what jobs need to know of code; internal/code keeps it. Its
// methods see the transaction or snapshot that they are given.
type CodeBook interface {
	// Prepare finds the code that p means with spec, which names it or holds
	// new code, with all its blobs here. New code is checked, not filed.
	Prepare(r store.Reader, p *auth.Principal, spec hpcsera.JobSpec) (*hpcsera.CodePart, error)
	// Part returns a code part of a project by its digest.
	Part(r store.Reader, project, digest string) (*hpcsera.CodePart, error)
	// Adopt files the code and the approval of a job that the agent p took in an
	// earlier epoch, and returns the part and the approval's id.
	Adopt(tx store.Tx, p *auth.Principal, spec hpcsera.OrderSpec, at time.Time) (*hpcsera.CodePart, string, error)
	// File files a code part for p.
	File(tx store.Tx, p *auth.Principal, part *hpcsera.CodePart, at time.Time) error
	// Covering returns the newest approval under which the job may start, or
	// nil when there is none; agent is the one that would run it, or nil. The
	// error is limit_exceeded when one covers all but resources and attributes.
	Covering(r store.Reader, j *store.Job, agent *store.Agent, at time.Time) (*hpcsera.Approval, error)
}

// The clocks of this package. None of them orders or ends anything.
const (
	silentAfter     = 90 * time.Second
	unseenAfter     = 2 * time.Minute // then an agent's jobs carry a warning
	cronUnseenAfter = time.Hour       // the same for one that runs now and then
	longestWait     = 60 * time.Second
	recheckEvery    = 4 * time.Second // of a stream's principal: it ends within 5 s
	answersKept     = 30 * 24 * time.Hour
)

// Service is the life of jobs. It may be used by many goroutines.
type Service struct {
	cfg     Config
	started time.Time // silence is counted from here at the earliest
	cursors cursors
	logs    *logWakers
}

// New returns a service, or an error when the configuration is unusable.
func New(cfg Config) (*Service, error) {
	if len(cfg.Key) < 32 {
		return nil, errors.New("jobs: the server's key has fewer than 32 bytes")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.StatusList == nil {
		cfg.StatusList = func() string { return "" }
	}
	if cfg.SilentAfter == 0 {
		cfg.SilentAfter = silentAfter
	}
	m := hmac.New(sha256.New, cfg.Key)
	m.Write([]byte("hpcsera order cursor"))
	return &Service{cfg: cfg, started: cfg.Now(), cursors: cursors{key: m.Sum(nil)}, logs: newLogWakers()}, nil
}

// Run drops answers to idempotent requests when they are 30 days old, until
// ctx ends. It is to be run once, in a goroutine of the server.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		before := s.cfg.Now().Add(-answersKept)
		err := s.cfg.Store.Write(ctx, func(tx store.Tx) error { return tx.DropAnswers(before) })
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("old answers were not dropped", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// now returns the present as it is stored and shown.
func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Microsecond) }

// load reads a job on which p may act. What p does not reach and what is not
// there look the same.
func (s *Service) load(r store.Reader, p *auth.Principal, action auth.Action, id string) (*store.Job, error) {
	j, err := r.Job(id)
	if err == nil {
		err = auth.Allow(p, action, targetOf(&j.Job))
	}
	if errors.Is(err, store.ErrNotFound) || hpcsera.CodeOf(err) == hpcsera.NotFound {
		return nil, noJob(id)
	}
	if err != nil {
		return nil, err
	}
	return j, nil
}

func targetOf(j *hpcsera.Job) auth.Target {
	return auth.Target{Project: j.Project, User: j.User, Client: j.Client, Site: j.Site, Agent: j.Agent}
}

func noJob(id string) error {
	return hpcsera.Errorf(hpcsera.NotFound, "there is no job %q.", id).Hint("hpcsera list shows the jobs that this token reaches.")
}

// until returns a context that ends with ctx, after d, or when the server
// stops, and the function that ends it.
func (s *Service) until(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := s.running(ctx)
	limited, end := context.WithTimeout(ctx, d)
	return limited, func() { end(); cancel() }
}

// running is the same without an end in time.
func (s *Service) running(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // ends with ctx, which the caller ends
		select {
		case <-s.cfg.Stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func (s *Service) stopping() bool {
	select {
	case <-s.cfg.Stopping:
		return true
	default:
		return false
	}
}
