package browser

import (
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	_ "modernc.org/sqlite" // the server's database, as whoever took the server over sees it

	"github.com/hpcsera/hpcsera"
)

// text returns what an element shows.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return run(b, chromedp.Evaluate[string](`document.querySelector(`+"`"+selector+"`"+`).textContent.trim()`))
}

// trustsThePasskey registers a passkey that signs code in the Auth app and
// carries its line to the agent, typing the fingerprint's end.
func (i *installation) trustsThePasskey(b *browser) {
	i.t.Helper()
	b.open(i.authURL + "/approvals")
	b.expect("pubKeyCredParams") // agents know no RSA
	b.press("Register one")
	b.fill("Its name", "key on my ring")
	b.press("Make the passkey")
	b.reads("key on my ring")
	run(b, chromedp.Click(`//summary[normalize-space()="Let an agent trust it"]`))
	line, fingerprint := b.text("details .secret"), b.text(".list .fingerprint")
	told := i.onSite(line+"\n"+fingerprint[len(fingerprint)-12:]+"\n", "trust", "add", "-")
	if !strings.Contains(told, fingerprint) {
		i.t.Fatalf("the agent says %q, the page %s", told, fingerprint)
	}
}

// signs lets alice sign, in her inbox, the code that waits.
func (i *installation) signs(b *browser, pictures string) {
	i.t.Helper()
	b.open(i.authURL + "/")
	b.reads("Consent to the code hello")
	b.press("Look at it")
	b.press("Show what I would sign")
	b.reads("Exactly these bytes are signed")
	if pictures != "" {
		b.screenshot(pictures)
	}
	b.press("Sign with a passkey")
	b.reads("Nothing waits for you")
}

// TestCodeRunsOnceItsUserSignedItInTheAuthApp walks through an installation
// whose Auth app is a program of its own, from the first link to a server that
// was taken over.
func TestCodeRunsOnceItsUserSignedItInTheAuthApp(t *testing.T) {
	i := install(t, true)
	b := i.joins(i.link(i.operator("hpcsera-auth", "user", "add", "alice")))
	i.makesAToken(b)
	i.movesIn("")
	i.allows(b, i.start(i.siteEnv(), "hpcsera-agent", "enroll"), "auth-request-agent")
	b.open(i.authURL + "/approvals")
	b.screenshot("auth-approvals-empty")
	i.trustsThePasskey(b)
	b.screenshot("auth-approvals-key")
	pinned, fingerprint := b.text("[aria-labelledby=list] .secret"), b.text("[aria-labelledby=list] .fingerprint")
	i.onSite(pinned+"\n"+fingerprint[len(fingerprint)-12:]+"\n", "trust", "pin", i.authURL, "-")
	i.agent = i.start(i.siteEnv(), "hpcsera-agent", "run")
	i.agent.says(t, "connected")

	// New code waits, and says for whom.
	first, told := i.submits(`echo "Hello, $whom!" | tee out.txt`)
	if !strings.Contains(told, "waits for the approval") {
		t.Errorf("submit says %q", told)
	}
	within(t, "the job waits, and alice was asked", func() bool {
		j := i.status(first)
		return j.Reason == hpcsera.WaitingForApproval && j.Message != ""
	})
	explained, _, _ := i.user("explain", first)
	for _, words := range []string{"waits for you to approve its code", i.authURL + "/requests/hpc/", "hpcsera approve"} {
		if !strings.Contains(explained, words) {
			t.Errorf("explain does not say %q:\n%s", words, explained)
		}
	}

	// Alice looks, signs, and gets what she wanted.
	b.eventually(func() bool {
		b.open(i.authURL + "/")
		return b.has("Look at it")
	})
	b.screenshot("auth-inbox-code")
	b.press("Look at it")
	b.reads("hpc", "laptop", "you enrolled it here", "tee out.txt", "You signed no version of it here before")
	b.screenshot("auth-code-new")
	b.press("Show what I would sign")
	b.screenshot("auth-sign")
	b.press("Sign with a passkey")
	b.reads("Nothing waits for you")
	i.succeeds(first, "Hello, world!")

	// The next version is shown by its difference.
	second, _ := i.submits(`echo "Good morning, $whom!" | tee out.txt`)
	b.eventually(func() bool {
		b.open(i.authURL + "/")
		return b.has("Look at it")
	})
	b.press("Look at it")
	b.reads("Compared with the version that you signed", "1 line new, 1 line gone")
	if gone, came := b.text("del"), b.text("ins"); !strings.Contains(gone, "Hello") || !strings.Contains(came, "Good morning") {
		t.Errorf("the difference shows that %q went and %q came", gone, came)
	}
	b.screenshot("auth-code-difference")
	i.signs(b, "")
	i.succeeds(second, "Good morning, world!")

	// Withdrawn, it runs no more, although the server knows an approval.
	again, _ := i.submits(`echo "Good morning, $whom!" | tee out.txt`)
	i.succeeds(again, "Good morning, world!")
	b.open(i.authURL + "/approvals")
	b.reads("replaced")
	b.screenshot("auth-approvals")
	approved := regexp.MustCompile(`ap_[a-z0-9]{20}`).FindString(b.text("[aria-labelledby=signed] tbody"))
	b.press("Withdraw the approval of hello, " + approved)
	b.reads("withdrawn")
	b.screenshot("auth-approvals-withdrawn")
	within(t, "the agent hears of the withdrawal", func() bool {
		last, _ := i.submits(`echo "Good morning, $whom!" | tee out.txt`)
		j := i.ends(last)
		return j.State == hpcsera.Failed && j.Reason == hpcsera.ApprovalWithdrawn
	})
	i.takenOver()
}

