package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/command"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/settings"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

func (p *program) serveCommand() *cobra.Command {
	var addressFile string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the Auth app until it is told to stop",
		Long:  "Runs the Auth app. SIGTERM and Ctrl-C stop it: requests in flight finish.",
		Example: "  hpcsera-auth serve --config /srv/hpcsera-auth/hpcsera-auth.yaml\n" +
			"  HPCSERA_AUTH_LISTEN=127.0.0.1:0 hpcsera-auth serve --address-file /run/hpcsera-auth.url",
		Args: usage.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			return p.serve(c.Context(), cfg, addressFile)
		},
	}
	c.Flags().StringVar(&addressFile, "address-file", "", "write the URL into this file when it is ready")
	return c
}

// maxBody is above the largest request: code with the files to show.
const maxBody = 64 << 20

// serve is the wiring of the Auth app, in the order in which things start. They
// stop in the opposite order: first the requests, last the database.
func (p *program) serve(ctx context.Context, cfg config, addressFile string) (err error) {
	log := cfg.Log.New(p.stderr)
	log.Info("settings", settings.Attrs(cfg)...)
	needed := cfg.KeyFile
	if cfg.keyGiven { // in a place of its own it says nothing of the folder
		needed = cfg.DataDir
	}
	if err := command.Ready("hpcsera-auth", cfg.DataDir, needed); err != nil {
		return err
	}
	secret, err := settings.LoadKey(cfg.KeyFile, false)
	if err != nil {
		return err
	}
	db, err := authstore.Open(ctx, cfg.Database, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	front, err := listen(cfg, log)
	if err != nil {
		return err
	}
	defer front.Close()
	console, err := server.Listen(server.Config{Listen: "unix:" + cfg.AdminSocket, Log: log})
	if err != nil {
		return err
	}
	defer console.Close()
	if cfg.PublicURL == "" {
		if cfg.PublicURL, err = publicURL(front); err != nil {
			return err
		}
	}
	app, err := assemble(ctx, cfg, secret, db, front, log)
	if err != nil {
		return err
	}
	if err := p.announce(ctx, app, cfg, addressFile); err != nil {
		return err
	}
	// What runs beside the requests ends after them.
	work, stopping := errgroup.WithContext(ctx)
	beside, endBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer endBeside()
	work.Go(func() error { return app.Run(beside) })
	work.Go(func() error { return console.Serve(stopping, app.Operations()) })
	work.Go(func() error {
		defer endBeside()
		return front.Serve(stopping, edge(app, db))
	})
	err = work.Wait()
	log.Info("stopped")
	return err
}

func assemble(ctx context.Context, cfg config, secret []byte, db *authstore.Store, front *server.Server, log *slog.Logger) (*authapp.App, error) {
	mailer, err := cfg.Mail.Mailer("mail")
	if err != nil {
		return nil, err
	}
	old, err := settings.LoadKeys(cfg.OldKeyFiles)
	if err != nil {
		return nil, fmt.Errorf("old_key_files: %w", err)
	}
	institutions, err := authapp.Institutions("institutions", cfg.Institutions)
	if err != nil {
		return nil, err
	}
	c := authapp.Config{
		Store: db, URL: cfg.PublicURL, Product: cfg.Product, Secret: secret, OldSecrets: old, Institutions: institutions, Mailer: mailer,
		CheckEvery: time.Duration(cfg.Limits.InstitutionCheck), Syslog: settings.Syslog(cfg.Syslog, "hpcsera-auth", log),
		Stopping: front.Stopping(), Databases: databases(cfg, db), Log: log,
		// Deployments are where the operator says; a redirect would be somewhere
		// else.
		Push: &http.Client{Timeout: 15 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if cfg.BehindProxy {
		c.Address = forwarded
	}
	return authapp.New(ctx, c)
}

// forwarded returns where a request comes from by the word of the proxy in
// front: the last address of the header, since that is the proxy's own; all
// before it is the sender's.
func forwarded(r *http.Request) string {
	list := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	if last := strings.TrimSpace(list[len(list)-1]); last != "" {
		return last
	}
	return r.RemoteAddr
}

// edge adds what monitoring asks for.
func edge(app *authapp.App, db records.Store) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", app.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		err := db.Read(ctx, func(rd records.Reader) error {
			_, err := rd.Audit(0, 1)
			return err
		})
		if err != nil {
			http.Error(w, "the database does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}

func listen(cfg config, log *slog.Logger) (*server.Server, error) {
	c := server.Config{Listen: cfg.Listen, Plain: cfg.BehindProxy, MaxBody: maxBody, Grace: time.Duration(cfg.Limits.Grace), Log: log}
	if cfg.TLS.Certificate != "" {
		var err error
		if c.TLS, err = server.Certificate(cfg.TLS.Certificate, cfg.TLS.Key); err != nil {
			return nil, err
		}
	}
	return server.Listen(c)
}

// publicURL is the listener's, by the name that browsers allow passkeys for.
func publicURL(front *server.Server) (string, error) {
	u, err := url.Parse(front.URL())
	if err != nil || front.Everywhere() || u.Scheme != "http" {
		return "", hpcsera.Errorf(hpcsera.InvalidField, "an Auth app that others reach cannot know its own name.").
			At("public_url").Hint("Write the URL that people use.")
	}
	return "http://localhost:" + u.Port(), nil
}

// announce tells where the Auth app is, and the link for the first operator.
// The file appears whole.
func (p *program) announce(ctx context.Context, app *authapp.App, cfg config, addressFile string) error {
	link, err := app.Session.FirstLink(ctx)
	if err != nil {
		return err
	}
	if addressFile != "" {
		if err := os.WriteFile(addressFile+".new", []byte(cfg.PublicURL+"\n"), 0o644); err != nil {
			return fmt.Errorf("write the address file: %w", err)
		}
		if err := os.Rename(addressFile+".new", addressFile); err != nil {
			return fmt.Errorf("write the address file: %w", err)
		}
	}
	fmt.Fprintf(p.stdout, "hpcsera-auth %s serves %s\n", version, cfg.PublicURL)
	fmt.Fprintf(p.stdout, "Agents pin:  %s  (%s)\n", app.Consent.AuthKey(), app.Consent.AuthKey().Fingerprint())
	if link != "" {
		fmt.Fprintf(p.stdout, "\nThere is no operator yet. This link makes the first one's account, once, within three days:\n\n  %s\n\n", link)
	}
	return nil
}
