package policy_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

const issuer = "https://auth.example.org"

// authApp signs status lists.
type authApp struct {
	key  approval.AuthKey
	priv ed25519.PrivateKey
}

func newAuthApp(t testing.TB) authApp {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return authApp{approval.AuthKey(public), private}
}

func (a authApp) list(t testing.TB, number int64, change func(*approval.StatusList)) string {
	t.Helper()
	l := approval.StatusList{Issuer: issuer, Number: number, Issued: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	if change != nil {
		change(&l)
	}
	jws, err := approval.SignStatus(a.priv, l)
	if err != nil {
		t.Fatal(err)
	}
	return jws
}

// pinned is a site that pins the Auth app by its command.
func pinned(t testing.TB, key ssh.Signer, a authApp) site {
	t.Helper()
	s := newSite(t, key, nil)
	d := &desk{path: s.path}
	if err := d.typing(a.key.String()+"\n").Pin(issuer+"/", "-", a.key.Fingerprint()); err != nil {
		t.Fatalf("trust pin: got %v, want no error", err)
	}
	return s
}

func wantWaiting(t *testing.T, v *policy.Verdict, err error, reason hpcsera.Reason, say string) {
	t.Helper()
	var w *policy.Waiting
	if v != nil || !errors.As(err, &w) || w.Reason != reason || !strings.Contains(err.Error(), say) {
		t.Errorf("got %+v, %v, want it to wait as %s and say %q", v, err, reason, say)
	}
	if code := hpcsera.CodeOf(err); code != hpcsera.Unavailable || policy.Reason(err) != "" {
		t.Errorf("got code %s and reason %q, want it tried again", code, policy.Reason(err))
	}
}

func TestWithAPinNothingStartsWithoutACurrentList(t *testing.T) {
	key, app := plainKey(t), newAuthApp(t)
	s, j := pinned(t, key, app), newJob(t, key)
	v, err := j.verify(t, s)
	wantWaiting(t, v, err, hpcsera.WaitingForApproval, "no status list")
	if err := policy.TakeStatus(s.path, app.list(t, 3, nil)); err != nil {
		t.Fatalf("TakeStatus: got %v, want no error", err)
	}
	if _, err := j.verify(t, s); err != nil {
		t.Errorf("with a list: got %v, want no error", err)
	}
	j.in.Now = now.Add(time.Hour)
	v, err = j.verify(t, s)
	wantWaiting(t, v, err, hpcsera.WaitingForApproval, "ended at 2026-11-22T15:05:00Z")
	j.in.Now = now.Add(-time.Hour - 6*time.Minute)
	j.statement.NotBefore = now.Add(-10 * time.Hour)
	j.sign(t, key)
	v, err = j.verify(t, s)
	wantWaiting(t, v, err, hpcsera.WaitingForApproval, "was issued at")
	// What is forged is refused all the same, and not kept waiting.
	j.order.Signature = ""
	v, err = j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "no signed approval")
}

func TestWhatTheListWithdrawsDoesNotStart(t *testing.T) {
	key, app := plainKey(t), newAuthApp(t)
	for name, change := range map[string]func(*approval.StatusList, *job){
		"the approval": func(l *approval.StatusList, j *job) { l.Approvals = []string{j.statement.ID} },
		"the key":      func(l *approval.StatusList, _ *job) { l.Keys = []string{ssh.FingerprintSHA256(key.PublicKey())} },
	} {
		s, j := pinned(t, key, app), newJob(t, key)
		if err := policy.TakeStatus(s.path, app.list(t, 1, func(l *approval.StatusList) { change(l, j) })); err != nil {
			t.Fatal(err)
		}
		v, err := j.verify(t, s)
		if wantRefusal(t, v, err, hpcsera.ApprovalWithdrawn, "status list 1"); t.Failed() {
			t.Errorf("of %s", name)
		}
	}
}