// succeeds waits until a job has done well, and looks for its output here.
func (i *installation) succeeds(id, output string) {
	i.t.Helper()
	if j := i.ends(id); j.State != hpcsera.Succeeded {
		i.t.Fatalf("job %s is %s (%s: %s)\n%s", id, j.State, j.Reason, j.Message, &i.agent.log)
	}
	if out, errs, status := i.user("logs", id); status != 0 || !strings.Contains(out, output) {
		i.t.Errorf("logs ended with %d:\n%s%s", status, out, errs)
	}
	if out, errs, status := i.user("fetch", id, "--output-dir", i.path("results-"+id)); status != 0 {
		i.t.Fatalf("fetch ended with %d:\n%s%s", status, out, errs)
	}
	text, err := os.ReadFile(i.path("results-" + id + "/out.txt"))
	if i.must(err); strings.TrimSpace(string(text)) != output {
		i.t.Errorf("the result is %q, want %q", text, output)
	}
}

// takenOver has somebody write into the server's database: the consent that
// alice gave to her code becomes consent to theirs. The server hands it out;
// nothing of it runs, and the agent says so.
func (i *installation) takenOver() {
	i.t.Helper()
	owned := i.path("owned")
	waiting, _ := i.submits("touch " + owned)
	theirs := i.status(waiting).Code.Digest
	i.server.stop(i.t)
	db, err := sql.Open("sqlite", i.path("server/hpcsera.db"))
	i.must(err)
	var text string
	i.must(db.QueryRowContext(i.t.Context(), `SELECT doc FROM approvals ORDER BY filed DESC LIMIT 1`).Scan(&text))
	var a hpcsera.Approval
	i.must(json.Unmarshal([]byte(text), &a))
	forged := strings.NewReplacer(a.Digest, theirs, a.ID, hpcsera.NewID("ap"))
	a.ID, a.Digest, a.Statement = forged.Replace(a.ID), theirs, []byte(forged.Replace(string(a.Statement)))
	doc, err := json.Marshal(a)
	i.must(err)
	_, err = db.ExecContext(i.t.Context(), `INSERT INTO approvals (id, "user", project, digest, name, client, filed, doc) VALUES ($1, $2, $3, $4, $5, '', $6, $7)`,
		a.ID, a.User, a.Project, a.Digest, a.Name, time.Now().UnixMilli(), string(doc))
	i.must(errors.Join(err, db.Close()))
	i.startServer()
	job, _ := i.submits("touch " + owned)
	if j := i.ends(job); j.State != hpcsera.Failed || j.Reason != hpcsera.ApprovalInvalid {
		i.t.Errorf("code that nobody signed is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	i.agent.says(i.t, "ALARM", job)
	if _, err := os.Stat(owned); err == nil {
		i.t.Error("the agent ran code that nobody signed")
	}
}
