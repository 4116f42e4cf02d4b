package inquiry_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/inquiry"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

const deployment = "https://hpc.example.org"

// thumb is the thumbprint of every agent's key in these tests.
var thumb = strings.Repeat("A", 43)

// world is a server without HTTP: real features on a real database, and an
// Auth app with behaviour. Alice and bob are members of cfd and melt.
type world struct {
	t     *testing.T
	store store.Store
	code  *code.Service
	jobs  *jobs.Service
	asks  *inquiry.Service
	inbox *inbox
	files *files

	mu  sync.Mutex
	now time.Time
}

// files are the real ones; beside runs once before the next is opened.
type files struct {
	*fs.Store
	beside func()
}

func (f *files) Open(ctx context.Context, digest string) (blob.File, error) {
	if beside := f.beside; beside != nil {
		f.beside = nil
		beside()
	}
	return f.Store.Open(ctx, digest)
}

// newWorld has an agent of alice at gwdg.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldWithoutAgents(t)
	w.enrol("alice", "gwdg", "cfd", "melt")
	return w
}

func newWorldWithoutAgents(t *testing.T) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	disk, err := fs.Open(filepath.Join(t.TempDir(), "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	files := &files{Store: disk}
	w := &world{t: t, store: db, inbox: newInbox(), files: files, now: time.Now().UTC().Truncate(time.Second)}
	w.code = code.New(code.Config{Store: db, Blobs: files, Deployment: deployment, Filed: inquiry.Filed, Log: log, Now: w.clock})
	key := bytes.Repeat([]byte("k"), 32)
	who, err := auth.New(auth.Config{Store: db, PublicURL: deployment, Key: key, Log: log, Now: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	w.jobs, err = jobs.New(jobs.Config{
		Store: db, Blobs: files, Logs: files, Code: w.code, Sightings: auth.NewSightings(db, w.clock, log), Key: key,
		Stopping: make(chan struct{}), Still: who.Still, Log: log, Now: w.clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.asks = w.replica()
	w.write(func(tx store.Tx) error {
		for _, site := range []string{"gwdg", "hlrs"} {
			if err := tx.InsertSite(hpcsera.Site{Name: site, Created: w.now}); err != nil {
				return err
			}
		}
		for _, c := range []string{"gitlab", "flowable"} {
			if err := tx.InsertClient(hpcsera.Client{Name: c, Created: w.now}); err != nil {
				return err
			}
		}
		for _, p := range []string{"cfd", "melt"} {
			if err := tx.InsertProject(hpcsera.Project{Name: p, Created: w.now}); err != nil {
				return err
			}
		}
		for _, user := range []string{"alice", "bob"} {
			if err := tx.InsertUser(hpcsera.User{Name: user, Created: w.now}); err != nil {
				return err
			}
			for _, p := range []string{"cfd", "melt"} {
				if err := tx.SetMember(p, user, hpcsera.Member); err != nil {
					return err
				}
			}
		}
		return nil
	})
	return w
}

// replica returns another inquiry service on the same database.
func (w *world) replica() *inquiry.Service {
	return inquiry.New(inquiry.Config{
		Store: w.store, Blobs: w.files, Inbox: w.inbox, Code: w.code, Jobs: w.jobs, Deployment: deployment + "/",
		Log: slog.New(slog.DiscardHandler), Now: w.clock,
	})
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) write(fn func(store.Tx) error) {
	w.t.Helper()
	if err := w.store.Write(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(fn func(store.Reader) error) {
	w.t.Helper()
	if err := w.store.Read(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) enrol(user, site string, projects ...string) (id string) {
	w.t.Helper()
	a := store.Agent{Agent: hpcsera.Agent{
		ID: hpcsera.NewID("ag"), User: user, Site: site, Projects: projects, Thumbprint: thumb,
		Created: w.clock(), Expires: w.clock().Add(90 * 24 * time.Hour), Facts: &hpcsera.Facts{Host: "login1"},
	}, Hash: []byte{1}}
	w.write(func(tx store.Tx) error { return tx.InsertAgent(a) })
	return a.ID
}

// token makes a token with all roles through gitlab.
func (w *world) token(user, project string) *auth.Principal {
	w.t.Helper()
	t := hpcsera.Token{
		ID: hpcsera.NewID("t"), User: user, Project: project, Client: "gitlab", Scope: hpcsera.ClientScope, Roles: 255,
		Created: w.clock(), Expires: w.clock().Add(24 * time.Hour),
	}
	_, hash := hpcsera.NewSecret(t.ID)
	w.write(func(tx store.Tx) error { return tx.InsertToken(t, hash) })
	return &auth.Principal{Token: &t, Member: hpcsera.Member}
}

// hello is code without files. Its script makes it another version.
func hello(script string) hpcsera.Manifest {
	return hpcsera.Manifest{Name: "hello", Program: hpcsera.Program{Script: script}}
}

// with adds a file of the given bytes to code.
func with(m hpcsera.Manifest, path, text string) hpcsera.Manifest {
	sum := sha256.Sum256([]byte(text))
	m.Files = append(m.Files, hpcsera.File{Path: path, Mode: "0644", Size: int64(len(text)), SHA256: hex.EncodeToString(sum[:])})
	return m
}

// upload hands in bytes.
func (w *world) upload(p *auth.Principal, text string) {
	w.t.Helper()
	_, _, err := w.code.PutBlob(w.t.Context(), p, code.BlobUpload{Digest: hpcsera.DigestOf([]byte(text)), Total: int64(len(text)), Body: strings.NewReader(text)})
	if err != nil {
		w.t.Fatal(err)
	}
}

// wait submits a job of code that is not approved and returns its id.
func (w *world) wait(p *auth.Principal, m hpcsera.Manifest, edit ...func(*hpcsera.RunPart)) string {
	w.t.Helper()
	spec := hpcsera.JobSpec{Manifest: m, RunPart: hpcsera.RunPart{Site: "gwdg"}}
	for _, e := range edit {
		e(&spec.RunPart)
	}
	answer, err := w.jobs.Submit(w.t.Context(), p, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{})
	if err != nil {
		w.t.Fatal(err)
	}
	var j hpcsera.Job
	if err := json.Unmarshal(answer.Body, &j); err != nil {
		w.t.Fatal(err)
	}
	return j.ID
}

func at(site string) func(*hpcsera.RunPart) {
	return func(r *hpcsera.RunPart) { r.Site = hpcsera.Sites(site) }
}
func nodes(n int) func(*hpcsera.RunPart) {
	return func(r *hpcsera.RunPart) { r.Resources.NodeCount = n }
}
func inQueue(name string) func(*hpcsera.RunPart) {
	return func(r *hpcsera.RunPart) { r.Attributes.QueueName = name }
}
func after(job string) func(*hpcsera.RunPart) {
	return func(r *hpcsera.RunPart) {
		r.Dependencies = []hpcsera.Dependency{{Job: job, State: hpcsera.Succeeded}}
	}
}

// approve files an approval that was signed by an SSH key elsewhere.
func (w *world) approve(p *auth.Principal, m hpcsera.Manifest) hpcsera.Approval {
	w.t.Helper()
	st, err := approval.ForManifest(m, hpcsera.RunPart{}, approval.Options{
		Deployment: deployment, User: p.Token.User, Project: p.Token.Project, Sites: []string{"gwdg"}, Agents: []string{thumb}, NotBefore: w.clock(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := st.Canonical()
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := w.code.FileApproval(w.t.Context(), p, hpcsera.ApprovalRequest{Statement: text, Signature: withSSH(w.t, st)})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// look looks once and expects no error.
func (w *world) look() {
	w.t.Helper()
	if _, err := w.asks.Look(w.t.Context()); err != nil {
		w.t.Fatalf("look: %v", err)
	}
}

func (w *world) decided(d decision.Decision) {
	w.t.Helper()
	if err := w.asks.Decided(w.t.Context(), d); err != nil {
		w.t.Fatalf("apply the decision: %v", err)
	}
}

func (w *world) job(id string) (j *store.Job) {
	w.t.Helper()
	w.read(func(r store.Reader) (err error) {
		j, err = r.Job(id)
		return err
	})
	return j
}

func (w *world) expect(name, id string, state hpcsera.State, reason hpcsera.Reason) {
	w.t.Helper()
	if j := w.job(id); j.State != state || j.Reason != reason {
		w.t.Errorf("%s: got %s (%s, %q), want %s (%s)", name, j.State, j.Reason, j.Message, state, reason)
	}
}

func (w *world) expectWaiting(name, id string) {
	w.t.Helper()
	w.expect(name, id, hpcsera.Pending, hpcsera.WaitingForApproval)
}

func (w *world) expectReady(name, id string) {
	w.t.Helper()
	w.expect(name, id, hpcsera.Pending, hpcsera.WaitingForAgent)
}

// audited counts the lines of an action in the audit log.
func (w *world) audited(action string) (n int) {
	w.t.Helper()
	w.read(func(r store.Reader) error {
		lines, err := r.Audit(store.AuditFilter{Limit: 1000})
		for _, l := range lines {
			if l.Action == action {
				n++
			}
		}
		return err
	})
	return n
}
