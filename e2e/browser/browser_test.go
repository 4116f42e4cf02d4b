package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"
)

// patience is how long a page may take. Nothing is timed: it only turns a hang
// into a failure.
const patience = 60 * time.Second

// browser is a Chromium with a profile of its own. What goes wrong on any page
// meanwhile, in its console or by asking another place for something, fails the
// test at once.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu      sync.Mutex
	origins []string // where requests may go
	allowed []string // parts of console messages that a test expects
}

// newBrowser starts a browser that may ask the given origins only.
func newBrowser(t *testing.T, origins ...string) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("there is no chromium: apt-get install chromium, as scripts/test does")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox, // tests run as root, which the sandbox refuses
		chromedp.WindowSize(desk.width, desk.height), chromedp.Flag("hide-scrollbars", true))
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, end := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits for its end, so that the profile can be removed
		end()
	})
	b := &browser{t: t, ctx: ctx, origins: origins}
	// The browser lives as long as the context of its first call: no deadline.
	if err := chromedp.Listen(ctx, b.watch); err != nil {
		t.Fatal(err)
	}
	run(b, command(log.Enable, cdp.Empty{}))
	run(b, command(network.Enable, network.EnableParams{}))
	return b
}

// command is one message of the DevTools protocol.
func command[P, R any](c cdp.Command[P, R], params P) chromedp.Action[R] {
	return func(ctx context.Context, target *chromedp.Target) (R, error) { return cdp.Call(ctx, target, c, params) }
}

// run does an action and returns what came of it.
func run[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("the browser: %v", err)
	}
	return v
}

// expect lets a console message pass that holds text: a refusal that a test
// provokes is one.
func (b *browser) expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allowed = append(b.allowed, text)
}

func (b *browser) watch(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !b.mayAsk(e.Request.URL) {
			b.t.Errorf("the page %s asks %s", e.DocumentURL, e.Request.URL)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.complain(fmt.Sprintf("%s %s", e.Entry.Text, e.Entry.URL))
		}
	case *runtime.EventConsoleAPICalled:
		for _, arg := range e.Args {
			b.complain("console: " + string(arg.Value))
		}
	case *runtime.EventExceptionThrown:
		b.complain(e.ExceptionDetails.Text)
	}
}

func (b *browser) mayAsk(address string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	return u.Scheme == "data" || slices.Contains(b.origins, u.Scheme+"://"+u.Host)
}

func (b *browser) complain(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !slices.ContainsFunc(b.allowed, func(part string) bool { return strings.Contains(text, part) }) {
		b.t.Errorf("the browser says: %s", text)
	}
}

// open goes to an address and waits until the page is there.
func (b *browser) open(address string) {
	b.t.Helper()
	run(b, chromedp.Navigate(address))
	b.settle()
}

// press presses what a person finds by its words, a button or a link, and
// waits for the page that follows.
func (b *browser) press(words string) {
	b.t.Helper()
	what := fmt.Sprintf(`//main//*[self::button or self::a][normalize-space()=%q or @aria-label=%q]`, words, words)
	run(b, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Click(what)))
	b.settle()
}

// settle waits until the browser has gone where it was sent, over all pages
// that only send it on.
func (b *browser) settle() {
	b.t.Helper()
	const there = `document.readyState === "complete" && !!document.querySelector("main") && !document.querySelector("meta[http-equiv=refresh]")`
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		// An error is a page that goes away just now.
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](there)); err == nil && ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatalf("the browser did not arrive; it is at %s", b.at())
		}
	}
}

// fill types into a field that a person finds by its label, in place of what
// stands there.
func (b *browser) fill(label, text string) {
	b.t.Helper()
	b.choose(label)
	run(b, chromedp.Evaluate[chromedp.Void](`void document.activeElement.select()`))
	run(b, chromedp.KeyEvent(text))
}

// choose ticks a box, or takes a choice, by the beginning of its label.
func (b *browser) choose(words string) {
	b.t.Helper()
	run(b, chromedp.Click(fmt.Sprintf(`//label[starts-with(normalize-space(), %q)]`, words)))
}

// field returns what stands in a field.
func (b *browser) field(id string) string {
	b.t.Helper()
	return run(b, chromedp.Value(chromedp.ID(id)))
}

// reads fails the test where the page does not say something.
func (b *browser) reads(words ...string) {
	b.t.Helper()
	text := run(b, chromedp.Evaluate[string](`document.querySelector("main").innerText`))
	for _, w := range words {
		if !strings.Contains(text, w) {
			b.t.Fatalf("the page at %s does not say %q:\n%s", b.at(), w, text)
		}
	}
}

// has reports whether there is something to press with these words.
func (b *browser) has(words string) bool {
	b.t.Helper()
	return run(b, chromedp.Evaluate[bool](fmt.Sprintf(`[...document.querySelectorAll("main a, main button")].some((el) => el.innerText.trim() === %q)`, words)))
}

// eventually waits until something holds.
func (b *browser) eventually(holds func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			b.t.Fatal("it does not come true")
		}
	}
}

// at returns the address of the page.
func (b *browser) at() string {
	b.t.Helper()
	return run(b, chromedp.Location())
}

// authenticator gives the browser a device for passkeys that holds them itself
// and checks its owner.
func (b *browser) authenticator() webauthn.AuthenticatorID {
	b.t.Helper()
	run(b, command(webauthn.Enable, webauthn.EnableParams{}))
	return run(b, command(webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{
		Protocol: webauthn.AuthenticatorProtocolCtap2, Ctap2version: webauthn.Ctap2versionCtap21, Transport: webauthn.AuthenticatorTransportInternal,
		HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true,
	}})).AuthenticatorID
}

// screen is what a page is shown on.
type screen struct {
	name          string
	width, height int
	phone         bool
}

var (
	phone = screen{"phone", 390, 844, true}
	desk  = screen{"desk", 1280, 900, false}
)

// on shows the page on a screen, light or dark.
func (b *browser) on(s screen, scheme string) {
	b.t.Helper()
	run(b, command(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(s.width), Height: int64(s.height), DeviceScaleFactor: 1, Mobile: s.phone,
	}))
	run(b, command(emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: s.phone}))
	run(b, command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}, // no picture of half a change
	}}))
}

// screenshot judges the page on both screens, light and dark, and leaves its
// pictures as test/artifacts/pages/NAME-SCREEN-SCHEME.png.
func (b *browser) screenshot(name string) {
	b.t.Helper()
	dir := filepath.Join("..", "..", "test", "artifacts", "pages")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	for _, s := range []screen{phone, desk} {
		for _, scheme := range []string{"light", "dark"} {
			b.on(s, scheme)
			b.judge(fmt.Sprintf("%s on a %s, %s", name, s.name, scheme))
			picture := run(b, chromedp.FullScreenshot(100))
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%s-%s.png", name, s.name, scheme)), picture, 0o644); err != nil {
				b.t.Fatal(err)
			}
		}
	}
	b.on(desk, "light")
	b.tabs(name)
}
