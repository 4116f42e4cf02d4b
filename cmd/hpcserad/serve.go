package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/admin"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/callback"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/inquiry"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/oauth"
	"github.com/hpcsera/hpcsera/internal/peer"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/signin"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
	"github.com/hpcsera/hpcsera/internal/web"
)

func (p *program) serveCommand() *cobra.Command {
	var addressFile string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the API server until it is told to stop",
		Long: "Runs the API server. SIGTERM and Ctrl-C stop it: requests in flight finish, agents and\n" +
			"streams are told to come back.",
		Example: "  hpcserad serve --config /srv/hpcsera/hpcserad.yaml\n  HPCSERAD_LISTEN=127.0.0.1:0 hpcserad serve --address-file /run/hpcserad.url",
		Args:    usage.Exactly(0),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := p.loadConfig()
			if err != nil {
				return err
			}
			return p.serve(c.Context(), cfg, addressFile)
		},
	}
	c.Flags().StringVar(&addressFile, "address-file", "", "write the server's URL into this file when it is ready")
	return c
}

// serve is the wiring of the server, in the order in which things start. They
// stop in the opposite order: first the requests, last the database.
func (p *program) serve(ctx context.Context, cfg config, addressFile string) (err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // a server has more memory than those who wait for it have time
	}
	log := cfg.Log.New(p.stderr)
	log.Info("settings", settings.Attrs(cfg)...)
	if err := cfg.ready(); err != nil {
		return err
	}
	// None is made here: replicas with different keys would refuse each other's
	// nonces and cursors.
	key, err := settings.LoadKey(cfg.KeyFile, false)
	if err != nil {
		return fmt.Errorf("the server key: %w. hpcserad init makes one; replicas need the same", err)
	}
	db, err := sqlstore.Open(ctx, cfg.Database, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Open(filepath.Join(cfg.DataDir, "files"))
	if err != nil {
		return fmt.Errorf("open the blob store: %w", err)
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	front, err := p.listen(cfg, log)
	if err != nil {
		return err
	}
	defer front.Close()
	operator, err := server.Listen(server.Config{Listen: "unix:" + cfg.AdminSocket, Log: log})
	if err != nil {
		return err
	}
	defer operator.Close()
	if cfg.PublicURL == "" {
		if front.Everywhere() {
			return hpcsera.Errorf(hpcsera.InvalidField, "a server that listens on every address cannot know its own name.").
				At("public_url").Hint("Write the URL that clients and agents use.")
		}
		cfg.PublicURL = front.URL()
	}
	var page *server.Server
	if cfg.Metrics != "" {
		if page, err = server.Listen(server.Config{Listen: cfg.Metrics, Plain: true, Log: log}); err != nil {
			return err
		}
		defer page.Close()
	}

	who, err := findPeople(ctx, cfg, front, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, who.close()) }()
	all, err := assemble(cfg, key, db, files, who, front, log)
	if err != nil {
		return err
	}
	first, err := who.firstLink(ctx)
	if err != nil {
		return err
	}
	// The listener takes connections already; they wait for the lines below.
	if err := p.announce(front.URL(), cfg, first, addressFile); err != nil {
		return err
	}
	err = all.run(ctx, listeners{front, operator, page}, who, db.Feed(), log)
	log.Info("stopped")
	return err
}

// listeners are where the server is reached; metrics may be nil.
type listeners struct{ front, operator, metrics *server.Server }

// run serves until ctx ends. What runs beside the requests ends after them.
func (p *parts) run(ctx context.Context, on listeners, who *people, feed *store.Feed, log *slog.Logger) error {
	work, stopping := errgroup.WithContext(ctx)
	beside, endBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer endBeside()
	work.Go(func() error { return p.sightings.Run(beside) })
	work.Go(func() error { return p.jobs.Run(beside) })
	work.Go(func() error { return p.audit.Run(beside) })
	work.Go(func() error { return p.metrics.Watch(beside, feed) })
	work.Go(func() error { return on.operator.Serve(stopping, p.operations(who, log)) })
	work.Go(func() error { return who.run(beside) })
	work.Go(func() error { return p.grants.Run(beside) })
	work.Go(func() error { return p.access.Run(beside) })
	work.Go(func() error { return p.inquiry.Run(beside) })
	work.Go(func() error { return p.sessions.Listen(beside, who.inbox) })
	if on.metrics != nil {
		work.Go(func() error { return on.metrics.Serve(stopping, p.metrics.Handler()) })
	}
	work.Go(func() error {
		defer endBeside()
		return on.front.Serve(stopping, p.handler())
	})
	return work.Wait()
}

