package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/settings"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

// authConfig says where people decide.
type authConfig struct {
	URL     string `json:"url"`      // of the Auth app; "" is one in this process, at PUBLIC_URL/auth
	Name    string `json:"name"`     // under which this server is registered there
	KeyFile string `json:"key_file"` // this server's key there; "" is DATA_DIR/deployment.key
	// SecretFile and Database are those of the Auth app in this process: its own
	// secret ("" is DATA_DIR/auth.key) and database ("" is DATA_DIR/auth.db, or
	// the server's own where that is PostgreSQL).
	SecretFile string `json:"secret_file"`
	Database   string `json:"database"`
	// OldSecretFiles were SecretFile before; what they sealed is still read.
	OldSecretFiles []string `json:"old_secret_files"`
	// Mail and Institutions are the Auth app's in this process; another one has
	// its own.
	Mail         authapp.Mail          `json:"mail"`
	Institutions []authapp.Institution `json:"institutions"`
	// InstitutionsNameProjects lets people into the projects that their
	// institutions name, whichever Auth app passes that on. It is off unless
	// somebody wants it: it takes from the owners of projects the decision who
	// is in, and gives it to whoever keeps groups at an institution.
	InstitutionsNameProjects bool `json:"institutions_name_projects"`
	// PrivateNetworks are networks in which clients may be notified although
	// they are not public: "10.0.0.0/8, fd00::/8".
	PrivateNetworks string `json:"private_networks"`
}

// people is the Auth app as this server has it: the way there, and the app
// itself where it runs in this process.
type people struct {
	inbox *decision.Client
	heads decision.Heads // signs those of the audit log
	list  *decision.StatusList
	web   *http.Client // for signing in
	url   string       // the Auth app's issuer

	app   *authapp.App     // nil where another process is the Auth app
	store *authstore.Store // its database, nil as well
}

// authPatience is above the longest wait of a poll for decisions.
const authPatience = time.Minute

// findPeople makes the way to the Auth app. Where none is configured it is one
// in this process, with database and secret of its own; it gets the same
// messages without a network.
func findPeople(ctx context.Context, cfg config, front *server.Server, log *slog.Logger) (*people, error) {
	p := &people{url: cfg.Auth.URL, web: &http.Client{Timeout: authPatience}}
	key, err := deploymentKey(cfg)
	if err != nil {
		return nil, err
	}
	if p.url == "" {
		if err := p.host(ctx, cfg, key, front, log); err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.web.Transport = decision.Local(p.app.Handler())
	}
	p.heads = decision.Heads{Key: key, Log: cfg.PublicURL}
	p.inbox = decision.NewClient(decision.Config{Issuer: p.url, Name: cfg.Auth.Name, Key: key, HTTP: p.web})
	p.list = decision.NewStatusList(p.inbox, log)
	return p, nil
}

// host makes the Auth app of this process and registers this server there.
func (p *people) host(ctx context.Context, cfg config, key decision.Key, front *server.Server, log *slog.Logger) (err error) {
	if p.url, err = authapp.Below(cfg.PublicURL); err != nil {
		return err
	}
	secret, err := settings.LoadKey(cfg.Auth.SecretFile, !cfg.secretGiven)
	if err != nil {
		return err
	}
	old, err := settings.LoadKeys(cfg.Auth.OldSecretFiles)
	if err != nil {
		return fmt.Errorf("auth.old_secret_files: %w", err)
	}
	if p.store, err = authstore.Open(ctx, cfg.Auth.Database, time.Now); err != nil {
		return err
	}
	c, err := outside(cfg)
	if err != nil {
		return err
	}
	c.Store, c.URL, c.Secret, c.OldSecrets, c.InProcess, c.Address, c.Stopping = p.store, p.url, secret, old, true, cfg.sender, front.Stopping()
	c.Syslog, c.Log = settings.Syslog(cfg.Syslog, "hpcserad", slog.New(slog.DiscardHandler)), log // the server tells what is wrong with it
	p.app, err = authapp.New(ctx, c)
	if err != nil {
		return err
	}
	public, err := key.Public().MarshalJSON()
	if err != nil {
		return err
	}
	err = p.app.Consent.Own(ctx, consent.NewDeployment{Name: cfg.Auth.Name, URL: cfg.PublicURL, Key: string(public)})
	var told *hpcsera.Error
	if errors.As(err, &told) && told.Field == "url" {
		named := *told
		return named.At("public_url") // as the setting is called
	}
	return err
}

// outside is what the Auth app of this process is given for what is outside:
// mails, and institutions.
func outside(cfg config) (c authapp.Config, err error) {
	if c.Mailer, err = cfg.Auth.Mail.Mailer("auth.mail"); err != nil {
		return c, err
	}
	c.CheckEvery = time.Duration(cfg.Limits.InstitutionCheck)
	c.Institutions, err = authapp.Institutions("auth.institutions", cfg.Auth.Institutions)
	return c, err
}

// mailer returns what mails users: the Auth app, which knows their addresses.
// It is nil where the one in this process sends none; then the log is told.
func (p *people) mailer(cfg config) access.Mailer {
	if p.app != nil && cfg.Auth.Mail.Server == "" {
		return nil
	}
	return p.inbox
}

// run does what nobody asks for until ctx ends.
func (p *people) run(ctx context.Context) error {
	if p.app != nil {
		return p.app.Run(ctx) // it signs no list: nobody would believe a server about itself
	}
	return p.list.Run(ctx)
}

// firstLink returns the one-time link for the first account, "" where there is
// one, or where another process is the Auth app.
func (p *people) firstLink(ctx context.Context) (string, error) {
	if p.app == nil {
		return "", nil
	}
	return p.app.Session.FirstLink(ctx)
}

func (p *people) close() error {
	if p.store == nil {
		return nil
	}
	return p.store.Close()
}

// deploymentKey reads the server's key at the Auth app, or makes one.
func deploymentKey(cfg config) (decision.Key, error) {
	text, err := os.ReadFile(cfg.Auth.KeyFile)
	if err == nil {
		return decision.ParseKey(text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return decision.Key{}, fmt.Errorf("read the key for the Auth app: %w", err)
	}
	key, err := decision.NewKey()
	if err != nil {
		return key, err
	}
	if text, err = key.PEM(); err != nil {
		return key, err
	}
	f, err := os.OpenFile(cfg.Auth.KeyFile, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return key, fmt.Errorf("keep the key for the Auth app: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return key, fmt.Errorf("keep the key for the Auth app: %w", err)
	}
	return key, nil
}

func (p *program) authCommand() *cobra.Command {
	show := &cobra.Command{
		Use: "key", Short: "Print this server's public key, for the operator of the Auth app", Args: usage.Exactly(0),
		Long: "Prints the public key by which the Auth app knows this server, as JWK. Its operator registers\n" +
			"it together with auth.name and the public URL. The key is made where there is none.",
		Example: "  hpcserad auth key > deployment.jwk",
		RunE: func(*cobra.Command, []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			if err := cfg.ready(); err != nil {
				return err
			}
			key, err := deploymentKey(cfg)
			if err != nil {
				return err
			}
			return json.NewEncoder(p.stdout).Encode(key.Public())
		},
	}
	return group("auth", "This server at the Auth app", show)
}
