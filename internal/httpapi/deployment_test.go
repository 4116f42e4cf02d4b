package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// maxBody is the body limit of the tests' servers.
const maxBody = 4 << 20

// deployment is a real server on a real SQLite database, with users alice and
// bob, who each own a project (cfd, bio) and share none, clients cli and ci,
// and sites lab and hlrs.
type deployment struct {
	t   testing.TB
	dir string
	url string
	replica
	db    *sqlstore.Store
	log   *lines
	clock func() time.Time
	key   []byte
	stop  func()
	web   *http.Client

	wishes  *wishes
	refused *refusals // what the audit log was told
}

type refusals struct {
	mu    sync.Mutex
	lines []hpcsera.AuditLine
}

func (r *refusals) note(line hpcsera.AuditLine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

// lines is a log that tests read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newDeployment(t testing.TB) *deployment {
	t.Helper()
	d := &deployment{t: t, dir: t.TempDir(), log: &lines{}, refused: &refusals{}, key: bytes.Repeat([]byte{7}, 32), web: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	d.wishes = &wishes{d: d}
	d.start()
	t.Cleanup(func() { d.stop(); d.web.CloseIdleConnections() })
	d.populate()
	return d
}

// populate makes who there is.
func (d *deployment) populate() {
	t, ctx := d.t, d.t.Context()
	t.Helper()
	for _, user := range []string{"alice", "bob"} {
		must(t, one(d.access.CreateUser(ctx, auth.OperatorOnHost(), access.NewUser{Name: user})))
	}
	for project, user := range map[string]string{"cfd": "alice", "bio": "bob"} {
		must(t, one(d.access.CreateProject(ctx, auth.OperatorOnHost(), access.NewProject{Name: project, Members: map[string]hpcsera.MemberRole{user: hpcsera.Owner}})))
	}
	for _, name := range []string{"cli", "ci"} {
		must(t, one(d.access.CreateClient(ctx, auth.OperatorOnHost(), access.Named{Name: name})))
	}
	for _, name := range []string{"lab", "hlrs"} {
		must(t, one(d.access.CreateSite(ctx, auth.OperatorOnHost(), access.Named{Name: name})))
	}
}

func one[T any](_ T, err error) error { return err }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start starts the server on what is in dir; after stop it is a restart.
func (d *deployment) start() {
	t := d.t
	t.Helper()
	log := settings.Log{Format: "json"}.New(d.log)
	db, err := sqlstore.Open(context.Background(), filepath.Join(d.dir, "hpcsera.db"), log)
	must(t, err)
	files, err := fs.Open(filepath.Join(d.dir, "files"))
	must(t, err)
	front, err := server.Listen(server.Config{Listen: "127.0.0.1:0", MaxBody: maxBody, Unlimited: httpapi.Streams, Grace: 5 * time.Second, Log: log})
	must(t, err)
	d.url, d.db = front.URL(), db
	d.replica = d.stack(db, files, front.Stopping(), server.RequestID)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- front.Serve(ctx, d.edge) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("stop the server: %v", err)
		}
		if err := errors.Join(db.Close(), files.Close()); err != nil {
			t.Errorf("close the storage: %v", err)
		}
	})
}

// replica is what each of several servers on one database has of its own.
type replica struct {
	edge    http.Handler // the API without the chassis: what is called in-process
	access  *access.Service
	metrics *httpapi.Metrics
}

// stack puts the API on a database.
func (d *deployment) stack(db *sqlstore.Store, files *fs.Store, stopping <-chan struct{}, id func(context.Context) string) replica {
	d.t.Helper()
	log := settings.Log{Format: "json"}.New(d.log)
	who, err := auth.New(auth.Config{Store: db, PublicURL: d.url, Key: d.key, Log: log, Now: d.clock})
	must(d.t, err)
	seen := auth.NewSightings(db, d.clock, log)
	codes := code.New(code.Config{Store: db, Blobs: files, Deployment: d.url, Log: log})
	life, err := jobs.New(jobs.Config{Store: db, Blobs: files, Logs: files, Code: codes, Sightings: seen, Key: d.key,
		Stopping: stopping, Still: who.Still, Log: log})
	must(d.t, err)
	r := replica{metrics: httpapi.NewMetrics(), access: access.New(access.Config{Store: db, Jobs: life, Sightings: seen, Log: log, Now: d.clock})}
	r.edge, err = httpapi.New(httpapi.Config{
		Auth: who, Jobs: life, Code: codes, Access: r.access, Grants: d.wishes, Ready: func(context.Context) error { return nil },
		LastSeq: func(ctx context.Context) (seq int64, err error) {
			err = db.Read(ctx, func(r store.Reader) error { seq, err = r.LastSeq(); return err })
			return seq, err
		},
		RequestID: id, Note: server.Note, Refused: d.refused.note, Metrics: r.metrics, Log: log,
	})
	must(d.t, err)
	return r
}