func TestAListThatHidesOrForgesIsRefused(t *testing.T) {
	key, app := plainKey(t), newAuthApp(t)
	s := pinned(t, key, app)
	if err := policy.TakeStatus(s.path, app.list(t, 5, nil)); err != nil {
		t.Fatal(err)
	}
	other := func(l *approval.StatusList) { l.Issued = l.Issued.Add(time.Second) }
	for name, jws := range map[string]string{
		"a lower number":                 app.list(t, 4, nil),
		"the number with other contents": app.list(t, 5, other),
		"another key's":                  newAuthApp(t).list(t, 9, nil),
		"another issuer's":               app.list(t, 9, func(l *approval.StatusList) { l.Issuer = "https://other.example.org" }),
		"words":                          "a.b.c",
	} {
		err := policy.TakeStatus(s.path, jws)
		var r *policy.Refusal
		if !errors.As(err, &r) || !r.Forged {
			t.Errorf("%s: got %v, want it called forged", name, err)
		}
	}
	for _, number := range []int64{5, 6} { // the same, and a higher one
		if err := policy.TakeStatus(s.path, app.list(t, number, nil)); err != nil {
			t.Errorf("list %d: got %v, want no error", number, err)
		}
	}
}

func TestTheHighestNumberOutlivesEverything(t *testing.T) {
	key, app := plainKey(t), newAuthApp(t)
	s := pinned(t, key, app)
	for _, n := range []int64{9, 10, 100} {
		if err := policy.TakeStatus(s.path, app.list(t, n, nil)); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), "status-lists", "*", "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "100.jws" {
		t.Errorf("got %v, want the newest list alone", left)
	}
	t.Run("a new key of the Auth app", func(t *testing.T) {
		next := newAuthApp(t)
		d := &desk{path: s.path}
		if err := d.typing(next.key.String()+"\n").Pin(issuer, "-", next.key.Fingerprint()); err != nil {
			t.Fatal(err)
		}
		if err := d.typing("").Unpin(app.key.Fingerprint()); err != nil {
			t.Fatal(err)
		}
		v, err := newJob(t, key).verify(t, s)
		wantWaiting(t, v, err, hpcsera.WaitingForApproval, "by the pinned key")
		if err := policy.TakeStatus(s.path, next.list(t, 99, nil)); err == nil {
			t.Error("a lower number: got no error")
		}
		if err := policy.TakeStatus(s.path, next.list(t, 100, nil)); err != nil {
			t.Errorf("the same number under the new key: got %v, want no error", err)
		}
		if _, err := newJob(t, key).verify(t, s); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
	t.Run("a file cut short", func(t *testing.T) {
		if err := os.WriteFile(left[0], []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := newJob(t, key).verify(t, s)
		wantWaiting(t, v, err, hpcsera.WaitingForApproval, "Nothing starts")
	})
}

func TestWithoutAPinListsAreNotLookedAt(t *testing.T) {
	key, app := plainKey(t), newAuthApp(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	if err := policy.TakeStatus(s.path, app.list(t, 1, func(l *approval.StatusList) { l.Approvals = []string{j.statement.ID} })); !errors.Is(err, policy.ErrUnpinned) {
		t.Errorf("got %v, want that none is pinned", err)
	}
	if _, err := j.verify(t, s); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestAnAuthAppIsPinnedByItsFingerprint(t *testing.T) {
	app, d := newAuthApp(t), newDesk(t)
	line, fingerprint := app.key.String()+"\n", app.key.Fingerprint()
	for name, err := range map[string]error{
		"another fingerprint": d.typing(line).Pin(issuer, "-", newAuthApp(t).key.Fingerprint()),
		"another end":         d.typing(line+"AAAAAAAAAAAA\n").Pin(issuer, "-", ""),
		"no key":              d.typing("hello\n").Pin(issuer, "-", fingerprint),
		"no URL":              d.typing(line).Pin("auth", "-", fingerprint),
		"nothing pinned":      d.typing("").Unpin(""),
	} {
		if err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if err := d.typing(line+fingerprint[len(fingerprint)-12:]+"\n").Pin(issuer+":443/", "-", ""); err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	trust, err := policy.Load(d.path)
	if err != nil || trust.AuthApp == nil || *trust.AuthApp != (policy.AuthApp{Issuer: issuer, Key: app.key.String()}) {
		t.Errorf("got %+v, %v", trust, err)
	}
	if err := d.typing("").Unpin(""); err != nil {
		t.Errorf("Unpin: got %v, want no error", err)
	}
}

// An Auth app that was taken over signs what it likes, such as a newer list
// that withdraws nothing.
func TestNoStatusListUndoesAWithdrawalMadeHere(t *testing.T) {
	key, app := plainKey(t), newAuthApp(t)
	s, j := pinned(t, key, app), newJob(t, key)
	if err := policy.TakeStatus(s.path, app.list(t, 1, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := j.verify(t, s); err != nil {
		t.Fatalf("before: got %v, want no error", err)
	}
	s.change(t, func(f *policy.Trust) { f.Withdrawn.Approvals = []string{j.statement.ID} })
	if err := policy.TakeStatus(s.path, app.list(t, 2, nil)); err != nil {
		t.Fatal(err)
	}
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalWithdrawn, "withdrawn on this site")
}

func TestTheAuthAppsKeyRotatesWithOverlap(t *testing.T) {
	key, app, next, third := plainKey(t), newAuthApp(t), newAuthApp(t), newAuthApp(t)
	s, j := pinned(t, key, app), newJob(t, key)
	d := &desk{path: s.path}
	pin := func(a authApp) error { return d.typing(a.key.String()+"\n").Pin(issuer, "-", a.key.Fingerprint()) }
	// Before the second key is pinned, its lists are forged ones.
	var r *policy.Refusal
	if err := policy.TakeStatus(s.path, next.list(t, 1, nil)); !errors.As(err, &r) || !r.Forged {
		t.Errorf("by a key that is not pinned: got %v, want it called forged", err)
	}
	if err := pin(app); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("the same key again: got %v, want %s", err, hpcsera.Conflict)
	}
	if err := d.typing(next.key.String()+"\n").Pin(issuer, "-", third.key.Fingerprint()); err == nil {
		t.Error("a second key with another fingerprint: got no error")
	}
	if err := pin(next); err != nil {
		t.Fatalf("a second key: %v", err)
	}
	if err := pin(third); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("a third key: got %v, want %s", err, hpcsera.Conflict)
	}
	if err := d.typing("").Unpin(third.key.Fingerprint()); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("unpin of a key that is not pinned: got %v, want %s", err, hpcsera.NotFound)
	}
	if err := policy.TakeStatus(s.path, third.list(t, 9, nil)); !errors.As(err, &r) || !r.Forged {
		t.Errorf("by a third key: got %v, want it called forged", err)
	}
	for n, signer := range []authApp{app, next} {
		if err := policy.TakeStatus(s.path, signer.list(t, int64(n+1), nil)); err != nil {
			t.Fatalf("list %d while both are pinned: %v", n+1, err)
		}
		if _, err := j.verify(t, s); err != nil {
			t.Errorf("under list %d: got %v, want no error", n+1, err)
		}
	}
	// Two keys are no second count: neither goes back, nor says something else.
	for name, jws := range map[string]string{"a lower number": app.list(t, 1, nil), "the same number": app.list(t, 2, nil)} {
		if err := policy.TakeStatus(s.path, jws); !errors.As(err, &r) || !r.Forged {
			t.Errorf("%s by the old key: got %v, want it called forged", name, err)
		}
	}
	if err := d.typing("").Unpin(app.key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if err := policy.TakeStatus(s.path, app.list(t, 3, nil)); !errors.As(err, &r) || !r.Forged {
		t.Errorf("by the old key after it was unpinned: got %v, want it called forged", err)
	}
	if _, err := j.verify(t, s); err != nil {
		t.Errorf("under the new key: got %v, want no error", err)
	}
	trust, err := policy.Load(d.path)
	if err != nil || *trust.AuthApp != (policy.AuthApp{Issuer: issuer, Key: next.key.String()}) {
		t.Errorf("got %+v, %v, want the new key alone", trust.AuthApp, err)
	}
	// The last one takes the pin with it.
	if err := d.typing("").Unpin(next.key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if trust, err = policy.Load(d.path); err != nil || trust.AuthApp != nil {
		t.Errorf("got %+v, %v, want no pin", trust.AuthApp, err)
	}
}
