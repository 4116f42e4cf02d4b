package signin

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store store.Store
	Users Users
	// Issuer is the Auth app's URL, without a slash at its end; Name is how this
	// deployment is registered there.
	Issuer, Name string
	// URL is where browsers reach this server, without a slash at its end.
	URL string
	// Assertion proves to the Auth app that this deployment asks
	// (private_key_jwt, RFC 7523). Each is used once.
	Assertion func() (string, error)
	// HTTP reaches the Auth app, over the network or in this process.
	HTTP *http.Client
	// Key is the server's secret, at least 32 bytes, equal on all replicas.
	Key []byte
	Log *slog.Logger
	Now func() time.Time // nil is time.Now
}

// Users are the users of this deployment; internal/access keeps them.
type Users interface {
	// Admit returns the user whom the Auth app named, made when new. A disabled
	// one is refused. projects are those of the user by the word of the user's
	// institution.
	Admit(ctx context.Context, name string, projects []string) (hpcsera.User, error)
	// Leave disables a user whose account at the Auth app was ended.
	Leave(ctx context.Context, name string) error
}

// How long things last.
const (
	sessionLife = 12 * time.Hour
	sessionIdle = time.Hour
	seenEvery   = time.Minute // a session's last use is not written more often
	flowLife    = 10 * time.Minute
	keptLife    = 15 * time.Minute
	clockSkew   = time.Minute
	// keysEvery is how often a logout token can make us fetch the Auth app's
	// keys at most. Anybody can send one, signed by whatever.
	keysEvery = 30 * time.Second
)

// Service keeps the sessions of browsers. It may be used by many goroutines.
type Service struct {
	cfg  Config
	http *http.Client
	seal cipher.AEAD

	mu       sync.Mutex
	provider *authApp // nil until the Auth app was reached
}

// New returns a service. The Auth app is asked only when somebody signs in, so
// the two may start in any order.
func New(cfg Config) (*Service, error) {
	if len(cfg.Key) < 32 {
		return nil, errors.New("signin: the server's key has fewer than 32 bytes")
	}
	if cfg.Issuer == "" || cfg.Name == "" || cfg.URL == "" || strings.HasSuffix(cfg.Issuer, "/") || strings.HasSuffix(cfg.URL, "/") {
		return nil, errors.New("signin: the Auth app's URL, the own URL or the own name is empty or ends with a slash")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	key, err := hkdf.Key(sha256.New, cfg.Key, nil, "hpcsera sign-in in progress", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	// A redirect would take the proof of who we are to somebody else.
	own := *cfg.HTTP
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Service{cfg: cfg, http: &own, seal: seal}, nil
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Second) }

// authApp is what the Auth app says of itself.
type authApp struct {
	*oidc.Provider
	// logouts are its keys once more, for tokens that anybody may send: they
	// are fetched rarely, and use up nothing of what sign-ins need.
	logouts oidc.KeySet
}

// authApp returns what the Auth app says of itself, which is asked for until
// it answers once. Nobody waits for another's question.
func (s *Service) authApp(ctx context.Context) (*authApp, error) {
	s.mu.Lock()
	known := s.provider
	s.mu.Unlock()
	if known != nil {
		return known, nil
	}
	p, err := oidc.NewProvider(oidc.ClientContext(ctx, s.http), s.cfg.Issuer)
	var said struct {
		Keys string `json:"jwks_uri"`
	}
	if err == nil {
		err = p.Claims(&said)
	}
	if err != nil {
		s.cfg.Log.ErrorContext(ctx, "the Auth app cannot be reached", "url", s.cfg.Issuer, "err", err)
		return nil, hpcsera.Errorf(hpcsera.Unavailable, "the Auth app at %s, where people sign in, does not answer as it should.", s.cfg.Issuer).
			Hint("Try again in a moment. If it lasts, tell the operator: the server's log says what is wrong.")
	}
	seldom := *s.http
	seldom.Transport = &seldomly{next: s.http.Transport, every: keysEvery, now: s.cfg.Now}
	app := &authApp{p, oidc.NewRemoteKeySet(oidc.ClientContext(ctx, &seldom), said.Keys)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.provider == nil {
		s.provider = app
	}
	return s.provider, nil
}

func (s *Service) oauth(p *authApp) *oauth2.Config {
	endpoint := p.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	return &oauth2.Config{
		ClientID: s.cfg.Name, Endpoint: endpoint, RedirectURL: s.cfg.URL + decision.CallbackPath, Scopes: []string{oidc.ScopeOpenID},
	}
}

// verifier checks the id_tokens that the Auth app itself gave us.
func (s *Service) verifier(p *authApp) *oidc.IDTokenVerifier { return p.Verifier(s.tokens()) }

// logoutVerifier checks the logout tokens that somebody brought.
func (s *Service) logoutVerifier(p *authApp) *oidc.IDTokenVerifier {
	return oidc.NewVerifier(s.cfg.Issuer, p.logouts, s.tokens())
}

// tokens are the Auth app's for us. It signs with Ed25519 only.
func (s *Service) tokens() *oidc.Config {
	return &oidc.Config{ClientID: s.cfg.Name, SupportedSigningAlgs: []string{oidc.EdDSA}, Now: s.cfg.Now}
}
