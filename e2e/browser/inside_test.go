package browser

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// TestOneServerIsEnoughToStartWith walks through an installation whose Auth app
// is inside hpcserad, as the README's reader has it.
func TestOneServerIsEnoughToStartWith(t *testing.T) {
	i := install(t, false)
	b := i.joins(i.link(i.server.log.String()))
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
