package jobs_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

const deployment = "https://hpc.example.org"

// thumb is the thumbprint of every agent's key in these tests.
var thumb = strings.Repeat("A", 43)

// world is a server without HTTP: real features on a real database. Alice is
// member of cfd and melt, bob member and dora owner of cfd, carol viewer.
type world struct {
	t         testing.TB
	store     store.Store
	code      *code.Service
	jobs      *jobs.Service
	files     *fs.Store
	sightings *auth.Sightings
	signer    ssh.Signer
	stop      chan struct{}

	mu  sync.Mutex
	now time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	files, err := fs.Open(filepath.Join(t.TempDir(), "files"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	w := &world{t: t, store: db, files: files, stop: make(chan struct{}), now: time.Now().UTC().Truncate(time.Second)}
	if w.signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	w.sightings = auth.NewSightings(db, w.clock, log)
	w.code = code.New(code.Config{Store: db, Blobs: w.files, Deployment: deployment, Log: log, Now: w.clock})
	w.jobs = w.replica()
	w.populate()
	return w
}

// replica returns another jobs service on the same database, as a restarted
// server or a second one would have it.
func (w *world) replica() *jobs.Service {
	who, err := auth.New(auth.Config{Store: w.store, PublicURL: deployment, Key: key(), Log: slog.New(slog.DiscardHandler), Now: w.clock})
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := jobs.New(jobs.Config{
		Store: w.store, Blobs: w.files, Logs: w.files, Code: w.code, Sightings: w.sightings, Key: key(),
		Stopping: w.stop, Still: who.Still, Log: slog.New(slog.DiscardHandler), Now: w.clock,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func key() []byte { return bytes.Repeat([]byte("k"), 32) }

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

func (w *world) populate() {
	w.write(func(tx store.Tx) error {
		var errs []error
		for _, u := range []string{"alice", "bob", "carol", "dora"} {
			errs = append(errs, tx.InsertUser(hpcsera.User{Name: u, Created: w.now}))
		}
		for _, p := range []string{"cfd", "melt"} {
			errs = append(errs, tx.InsertProject(hpcsera.Project{Name: p, Created: w.now}))
		}
		for _, c := range []string{"gitlab", "flowable"} {
			errs = append(errs, tx.InsertClient(hpcsera.Client{Name: c, Created: w.now}))
		}
		for _, s := range []string{"gwdg", "hlrs"} {
			errs = append(errs, tx.InsertSite(hpcsera.Site{Name: s, Created: w.now}))
		}
		errs = append(errs, tx.SetMember("cfd", "alice", hpcsera.Member), tx.SetMember("melt", "alice", hpcsera.Member),
			tx.SetMember("cfd", "bob", hpcsera.Member), tx.SetMember("cfd", "carol", hpcsera.Viewer), tx.SetMember("cfd", "dora", hpcsera.Owner))
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (w *world) write(fn func(store.Tx) error) {
	w.t.Helper()
	if err := w.store.Write(w.t.Context(), fn); err != nil {
		w.t.Fatal(err)
	}
}

// row reads a job as the store has it.
func (w *world) row(id string) *store.Job {
	w.t.Helper()
	var j *store.Job
	err := w.store.Read(w.t.Context(), func(r store.Reader) (err error) {
		j, err = r.Job(id)
		return err
	})
	if err != nil {
		w.t.Fatalf("read job %s: %v", id, err)
	}
	return j
}

// token makes a token with all roles in cfd through gitlab.
func (w *world) token(user string, edit ...func(*hpcsera.Token)) *auth.Principal {
	w.t.Helper()
	t := hpcsera.Token{
		ID: hpcsera.NewID("t"), User: user, Project: "cfd", Client: "gitlab", Scope: hpcsera.ClientScope, Roles: 255,
		Created: w.clock(), Expires: w.clock().Add(24 * time.Hour),
	}
	for _, e := range edit {
		e(&t)
	}
	_, hash := hpcsera.NewSecret(t.ID)
	p := &auth.Principal{Token: &t}
	w.write(func(tx store.Tx) error {
		project, err := tx.Project(t.Project)
		if err != nil {
			return err
		}
		p.Member = project.Members[user]
		return tx.InsertToken(t, hash)
	})
	return p
}

func roles(rs ...hpcsera.Role) func(*hpcsera.Token) {
	return func(t *hpcsera.Token) { t.Roles = hpcsera.RolesOf(rs...) }
}
func client(name string) func(*hpcsera.Token)    { return func(t *hpcsera.Token) { t.Client = name } }
func inProject(name string) func(*hpcsera.Token) { return func(t *hpcsera.Token) { t.Project = name } }
func atSite(name string) func(*hpcsera.Token)    { return func(t *hpcsera.Token) { t.Site = name } }
func wholeProject(t *hpcsera.Token)              { t.Scope = hpcsera.ProjectScope }

// hello is a manifest with one parameter.
func hello() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name: "hello", Program: hpcsera.Program{Script: "echo hello\n"},
		Parameters: map[string]json.RawMessage{"n": json.RawMessage(`{"type": "integer", "minimum": 0, "default": 1}`)},
	}
}

// file files code and, with approve, an approval of it.
func (w *world) file(p *auth.Principal, m hpcsera.Manifest, approve bool) string {
	w.t.Helper()
	entry, _, err := w.code.Put(w.t.Context(), p, m)
	if err != nil {
		w.t.Fatal(err)
	}
	if approve {
		w.approve(p, m, hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 2}})
	}
	return entry.Digest
}

// approve files p's user's consent to m within the limits of run.
func (w *world) approve(p *auth.Principal, m hpcsera.Manifest, run hpcsera.RunPart, edit ...func(*approval.Options)) hpcsera.Approval {
	w.t.Helper()
	filed, err := w.code.FileApproval(w.t.Context(), p, w.signed(p, m, run, edit...))
	if err != nil {
		w.t.Fatal(err)
	}
	return filed
}

// signed is that consent before anybody files it.
func (w *world) signed(p *auth.Principal, m hpcsera.Manifest, run hpcsera.RunPart, edit ...func(*approval.Options)) hpcsera.ApprovalRequest {
	w.t.Helper()
	o := approval.Options{
		Deployment: deployment, User: p.Token.User, Project: p.Token.Project, Sites: []string{"gwdg", "hlrs"}, Agents: []string{thumb}, NotBefore: w.clock(),
	}
	for _, e := range edit {
		e(&o)
	}
	st, err := approval.ForManifest(m, run, o)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := st.Canonical()
	if err != nil {
		w.t.Fatal(err)
	}
	signature, err := approval.SignSSH(w.signer, st)
	if err != nil {
		w.t.Fatal(err)
	}
	return hpcsera.ApprovalRequest{Statement: text, Signature: signature}
}

// submit submits one job and returns it.
func (w *world) submit(p *auth.Principal, spec hpcsera.JobSpec) hpcsera.Job {
	w.t.Helper()
	answer, err := w.jobs.Submit(w.t.Context(), p, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{})
	if err != nil {
		w.t.Fatal(err)
	}
	return jobOf(w.t, answer)
}

func jobOf(t testing.TB, a store.Answer) (j hpcsera.Job) {
	t.Helper()
	if err := json.Unmarshal(a.Body, &j); err != nil || a.Status != 201 {
		t.Fatalf("answer %d %s: %v", a.Status, a.Body, err)
	}
	return j
}

// ready files and approves hello and submits a job of it to gwdg.
func (w *world) ready(p *auth.Principal) hpcsera.Job {
	w.t.Helper()
	return w.submit(p, hpcsera.JobSpec{Code: w.file(p, hello(), true), RunPart: hpcsera.RunPart{Site: "gwdg"}})
}

// agentOf enrols an agent of a user at a site.
func (w *world) agentOf(user, site string, projects ...string) *agentWorld {
	w.t.Helper()
	a := store.Agent{Agent: hpcsera.Agent{
		ID: hpcsera.NewID("ag"), User: user, Site: site, Projects: projects, Thumbprint: thumb, Created: w.clock(), Expires: w.clock().Add(24 * time.Hour),
	}, Hash: []byte{1}}
	w.write(func(tx store.Tx) error { return tx.InsertAgent(a) })
	return &agentWorld{w: w, jobs: w.jobs, id: a.ID, instance: hpcsera.NewID("i"), host: "login1", epoch: w.epoch()}
}

func (w *world) epoch() (epoch int64) {
	w.t.Helper()
	err := w.store.Read(w.t.Context(), func(r store.Reader) (err error) {
		epoch, err = r.Epoch()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return epoch
}

// noted returns the audit log's lines about an action.
func (w *world) noted(action string) (list []hpcsera.AuditLine) {
	w.t.Helper()
	err := w.store.Read(w.t.Context(), func(r store.Reader) error {
		lines, err := r.Audit(store.AuditFilter{Limit: 1000})
		for _, line := range lines {
			if line.Action == action {
				list = append(list, line)
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func (w *world) last() (last int64) {
	w.t.Helper()
	err := w.store.Read(w.t.Context(), func(r store.Reader) (err error) {
		last, err = r.LastSeq()
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return last
}

// agentWorld is what an agent's process knows.
type agentWorld struct {
	w        *world
	jobs     *jobs.Service
	id       string
	instance string
	host     string
	term     int64
	epoch    int64
	acked    string
	seq      int64
	takeover string
}

// principal is what authentication makes of the agent's request now.
func (a *agentWorld) principal() *auth.Principal {
	a.w.t.Helper()
	var row *store.Agent
	err := a.w.store.Read(a.w.t.Context(), func(r store.Reader) (err error) {
		row, err = r.Agent(a.id)
		return err
	})
	if err != nil {
		a.w.t.Fatal(err)
	}
	return &auth.Principal{Agent: row}
}

func (a *agentWorld) request(free int) hpcsera.WorkRequest {
	return hpcsera.WorkRequest{
		Instance: a.instance, Term: a.term, Epoch: a.epoch, Acked: a.acked, Free: free, Takeover: a.takeover,
		Facts: &hpcsera.Facts{Version: "1", Host: a.host, System: "local"},
	}
}

// poll asks for work without waiting and forgets nothing of the answer, but
// acknowledges it only with the next poll.
func (a *agentWorld) poll(free int) (hpcsera.WorkAnswer, error) {
	answer, err := a.jobs.Work(a.w.t.Context(), a.principal(), a.id, a.request(free))
	if err == nil {
		a.term, a.epoch = answer.Term, answer.Epoch
	}
	return answer, err
}

// work polls, journals and expects no error.
func (a *agentWorld) work(free int) hpcsera.WorkAnswer {
	a.w.t.Helper()
	answer, err := a.poll(free)
	if err != nil {
		a.w.t.Fatalf("work: %v", err)
	}
	a.acked = answer.Cursor
	return answer
}

// report makes the next fact about a job.
func (a *agentWorld) report(job string, state hpcsera.State, edit ...func(*hpcsera.Report)) hpcsera.Report {
	a.seq++
	r := hpcsera.Report{JobID: job, Attempt: 1, Seq: a.seq, Revision: 1, State: state, At: a.w.clock()}
	for _, e := range edit {
		e(&r)
	}
	return r
}

func (a *agentWorld) send(reports ...hpcsera.Report) []hpcsera.Outcome {
	a.w.t.Helper()
	answer, err := a.jobs.Reports(a.w.t.Context(), a.principal(), a.id, hpcsera.ReportRequest{Instance: a.instance, Term: a.term, Epoch: a.epoch, Acked: a.acked, Reports: reports})
	if err != nil {
		a.w.t.Fatalf("reports: %v", err)
	}
	return answer.Outcomes
}

func attempt(n int) func(*hpcsera.Report) { return func(r *hpcsera.Report) { r.Attempt = n } }

func expect(t testing.TB, name string, err error, want hpcsera.Code) {
	t.Helper()
	if got := hpcsera.CodeOf(err); got != want {
		t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
	}
}

func expectState(t testing.TB, name string, j hpcsera.Job, state hpcsera.State, reason hpcsera.Reason) {
	t.Helper()
	if j.State != state || j.Reason != reason {
		t.Errorf("%s: got %s (%s, %q), want %s (%s)", name, j.State, j.Reason, j.Message, state, reason)
	}
}

func forSites(names ...string) func(*approval.Options) {
	return func(o *approval.Options) { o.Sites = names }
}
func forClients(names ...string) func(*approval.Options) {
	return func(o *approval.Options) { o.Clients = names }
}

// dropAnswers forgets the answers to idempotent requests.
func (w *world) dropAnswers() {
	w.t.Helper()
	w.write(func(tx store.Tx) error { return tx.DropAnswers(w.clock().Add(time.Hour)) })
}

func textReader(text string) io.Reader { return strings.NewReader(text) }
