package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/peer"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store store.Store
	Auth  *auth.Service
	// Access looks up clients and makes credentials: internal/access.
	Access Access
	// Revoke takes a token back, as RFC 7009 has it: internal/jobs.
	Revoke func(ctx context.Context, token string, stop bool, actor string) error
	// Inbox is the Auth app: decision.Client.
	Inbox Inbox
	// Issuer is the Auth app's issuer, Deployment our registered name there:
	// decisions by others and for others are refused.
	Issuer, Deployment string
	// Consent takes decisions about code; nil where no code is asked about.
	Consent func(context.Context, decision.Decision) error
	// PublicURL is the URL under which clients reach the server: our issuer.
	PublicURL string
	// Key is the server's secret, at least 32 bytes, equal on all replicas.
	Key []byte
	// Notify reaches the notification endpoints of clients: callback.NewClient.
	Notify *http.Client
	// Address returns where a request comes from; nil is its connection's
	// address. Behind a proxy it is what the proxy says.
	Address func(*http.Request) string
	// Interval is how long a client waits between two polls; 0 is 5 seconds.
	Interval time.Duration
	// Refused is told of each request that was refused, for the audit log. It
	// must not wait: anybody can ask as often as they like. nil is nobody.
	Refused func(hpcsera.AuditLine)
	Log     *slog.Logger
	Now     func() time.Time // nil is time.Now
}

// Access looks up who there is and makes what was granted. It is
// internal/access; the methods that take a transaction change it.
type Access interface {
	Registered(r store.Reader, client string) (*store.Registration, error)
	Enabled(r store.Reader, user, client string) (bool, error)
	Usable(r store.Reader, t hpcsera.Token) error
	TokenLife() (usual, most time.Duration)
	AgentLife() (usual, most time.Duration)
	Issuer
}

// Issuer makes credentials, each together with its line in the audit log.
type Issuer interface {
	IssueToken(tx store.Tx, by *auth.Principal, t hpcsera.Token) (hpcsera.Token, string, error)
	IssueAgent(tx store.Tx, by *auth.Principal, a hpcsera.Agent, replace bool) (hpcsera.Agent, string, error)
	IssueSession(tx store.Tx, by *auth.Principal, r hpcsera.Session) (hpcsera.Session, string, error)
}

// Inbox is where users decide.
type Inbox interface {
	Post(ctx context.Context, r decision.Request) error
	Cancel(ctx context.Context, id string) error
	RequestURL(id string) string
	CodeURL() string
	Outbox
}

// Outbox is where their decisions come from.
type Outbox interface {
	Decisions(ctx context.Context, wait time.Duration) ([]string, error)
	Ack(ctx context.Context, ids ...string) error
	Keys(ctx context.Context) ([]jose.JSONWebKey, error)
}

// Service serves the endpoints and applies decisions. It may be used by many
// goroutines.
type Service struct {
	cfg     Config
	signing *ecdsa.PrivateKey // of id_tokens
	keyID   string
	mac     []byte    // of what clients hold while they wait
	arrived *arrivals // who asks for codes
	strays  *arrivals // who polls for what there is not
	keys    keyCache
	pings   chan ping
}

// New returns a service, or an error when the configuration is unusable.
func New(cfg Config) (*Service, error) {
	u, err := url.Parse(cfg.PublicURL)
	switch {
	case len(cfg.Key) < 32:
		return nil, errors.New("oauth: the server's key has fewer than 32 bytes")
	case err != nil || u.Host == "" || cfg.PublicURL[len(cfg.PublicURL)-1] == '/':
		return nil, errors.New("oauth: the public URL is none, or ends with a slash")
	case cfg.Issuer == "" || cfg.Deployment == "":
		return nil, errors.New("oauth: the Auth app's issuer and the deployment's name there are needed")
	}
	if cfg.Refused == nil {
		cfg.Refused = func(hpcsera.AuditLine) {}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Interval == 0 {
		cfg.Interval = interval
	}
	if cfg.Address == nil {
		cfg.Address = peer.Of
	}
	s := &Service{cfg: cfg, arrived: newArrivals(burst, pace), strays: newArrivals(strayBurst, strayPace), pings: make(chan ping, maxPings)}
	if s.mac, err = hkdf.Key(sha256.New, cfg.Key, nil, "hpcsera oauth grants", 32); err != nil {
		return nil, fmt.Errorf("oauth: %w", err)
	}
	s.signing, s.keyID, err = signingKey(cfg.Key)
	return s, err
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC() }

// Handler serves the endpoints below /oauth/ and /.well-known/.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/oauth/device_authorization", s.endpoint(s.deviceAuthorization))
	mux.Handle("/oauth/bc-authorize", s.endpoint(s.backchannelAuthorization))
	mux.Handle("/oauth/token", s.endpoint(s.token))
	mux.Handle("/oauth/revoke", s.endpoint(s.revoke))
	mux.Handle("/oauth/introspect", s.endpoint(s.introspect))
	mux.HandleFunc("GET /oauth/jwks", s.jwks)
	// RFC 8414 puts the name between host and path of an issuer with a path,
	// OpenID Connect behind it. Here the proxy's part of the path is gone.
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", s.metadata)
	if u, err := url.Parse(s.cfg.PublicURL); err == nil && u.Path != "" {
		mux.HandleFunc("GET /.well-known/oauth-authorization-server"+u.Path, s.metadata)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", s.metadata)
	return mux
}

// endpoint is one that takes a form and answers with JSON.
func (s *Service) endpoint(answer func(*request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Pragma", "no-cache")
		form, err := readForm(w, r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		body, err := answer(&request{Request: r, form: form, header: w.Header()})
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, body)
	})
}

// request is a form on its way through an endpoint.
type request struct {
	*http.Request
	form   form
	header http.Header // of the answer
}