// insideAudit is where the operator's socket has the operations about the audit
// log of the Auth app inside.
const insideAudit = "auth/"

// operations is what the operator's socket answers.
func (p *parts) operations(who *people, log *slog.Logger) http.Handler {
	all := http.NewServeMux()
	all.Handle("/", admin.New(p.access, p.audit, p.backups, log))
	if who.app != nil {
		all.Handle("/"+insideAudit, http.StripPrefix("/"+strings.TrimSuffix(insideAudit, "/"), who.app.AuditOperations()))
	}
	return all
}

// parts are what the server is made of, above its storage.
type parts struct {
	sightings *auth.Sightings
	jobs      *jobs.Service
	access    *access.Service
	audit     *audit.Log
	backups   admin.Backups
	grants    *oauth.Service
	inquiry   *inquiry.Service
	sessions  *signin.Service
	metrics   *httpapi.Metrics
	edge      *httpapi.API
	site      *web.Site
	auth      http.Handler // the Auth app of this process, or nil
}

// handler is everything that the server answers on its listener.
func (p *parts) handler() http.Handler {
	all, grants := http.NewServeMux(), p.grants.Handler()
	for _, path := range httpapi.Paths() {
		all.Handle(path, p.edge)
	}
	all.Handle("/oauth/", grants)
	all.Handle("/.well-known/", grants)
	if p.auth != nil {
		all.Handle(authapp.Path+"/", p.auth)
	}
	all.Handle("/", p.site.Handler())
	return all
}

// assemble makes the features and puts the edge in front of them.
func assemble(cfg config, key []byte, db *sqlstore.Store, files *fs.Store, people *people, front *server.Server, log *slog.Logger) (*parts, error) {
	p := &parts{sightings: auth.NewSightings(db, nil, log), metrics: httpapi.NewMetrics()}
	who, err := auth.New(auth.Config{Store: db, PublicURL: cfg.PublicURL, Key: key, Used: p.sightings.Used, Log: log})
	if err != nil {
		return nil, err
	}
	codes := code.New(code.Config{Store: db, Blobs: files, Deployment: cfg.PublicURL, Filed: inquiry.Filed, Log: log})
	p.audit = audit.New(audit.Config{Store: db, Syslog: settings.Syslog(cfg.Syslog, "hpcserad", log), Heads: people.heads, Log: log})
	p.jobs, err = jobs.New(jobs.Config{
		Store: db, Blobs: files, Logs: files, Code: codes, Sightings: p.sightings, Key: key,
		Stopping: front.Stopping(), Still: who.Still, StatusList: people.list.Text, Log: log,
	})
	if err != nil {
		return nil, err
	}
	p.access = access.New(access.Config{
		Store: db, Jobs: p.jobs, Sightings: p.sightings, Mailer: people.mailer(cfg), Institutions: cfg.Auth.InstitutionsNameProjects,
		TokenDays: cfg.Tokens.Days, MaxTokenDays: cfg.Tokens.MaxDays, Refused: p.audit.Refused, Log: log,
	})
	p.inquiry = inquiry.New(inquiry.Config{Store: db, Blobs: files, Inbox: people.inbox, Code: codes, Jobs: p.jobs, Deployment: cfg.PublicURL, Log: log})
	private, err := callback.ParseNetworks(cfg.Auth.PrivateNetworks)
	if err != nil {
		return nil, err
	}
	p.grants, err = oauth.New(oauth.Config{
		Store: db, Auth: who, Access: p.access, Revoke: p.jobs.RevokeToken, Inbox: people.inbox, Consent: p.inquiry.Decided,
		Issuer: people.url, Deployment: cfg.Auth.Name, PublicURL: cfg.PublicURL, Key: key,
		Notify: callback.NewClient(callback.Config{Private: private}), Address: cfg.sender, Refused: p.audit.Refused, Log: log,
	})
	if err != nil {
		return nil, err
	}
	p.backups = backups(cfg, db, people.store)
	p.metrics.Register(commits(db)...)
	p.edge, err = httpapi.New(httpapi.Config{
		Auth: who, Jobs: p.jobs, Code: codes, Access: p.access, Grants: p.grants, Ready: ready(db, front.Stopping()), LastSeq: lastSeq(db),
		RequestID: server.RequestID, Note: server.Note, Refused: p.audit.Refused, Metrics: p.metrics, Log: log,
	})
	if err != nil {
		return nil, err
	}
	p.sessions, err = signin.New(signin.Config{
		Store: db, Users: p.access, Issuer: people.url, Name: cfg.Auth.Name, URL: cfg.PublicURL, Assertion: people.inbox.Assertion,
		HTTP: people.web, Key: key, Log: log,
	})
	if err != nil {
		return nil, err
	}
	p.site, err = web.New(web.Config{Sessions: p.sessions, Access: p.access, Code: codes, URL: cfg.PublicURL, AuthURL: people.url, Log: log})
	if people.app != nil {
		p.auth = people.app.Handler()
	}
	return p, err
}

