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
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/signin"
	"github.com/hpcsera/hpcsera/internal/signin/signintest"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
	"github.com/hpcsera/hpcsera/internal/web"
)

// deployment is hpcserad as it is wired, with its API and its pages on one
// address and an Auth app on another.
type deployment struct {
	t       *testing.T
	url     string
	authURL string
	store   store.Store
	access  *access.Service
	app     *signintest.Provider
	late    atomic.Int64 // by how much its clock is ahead
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

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log := slog.New(slog.DiscardHandler)
	d := &deployment{t: t}
	own, ownURL := listen(t)
	elsewhere, authURL := listen(t)
	d.url, d.authURL = ownURL, authURL+"/auth"
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
	d.app = signintest.New(t, d.authURL, "hpc", d.url, d.now)
	sessions, err := signin.New(signin.Config{
		Store: db, Users: d.access, Issuer: d.authURL, Name: "hpc", URL: d.url, Assertion: d.app.Assertion,
		HTTP: &http.Client{Timeout: patience}, Key: key, Log: log, Now: d.now,
	})
	must(err)
	site, err := web.New(web.Config{Sessions: sessions, Access: d.access, Code: codes, URL: d.url, AuthURL: d.authURL, Log: log, Now: d.now})
	must(err)
	all := http.NewServeMux()
	for _, path := range []string{"/api/", "/docs", "/docs/", "/healthz", "/readyz", "/openapi.yaml"} {
		all.Handle(path, edge)
	}
	all.Handle("/", site.Handler())
	serve(t, own, all)
	serve(t, elsewhere, d.app)
	return d
}

// origin is where the pages are.
func (d *deployment) origins() []string {
	return []string{d.url, strings.TrimSuffix(d.authURL, "/auth")}
}

// signedIn is a browser in which a user is signed in, who came by the start.
func (d *deployment) signedIn(user string) *browser {
	d.t.Helper()
	d.app.Let(user, "pwd", "otp", "mfa")
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
