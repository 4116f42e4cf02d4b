// Package authapp puts the Auth app together: the frame of its pages, who
// people are (session), what they decide (consent), and the operator's
// operations. hpcsera-auth serves it on its own; hpcserad serves it below
// /auth/ where no other one is configured. Both hand in a database and a
// secret of the Auth app's own.
package authapp

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/session"
)

// Config is what an App is made of.
type Config struct {
	Store records.Store
	// URL is where people find the Auth app, with its path and without a slash
	// at its end. Passkeys and the issuer of decisions hang on it.
	URL     string
	Product string // the name above every page; "" is HPCSerA
	// Secret is 32 bytes or more that no database holds: it seals what the
	// database must give back, and agents pin what signs withdrawals by it.
	Secret       []byte
	OldSecrets   [][]byte // that were Secret before: what they sealed is still read
	Institutions []session.Institution
	CheckEvery   time.Duration              // how often institutions are asked about their people; 0 is half an hour
	Mailer       session.Mailer             // nil sends no mail
	Address      func(*http.Request) string // where a request comes from; nil is the connection's peer
	InProcess    bool                       // it runs inside the one API server that it serves
	Stopping     <-chan struct{}            // closed when long polls should end
	Hashing      session.Hashing            // the cost of passwords; zero is the usual one
	Push         *http.Client               // for logout tokens; nil pushes none
	Syslog       Syslog                     // takes the heads of the audit log; nil is nowhere but the program's own log
	Databases    []backup.Database          // what the operator's backup copies: the store's
	Log          *slog.Logger
	Now          func() time.Time // nil is time.Now
}

// Syslog takes one line; *syslog.Writer is one.
type Syslog interface {
	Notice(line string) error
}

// App is the Auth app.
type App struct {
	Session   *session.Service
	Consent   *consent.Service
	store     records.Store
	databases []backup.Database
	syslog    Syslog
	signed    decision.Heads
	log       *slog.Logger
	now       func() time.Time
}

// New makes the Auth app and what must be there before its first request.
func New(ctx context.Context, cfg Config) (*App, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a URL like https://auth.example.org.", cfg.URL).At("public_url")
	}
	if cfg.Product == "" {
		cfg.Product = "HPCSerA"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	frame, err := page.New(page.Config{
		Prefix: u.Path, Product: cfg.Product, Account: "/account", SignOut: "/signout", Secure: u.Scheme == "https", Log: cfg.Log,
		Nav: append(consent.Places(), page.Link{Path: "/account", Label: "Account"}, page.Link{Path: "/people", Label: "People", Operators: true}),
	})
	if err != nil {
		return nil, err
	}
	// A key of its own: those of decisions are gone when somebody compares the
	// head of last year.
	key, err := decision.DeriveKey(cfg.Secret, "hpcsera-auth audit heads")
	if err != nil {
		return nil, err
	}
	a := &App{store: cfg.Store, databases: cfg.Databases, syslog: cfg.Syslog, signed: decision.Heads{Key: key, Log: cfg.URL, Now: cfg.Now}, log: cfg.Log, now: cfg.Now}
	a.Session, err = session.New(session.Config{
		Records: cfg.Store, Frame: frame, URL: cfg.URL, Product: cfg.Product, Keys: append([][]byte{cfg.Secret}, cfg.OldSecrets...), Institutions: cfg.Institutions, CheckEvery: cfg.CheckEvery, Mailer: cfg.Mailer,
		Address: cfg.Address, Hashing: cfg.Hashing, Now: cfg.Now, Log: cfg.Log,
		// Nothing happens to a person before both features are there.
		Watch: func(tx records.Tx, e session.Event) error { return a.Consent.Watch(tx, e) },
	})
	if err != nil {
		return nil, err
	}
	a.Consent, err = consent.New(consent.Config{
		Store: cfg.Store, Sessions: consent.From(a.Session, frame), Frame: frame, Issuer: cfg.URL, Prefix: u.Path, Secret: cfg.Secret, OldSecrets: cfg.OldSecrets,
		InProcess: cfg.InProcess, Push: cfg.Push, Stopping: cfg.Stopping, Log: cfg.Log, Now: cfg.Now,
	})
	if err != nil {
		return nil, err
	}
	return a, a.Consent.Prepare(ctx)
}

// Handler serves the Auth app below its URL's path.
func (a *App) Handler() http.Handler { return a.Consent.Handler() }

// Run does what nobody asks for until ctx ends.
func (a *App) Run(ctx context.Context) error {
	var work errgroup.Group
	work.Go(func() error { a.Session.Run(ctx); return nil })
	work.Go(func() error { return a.Consent.Run(ctx) })
	work.Go(func() error { return a.heads(ctx) })
	return work.Wait()
}

// headEvery is how often the end of the audit log is told to the log of the
// host, where a changed audit log cannot change it; and at the start and at the
// end.
const headEvery = time.Hour

func (a *App) heads(ctx context.Context) error {
	tick := time.NewTicker(headEvery)
	defer tick.Stop()
	for a.publishHead(ctx); ; a.publishHead(ctx) {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			a.publishHead(last)
			return nil
		case <-tick.C:
		}
	}
}

func (a *App) publishHead(ctx context.Context) {
	head, err := a.Verify(ctx, VerifyAudit{})
	switch {
	case err != nil && ctx.Err() != nil:
		a.log.WarnContext(ctx, "the audit log was not read to its end", "error", err)
		return
	case err != nil:
		a.log.ErrorContext(ctx, "audit log is broken", "error", err)
		return
	}
	text, err := a.signed.Sign(head.Head)
	if err != nil {
		a.log.ErrorContext(ctx, "the head of the audit log cannot be signed", "error", err)
		return
	}
	a.log.InfoContext(ctx, "audit head", "log", "auth", "head", text)
	if a.syslog == nil {
		return
	}
	if err := a.syslog.Notice("hpcsera-auth audit head " + text); err != nil {
		a.log.ErrorContext(ctx, "the head of the audit log did not reach syslog", "error", err)
	}
}
