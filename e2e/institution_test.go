package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

// institution is an OpenID provider that is not ours: npm's oidc-provider,
// which is certified. Its people's passwords are their names backwards.
type institution struct {
	url    string
	secret string // of its client, our Auth app
}

type claims map[string]any

// newInstitution starts a provider for an Auth app at app, with people.
func newInstitution(t *testing.T, app string, people map[string]claims) *institution {
	t.Helper()
	const dir = "../test/testbed/institution"
	if !exists(filepath.Join(dir, "node_modules")) {
		t.Fatalf("the institution is not installed: (cd test/testbed/institution && npm ci), as `make test` does")
	}
	i := &institution{url: freeURL(t), secret: rand.Text()}
	handedOut.add(i.secret)
	settings, err := json.Marshal(map[string]any{
		"port": json.Number(port(i.url)), "users": people,
		"client": map[string]string{
			"id": "hpcsera", "secret": i.secret,
			"redirect_uri": app + "/institution/uni/callback", "backchannel_logout_uri": app + "/institution/uni/logout",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "settings.json")
	write(t, file, string(settings), 0o600)
	cmd, log := exec.Command("node", "institution.js", file), &buffer{}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	stdin, err := cmd.StdinPipe() // it ends with this
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start the institution: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		stdin.Close()
		<-ended
		if t.Failed() {
			t.Logf("the institution printed:\n%s", log)
		}
	})
	eventually(t, 30*time.Second, "the institution ready", func() bool {
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the institution ended: %v\n%s", err, log)
		default:
		}
		return strings.Contains(log.String(), i.url+"\n")
	})
	return i
}

// change tells the institution something about its people.
func (i *institution) change(t *testing.T, method, name string, of claims) {
	t.Helper()
	body, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, i.url+"/test/users/"+name, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	if res.StatusCode != http.StatusNoContent {
		t.Fatalf("%s %s: got %s, want 204", method, r.URL, res.Status)
	}
}

// federated starts an institution with people and an Auth app that lets them
// in. Every second it asks whether they are still there.
func federated(t *testing.T, people map[string]claims) (*authApp, *institution) {
	t.Helper()
	url := freeURL(t)
	i := newInstitution(t, url, people)
	secret := filepath.Join(t.TempDir(), "uni.secret")
	write(t, secret, i.secret+"\n", 0o600)
	return newAuthApp(t, url, "limits: {institution_check: 1s}", "institutions:", fmt.Sprintf(
		"  - {name: uni, title: Example University, issuer: '%s', client_id: hpcsera, client_secret_file: '%s', "+
			"scopes: [profile, email, offline_access], projects_claim: groups, projects: {hpc-cfd: cfd, hpc-bio: bio}}", i.url, secret)), i
}

// comesFrom signs in through the institution, and says yes to what it asks.
func (b *browser) comesFrom(t *testing.T, a *authApp, name string) {
	t.Helper()
	b.open(t, a.url+"/signin")
	b.link(t, "Sign in with Example University")
	b.agreesThere(t, name)
}

// agreesThere does what the institution asks for.
func (b *browser) agreesThere(t *testing.T, name string) {
	t.Helper()
	// Whoever is signed in there is not asked for the password again.
	asks := func(name string) bool {
		return b.find(func(n *html.Node) bool { return attr(n, "name") == name }) != nil
	}
	if asks("login") {
		b.submit(t, b.at.Path, "login", name, "password", backwards(name))
	}
	if asks("consent") {
		b.submit(t, b.at.Path)
	}
}

