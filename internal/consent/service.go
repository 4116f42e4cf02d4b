package consent

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

//go:embed templates/*.html
var templates embed.FS

// Config is what a Service is made of.
type Config struct {
	Store    records.Store
	Sessions Sessions
	Frame    *page.Frame
	// Issuer is the Auth app's URL with its prefix, without a slash at its end;
	// Prefix is that URL's path.
	Issuer string
	Prefix string
	// Secret is 32 bytes or more that no database holds. What is derived from
	// it signs status lists, which agents pin, and seals the keys that rotate.
	Secret []byte
	// OldSecrets were Secret before: what they sealed is still read.
	OldSecrets [][]byte
	// InProcess says that the Auth app runs inside the one API server that it
	// serves, which is then no second party: there is no status list to rely on.
	InProcess bool
	Push      *http.Client    // for logout tokens; nil pushes none, deployments ask anyway
	Stopping  <-chan struct{} // closed when long polls should end; nil is never
	Log       *slog.Logger
	Now       func() time.Time // nil is time.Now
}

// Service is the feature. It may be used concurrently, by any number of
// processes on one database.
type Service struct {
	cfg      Config
	pages    *page.Pages
	origin   string             // of the pages
	host     string             // relying party of passkeys
	passkeys *webauthn.WebAuthn // for signing code only
	status   ed25519.PrivateKey
	seal     sealer
	wake     *wake
}

// New makes the feature.
func New(cfg Config) (*Service, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Host == "" || u.Path != cfg.Prefix {
		return nil, hpcsera.Errorf(hpcsera.InvalidField, "%q is not the Auth app's URL with the path %q.", cfg.Issuer, cfg.Prefix).At("public_url")
	}
	s := &Service{cfg: cfg, origin: strings.ToLower(u.Scheme + "://" + u.Host), host: strings.ToLower(u.Hostname()), wake: newWake()}
	if s.origin, err = approval.Deployment(s.origin); err != nil {
		return nil, err
	}
	if s.passkeys, err = newRelyingParty(s.host, s.origin); err != nil {
		return nil, err
	}
	files, err := fs.Sub(templates, "templates")
	if err != nil {
		return nil, err
	}
	if s.pages, err = cfg.Frame.Pages(files, notices, words); err != nil {
		return nil, err
	}
	if s.status, err = statusKey(cfg.Secret); err != nil {
		return nil, err
	}
	s.seal, err = newSealer(append([][]byte{cfg.Secret}, cfg.OldSecrets...)...)
	return s, err
}

// statusKey derives the key of status lists.
func statusKey(secret []byte) (ed25519.PrivateKey, error) {
	if len(secret) < 32 {
		return nil, errors.New("the Auth app's secret is shorter than 32 bytes")
	}
	seed, err := hkdf.Key(sha256.New, secret, nil, "hpcsera-auth status list", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive the key of status lists: %w", err)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// AuthKeyOf is the key of the status lists of an Auth app with a secret that it
// need not use yet, so that agents can pin it before.
func AuthKeyOf(secret []byte) (approval.AuthKey, error) {
	key, err := statusKey(secret)
	if err != nil {
		return nil, err
	}
	return approval.AuthKey(key.Public().(ed25519.PublicKey)), nil
}

// notices are what a page says once after a form.
var notices = map[string]string{
	"allowed":   "You allowed it.",
	"denied":    "You denied it. Nothing was granted.",
	"muted":     "You denied it and muted the client. It can ask you again when the time is over, or when you unmute it.",
	"unmuted":   "The client can ask you again.",
	"signed":    "You signed the code.",
	"key added": "The passkey was registered for signing code.",
	"key gone":  "The passkey was removed. What it signed counts no more where agents have the new status list.",
	"withdrawn": "The approval was withdrawn.",
	"expired":   "That request is not open any more.",
}

// Places are the entries of the navigation that this feature serves.
func Places() []page.Link {
	return []page.Link{{Path: "/", Label: "Requests"}, {Path: "/code", Label: "Type a code"}, {Path: "/approvals", Label: "Code"}, {Path: "/activity", Label: "Activity"}}
}

// AuthKey is the key of status lists, for users to pin in their agents.
func (s *Service) AuthKey() approval.AuthKey {
	return approval.AuthKey(s.status.Public().(ed25519.PublicKey))
}

// Handler serves all of the Auth app below its prefix.
func (s *Service) Handler() http.Handler {
	pages := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /{$}":                              s.inbox,
		"POST /mutes":                           s.unmute,
		"GET /code":                             s.codeForm,
		"POST /code":                            s.typeCode,
		"GET /requests/{deployment}/{id}":       s.showRequest,
		"POST /requests/{deployment}/{id}":      s.decideRequest,
		"GET /approvals":                        s.approvals,
		"POST /approvals/{id}/withdraw":         s.withdrawPage,
		"POST /approvals/keys":                  s.addCodeKey,
		"GET /approvals/keys/new":               s.codeKeyForm,
		"POST /approvals/keys/remove":           s.removeCodeKey,
		"POST /approvals/keys/options":          s.codeKeyOptions,
		"GET /activity":                         s.activity,
		"GET /oidc/authorize":                   s.authorize,
		"POST /oidc/token":                      s.token,
		"GET /oidc/keys":                        s.publicKeys,
		"GET /.well-known/openid-configuration": s.discovery,
		"POST /api/requests":                    s.deployed(s.postRequest),
		"DELETE /api/requests/{id}":             s.deployed(s.cancelRequest),
		"GET /api/decisions":                    s.deployed(s.pollDecisions),
		"POST /api/decisions/ack":               s.deployed(s.acknowledge),
		"GET /api/events":                       s.deployed(s.pollEvents),
		"POST /api/approvals":                   s.deployed(s.fileApproval),
		"GET /api/status-list":                  s.deployed(s.serveStatus),
		"POST /api/notices":                     s.deployed(s.postNotice),
	} {
		method, path, _ := strings.Cut(pattern, " ")
		pages.HandleFunc(method+" "+s.cfg.Prefix+path, h)
	}
	pages.Handle(s.cfg.Prefix+"/assets/", s.cfg.Frame.Handler())
	pages.Handle(s.cfg.Prefix+"/", s.cfg.Sessions.Handler())
	return s.cfg.Frame.Protect(pages)
}

// Run does what nobody asks for until ctx ends: it erases what is over, makes
// new keys and status lists in time, and pushes logout tokens.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := s.upkeep(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "upkeep failed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.wake.pushes:
		}
	}
}

func (s *Service) upkeep(ctx context.Context) error {
	return errors.Join(
		s.cfg.Store.Write(ctx, func(tx records.Tx) error { return tx.Sweep(s.cfg.Now()) }),
		s.cfg.Store.Write(ctx, s.rotate),
		s.renewStatus(ctx),
		s.push(ctx),
	)
}
