package browser

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/session"
	"github.com/hpcsera/hpcsera/internal/signin"
	"github.com/hpcsera/hpcsera/internal/signin/signintest"
	"github.com/hpcsera/hpcsera/internal/store"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
	"github.com/hpcsera/hpcsera/internal/web"
)

// deployment is hpcserad as it is wired, with its API and its pages on one
// address.
type deployment struct {
	t       *testing.T
	url     string
	authURL string
	store   store.Store
	access  *access.Service
	standIn *signintest.Provider // the Auth app, of newDeployment
	app     *authapp.App         // the real one, of newWhole
	late    atomic.Int64         // by how much its clock is ahead
}

// authApp is the Auth app of a deployment: what it answers, how the deployment
// reaches it, and how it proves who it is.
type authApp struct {
	http.Handler
	way       http.RoundTripper
	assertion func() (string, error)
}

func (d *deployment) now() time.Time { return time.Now().Add(time.Duration(d.late.Load())) }

// listen opens a port and returns its address by the name of this host: that
// is what browsers hold safe enough for passkeys without TLS.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("listening on %v", l.Addr())
	}
	return l, fmt.Sprintf("http://localhost:%d", addr.Port)
}

func serve(t *testing.T, l net.Listener, h http.Handler) {
	t.Helper()
	s := &http.Server{Handler: h, ReadHeaderTimeout: patience}
	go func() { _ = s.Serve(l) }() // ends with Close
	t.Cleanup(func() { s.Close() })
}

// newDeployment makes a deployment whose Auth app, on another address, lets in
// whom the test names.
func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t}
	elsewhere, authURL := listen(t)
	d.authURL = authURL + "/auth"
	d.start(func() authApp {
		d.standIn = signintest.New(t, d.authURL, "hpc", d.url, d.now)
		return authApp{d.standIn, http.DefaultTransport, d.standIn.Assertion}
	})
	serve(t, elsewhere, d.standIn)
	return d
}

// newWhole makes a deployment with the real Auth app: in the same process
// below /auth, or by itself on another address.
func newWhole(t *testing.T, apart bool) *deployment {
	t.Helper()
	d := &deployment{t: t}
	var elsewhere net.Listener
	if apart {
		elsewhere, d.authURL = listen(t)
	}
	d.start(func() authApp {
		a := authApp{way: http.DefaultTransport}
		key, err := decision.NewKey()
		d.must(err)
		store, err := authstore.Open(t.Context(), filepath.Join(t.TempDir(), "auth.db"), d.now)
		d.must(err)
		t.Cleanup(func() { store.Close() })
		d.app, err = authapp.New(t.Context(), authapp.Config{
			Store: store, URL: d.authURL, Secret: []byte(strings.Repeat("a", 32)), Hashing: session.Hashing{Passes: 1, Memory: 64, Threads: 1},
			InProcess: !apart, Push: &http.Client{Timeout: patience}, Log: slog.New(slog.DiscardHandler), Now: d.now,
		})
		d.must(err)
		public, err := key.Public().MarshalJSON()
		d.must(err)
		_, err = d.app.AddDeployment(t.Context(), consent.NewDeployment{Name: "hpc", URL: d.url, Key: string(public)})
		d.must(err)
		a.Handler = d.app.Handler()
		if !apart {
			a.way = decision.Local(a.Handler)
		}
		a.assertion = decision.NewClient(decision.Config{Issuer: d.authURL, Name: "hpc", Key: key, HTTP: &http.Client{}, Now: d.now}).Assertion
		return a
	})
	if apart {
		serve(t, elsewhere, d.app.Handler())
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.app.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the Auth app: %v", err)
		}
	})
	return d
}

func (d *deployment) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// start wires and serves the deployment. Where no address of an Auth app is
// set it is below the deployment's own.
func (d *deployment) start(makeAuthApp func() authApp) {
	t, must := d.t, d.must
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	own, ownURL := listen(t)
	d.url = ownURL
	all := http.NewServeMux()
	if d.authURL == "" {
		d.authURL = d.url + authapp.Path
	}
	app := makeAuthApp()
	if d.authURL == d.url+authapp.Path {
		all.Handle(authapp.Path+"/", app)
	}
	dir := t.TempDir()
	db, err := sqlstore.Open(t.Context(), filepath.Join(dir, "hpcsera.db"), log)
	must(err)
	t.Cleanup(func() { db.Close() })
	files, err := fs.Open(filepath.Join(dir, "files"))
	must(err)
	t.Cleanup(func() { files.Close() })
	d.store = db
	key := []byte(strings.Repeat("k", 32))
	who, err := auth.New(auth.Config{Store: db, PublicURL: d.url, Key: key, Log: log, Now: d.now})
	must(err)
	sightings := auth.NewSightings(db, d.now, log)
	codes := code.New(code.Config{Store: db, Blobs: files, Deployment: d.url, Log: log, Now: d.now})
	life, err := jobs.New(jobs.Config{Store: db, Blobs: files, Logs: files, Code: codes, Sightings: sightings, Key: key, Still: who.Still, Log: log, Now: d.now})
	must(err)
	edge, err := httpapi.New(httpapi.Config{
		Auth: who, Jobs: life, Code: codes, Ready: func(context.Context) error { return nil },
		LastSeq:   func(context.Context) (int64, error) { return 0, nil },
		RequestID: server.RequestID, Note: server.Note, Metrics: httpapi.NewMetrics(), Log: log,
	})
	must(err)
	d.access = access.New(access.Config{Store: db, Jobs: life, Sightings: sightings, Log: log, Now: d.now})
	sessions, err := signin.New(signin.Config{
		Store: db, Users: d.access, Issuer: d.authURL, Name: "hpc", URL: d.url, Assertion: app.assertion,
		HTTP: &http.Client{Transport: app.way, Timeout: patience}, Key: key, Log: log, Now: d.now,
	})
	must(err)
	site, err := web.New(web.Config{Sessions: sessions, Access: d.access, Code: codes, URL: d.url, AuthURL: d.authURL, Log: log, Now: d.now})
	must(err)
	for _, path := range []string{"/api/", "/docs", "/docs/", "/healthz", "/readyz", "/openapi.yaml"} {
		all.Handle(path, edge)
	}
	all.Handle("/", site.Handler())
	serve(t, own, all)
}

// origins are where pages are.
func (d *deployment) origins() []string {
	return []string{d.url, strings.TrimSuffix(d.authURL, authapp.Path)}
}

// signedIn is a browser in which a user is signed in, who came by the start.
func (d *deployment) signedIn(user string) *browser {
	d.t.Helper()
	d.standIn.Let(user, "pwd", "otp", "mfa")
	b := newBrowser(d.t, d.origins()...)
	b.open(d.url + "/")
	b.press("Sign in")
	b.reads("Hello, " + user)
	return b
}

// write changes what is stored.
func (d *deployment) write(fn func(store.Tx) error) {
	d.t.Helper()
	if err := d.store.Write(d.t.Context(), fn); err != nil {
		d.t.Fatal(err)
	}
}
