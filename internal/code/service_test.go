package code_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"crypto/sha256"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

const deployment = "https://hpc.example.org"

type world struct {
	t      *testing.T
	store  store.Store
	code   *code.Service
	signer ssh.Signer
	now    time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	files, err := fs.Open(filepath.Join(t.TempDir(), "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	w := &world{t: t, store: db, signer: newSigner(t), now: time.Now().UTC().Truncate(time.Second)}
	w.code = code.New(code.Config{Store: db, Blobs: files, Deployment: deployment + "/", Log: log, Now: func() time.Time { return w.now }})
	return w
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func token(edit ...func(*auth.Principal)) *auth.Principal {
	p := &auth.Principal{
		Token:  &hpcsera.Token{ID: hpcsera.NewID("t"), User: "alice", Project: "cfd", Client: "gitlab", Scope: hpcsera.ClientScope, Roles: 255},
		Member: hpcsera.Member,
	}
	for _, e := range edit {
		e(p)
	}
	return p
}

func as(user string) func(*auth.Principal) { return func(p *auth.Principal) { p.Token.User = user } }
func through(client string) func(*auth.Principal) {
	return func(p *auth.Principal) { p.Token.Client = client }
}
func in(project string) func(*auth.Principal) {
	return func(p *auth.Principal) { p.Token.Project = project }
}
func with(roles ...hpcsera.Role) func(*auth.Principal) {
	return func(p *auth.Principal) { p.Token.Roles = hpcsera.RolesOf(roles...) }
}
func viewer(p *auth.Principal) { p.Member = hpcsera.Viewer }

func agent(id string, projects ...string) *auth.Principal {
	return &auth.Principal{Agent: &store.Agent{Agent: hpcsera.Agent{ID: id, User: "alice", Site: "gwdg", Projects: projects}}}
}

func expect(t *testing.T, name string, err error, want hpcsera.Code) {
	t.Helper()
	if got := hpcsera.CodeOf(err); got != want {
		t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
	}
}

const content = "print('hello')\n"

func digestOf(text string) string { return hpcsera.DigestOf([]byte(text)) }

// manifest has one file.
func manifest() hpcsera.Manifest {
	sum := sha256.Sum256([]byte(content))
	return hpcsera.Manifest{
		Name: "hello", Program: hpcsera.Program{ScriptFile: "run.py"},
		Files: []hpcsera.File{{Path: "run.py", Mode: "0755", Size: int64(len(content)), SHA256: hex.EncodeToString(sum[:])}},
	}
}

func (w *world) put(p *auth.Principal, text string) error {
	_, _, err := w.code.PutBlob(w.t.Context(), p, code.BlobUpload{Digest: digestOf(text), Total: int64(len(text)), Body: strings.NewReader(text)})
	return err
}

func (w *world) file(p *auth.Principal, m hpcsera.Manifest) hpcsera.CodeEntry {
	w.t.Helper()
	entry, _, err := w.code.Put(w.t.Context(), p, m)
	if err != nil {
		w.t.Fatal(err)
	}
	return entry
}

func TestCodeIsFiledAndReadWithTheRightRolesOnly(t *testing.T) {
	w := newWorld(t)
	for name, p := range map[string]*auth.Principal{"role 6": token(with(6)), "a viewer": token(viewer), "an agent": agent(hpcsera.NewID("ag"), "cfd")} {
		_, _, err := w.code.Put(t.Context(), p, manifest())
		if got := hpcsera.CodeOf(err); got != hpcsera.Forbidden && got != hpcsera.NotFound {
			t.Errorf("%s files code: got %v, want a refusal", name, err)
		}
	}
	bad := manifest()
	bad.Files[0].Path = "../run.py"
	_, _, err := w.code.Put(t.Context(), token(), bad)
	expect(t, "a path that leaves the folder", err, hpcsera.InvalidField)

	entry, created, err := w.code.Put(t.Context(), token(with(4)), manifest())
	if err != nil || !created || len(entry.Missing) != 1 || entry.Missing[0] != digestOf(content) {
		t.Fatalf("filed: got %+v, created %v (%v), want one missing blob", entry, created, err)
	}
	if err := w.put(token(with(4)), content); err != nil {
		t.Fatal(err)
	}
	entry, created, err = w.code.Put(t.Context(), token(with(4)), manifest())
	if err != nil || created || len(entry.Missing) != 0 {
		t.Errorf("again: got %+v, created %v (%v), want nothing missing, nothing new", entry, created, err)
	}
	for _, c := range []struct {
		name string
		p    *auth.Principal
		want hpcsera.Code
	}{
		{"without role 5", token(with(1, 2, 3, 4, 6, 7, 8)), hpcsera.Forbidden},
		{"another project", token(in("melt")), hpcsera.NotFound},
		{"another client", token(through("flowable")), hpcsera.NotFound},
		{"an agent", agent(hpcsera.NewID("ag"), "cfd"), hpcsera.NotFound},
		{"another user of the client", token(as("bob"), with(5)), ""},
		{"its owner", token(with(5)), ""},
	} {
		got, err := w.code.Get(t.Context(), c.p, entry.Digest)
		expect(t, c.name, err, c.want)
		if err == nil && got.Manifest.Files[0].Path != "run.py" {
			t.Errorf("%s: got %+v", c.name, got)
		}
	}
	_, err = w.code.Get(t.Context(), token(), "sha256:"+strings.Repeat("0", 64))
	expect(t, "no such code", err, hpcsera.NotFound)
	list, err := w.code.List(t.Context(), token())
	if err != nil || len(list.Code) != 1 {
		t.Errorf("list: got %+v (%v), want one", list, err)
	}
	if list, err = w.code.List(t.Context(), token(through("flowable"))); err != nil || len(list.Code) != 0 {
		t.Errorf("another client's list: got %+v (%v), want none", list, err)
	}
}

func TestCodeOfUnfinishedJobsStays(t *testing.T) {
	w := newWorld(t)
	entry := w.file(token(), manifest())
	job := store.Job{Job: hpcsera.Job{
		ID: hpcsera.NewID("j"), Name: "hello", Project: "cfd", User: "alice", Client: "gitlab", Site: "gwdg", State: hpcsera.Running,
		Code: hpcsera.CodeRef{Digest: entry.Digest, Name: "hello"}, Attempt: 1,
	}}
	w.change(func(l *store.Ledger, _ store.Tx) error { return l.Insert([]*store.Job{&job}) })
	expect(t, "without role 4", w.code.Delete(t.Context(), token(with(5)), entry.Digest), hpcsera.Forbidden)
	expect(t, "another member's", w.code.Delete(t.Context(), token(as("bob")), entry.Digest), hpcsera.Forbidden)
	expect(t, "another client's", w.code.Delete(t.Context(), token(through("flowable")), entry.Digest), hpcsera.NotFound)
	expect(t, "while a job runs", w.code.Delete(t.Context(), token(), entry.Digest), hpcsera.Conflict)
	job.State = hpcsera.Succeeded
	w.change(func(l *store.Ledger, _ store.Tx) error { return l.Update(&job, store.StateEvent) })
	expect(t, "afterwards", w.code.Delete(t.Context(), token(), entry.Digest), "")
	_, err := w.code.Get(t.Context(), token(), entry.Digest)
	expect(t, "deleted", err, hpcsera.NotFound)
}

func (w *world) change(fn func(*store.Ledger, store.Tx) error) {
	w.t.Helper()
	err := w.store.Write(w.t.Context(), func(tx store.Tx) error {
		l, err := store.NewLedger(tx, w.now)
		if err != nil {
			return err
		}
		return fn(l, tx)
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestBytesBelongToTheProjectThatHandedThemIn(t *testing.T) {
	w := newWorld(t)
	digest := digestOf(content)
	expect(t, "role 2 alone", w.put(token(with(2)), content), hpcsera.Forbidden)
	expect(t, "a viewer", w.put(token(viewer), content), hpcsera.Forbidden)
	expect(t, "role 6", w.put(token(with(6)), content), "")
	_, err := w.code.OpenBlob(t.Context(), token(with(6)), digest)
	expect(t, "read without role 5", err, hpcsera.Forbidden)
	_, err = w.code.OpenBlob(t.Context(), token(in("melt")), digest)
	expect(t, "read by another project", err, hpcsera.NotFound)
	_, _, err = w.code.StatBlob(t.Context(), token(in("melt")), digest, "")
	expect(t, "asked for by another project", err, hpcsera.NotFound)
	_, err = w.code.OpenBlob(t.Context(), agent(hpcsera.NewID("ag"), "melt"), digest)
	expect(t, "read by an agent of another project", err, hpcsera.NotFound)
	_, err = w.code.OpenBlob(t.Context(), token(), "sha256:../../etc/passwd")
	expect(t, "no digest", err, hpcsera.InvalidField)
	for name, p := range map[string]*auth.Principal{"a token": token(with(5)), "an agent": agent(hpcsera.NewID("ag"), "melt", "cfd")} {
		f, err := w.code.OpenBlob(t.Context(), p, digest)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
		if err != nil || string(got) != content {
			t.Errorf("%s: got %q (%v)", name, got, err)
		}
		f.Close()
	}
	// Whoever knows a digest only must hand in the bytes, too.
	_, complete, err := w.code.PutBlob(t.Context(), token(in("melt")), code.BlobUpload{Digest: digest, Total: 100, Offset: 100, Body: strings.NewReader("")})
	if err == nil && complete {
		t.Error("another project got the blob without its bytes")
	}
}

func TestUploadsGoOnWhereTheyBrokeOff(t *testing.T) {
	w := newWorld(t)
	text := strings.Repeat("0123456789", 10_000)
	p, digest := token(), digestOf(text)
	send := func(offset int64, body io.Reader) (int64, bool, error) {
		return w.code.PutBlob(t.Context(), p, code.BlobUpload{Digest: digest, Offset: offset, Total: int64(len(text)), Body: body})
	}
	broken := io.MultiReader(strings.NewReader(text[:40_000]), iotest.ErrReader(errors.New("connection reset")))
	_, _, err := send(0, broken)
	expect(t, "a body that breaks off", err, hpcsera.MalformedRequest)
	have, complete, err := w.code.StatBlob(t.Context(), p, digest, "")
	if err != nil || complete || have != 40_000 {
		t.Fatalf("asked: got %d, complete %v (%v), want 40000", have, complete, err)
	}
	_, err = w.code.OpenBlob(t.Context(), p, digest)
	expect(t, "read before it is whole", err, hpcsera.NotFound)
	_, _, err = send(39_999, strings.NewReader("x"))
	var e *hpcsera.Error
	if !errors.As(err, &e) || e.Code != hpcsera.WrongOffset || e.Expected != 40_000 {
		t.Errorf("a wrong offset: got %v, want wrong_offset, 40000", err)
	}
	if size, complete, err := send(have, strings.NewReader(text[have:])); err != nil || !complete || size != int64(len(text)) {
		t.Errorf("the rest: got %d, complete %v (%v)", size, complete, err)
	}
	if size, complete, err := send(0, strings.NewReader(text)); err != nil || !complete || size != int64(len(text)) {
		t.Errorf("all again, since the answer was lost: got %d, complete %v (%v)", size, complete, err)
	}
	_, _, err = w.code.PutBlob(t.Context(), p, code.BlobUpload{Digest: digestOf("a"), Total: 1, Body: strings.NewReader("b")})
	expect(t, "other bytes than the digest's", err, hpcsera.DigestMismatch)
	_, _, err = w.code.PutBlob(t.Context(), p, code.BlobUpload{Digest: digestOf("a"), Offset: 2, Total: 1, Body: strings.NewReader("")})
	expect(t, "a part behind the end", err, hpcsera.InvalidField)
}

func TestAnAgentBringsArtifactsOfItsOwnJobsOnly(t *testing.T) {
	w := newWorld(t)
	mine, other := hpcsera.NewID("ag"), hpcsera.NewID("ag")
	job := store.Job{Job: hpcsera.Job{ID: hpcsera.NewID("j"), Name: "a", Project: "cfd", User: "alice", Client: "gitlab", State: hpcsera.Running, Agent: mine, Attempt: 1}}
	w.change(func(l *store.Ledger, _ store.Tx) error { return l.Insert([]*store.Job{&job}) })
	send := func(p *auth.Principal, job string) error {
		_, _, err := w.code.PutBlob(t.Context(), p, code.BlobUpload{Digest: digestOf("result"), Job: job, Total: 6, Body: strings.NewReader("result")})
		return err
	}
	expect(t, "another agent", send(agent(other, "cfd"), job.ID), hpcsera.NotFound)
	expect(t, "no job", send(agent(mine, "cfd"), ""), hpcsera.NotFound)
	expect(t, "a job that is not there", send(agent(mine, "cfd"), hpcsera.NewID("j")), hpcsera.NotFound)
	expect(t, "a project that it does not serve any more", send(agent(mine, "melt"), job.ID), hpcsera.NotFound)
	expect(t, "a token for a job", send(token(), job.ID), hpcsera.InvalidField)
	expect(t, "its own job", send(agent(mine, "cfd"), job.ID), "")
	f, err := w.code.OpenBlob(t.Context(), token(), digestOf("result"))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// An agent asks before it sends. It would send nothing of an artifact that only
// another project has, and its job's project would never get it.
func TestWhatAnotherProjectHasIsNotThereForAJob(t *testing.T) {
	w := newWorld(t)
	mine := hpcsera.NewID("ag")
	both := agent(mine, "melt", "cfd")
	job := store.Job{Job: hpcsera.Job{ID: hpcsera.NewID("j"), Name: "a", Project: "cfd", User: "alice", Client: "gitlab", State: hpcsera.Running, Agent: mine, Attempt: 1}}
	w.change(func(l *store.Ledger, _ store.Tx) error { return l.Insert([]*store.Job{&job}) })
	expect(t, "the other project's upload", w.put(token(in("melt")), content), "")
	_, _, err := w.code.StatBlob(t.Context(), both, digestOf(content), job.ID)
	expect(t, "asked for the job", err, hpcsera.NotFound)
	if _, whole, err := w.code.StatBlob(t.Context(), both, digestOf(content), ""); err != nil || !whole {
		t.Errorf("asked for no job: got %v (%v), want that it is here", whole, err)
	}
	expect(t, "the job's own project's upload", w.put(token(), content), "")
	if size, whole, err := w.code.StatBlob(t.Context(), both, digestOf(content), job.ID); err != nil || !whole || size != int64(len(content)) {
		t.Errorf("asked again for the job: got %d, %v (%v), want that it is here", size, whole, err)
	}
}

// statement is a signed statement in the making.
func (w *world) statement(t *testing.T, edit func(*approval.Statement)) hpcsera.ApprovalRequest {
	t.Helper()
	st, err := approval.ForManifest(manifest(), hpcsera.RunPart{}, approval.Options{
		Deployment: deployment, User: "alice", Project: "cfd", Sites: []string{"gwdg"}, Agents: []string{strings.Repeat("A", 43)}, NotBefore: w.now,
	})
	if err != nil {
		t.Fatal(err)
	}
	edit(&st)
	text, err := st.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := approval.SignSSH(w.signer, st)
	if err != nil {
		t.Fatal(err)
	}
	return hpcsera.ApprovalRequest{Statement: text, Signature: signature}
}

func TestAStatementThatCannotHoldIsNotFiled(t *testing.T) {
	w := newWorld(t)
	w.file(token(), manifest())
	for name, edit := range map[string]func(*approval.Statement){
		"another deployment":    func(s *approval.Statement) { s.Deployment = "https://evil.example.org" },
		"another user":          func(s *approval.Statement) { s.User = "bob" },
		"another project":       func(s *approval.Statement) { s.Project = "melt" },
		"code that is not here": func(s *approval.Statement) { s.Code = "sha256:" + strings.Repeat("0", 64) },
		"another name":          func(s *approval.Statement) { s.Name = "other" },
		"another schema":        func(s *approval.Statement) { s.Schema = "sha256:" + strings.Repeat("0", 64) },
		"at its end":            func(s *approval.Statement) { s.NotBefore, s.NotAfter = w.now.Add(-time.Hour), w.now },
		"not begun":             func(s *approval.Statement) { s.NotBefore, s.NotAfter = w.now.Add(time.Hour), w.now.Add(2*time.Hour) },
	} {
		_, err := w.code.FileApproval(t.Context(), token(), w.statement(t, edit))
		expect(t, name, err, hpcsera.ApprovalRefused)
	}
	good := w.statement(t, func(*approval.Statement) {})
	for name, r := range map[string]hpcsera.ApprovalRequest{
		"no statement":        {Signature: good.Signature},
		"no signature":        {Statement: good.Statement},
		"not canonical":       {Statement: append(bytes.Clone(good.Statement), '\n'), Signature: good.Signature},
		"another's signature": {Statement: good.Statement, Signature: w.statement(t, func(s *approval.Statement) { s.Runs++ }).Signature},
	} {
		_, err := w.code.FileApproval(t.Context(), token(), r)
		expect(t, name, err, hpcsera.ApprovalRefused)
	}
	_, err := w.code.FileApproval(t.Context(), token(with(5, 6)), good)
	expect(t, "without role 4", err, hpcsera.Forbidden)
	_, err = w.code.FileApproval(t.Context(), token(viewer), good)
	expect(t, "a viewer", err, hpcsera.Forbidden)
	list, err := w.code.Approvals(t.Context(), token(), "", "")
	if err != nil || len(list.Approvals) != 0 {
		t.Errorf("after refusals: got %+v (%v), want none", list, err)
	}
}

func TestAStatementIsFiledOnceAndKeptByteForByte(t *testing.T) {
	w := newWorld(t)
	w.file(token(), manifest())
	good := w.statement(t, func(*approval.Statement) {})
	// In person only by a decision of the user's own; agents file nothing.
	for name, by := range map[string]*auth.Principal{
		"another person":           {Person: &auth.Person{User: "bob", SteppedUp: true}},
		"alice at a terminal":      {Person: &auth.Person{User: "alice", KeyBound: true, SteppedUp: true}},
		"an operator":              {Person: &auth.Person{User: "root", Operator: true, SteppedUp: true}},
		"the operator on the host": auth.OperatorOnHost(),
		"an agent":                 agent(hpcsera.NewID("ag"), "cfd"),
	} {
		if _, err := w.code.FileApproval(t.Context(), by, good); err == nil {
			t.Errorf("%s files alice's approval: got no error", name)
		}
	}
	first, err := w.code.FileApproval(t.Context(), token(with(4)), good)
	if err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(time.Minute)
	again, err := w.code.FileApproval(t.Context(), token(with(4)), good)
	if err != nil || !again.Filed.Equal(first.Filed) || again.ID != first.ID {
		t.Errorf("again: got %+v (%v), want the first", again, err)
	}
	st, err := approval.Parse(good.Statement)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.code.FileApproval(t.Context(), token(), w.statement(t, func(s *approval.Statement) { s.ID, s.Runs = st.ID, 7 }))
	expect(t, "another one with its id", err, hpcsera.ApprovalRefused)
	got, err := w.code.Approval(t.Context(), token(with(5)), first.ID)
	if err != nil || !bytes.Equal(got.Statement, good.Statement) || got.Signature != good.Signature {
		t.Errorf("read: got %+v (%v)", got, err)
	}
	_, err = w.code.Approval(t.Context(), token(as("bob")), first.ID)
	expect(t, "another user", err, hpcsera.NotFound)
	_, err = w.code.Approval(t.Context(), token(in("melt")), first.ID)
	expect(t, "another project", err, hpcsera.NotFound)
	_, err = w.code.Approval(t.Context(), token(with(1)), first.ID)
	expect(t, "without role 5", err, hpcsera.Forbidden)
	for name, q := range map[string][2]string{"all": {"", ""}, "digest": {first.Digest, ""}, "name": {"", "hello"}} {
		if list, err := w.code.Approvals(t.Context(), token(), q[0], q[1]); err != nil || len(list.Approvals) != 1 {
			t.Errorf("list by %s: got %+v (%v), want one", name, list, err)
		}
	}
	if list, err := w.code.Approvals(t.Context(), token(as("bob")), "", ""); err != nil || len(list.Approvals) != 0 {
		t.Errorf("another user's list: got %+v (%v), want none", list, err)
	}
}

func TestANewerApprovalReplacesAnOlderOne(t *testing.T) {
	w := newWorld(t)
	entry := w.file(token(), manifest())
	file := func(edit func(*approval.Statement)) hpcsera.Approval {
		t.Helper()
		a, err := w.code.FileApproval(t.Context(), token(), w.statement(t, edit))
		if err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Second)
		return a
	}
	job := &store.Job{Job: hpcsera.Job{Project: "cfd", User: "alice", Client: "gitlab", Site: "gwdg", Code: hpcsera.CodeRef{Digest: entry.Digest}}}
	covering := func() string {
		t.Helper()
		var found *hpcsera.Approval
		err := w.store.Read(t.Context(), func(r store.Reader) (err error) {
			found, err = w.code.Covering(r, job, nil, w.now)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if found == nil {
			return ""
		}
		return found.ID
	}
	if got := covering(); got != "" {
		t.Errorf("none filed: got %s", got)
	}
	first := file(func(*approval.Statement) {})
	if got := covering(); got != first.ID {
		t.Errorf("one filed: got %q, want %s", got, first.ID)
	}
	second := file(func(s *approval.Statement) { s.Replaces, s.NotAfter = first.ID, w.now.Add(time.Hour) })
	if got := covering(); got != second.ID {
		t.Errorf("replaced: got %q, want %s", got, second.ID)
	}
	w.now = w.now.Add(2 * time.Hour)
	if got := covering(); got != "" {
		t.Errorf("the second at its end: got %q; the first was replaced and stays dead", got)
	}
}

func TestADecisionOfItsUserFilesAnApproval(t *testing.T) {
	w := newWorld(t)
	w.file(token(), manifest())
	alice := &auth.Principal{Person: &auth.Person{User: "alice", SteppedUp: true}}
	filed, err := w.code.FileApproval(t.Context(), alice, w.statement(t, func(*approval.Statement) {}))
	if err != nil || filed.User != "alice" || filed.Name != "hello" {
		t.Errorf("got %+v (%v), want alice's approval of hello", filed, err)
	}
}