// TestNobodyComesInByTheInstitutionUnlessItNamesThemWell has the institution
// tell of people whose names could not be accounts', or are somebody else's.
func TestNobodyComesInByTheInstitutionUnlessItNamesThemWell(t *testing.T) {
	t.Parallel()
	bad := map[string]claims{
		"missing": {"name": "Nobody"},
		"empty":   {"preferred_username": ""},
		"number":  {"preferred_username": 7},
		"list":    {"preferred_username": []string{"bob"}},
		"path":    {"preferred_username": "../../etc/passwd"},
		"markup":  {"preferred_username": "<script>alert(1)</script>", "name": "<script>alert(1)</script>"},
		"newline": {"preferred_username": "bob\nadmin"},
		"bidi":    {"preferred_username": "bob\u202egnp"},
		"like":    {"preferred_username": "аdmin"}, // its first letter is Cyrillic
		"long":    {"preferred_username": strings.Repeat("b", 64)},
	}
	taken := map[string]claims{"impostor": {"preferred_username": "carol"}, "shouting": {"preferred_username": "CAROL"}}
	all := map[string]claims{"dave": {"preferred_username": "dave"}}
	for _, some := range []map[string]claims{bad, taken} {
		for name, c := range some {
			all[name] = c
		}
	}
	a, _ := federated(t, all)
	carol := a.invite(t, "carol")

	b := newBrowser(t)
	b.open(t, a.url+"/institution/uni/start")
	b.submit(t, b.at.Path, "login", "dave", "password", "wrong")
	b.want(t, http.StatusOK, "Wrong name or password.")
	b.submit(t, b.at.Path, "login", "nobody", "password", "ydobon")
	b.want(t, http.StatusOK, "Wrong name or password.")
	if got := a.who(t, b); got != "" {
		t.Errorf("with a wrong password: signed in as %q, want nobody", got)
	}

	refused := func(name string, status int, says string) {
		t.Helper()
		b := newBrowser(t)
		b.comesFrom(t, a, name)
		b.want(t, status, says)
		if strings.Contains(b.text, "<script>alert") {
			t.Errorf("%s: the page has the institution's markup: %s", name, b.text)
		}
		if got := a.who(t, b); got != "" {
			t.Errorf("%s: signed in as %q, want nobody", name, got)
		}
	}
	for name := range bad {
		refused(name, http.StatusForbidden, "Example University gives no name that could be an account's.")
	}
	for name := range taken {
		refused(name, http.StatusConflict, "The name carol belongs to another account.")
	}
	if got := a.accounts(t); len(got) != 1 || got["carol"].Institution != "" || got["carol"].Disabled {
		t.Errorf("got the accounts %+v, want only carol, as before", got)
	}
	if got := a.who(t, carol.browser); got != "carol" {
		t.Errorf("carol's own browser: signed in as %q", got)
	}
}

// TestPeopleOfTheInstitutionGetAnAccountByItsClaims is a person's way from the
// first sign-in to a factor of their own.
func TestPeopleOfTheInstitutionGetAnAccountByItsClaims(t *testing.T) {
	t.Parallel()
	a, i := federated(t, map[string]claims{
		"alice": {
			"preferred_username": "Alice", "name": "Alice", "email": "alice@uni.example", "email_verified": true,
			"groups": []any{"hpc-cfd", "mail", "hpc-cfd", 7, "hpc-bio\n"},
		},
		"bob": {"preferred_username": "bob", "email": "boss@uni.example", "email_verified": false, "groups": "hpc-bio"},
	})
	alice, bob := newBrowser(t), newBrowser(t)
	alice.comesFrom(t, a, "alice")
	alice.want(t, http.StatusOK, "")
	if got := a.who(t, alice); got != "alice" || !strings.HasPrefix(alice.at.String(), a.url+"/") {
		t.Errorf("signed in as %q at %s, want alice at the Auth app", got, alice.at)
	}
	bob.comesFrom(t, a, "bob")
	got := a.accounts(t)
	for name, want := range map[string]accountRow{
		"alice": {Name: "alice", Mail: "alice@uni.example", Institution: "uni", Projects: []string{"cfd"}},
		"bob":   {Name: "bob", Institution: "uni", Projects: []string{"bio"}}, // an address that nobody verified is anybody's
	} {
		if fmt.Sprint(got[name]) != fmt.Sprint(want) {
			t.Errorf("got the account %+v, want %+v", got[name], want)
		}
	}
	for _, want := range []string{"alice account.make alice", "alice session.begin alice"} {
		if trail := a.trail(t); !slices.Contains(trail, want) {
			t.Errorf("the audit log has no %q: %q", want, trail)
		}
	}
	// The second time it is the same account, under whatever name.
	alice.open(t, a.url+"/account")
	alice.submit(t, "/signout")
	if got := a.who(t, alice); got != "" {
		t.Errorf("after signing out: signed in as %q", got)
	}
	i.change(t, http.MethodPut, "alice", claims{"preferred_username": "alice-new", "groups": []string{"hpc-bio"}})
	alice.comesFrom(t, a, "alice")
	if got := a.who(t, alice); got != "alice" {
		t.Errorf("the second time: signed in as %q, want alice", got)
	}
	if got := a.accounts(t); len(got) != 2 || !slices.Equal(got["alice"].Projects, []string{"bio"}) {
		t.Errorf("the second time: got the accounts %+v, want two, and alice in bio", got)
	}
	// A factor of their own, right after they came.
	alice.open(t, a.url+"/account/app")
	own := phone{secret: strings.ReplaceAll(alice.marked(t, "secret"), " ", "")}
	alice.submit(t, "/account/app", "code", own.code(t))
	alice.want(t, http.StatusOK, "Your authenticator app was added.")
}

