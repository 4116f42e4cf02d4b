package inquiry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store      store.Store
	Blobs      blob.Store
	Inbox      Inbox
	Code       Code
	Jobs       Jobs
	Deployment string // the server's public URL
	Log        *slog.Logger
	Now        func() time.Time // nil is time.Now
}

// Inbox is where users decide: decision.Client.
type Inbox interface {
	Post(ctx context.Context, r decision.Request) error
	Cancel(ctx context.Context, id string) error
	Filed(ctx context.Context, statement []byte, signature string) error
	RequestURL(id string) string
}

// Code files what was signed: internal/code.
type Code interface {
	FileApproval(ctx context.Context, p *auth.Principal, r hpcsera.ApprovalRequest) (hpcsera.Approval, error)
}

// Jobs ends what was decided against: internal/jobs.
type Jobs interface {
	Deny(tx store.Tx, ledger *store.Ledger, code store.Awaited, message string) error
}

// Service asks and applies. Decided may be called by many goroutines.
type Service struct {
	cfg Config
	run running
}

// running is what only Run's goroutine uses.
type running struct {
	after   store.Awaited        // where the next look goes on
	refused map[string]time.Time // what the Auth app does not take before then
	failing bool                 // and the log says so
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	// The Auth app knows the deployment in one form only.
	if form, err := approval.Deployment(cfg.Deployment); err == nil {
		cfg.Deployment = form
	}
	return &Service{cfg: cfg, run: running{refused: map[string]time.Time{}}}
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC() }

// The clocks and bounds of this package.
const (
	openFor     = 24 * time.Hour  // a request waits for its user
	lookEvery   = time.Minute     // at the latest: after the Auth app was away, or a request ended undecided
	lookPause   = time.Second     // between two looks, however many jobs begin to wait
	refusedFor  = 5 * time.Minute // a refusal of the Auth app is believed
	mostAwaited = 500             // kinds of code in one look; the next one goes on behind them
	mostFiled   = 100             // approvals told in one look
)

// Run asks whenever a job begins to wait, until ctx ends. It is to be run
// once, in a goroutine of the server; every replica runs it.
func (s *Service) Run(ctx context.Context) error {
	sub := s.cfg.Store.Feed().Subscribe(func(c *store.Change) bool {
		return c.Type == store.StateEvent && c.State == hpcsera.Pending && c.Reason == hpcsera.WaitingForApproval && !s.told(c)
	})
	defer sub.Close()
	var waits []store.Change
	for ctx.Err() == nil {
		more, err := s.look(ctx, waits)
		s.report(ctx, err)
		wait := lookEvery
		if more {
			wait = 0
		}
		waiting, cancel := context.WithTimeout(ctx, wait)
		waits, _ = sub.Wait(waiting) // what was lost is found by looking; only its message is not
		cancel()
		select { // a burst is one look
		case <-time.After(lookPause):
		case <-ctx.Done():
		}
	}
	return nil
}

// report logs a failure when it begins, not every minute that it lasts.
func (s *Service) report(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		s.run.failing = false
	case !s.run.failing:
		s.run.failing = true
		s.cfg.Log.Warn("the Auth app was not told everything; it is tried again", "err", err)
	}
}

// look does all there is to do: it asks about code that is awaited, takes back
// what nobody waits for, and tells what was signed elsewhere. waits are jobs
// that have begun to wait; those of code that was asked about already are told
// so. more is set where another look is due at once.
func (s *Service) look(ctx context.Context, waits []store.Change) (more bool, err error) {
	more, err = s.askAll(ctx)
	return more, errors.Join(err, s.join(ctx, waits), s.tellFiled(ctx))
}

// askAll asks about a page of what is awaited. A failure about one kind of
// code keeps no other from being asked about.
func (s *Service) askAll(ctx context.Context) (more bool, err error) {
	now := s.now()
	var awaited []store.Awaited
	open := map[store.Awaited]question{}
	err = s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		if awaited, err = r.Awaited(s.run.after, mostAwaited); err != nil {
			return err
		}
		return r.Documents(asked, "", now, func(_ string, doc []byte) error {
			var q question
			err := json.Unmarshal(doc, &q)
			open[q.Awaited] = q
			return err
		})
	})
	if err != nil {
		return false, store.Failed("read what is awaited", err)
	}
	maps.DeleteFunc(s.run.refused, func(_ string, until time.Time) bool { return !now.Before(until) })
	var failed failures
	for _, a := range awaited {
		q, known := open[a]
		delete(open, a)
		switch {
		case !known || q.Dropped:
			failed.add(s.ask(ctx, question{Awaited: a, Request: hpcsera.NewID("rq"), Expires: now.Add(openFor)}, true))
		case !q.Posted:
			failed.add(s.ask(ctx, q, false))
		}
	}
	whole := s.run.after == store.Awaited{} && len(awaited) < mostAwaited
	if more = len(awaited) == mostAwaited; more {
		s.run.after = awaited[len(awaited)-1]
	} else {
		s.run.after = store.Awaited{}
	}
	for _, q := range open {
		if whole && !q.Dropped {
			failed.add(s.drop(ctx, q))
		}
	}
	return more, failed.err()
}

// failures keeps the first of many errors, which mostly are the same.
type failures struct {
	first error
	count int
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	if f.count++; f.first == nil {
		f.first = err
	}
}

func (f *failures) err() error {
	if f.count > 1 {
		return fmt.Errorf("%w (and %d more)", f.first, f.count-1)
	}
	return f.first
}