// sender returns the address that a request comes from. Behind a proxy that is
// what the proxy next to us says, and nothing that was said before it.
func (c config) sender(r *http.Request) string {
	if said := r.Header.Values("X-Forwarded-For"); c.BehindProxy && len(said) > 0 {
		last := said[len(said)-1]
		return strings.TrimSpace(last[strings.LastIndex(last, ",")+1:])
	}
	return peer.Of(r)
}

// listen opens the API's listener.
func (p *program) listen(cfg config, log *slog.Logger) (*server.Server, error) {
	c := server.Config{
		Listen: cfg.Listen, Plain: cfg.BehindProxy, MaxBody: int64(cfg.Limits.Body), Unlimited: httpapi.Streams,
		Grace: time.Duration(cfg.Limits.Grace), Log: log,
	}
	if cfg.TLS.Certificate != "" {
		var err error
		if c.TLS, err = server.Certificate(cfg.TLS.Certificate, cfg.TLS.Key); err != nil {
			return nil, err
		}
	}
	return server.Listen(c)
}

// announce tells where the server is. The file appears whole.
func (p *program) announce(url string, cfg config, firstLink, addressFile string) error {
	if addressFile != "" {
		if err := os.WriteFile(addressFile+".new", []byte(url+"\n"), 0o644); err != nil {
			return fmt.Errorf("write the address file: %w", err)
		}
		if err := os.Rename(addressFile+".new", addressFile); err != nil {
			return fmt.Errorf("write the address file: %w", err)
		}
	}
	_, err := fmt.Fprintf(p.stdout, "hpcserad %s serves %s (the API's pages: %s/docs)\n", version, url, cfg.PublicURL)
	if err != nil || firstLink == "" {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "Nobody can sign in yet. The first operator's account is made here, once:\n  %s\n", firstLink)
	return err
}

func ready(db store.Store, stopping <-chan struct{}) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-stopping:
			return errors.New("it is stopping")
		default:
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		_, err := lastSeq(db)(ctx)
		return err
	}
}

func lastSeq(db store.Store) func(context.Context) (int64, error) {
	return func(ctx context.Context) (seq int64, err error) {
		err = db.Read(ctx, func(r store.Reader) error {
			seq, err = r.LastSeq()
			return err
		})
		return seq, err
	}
}

// commits counts what the database did, for Prometheus.
func commits(db *sqlstore.Store) []prometheus.Collector {
	counter := func(name, help string, read func(sqlstore.Stats) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(read(db.Stats())) })
	}
	return []prometheus.Collector{
		counter("hpcsera_db_commits_total", "Transactions committed, each a flush to disk.", func(s sqlstore.Stats) int64 { return s.Commits }),
		counter("hpcsera_db_writes_total", "Changes that were part of one.", func(s sqlstore.Stats) int64 { return s.Writes }),
		counter("hpcsera_db_reruns_total", "Changes that had to run again.", func(s sqlstore.Stats) int64 { return s.Reruns }),
	}
}
