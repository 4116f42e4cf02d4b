package agent

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// A world is what an agent lives in, inside a synctest bubble: a server, a
// batch system, this host's login steps, and the files that all hosts share.
// The files and what the agent does with them are real; server and batch
// systems behave, and misbehave, as the real ones do.
type world struct {
	t      *testing.T
	dir    string
	real   string // the shared files
	spool  *spool.Spool
	log    *chronicle
	server *server
	batch  *cluster
	login  *cluster
	signer ssh.Signer
	site   policy.SiteFiles
	syslog string // this host's log; nobody listens
	taken  bool   // the server is somebody else's, so alarms are in place
	key    *client.Key

	mu        sync.Mutex
	rand      *rand.Rand
	instances []*instance
	runs      map[string][]*run // of user code, by job
	claims    map[string]int    // won by wrappers, by job and step
}

// run is one run of user code: what the tests are about.
type run struct {
	step, n, attempt int
	native           string
	started, ended   time.Time
	exit             hpcsera.Exit
	recorded         bool   // its end record was written
	told             bool   // ... and says that the batch system told it to end
	output           string // what it printed
}

const (
	theUser, theProject, theSite, theServer = "alice", "cfd", "gwdg", "http://server.example"
	// A credential as the operator makes it; the server here does not look at it.
	agentID = "ag_00000000000000000000"
)

func newWorld(t *testing.T, seed uint64) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		t: t, dir: dir, real: filepath.Join(dir, "real"), log: &chronicle{}, rand: rand.New(rand.NewPCG(seed, 1)),
		runs: map[string][]*run{}, claims: map[string]int{},
	}
	if err := os.MkdirAll(filepath.Join(w.real, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.spool, err = spool.Open(filepath.Join(w.real, "state", "spool")); err != nil {
		t.Fatal(err)
	}
	if w.key, err = client.LoadKey(filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	trust := fmt.Sprintf("keys:\n  - name: laptop\n    plain: true\n    key: %s\n", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(w.signer.PublicKey()))))
	w.file("real/state/trust.yaml", trust)
	w.file("agent", "#!/bin/sh\n")
	w.site = policy.SiteFiles{Dir: filepath.Join(dir, "site"), Owner: os.Geteuid()}
	w.syslog = filepath.Join(dir, "syslog")
	w.server, w.batch, w.login = newServer(w), newCluster(w, "slurm"), newCluster(w, "local")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d\n%s", seed, w.log)
		}
	})
	return w
}

func (w *world) file(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// end lets all that still lives come to its end, so that the bubble closes.
func (w *world) end() {
	for _, i := range w.instances {
		if !i.dead.Load() {
			i.stop()
		}
		<-i.done
	}
	w.batch.close()
	w.login.close()
	if !w.taken && strings.Contains(w.log.String(), "ALARM") {
		w.broken("an alarm, and the server was honest")
	}
}

// roll draws a number from 0 to n-1.
func (w *world) roll(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

// chance is true once in n times; never for 0.
func (w *world) chance(n int) bool { return n > 0 && w.roll(n) == 0 }

// within draws a length of time.
func (w *world) within(d time.Duration) time.Duration {
	return time.Duration(w.roll(int(d/time.Millisecond)+1)) * time.Millisecond
}

// broken tells of a rule that was broken. The world goes on.
func (w *world) broken(format string, args ...any) {
	w.say("BROKEN "+format, args...)
	w.t.Errorf(format, args...)
}

func (w *world) say(format string, args ...any) { w.log.add(fmt.Sprintf(format, args...)) }

// chronicle is what happened, for whoever reads a failure.
type chronicle struct {
	mu    sync.Mutex
	lines []string
}

func (c *chronicle) add(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, time.Now().Format("15:04:05.000 ")+line)
}

func (c *chronicle) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines, "\n")
}

// Write takes an agent's log.
func (c *chronicle) Write(b []byte) (int, error) {
	c.add(strings.TrimSpace(string(b)))
	return len(b), nil
}

// instance is one process of the agent. It sees the shared files through a
// path of its own, so that they can be taken away from it.
type instance struct {
	w      *world
	number int
	link   string
	agent  *Agent
	cancel context.CancelFunc
	done   chan struct{}
	err    error

	dead     atomic.Bool  // killed: nothing it does has any effect
	cut      atomic.Bool  // it does not reach the server
	answered atomic.Int64 // when the server last answered it, in Unix nanoseconds
}

type tuning func(*Config, *instance)

// start begins an instance.
func (w *world) start(tune ...tuning) *instance {
	w.t.Helper()
	w.mu.Lock()
	i := &instance{w: w, number: len(w.instances) + 1, done: make(chan struct{})}
	w.instances = append(w.instances, i)
	w.mu.Unlock()
	i.link = filepath.Join(w.dir, fmt.Sprintf("i%d", i.number))
	if err := os.Symlink(w.real, i.link); err != nil {
		w.t.Fatal(err)
	}
	c := Config{
		Server: theServer, User: theUser, Site: theSite, Projects: []string{theProject}, StateDir: filepath.Join(i.link, "state"), WorkRoot: filepath.Join(i.link, "work"),
	}
	if err := c.complete(func(string) string { return "" }); err != nil {
		w.t.Fatal(err)
	}
	for _, f := range tune {
		f(&c, i)
	}
	secret, _ := hpcsera.NewSecret(agentID)
	api, err := client.NewAgent(theServer, secret, w.key, &line{i})
	if err != nil {
		w.t.Fatal(err)
	}
	i.agent, err = New(Deps{
		Config: c, Version: "test", API: api, Key: w.key, Batch: &handle{w.batch, i}, Login: &handle{w.login, i},
		Log:    slog.New(slog.NewTextHandler(io.Writer(w.log), &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: noTime})).With("i", i.number),
		Binary: filepath.Join(w.dir, "agent"), Account: "alice01", Site: w.site, Syslog: w.syslog,
	})
	if err != nil {
		w.t.Fatalf("instance %d: %v", i.number, err)
	}
	var ctx context.Context
	ctx, i.cancel = context.WithCancel(w.t.Context())
	w.say("instance %d starts", i.number)
	go func() {
		defer close(i.done)
		if c.once {
			i.err = i.agent.Once(ctx)
		} else {
			i.err = i.agent.Run(ctx)
		}
		w.say("instance %d has ended: %v", i.number, i.err)
	}()
	return i
}

func noTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// stop ends an instance as SIGTERM does, and waits for it.
func (i *instance) stop() {
	i.w.say("instance %d is stopped", i.number)
	i.cancel()
	<-i.done
}

// kill ends an instance as SIGKILL does: from now on it has no effect on
// server, batch system or files, not even a farewell. known says that the next
// instance can see that this process is dead.
func (i *instance) kill(known bool) {
	i.w.say("instance %d is killed", i.number)
	i.dead.Store(true)
	i.agent.journal.Close()
	if err := os.Remove(i.link); err != nil {
		i.w.t.Fatal(err)
	}
	i.cancel()
	if f, ok := readInstance(filepath.Join(i.w.real, "state")); ok && known && f.Instance == i.agent.instance {
		i.w.file("real/state/instance.json", fmt.Sprintf(`{"instance":%q,"host":%q,"boot":%q,"pid":%d,"started":"1"}`, f.Instance, f.Host, f.Boot, 1<<30))
	}
}

// code is a signed code part, as an order carries it.
type code struct {
	spec      hpcsera.OrderSpec
	approval  string
	manifest  hpcsera.Manifest
	statement approval.Statement
}

// sign makes and approves code whose steps have these types.
func (w *world) sign(runs int, types ...hpcsera.StepType) code {
	w.t.Helper()
	return w.signWith(w.signer, w.plan(types...), runs)
}

// plan is code whose steps have these types.
func (w *world) plan(types ...hpcsera.StepType) hpcsera.Manifest {
	m := hpcsera.Manifest{Name: "cavity", Result: "result.json", Artifacts: []hpcsera.ArtifactPattern{{Path: "out-*.txt", Always: true}}}
	for i, s := range types {
		m.Steps = append(m.Steps, hpcsera.Step{Name: fmt.Sprintf("step-%d", i), Type: s, Program: hpcsera.Program{Script: "true"}})
	}
	return m
}

// signed approves a code part.
func (w *world) signed(m hpcsera.Manifest, runs int) code {
	w.t.Helper()
	return w.signWith(w.signer, m, runs)
}

// signWith approves code with any key, and changes the statement before.
func (w *world) signWith(key ssh.Signer, m hpcsera.Manifest, runs int, changes ...func(*approval.Statement)) code {
	w.t.Helper()
	if err := m.Validate(); err != nil {
		w.t.Fatal(err)
	}
	s, err := approval.ForManifest(m, hpcsera.RunPart{Requeue: true}, approval.Options{
		Deployment: theServer, User: theUser, Project: theProject, Sites: []string{theSite}, Agents: []string{w.key.Thumbprint()}, Runs: runs,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, change := range changes {
		change(&s)
	}
	text, err := s.Canonical()
	if err != nil {
		w.t.Fatal(err)
	}
	signature, err := approval.SignSSH(key, s)
	if err != nil {
		w.t.Fatal(err)
	}
	canonical, err := m.Canonical()
	if err != nil {
		w.t.Fatal(err)
	}
	return code{approval: s.ID, manifest: m, statement: s, spec: hpcsera.OrderSpec{
		Name: m.Name, User: theUser, Project: theProject, Client: "cli", Submitter: theUser, Site: theSite, Digest: hpcsera.DigestOf(canonical),
		Manifest: canonical, Statement: text, Signature: signature, Created: time.Now(),
	}}
}

// begins notes that user code runs, and checks that it may.
func (w *world) begins(m spool.Member, n int, native string) *run {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &run{step: m.Step, n: n, attempt: m.Attempt + n - m.N, native: native, started: time.Now()}
	w.say("job %s step %d start %d RUNS as %s", m.Job, m.Step, n, native)
	for _, other := range w.runs[m.Job] {
		switch {
		case other.ended.IsZero():
			w.broken("job %s: two of its programs run at the same time", m.Job)
		case other.step == m.Step && other.n == n:
			w.broken("job %s: start %d of step %d ran twice", m.Job, n, m.Step)
		case other.step == m.Step && !w.server.requeueable(m.Job):
			w.broken("job %s: step %d ran twice, and it must not be requeued", m.Job, m.Step)
		case other.step > m.Step:
			w.broken("job %s: step %d ran after step %d", m.Job, m.Step, other.step)
		case other.step == m.Step && other.recorded && !other.told && other.exit == (hpcsera.Exit{}):
			w.broken("job %s: step %d ran again after it had succeeded", m.Job, m.Step)
		}
	}
	if w.server.toldOver(m.Job) {
		w.broken("job %s: its program began after its end had been told", m.Job)
	}
	w.runs[m.Job] = append(w.runs[m.Job], r)
	return r
}

// ran returns the runs of a job.
func (w *world) ran(job string) []*run {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*run(nil), w.runs[job]...)
}

// until lets time pass until something is so, at most for an allowance.
func (w *world) until(what string, most time.Duration, so func() bool) bool {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if so() {
			return true
		}
	}
	w.broken("within %v it never came: %s", most, what)
	return false
}

var _ System = (*handle)(nil)
