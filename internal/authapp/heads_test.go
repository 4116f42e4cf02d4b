package authapp_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/session"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

// host is a host's log, which may be away.
type host struct {
	mu    sync.Mutex
	lines []string
	away  bool
}

func (h *host) Notice(line string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.away {
		return errors.New("nobody listens")
	}
	h.lines = append(h.lines, line)
	return nil
}

func (h *host) set(away bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.away = away
}

func TestTheHeadReachesTheHostsLogAtTheStartEveryHourAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := authstore.Open(t.Context(), filepath.Join(t.TempDir(), "auth.db"), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		sys := &host{}
		app, err := authapp.New(t.Context(), authapp.Config{
			Store: store, URL: "https://auth.example.org", Secret: []byte(strings.Repeat("k", 32)), Syslog: sys,
			Hashing: session.Hashing{Passes: 1, Memory: 64, Threads: 1}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- app.Run(ctx) }()
		synctest.Wait()
		var want []string
		invite := func(name string) {
			t.Helper()
			if _, err := app.Invite(t.Context(), authapp.NewUser{Name: name}); err != nil {
				t.Fatal(err)
			}
		}
		told := func() {
			t.Helper()
			head, err := app.Verify(t.Context(), authapp.VerifyAudit{})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, "hpcsera-auth audit head "+head.Head+" ")
		}
		told()
		invite("alice")
		time.Sleep(time.Hour + time.Second)
		told()
		sys.set(true) // a log that is away stops nothing
		time.Sleep(time.Hour)
		sys.set(false)
		invite("bob")
		told()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(sys.lines) != len(want) {
			t.Fatalf("got the lines\n%s\nwant\n%s", strings.Join(sys.lines, "\n"), strings.Join(want, "\n"))
		}
		for i, line := range sys.lines {
			if !strings.HasPrefix(line, want[i]) {
				t.Errorf("got the line %q, want it to begin with %q", line, want[i])
			}
		}
		forged := sys.lines[0][:len(sys.lines[0])-4] + "AAAA"
		if _, err := app.Verify(t.Context(), authapp.VerifyAudit{Heads: []string{forged}}); hpcsera.CodeOf(err) != hpcsera.Conflict {
			t.Errorf("a changed signature: got %v, want a conflict", err)
		}
		if got, err := app.Verify(t.Context(), authapp.VerifyAudit{Heads: append(sys.lines, strings.Fields(want[0])[3])}); err != nil || got.Signed != len(want) {
			t.Errorf("the lines: got %+v, %v, want all signatures known", got, err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}
