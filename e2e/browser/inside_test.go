package browser

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/hpcsera/hpcsera"
)

// TestOneServerIsEnoughToStartWith walks through an installation whose Auth app
// is inside hpcserad, as the README's reader has it.
func TestOneServerIsEnoughToStartWith(t *testing.T) {
	i := install(t, false)
	b := i.joins(i.link(i.server.says(t, "/setup?")))
	i.makesAToken(b)
	i.movesIn("")
	i.enrols()
	i.trustsThePasskey(b)
	b.reads("it is no second party", "hpcsera-agent trust withdraw")
	b.screenshot("auth-approvals-inside")

	// A server that could sign by its own page is no second party, so its
	// agents take no passkey unless the user says so.
	i.agent = i.start(i.siteEnv(), "hpcsera-agent", "run")
	i.agent.says(t, "connected")
	refused, _ := i.submits(`echo "Hello, $whom!" | tee out.txt`)
	b.eventually(func() bool {
		b.open(i.authURL + "/")
		return b.has("Look at it")
	})
	i.signs(b, "")
	j := i.ends(refused)
	if j.State != hpcsera.Failed || j.Reason != hpcsera.ApprovalInvalid || !strings.Contains(j.Message, "passkey_same_origin: true") {
		t.Errorf("with a passkey of the server's own page the job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	i.agent.stop(t)
	i.configures("trust: {passkey_same_origin: true}\n")
	i.agent = i.start(i.siteEnv(), "hpcsera-agent", "run")
	i.agent.says(t, "WARN", "passkey_same_origin")
	accepted, _ := i.submits(`echo "Hello, $whom!" | tee out.txt`)
	i.succeeds(accepted, "Hello, world!")

	i.signsInOnATerminal(b)
	i.denies(b)

	// What was granted is taken back, and is gone with the next request.
	res, text := i.call("/tokens/self")
	var token hpcsera.Token
	if i.must(json.Unmarshal(text, &token)); res.StatusCode != http.StatusOK || token.Client != "laptop" {
		t.Fatalf("with the token: %s %s", res.Status, text)
	}
	b.open(i.url + "/tokens")
	b.screenshot("tokens-two")
	b.press("Revoke the token " + token.ID + " of laptop for cfd")
	b.press("Revoke")
	b.reads("refused from now on")
	if res, text := i.call("/tokens/self"); res.StatusCode != http.StatusUnauthorized {
		t.Errorf("with the revoked token: %s %s", res.Status, text)
	}
	if out, errs, status := i.user("list"); status != 12 {
		t.Errorf("hpcsera list with the revoked token ended with %d:\n%s%s", status, out, errs)
	}
	i.looksAround(b)
}

// denies lets alice turn down code and mute who sent it.
func (i *installation) denies(b *browser) {
	i.t.Helper()
	denied, _ := i.submits("rm -rf results")
	b.eventually(func() bool {
		b.open(i.authURL + "/")
		return b.has("Look at it")
	})
	b.press("Look at it")
	b.reads("agents refuse what a passkey signs here", "rm -rf results")
	b.screenshot("auth-code-inside")
	run(b, chromedp.Click(`//summary[normalize-space()="It asks too often"]`))
	b.press("Deny and mute")
	b.reads("Muted", "laptop")
	b.screenshot("auth-inbox-muted")
	if j := i.ends(denied); j.State != hpcsera.Failed || j.Reason != hpcsera.ApprovalDenied {
		i.t.Errorf("what alice denied is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	b.press("Unmute laptop")
	b.reads("Nothing waits for you")
	b.screenshot("auth-inbox-empty")
}

// looksAround goes to the Auth app's other pages, and in again by password and
// passkey.
func (i *installation) looksAround(b *browser) {
	i.t.Helper()
	b.expect("404")
	for _, p := range []struct{ name, path, says string }{
		{"auth-activity", "/activity", "Request allowed"}, {"auth-code-key", "/approvals/keys/new", "It signs code and nothing else"},
		{"auth-passkey", "/account/passkey", "Add a passkey"}, {"auth-app", "/account/app", "authenticator app"},
		{"auth-password", "/account/password", "Change your password"}, {"auth-people", "/people", "You are alone here"},
		{"auth-not-found", "/nothing", "leads nowhere"},
	} {
		b.open(i.authURL + p.path)
		b.reads(p.says)
		b.screenshot(p.name)
	}
	b.open(i.authURL + "/people")
	b.fill("Name", "bob")
	b.press("Make an invitation")
	b.screenshot("auth-invited")
	run(b, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Click(`//header//button[normalize-space()="Sign out"]`)))
	b.open(i.authURL + "/")
	b.screenshot("auth-signin")
	b.fill("Name", "alice")
	b.fill("Password", "four other words instead")
	b.expect("401")
	b.expect("422")
	b.press("Continue")
	b.screenshot("auth-signin-wrong")
	b.fill("Password", "four words in a row")
	b.press("Continue")
	b.screenshot("auth-factor")
	b.press("Use a passkey")
	b.reads("Requests to decide")
}

// signsInOnATerminal has alice sign in with the command line, and ask there
// for a token, which she grants with fewer roles.
func (i *installation) signsInOnATerminal(b *browser) {
	i.t.Helper()
	i.operator("hpcserad", "client", "add", "cli")
	i.allows(b, i.start(i.userEnv(), "hpcsera", "login"), "auth-request-session")
	asks := i.start(i.userEnv(), "hpcsera", "token", "create", "--project", "cfd", "--for", "ci-code")
	asks.says(i.t, "Waiting until")
	b.open(regexp.MustCompile(`http\S+/requests/\S+`).FindString(asks.log.String()))
	b.reads("A token for the client cli")
	b.screenshot("auth-request-token")
	b.choose("DELETE_Job")
	b.press("Allow")
	asks.ends(i.t)
	out, errs, status := i.try(i.userEnv(), "", "hpcsera", "whoami", "-o", "json")
	if status != 0 || !strings.Contains(out, "POST_Code") || strings.Contains(out, "DELETE_Job") {
		i.t.Errorf("whoami ended with %d:\n%s%s", status, out, errs)
	}
	b.open(i.url + "/sessions")
	if host, err := os.Hostname(); err == nil {
		b.reads(host)
	}
}
