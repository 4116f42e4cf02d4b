package consent_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/page"
)

// A real browser runs the pages' script, with an authenticator of its own.
func TestABrowserRegistersAPasskeyForCodeAndSignsWithIt(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	base := "http://localhost:" + port
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	frame, err := page.New(page.Config{Prefix: "/auth", Product: "HPCSerA", Nav: consent.Places(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.start(func(c *consent.Config) { c.Issuer, c.Frame = base+"/auth", frame })
	web := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		r.AddCookie(&http.Cookie{Name: "who", Value: "alice"})
		w.web.ServeHTTP(out, r)
	})}
	go func() { _ = web.Serve(listener) }()
	defer web.Close()
	r := w.codeRequest(cavity())
	if err := w.auth.Post(t.Context(), consent.Deployment{Name: "hpc", URL: apiURL}, r); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	ctx, closeAll := chromedp.NewExecAllocator(ctx, append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox)...)
	defer closeAll()
	ctx, closeTab := chromedp.NewContext(ctx)
	defer closeTab()
	device := chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		if _, err := cdp.Call(ctx, tab, webauthn.Enable, webauthn.EnableParams{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, tab, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: "internal", HasResidentKey: true, HasUserVerification: true,
			IsUserVerified: true, AutomaticPresenceSimulation: true,
		}})
		return err
	})
	const press = "form[data-passkey] button.primary"
	err = chromedp.Do(ctx, device,
		chromedp.Navigate(base+"/auth/approvals/keys/new"), chromedp.SendKeys("#name", "my key"), chromedp.Click(press), chromedp.WaitVisible("#signed"),
		chromedp.Navigate(base+path("hpc", r.ID)), chromedp.Click("form button.primary"), chromedp.WaitVisible("#statement"),
		chromedp.Click(press), chromedp.WaitVisible(".empty"),
	)
	if err != nil {
		t.Fatal(err)
	}
	var decided []string
	own := w.clientAt(base+"/auth", "hpc", w.key)
	if decided, err = own.Decisions(t.Context(), 0); err != nil || len(decided) != 1 {
		t.Fatalf("got %d decisions, %v, want one", len(decided), err)
	}
	keys, err := own.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expected := w.expected(keys)
	expected.Issuer = base + "/auth"
	d := verified(t, decided[0], expected)
	signed, err := approval.Verify(d.Statement, d.Signature)
	if err != nil || signed.Kind != approval.Passkey || signed.Origin != base || !signed.Verified {
		t.Errorf("got %+v, %v, want a passkey's signature made at %s", signed, err, base)
	}
}