// token makes a token of alice (project cfd, client cli) with roles.
func (d *deployment) token(roles string) string {
	d.t.Helper()
	return d.tokenOf(access.NewToken{User: "alice", Project: "cfd", Client: "cli", Roles: roles})
}

func (d *deployment) tokenOf(r access.NewToken) string {
	d.t.Helper()
	made, err := d.access.CreateToken(d.t.Context(), auth.OperatorOnHost(), r)
	must(d.t, err)
	return made.Secret
}

// answer is what the server said.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	problem api.Problem
}

// call sends body (nil, []byte, io.Reader, or what becomes JSON) and header
// pairs.
func (d *deployment) call(token, method, path string, body any, header ...string) answer {
	d.t.Helper()
	var in io.Reader
	kind := "application/octet-stream"
	switch b := body.(type) {
	case nil:
	case []byte:
		in = bytes.NewReader(b)
	case io.Reader:
		in = b
	case string:
		in, kind = bytes.NewReader([]byte(b)), "application/json"
	default:
		raw, err := json.Marshal(b)
		must(d.t, err)
		in, kind = bytes.NewReader(raw), "application/json"
	}
	r, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, in)
	must(d.t, err)
	if in != nil {
		r.Header.Set("Content-Type", kind)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for pair := range slices.Chunk(header, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	res, err := d.web.Do(r)
	if err != nil {
		d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		d.t.Fatalf("%s %s: read the answer: %v", method, path, err)
	}
	if res.StatusCode >= 400 && method != http.MethodHead {
		if got, want := res.Header.Get("Content-Type"), "application/problem+json"; got != want {
			d.t.Fatalf("%s %s: %d with Content-Type %q, want %q: %s", method, path, res.StatusCode, got, want, a.body)
		}
		must(d.t, json.Unmarshal(a.body, &a.problem))
		if a.problem.Status != a.status || a.problem.Request == "" || a.problem.Request != res.Header.Get("X-Request-Id") {
			d.t.Errorf("%s %s: the problem does not fit its answer: %d %s", method, path, a.status, a.body)
		}
	}
	kept(d.t, method, path, a)
	return a
}

// refused checks a refusal.
func (a answer) refused(t testing.TB, status int, code hpcsera.Code, field string) {
	t.Helper()
	got := ""
	if a.problem.Field != nil {
		got = *a.problem.Field
	}
	if a.status != status || a.problem.Code != code || got != field {
		t.Errorf("got %d %s at %q, want %d %s at %q: %s", a.status, a.problem.Code, got, status, code, field, shortened(a.body))
	}
	if a.problem.Detail == "" || a.problem.Hint == nil {
		t.Errorf("want what is wrong and what to do: %s", shortened(a.body))
	}
}

// as decodes an answer that must have the status.
func as[T any](t testing.TB, a answer, status int) T {
	t.Helper()
	var v T
	if a.status != status {
		t.Fatalf("got %d, want %d: %s", a.status, status, shortened(a.body))
	}
	must(t, json.Unmarshal(a.body, &v))
	return v
}

func shortened(b []byte) string {
	if len(b) > 600 {
		return string(b[:600]) + "…"
	}
	return string(b)
}

// script is a job spec with new code.
func script(name string) hpcsera.JobSpec {
	return hpcsera.JobSpec{
		Manifest: hpcsera.Manifest{Name: name, Program: hpcsera.Program{Script: "echo hello\n"}},
		RunPart:  hpcsera.RunPart{Site: "lab"},
	}
}

// submitted is a job of the token's.
func (d *deployment) submitted(token string) hpcsera.Job {
	d.t.Helper()
	return as[hpcsera.Job](d.t, d.call(token, "POST", "/api/v1/jobs", script("hello")), 201)
}

// agent enrols alice's agent at lab and returns it.
func (d *deployment) agent() *client.Agent {
	d.t.Helper()
	return d.enrolled("alice", "cfd").agent()
}

// everyone is the token of all roles that clients use.
const everyone = "1,2,4,5,6,7,8"

func jobPath(j hpcsera.Job, rest string) string { return fmt.Sprintf("/api/v1/jobs/%s%s", j.ID, rest) }
