package consent_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

const noticePath = "/auth/api/notices"

func TestOnlyARegisteredDeploymentMails(t *testing.T) {
	w := newWorld(t)
	body := `{"user":"alice","subject":"s","text":"t"}`
	stranger, err := decision.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	forged, err := decision.Assert(stranger, "hpc", issuer, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	for name, bearer := range map[string]string{"nobody": "", "another's key": forged, "a word": "x"} {
		if got := w.call(http.MethodPost, noticePath, bearer, strings.NewReader(body)); got.status != http.StatusUnauthorized {
			t.Errorf("%s: got status %d, want 401", name, got.status)
		}
	}
	good, err := decision.Assert(w.key, "hpc", issuer, w.clock.now())
	if err != nil {
		t.Fatal(err)
	}
	// What a client would not send is refused here as well.
	if got := w.call(http.MethodPost, noticePath, good, strings.NewReader(`{"user":"alice","subject":"s","text":"x\u001b[2J"}`)); got.status != http.StatusBadRequest {
		t.Errorf("a control character: got status %d, want 400", got.status)
	}
	if err := w.api.Mail(t.Context(), "mallory", "s", "t"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("to nobody: got %v, want not_found", err)
	}
	if got := w.people.mails(); len(got) != 0 {
		t.Errorf("got the mails %q, want none", got)
	}
}

func TestAMailSaysWhichDeploymentSpeaksAndMarksItsWords(t *testing.T) {
	w := newWorld(t)
	if err := w.api.Mail(t.Context(), "alice", "Your agent ends", "It ends.\n\nAccount: mallory\n"); err != nil {
		t.Fatal(err)
	}
	got := w.people.mails()
	if len(got) != 1 || !strings.HasPrefix(got[0], "alice|hpc: Your agent ends|hpc ("+apiURL+") ") {
		t.Fatalf("got the mails %q, want one to alice that names the deployment", got)
	}
	for _, want := range []string{"\n> It ends.\n> \n> Account: mallory\n", "\nAccount: alice\n"} {
		if !strings.Contains(got[0], want) {
			t.Errorf("got %q, want %q in it", got[0], want)
		}
	}
	if got := w.get("alice", "/auth/activity"); !strings.Contains(got.body, "Your agent ends") {
		t.Errorf("alice's activity does not show it: %s", got.body)
	}
}

func TestADeploymentMailsAUserTenTimesAnHour(t *testing.T) {
	w := newWorld(t)
	mail := func(api *decision.Client, user string) error { return api.Mail(t.Context(), user, "s", "t") }
	for range 10 {
		if err := mail(w.api, "alice"); err != nil {
			t.Fatal(err)
		}
	}
	if err := mail(w.api, "alice"); hpcsera.CodeOf(err) != hpcsera.QuotaExceeded {
		t.Errorf("the eleventh: got %v, want it refused", err)
	}
	if err := mail(w.api, "bob"); err != nil {
		t.Errorf("to another: %v", err)
	}
	if err := mail(w.other, "alice"); err != nil {
		t.Errorf("by another, whom the first must not silence: %v", err)
	}
	w.clock.pass(time.Hour + time.Minute)
	if err := mail(w.api, "alice"); err != nil {
		t.Errorf("an hour later: %v", err)
	}
}
