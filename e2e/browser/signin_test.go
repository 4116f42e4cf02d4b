package browser

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/hpcsera/hpcsera/internal/authapp"
)

// joined joins the Auth app by an invitation, with a passkey, and comes to the
// pages of the deployment.
func (d *deployment) joined(name string) *browser {
	d.t.Helper()
	invitation, err := d.app.Invite(d.t.Context(), authapp.NewUser{Name: name, New: true})
	if err != nil {
		d.t.Fatal(err)
	}
	b := newBrowser(d.t, d.origins()...)
	b.authenticator()
	b.open(invitation.Link)
	b.screenshot("auth-setup")
	b.fill("Password", "four words in a row")
	b.fill("Password, once more", "four words in a row")
	b.press("Continue")
	b.screenshot("auth-setup-factor")
	b.press("Make a passkey")
	b.screenshot("auth-recovery-codes")
	b.open(d.url + "/")
	b.press("Sign in")
	b.reads("Hello, " + name)
	return b
}

func TestSigningInSteppingUpAndOutWithAPasskey(t *testing.T) {
	for name, apart := range map[string]bool{"in the same process": false, "on another address": true} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			d := newWhole(t, apart)
			b := d.joined("alice")
			b.open(d.url + "/projects")
			d.late.Store(int64(20 * time.Minute))
			b.fill("Name", "cfd")
			b.press("Make the project")
			if !strings.HasPrefix(b.at(), d.authURL+"/stepup") {
				t.Fatalf("an old second factor leads to %s, want to the Auth app", b.at())
			}
			b.screenshot("auth-stepup")
			b.press("Use a passkey")
			b.reads("Nothing has been done yet", "make a project", "cfd")
			b.press("Yes, make a project")
			b.reads("you own it")

			// Who signs out at the Auth app is signed out here soon.
			b.open(d.authURL + "/account")
			b.screenshot("auth-account")
			run(b, chromedp.WaitEvent(page.LoadEventFired, nil, chromedp.Click(`//header//button[normalize-space()="Sign out"]`)))
			b.settle()
			b.eventually(func() bool {
				b.open(d.url + "/")
				return b.has("Sign in")
			})
		})
	}
}
