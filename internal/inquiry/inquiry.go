package inquiry

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hpcsera/hpcsera"
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
}

// Code files what was signed: internal/code.
type Code interface {
	FileApproval(ctx context.Context, p *auth.Principal, r hpcsera.ApprovalRequest) (hpcsera.Approval, error)
}

// Jobs ends what was decided against: internal/jobs.
type Jobs interface {
	Deny(ctx context.Context, user, project, digest, message string) error
}

// Service asks and applies. It may be used by many goroutines.
type Service struct{ cfg Config }

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg}
}

// The clocks and bounds of this package.
const (
	openFor   = 24 * time.Hour // a request waits for its user
	lookEvery = time.Minute    // at the latest: after the Auth app was away, or a request ended undecided
	mostAsked = 500            // kinds of code that are asked about at once
)

// asked is the kind of documents of open requests. A document's key is whose
// code it is about, its owner the request's id.
const asked store.Kind = "inquiry"

type question struct {
	store.Awaited
	Request string
	Expires time.Time
}

func key(a store.Awaited) string { return a.User + " " + a.Project + " " + a.Digest }

// Run asks whenever a job begins to wait, until ctx ends. It is to be run
// once, in a goroutine of the server.
func (s *Service) Run(ctx context.Context) error {
	sub := s.cfg.Store.Feed().Subscribe(func(c *store.Change) bool {
		return c.Type == store.StateEvent && c.State == hpcsera.Pending && c.Reason == hpcsera.WaitingForApproval
	})
	defer sub.Close()
	for ctx.Err() == nil {
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("users were not asked about code that waits; it is tried again", "err", err)
		}
		wait, cancel := context.WithTimeout(ctx, lookEvery)
		sub.Wait(wait)
		cancel()
	}
	return nil
}

// look asks about everything that is awaited and was not asked about.
func (s *Service) look(ctx context.Context) error {
	var awaited []store.Awaited
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		awaited, err = r.Awaited(mostAsked)
		return err
	})
	if err != nil {
		return err
	}
	var failed error
	for _, a := range awaited {
		if err := s.ask(ctx, a); err != nil {
			failed = errors.Join(failed, err) // the others are asked all the same
		}
	}
	return failed
}

// ask posts a request unless the Auth app has it: a document without Posted is
// of a replica that did not live to post it, or of an Auth app that was away.
func (s *Service) ask(ctx context.Context, a store.Awaited) error {
	now := s.cfg.Now().UTC()
	var open struct {
		question
		Posted bool
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error { return r.Document(asked, key(a), now, &open) })
	if err == nil && open.Posted {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err != nil {
		open.question = question{Awaited: a, Request: hpcsera.NewID("rq"), Expires: now.Add(openFor)}
	}
	request, err := s.request(ctx, open.question)
	if err != nil || request == nil {
		return err
	}
	at := store.Document{Kind: asked, Key: key(a), Owner: open.Request, Ends: open.Expires}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		var other question
		if err := tx.Document(asked, key(a), now, &other); err == nil && other.Request != open.Request {
			return store.ErrExists // another replica asks
		}
		return tx.PutDocument(at, open)
	})
	if errors.Is(err, store.ErrExists) {
		return nil
	} else if err != nil {
		return err
	}
	if err := s.cfg.Inbox.Post(ctx, *request); err != nil {
		return err
	}
	open.Posted = true
	return s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		var still question
		if err := tx.Document(asked, key(a), now, &still); err != nil {
			return nil // it was decided meanwhile
		}
		if err := tx.Note(hpcsera.AuditLine{At: now, Actor: "server", Action: "code.ask", User: a.User, Project: a.Project, About: a.Digest, Detail: open.Request}); err != nil {
			return err
		}
		return tx.PutDocument(at, open)
	})
}

// Decided applies a decision about code that the caller has verified. It may
// be applied twice.
func (s *Service) Decided(ctx context.Context, d decision.Decision) error {
	now := s.cfg.Now()
	var q question
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		found := ""
		err := r.Documents(asked, d.Request, now, func(key string, _ []byte) error {
			found = key
			return nil
		})
		if err != nil || found == "" {
			return errors.Join(err, store.ErrNotFound)
		}
		return r.Document(asked, found, now, &q)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // applied before, or not decided in time
	} else if err != nil {
		return store.Failed("find request "+d.Request, err)
	}
	if d.User != q.User {
		return hpcsera.Errorf(hpcsera.ApprovalRefused, "%s decided what %s was asked.", d.User, q.User)
	}
	if d.Granted {
		person := &auth.Principal{Person: &auth.Person{User: d.User, SteppedUp: true}}
		if _, err := s.cfg.Code.FileApproval(ctx, person, hpcsera.ApprovalRequest{Statement: d.Statement, Signature: d.Signature}); err != nil {
			return err
		}
	} else if err := s.cfg.Jobs.Deny(ctx, q.User, q.Project, q.Digest, d.User+" decided against this code in the Auth app."); err != nil {
		return err
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if !d.Granted {
			line := hpcsera.AuditLine{At: now, Actor: "user:" + d.User, Action: "code.deny", User: d.User, Project: q.Project, About: q.Digest}
			if err := tx.Note(line); err != nil {
				return err
			}
		}
		return tx.DeleteDocument(asked, key(q.Awaited))
	})
	return store.Failed("close request "+d.Request, err)
}