// TestWhoSignsOutAtTheInstitutionIsOutHereAndHasNotLeft needs a provider that
// tells its clients, and whose other tokens end with the session.
func TestWhoSignsOutAtTheInstitutionIsOutHereAndHasNotLeft(t *testing.T) {
	t.Parallel()
	alice := claims{"preferred_username": "alice", "groups": []string{"hpc-cfd"}}
	a, i := federated(t, map[string]claims{"alice": alice, "bob": {"preferred_username": "bob"}})
	here, there, bob := newBrowser(t), newBrowser(t), newBrowser(t)
	here.comesFrom(t, a, "alice")
	there.comesFrom(t, a, "alice") // in another browser, with another session at the institution
	bob.comesFrom(t, a, "bob")
	here.open(t, i.url+"/session/end")
	here.submit(t, "/session/end/confirm", "logout", "yes")
	eventually(t, 10*time.Second, "the session's end by the institution", func() bool { return a.who(t, here) == "" })
	for name, b := range map[string]*browser{"alice": there, "bob": bob} {
		if got := a.who(t, b); got != name {
			t.Errorf("another browser: signed in as %q, want %s", got, name)
		}
	}
	if trail := a.trail(t); !slices.Contains(trail, "uni session.end alice") {
		t.Errorf("the audit log does not say that the institution ended the session: %q", trail)
	}
	// Asked again, the institution still knows alice. That it was asked shows in
	// what it newly says.
	alice["groups"] = []string{"hpc-bio"}
	i.change(t, http.MethodPut, "alice", alice)
	eventually(t, 20*time.Second, "the institution's new word on alice", func() bool {
		row := a.accounts(t)["alice"]
		return row.Disabled || slices.Equal(row.Projects, []string{"bio"})
	})
	if row := a.accounts(t)["alice"]; row.Disabled {
		t.Errorf("who signed out counts as somebody who left:\n%s", a.server.log)
	}
	here.comesFrom(t, a, "alice")
	if got := a.who(t, here); got != "alice" {
		t.Errorf("again: signed in as %q, want alice", got)
	}
}

// TestWhoLeavesTheInstitutionLosesAccess and comes back by its word.
func TestWhoLeavesTheInstitutionLosesAccess(t *testing.T) {
	t.Parallel()
	a, i := federated(t, map[string]claims{"alice": {"preferred_username": "alice"}, "bob": {"preferred_username": "bob"}})
	alice, bob := newBrowser(t), newBrowser(t)
	alice.comesFrom(t, a, "alice")
	bob.comesFrom(t, a, "bob")
	i.change(t, http.MethodDelete, "alice", nil)
	a.awaitLeaver(t, "alice")
	if got := a.who(t, alice); got != "" {
		t.Errorf("after leaving: signed in as %q, want nobody", got)
	}
	alice = newBrowser(t) // the institution's session of somebody who left is its own affair
	alice.open(t, a.url+"/institution/uni/start")
	alice.submit(t, alice.at.Path, "login", "alice", "password", "ecila")
	alice.want(t, http.StatusOK, "Wrong name or password.")
	if row, who := a.accounts(t)["bob"], a.who(t, bob); row.Disabled || who != "bob" {
		t.Errorf("who stayed: got %+v, signed in as %q", row, who)
	}
	i.change(t, http.MethodPut, "alice", claims{"preferred_username": "alice"})
	alice.comesFrom(t, a, "alice")
	if row, who := a.accounts(t)["alice"], a.who(t, alice); row.Disabled || who != "alice" {
		t.Errorf("back again: got %+v, signed in as %q", row, who)
	}
}

