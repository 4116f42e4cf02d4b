package oauth_test

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/oauth"
)

// useNotifier makes the service anew, with a client for pings.
func (w *world) useNotifier(notify *http.Client) {
	w.Helper()
	var err error
	w.oauth, err = oauth.New(oauth.Config{
		Store: w.store, Auth: w.auth, Access: w.access, Revoke: func(context.Context, string, bool, string) error { return nil }, Inbox: w.app,
		Issuer: authApp, Deployment: deployment, PublicURL: publicURL, Key: []byte(strings.Repeat("k", 32)), Notify: notify,
		Log: slog.New(slog.DiscardHandler), Now: w.clock,
	})
	w.must(err)
	w.handler = w.oauth.Handler()
}

// run runs the service's loops until stop.
func (w *world) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.oauth.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("the loops end with %v", err)
		}
	}
}

func TestADecisionThatIsNotForThisRequestChangesNothing(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("tool")
	_, other := w.device("tool", "scope", "project:cfd role:1")
	forger, err := decision.NewKey()
	w.must(err)
	forged, err := w.app.yes(r).Sign(forger)
	w.must(err)
	good := w.app.sign(w.app.yes(r))
	texts := map[string]string{
		"signed by nobody we know": forged,
		"cut":                      good[:len(good)-5],
		"with another signature":   good[:strings.LastIndex(good, ".")] + w.app.sign(w.app.yes(other))[strings.LastIndex(w.app.sign(w.app.yes(other)), "."):],
		"nothing":                  "",
		"an access token":          "hpcsera_t0_x",
	}
	for name, edit := range map[string]func(*decision.Decision){
		"by another Auth app":    func(d *decision.Decision) { d.Issuer = "https://evil.example.org" },
		"for another deployment": func(d *decision.Decision) { d.Audience = "other" },
		"expired": func(d *decision.Decision) {
			d.Decided, d.Expires = d.Decided.Add(-2*time.Hour), d.Decided.Add(-time.Hour)
		},
		"made in the future": func(d *decision.Decision) { d.Decided = d.Decided.Add(time.Hour) },
		"with more roles":    func(d *decision.Decision) { d.Roles = hpcsera.Roles(255) },
		"with a later end":   func(d *decision.Decision) { d.Until = d.Until.Add(time.Hour) },
		"of another kind": func(d *decision.Decision) {
			d.Kind, d.Roles = decision.Session, 0
		},
	} {
		d := w.app.yes(r)
		edit(&d)
		texts[name] = w.app.sign(d)
	}
	for name, text := range texts {
		if err := w.apply(text); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
		w.refused(name, w.collect("tool", asked), 400, "authorization_pending")
	}
	w.must(w.apply(w.app.sign(w.app.yes(other))))
	w.refused("the answer to another request", w.collect("tool", asked), 400, "authorization_pending")
	nobodys := w.app.yes(r)
	nobodys.Request = hpcsera.NewID("rq")
	w.must(w.apply(w.app.sign(nobodys)))
	w.refused("the answer to no request", w.collect("tool", asked), 400, "authorization_pending")
	code := w.app.yes(r)
	code.Kind, code.Roles, code.Until, code.Statement, code.Signature = decision.Code, 0, time.Time{}, []byte("{}"), "x"
	if err := w.apply(w.app.sign(code)); err == nil {
		t.Error("consent to code, which nobody asked for: accepted")
	}
	w.must(w.apply(good))
	if got := w.collect("tool", asked); got.status != http.StatusOK {
		t.Errorf("the right one: got %d %s", got.status, got.text)
	}
}

func TestADecisionCountsOnceAndTheFirstOneStays(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("tool")
	no, yes := w.app.sign(w.app.no(r)), w.app.sign(w.app.yes(r))
	for _, text := range []string{no, no, yes, no} {
		w.must(w.apply(text))
	}
	w.refused("no, then yes", w.collect("tool", asked), 400, "access_denied")

	asked, r = w.device("tool")
	yes = w.app.sign(w.app.yes(r))
	w.must(w.apply(yes))
	if got := w.collect("tool", asked); got.status != http.StatusOK {
		t.Fatalf("got %d %s", got.status, got.text)
	}
	w.must(w.apply(yes))
	w.refused("yes again, after it was used", w.collect("tool", asked), 400, "invalid_grant")
	if got, want := w.audit(r.ID), []string{"client:tool grant.ask", "user:alice grant.decide"}; !slices.Equal(got, want) {
		t.Errorf("audit: got %q, want %q", got, want)
	}
}

func TestEveryReplicaAppliesAndNoneTwice(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("tool")
	first := w.oauth
	w.useNotifier(http.DefaultClient)
	text := w.app.sign(w.app.yes(r))
	done := make(chan error, 2)
	for _, replica := range []*oauth.Service{first, w.oauth} {
		go func() { _, err := replica.Apply(context.Background(), text); done <- err }()
	}
	w.must(<-done)
	w.must(<-done)
	if got := w.collect("tool", asked); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.text)
	}
	if got := w.audit(r.ID); len(got) != 2 {
		t.Errorf("audit: got %q, want one decision", got)
	}
}

func TestTheLoopAcknowledgesWhatWasAppliedAndWhatNeverCanBe(t *testing.T) {
	w := newWorld(t)
	asked, r := w.device("tool")
	forger, err := decision.NewKey()
	w.must(err)
	bad := w.app.yes(r)
	forged, err := bad.Sign(forger)
	w.must(err)
	good := w.app.yes(r)
	w.app.deliver(bad.ID, forged)
	w.app.deliver(good.ID, w.app.sign(good))
	stop := w.run()
	defer stop()
	for deadline := time.Now().Add(30 * time.Second); w.app.undelivered() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d decisions are not acknowledged", w.app.undelivered())
		}
	}
	if got := w.collect("tool", asked); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.text)
	}
}

func TestDecisionsSurviveANewKeyOfTheAuthApp(t *testing.T) {
	w := newWorld(t)
	_, r := w.device("tool")
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	var err error
	w.app.key, err = decision.NewKey()
	w.must(err)
	asked, r := w.device("tool")
	w.app.down = true
	if err := w.apply(w.app.sign(w.app.yes(r))); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("while the key cannot be fetched: got %v, want unavailable, so that it is tried again", err)
	}
	w.app.down = false
	w.must(w.apply(w.app.sign(w.app.yes(r))))
	if got := w.collect("tool", asked); got.status != http.StatusOK {
		t.Errorf("got %d %s", got.status, got.text)
	}
}
