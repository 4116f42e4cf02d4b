package oauth_test

import (
	"context"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// TestAnIndependentClientGetsATokenByDeviceFlow lets Debian's oidc-agent ask,
// which sends its client id and a scope only.
func TestAnIndependentClientGetsATokenByDeviceFlow(t *testing.T) {
	if _, err := exec.LookPath("oidc-gen"); err != nil {
		t.Fatal("There is no oidc-agent to test with. Install it first: apt-get install oidc-agent-cli")
	}
	server := httptest.NewUnstartedServer(nil)
	w := newWorldAt(t, "http://"+server.Listener.Addr().String(), time.Time{})
	server.Config.Handler = w.handler
	server.Start()
	defer server.Close()
	stop := w.run()
	defer stop()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for !w.app.asked() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
		d := w.app.yes(w.app.last())
		text, err := d.Sign(w.app.key)
		if err != nil {
			t.Error(err)
		}
		w.app.deliver(d.ID, text)
	}()
	script := `eval $(oidc-agent) >/dev/null; trap 'oidc-agent --kill >/dev/null' EXIT
oidc-gen --flow=device --only-at --client-id=tool --client-secret= --iss="$1" --scope="project:cfd for:ci" \
	--redirect-uri=http://localhost:4242 --confirm-default --prompt=none --pw-env=PASSWORD --no-url-call test`
	cmd := exec.CommandContext(ctx, "bash", "-c", script, "bash", server.URL)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PASSWORD=x", "PATH=/usr/local/bin:/usr/bin:/bin"}
	out, err := cmd.CombinedOutput()
	lines := strings.Fields(string(out))
	if err != nil || len(lines) == 0 {
		t.Fatalf("oidc-gen: %v\n%s", err, out)
	}
	token := lines[len(lines)-1]
	if err := w.bearer(token); err != nil {
		t.Errorf("the token does not work: %v", err)
	}
	p, err := w.auth.Look(t.Context(), token)
	if err != nil || p.Token.Client != "tool" || p.Token.Roles != hpcsera.Presets["ci"] {
		t.Errorf("got %+v (%v)", p, err)
	}
}

// asked reports whether anybody was asked anything.
func (a *app) asked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.posted) > 0
}
