package session

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/peer"
	"github.com/hpcsera/hpcsera/internal/records"
)

//go:embed pages/*.html
var templates embed.FS

// Config is what a Service is made of.
type Config struct {
	Records records.Store
	Frame   *page.Frame
	// URL is the Auth app as browsers see it, with the frame's prefix and
	// without a slash at the end. Its host is what passkeys are bound to.
	URL     string
	Product string // the name that authenticator apps and mails show
	// Keys hide in the records what must be read again; each has at least 32
	// random bytes. The first is used, the others are known from before.
	Keys [][]byte
	// Institutions are where people may sign in besides here.
	Institutions []Institution
	// CheckEvery is how often institutions are asked whether their people are
	// still there, 45 minutes at most; 0 is half an hour.
	CheckEvery time.Duration
	// Mailer takes notices to people; nil sends none.
	Mailer Mailer
	// Watch is told what others must act upon, within the transaction that
	// makes it true. nil tells nobody.
	Watch func(records.Tx, Event) error
	// Hashing is the cost of a password; the zero value is RFC 9106's second
	// choice.
	Hashing Hashing
	// Client speaks to institutions; nil is a client with a deadline.
	Client *http.Client
	// Address tells where a request comes from; nil takes the connection's peer.
	// A program behind a proxy hands in what the proxy says.
	Address func(*http.Request) string
	Now     func() time.Time
	Log     *slog.Logger
}

// Event is what happened to a person that deployments must know.
type Event struct {
	Kind    EventKind
	User    string
	Session string // of SessionEnded
}

// EventKind names what happened.
type EventKind string

// The events.
const (
	SessionEnded EventKind = "session.ended" // signed out, ended, or run out by an institution's word
	UserDisabled EventKind = "user.disabled" // by an operator, or left the institution
	UserEnabled  EventKind = "user.enabled"  // back again
)

// The limits of time.
const (
	sessionLife = 12 * time.Hour
	sessionIdle = 2 * time.Hour
	sightEvery  = time.Minute // a session's last use is not written more often
	visitLife   = 10 * time.Minute
	linkLife    = 72 * time.Hour
	stepUpLife  = 5 * time.Minute
)

// Service is the feature. All methods may be called concurrently.
type Service struct {
	cfg          Config
	host         string
	pages        *page.Pages
	passkeys     *webauthn.WebAuthn
	hasher       *hasher
	vault        *vault
	institutions map[string]*institution
	outbox       chan letter
}

// New returns a service. Run does its work in the background.
func New(cfg Config) (*Service, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is no address that browsers could use.", cfg.URL).At("url").
			Hint("Write https://HOST, as people will type it.")
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 15 * time.Second}
	}
	if cfg.Address == nil {
		cfg.Address = peer.Of
	}
	if cfg.CheckEvery == 0 {
		cfg.CheckEvery = checkEvery
	}
	if cfg.CheckEvery < time.Second || cfg.CheckEvery > maxCheckEvery {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%v is no time between two questions to an institution.", cfg.CheckEvery).At("limits.institution_check").
			Hint("Write one second to 45 minutes: a leaver is out within the hour.")
	}
	s := &Service{cfg: cfg, host: u.Hostname(), institutions: map[string]*institution{}, outbox: make(chan letter, 256)}
	files, err := fs.Sub(templates, "pages")
	if err != nil {
		return nil, err
	}
	if s.pages, err = cfg.Frame.Pages(files, notices, words); err != nil {
		return nil, err
	}
	s.passkeys, err = webauthn.New(&webauthn.Config{
		RPID: s.host, RPDisplayName: cfg.Product, RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		// On the device and with its owner checked: two factors in one.
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	s.hasher = newHasher(cfg.Hashing)
	if s.vault, err = newVault(cfg.Keys); err != nil {
		return nil, err
	}
	for _, i := range cfg.Institutions {
		if err := i.check(); err != nil {
			return nil, err
		}
		if s.institutions[i.Name] != nil {
			return nil, hpcsera.Errorf(hpcsera.InvalidField, "there are two institutions %s.", i.Name).At("institutions")
		}
		s.institutions[i.Name] = &institution{Institution: i, client: cfg.Client, callback: cfg.URL + "/institution/" + i.Name + "/callback"}
	}
	return s, nil
}

// sweepEvery is how often records that ended are erased.
const sweepEvery = 10 * time.Minute

// Run sends mails, asks institutions about people who may have left, and
// erases what has ended, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	var loops sync.WaitGroup
	loops.Go(func() { s.deliver(ctx) })
	loops.Go(func() { s.keepUp(ctx) })
	loops.Wait()
}

// deliver is the loop that sends mails.
func (s *Service) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.outbox:
			s.send(ctx, m)
		}
	}
}

// keepUp is the loop that asks institutions and sweeps.
func (s *Service) keepUp(ctx context.Context) {
	sweep, look := time.NewTicker(sweepEvery), time.NewTicker(s.cfg.CheckEvery/looksPerCheck)
	defer sweep.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			if err := s.cfg.Records.Write(ctx, func(tx records.Tx) error { return tx.Sweep(s.cfg.Now()) }); err != nil {
				s.cfg.Log.WarnContext(ctx, "records that ended were not erased", "error", err)
			}
		case <-look.C:
			if err := s.CheckPeople(ctx); err != nil {
				s.cfg.Log.WarnContext(ctx, "institutions could not be asked about their people", "error", err)
			}
		}
	}
}