// TestWhoLeavesWhileTheAuthAppIsDownLosesAccess when it is up again: the first
// that it then hears from the institution is the refusal.
func TestWhoLeavesWhileTheAuthAppIsDownLosesAccess(t *testing.T) {
	t.Parallel()
	a, i := federated(t, map[string]claims{"alice": {"preferred_username": "alice"}})
	alice := newBrowser(t)
	alice.comesFrom(t, a, "alice")
	if got := a.who(t, alice); got != "alice" {
		t.Fatalf("signed in as %q, want alice", got)
	}
	a.stop(t)
	i.change(t, http.MethodDelete, "alice", nil)
	a.start(t)
	a.awaitLeaver(t, "alice")
	if got := a.who(t, alice); got != "" {
		t.Errorf("after leaving: signed in as %q, want nobody", got)
	}
}

// awaitLeaver waits until the Auth app has heard that somebody left.
func (a *authApp) awaitLeaver(t *testing.T, name string) {
	t.Helper()
	eventually(t, 20*time.Second, name+" disabled", func() bool { return a.accounts(t)[name].Disabled })
	if trail := a.trail(t); !slices.Contains(trail, "uni account.disable "+name) {
		t.Errorf("the audit log does not say that %s left: %q", name, trail)
	}
}

func backwards(name string) string {
	letters := []byte(name)
	slices.Reverse(letters)
	return string(letters)
}

// inAt says whether a browser has a session at the server's own pages.
func (d *deployment) inAt(b *browser) bool {
	d.t.Helper()
	w := b.window()
	w.open(d.t, d.url+"/sessions")
	return w.at.Path == "/sessions" && strings.HasPrefix(w.at.String(), d.url)
}

// TestTheInstitutionsWordReachesTheServer goes the whole way: who signs out at
// the institution is out at the server's pages, and who leaves it has neither
// session nor token there.
func TestTheInstitutionsWordReachesTheServer(t *testing.T) {
	t.Parallel()
	a, i := federated(t, map[string]claims{"alice": {"preferred_username": "alice"}, "bob": {"preferred_username": "bob"}})
	d := newDeployment(t, "", "")
	d.join(a)
	people := map[string]*browser{}
	for _, name := range []string{"alice", "bob"} {
		b := newBrowser(t)
		b.open(t, d.url+"/signin")
		b.link(t, "Sign in with Example University")
		b.agreesThere(t, name)
		if !strings.HasPrefix(b.at.String(), d.url+"/") || !d.inAt(b) {
			t.Fatalf("%s comes to %s (status %d): %s", name, b.at, b.status, b.said())
		}
		people[name] = b
	}
	other := newBrowser(t)
	other.open(t, d.url+"/signin")
	other.link(t, "Sign in with Example University")
	other.agreesThere(t, "alice")

	people["alice"].open(t, i.url+"/session/end")
	people["alice"].submit(t, "/session/end/confirm", "logout", "yes")
	eventually(t, 20*time.Second, "the end of alice's session at the server", func() bool { return !d.inAt(people["alice"]) })
	if !d.inAt(other) || !d.inAt(people["bob"]) {
		t.Error("somebody else's session ended, too")
	}
	if status, _ := d.self(d.token); status != http.StatusOK {
		t.Errorf("after alice signed out: her token got status %d, want 200", status)
	}

	i.change(t, http.MethodDelete, "alice", nil)
	eventually(t, 20*time.Second, "the end of alice's token", func() bool {
		status, _ := d.self(d.token)
		return status == http.StatusUnauthorized
	})
	if d.inAt(other) {
		t.Error("alice's other session at the server goes on")
	}
	if !d.inAt(people["bob"]) {
		t.Error("bob's session at the server ended, too")
	}
	// Back at the institution she is not back here: that is for the operators.
	i.change(t, http.MethodPut, "alice", claims{"preferred_username": "alice"})
	again := newBrowser(t)
	again.comesFrom(t, a, "alice")
	again.open(t, d.url+"/signin")
	if status, _ := d.self(d.token); d.inAt(again) || status != http.StatusUnauthorized {
		t.Errorf("back at the institution: alice is at %s and her token gets status %d, want her refused", again.at, status)
	}
	d.admin("user", "enable", "alice")
	again.open(t, d.url+"/signin")
	if status, _ := d.self(d.token); !d.inAt(again) || status != http.StatusOK {
		t.Errorf("let in again: alice is at %s (status %d: %s) and her token gets status %d", again.at, again.status, again.said(), status)
	}
}
