package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sync/errgroup"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob/fs"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/oauth"
	"github.com/hpcsera/hpcsera/internal/server"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// deployment is a real API server on a real SQLite database, with user alice,
// project cfd, client cli, site lab and alice's agent there. The agent speaks
// the real protocol but is driven by the script: that is how a script decides
// what a batch system says and when. Between client and server lies a network
// that can be cut.
type deployment struct {
	url     string // by which everybody knows the server
	network *network
	access  *access.Service
	agent   *hand
	people  *inbox
	token   string
	stop    func() error
}

func newDeployment(dir string) (d *deployment, err error) {
	ctx := context.Background()
	log := slog.New(slog.DiscardHandler)
	d = &deployment{}
	db, err := sqlstore.Open(ctx, filepath.Join(dir, "hpcsera.db"), log)
	if err != nil {
		return nil, err
	}
	files, err := fs.Open(filepath.Join(dir, "files"))
	if err != nil {
		return nil, err
	}
	front, err := server.Listen(server.Config{Listen: "127.0.0.1:0", Grace: time.Second, Unlimited: httpapi.Streams, Log: log})
	if err != nil {
		return nil, err
	}
	if d.network, err = newNetwork(front.Addr().String()); err != nil {
		return nil, err
	}
	d.url = "http://" + d.network.listener.Addr().String()
	key := make([]byte, 32)
	rand.Read(key)
	who, err := auth.New(auth.Config{Store: db, PublicURL: d.url, Key: key, Log: log})
	if err != nil {
		return nil, err
	}
	seen := auth.NewSightings(db, nil, log)
	codes := code.New(code.Config{Store: db, Blobs: files, Deployment: d.url, Log: log})
	life, err := jobs.New(jobs.Config{Store: db, Blobs: files, Logs: files, Code: codes, Sightings: seen, Key: key,
		Stopping: front.Stopping(), Still: who.Still, Log: log})
	if err != nil {
		return nil, err
	}
	d.access = access.New(access.Config{Store: db, Jobs: life, Sightings: seen, Log: log})
	d.people = &inbox{posted: make(chan decision.Request, 10)}
	grants, err := oauth.New(oauth.Config{
		Store: db, Auth: who, Access: d.access, Revoke: life.RevokeToken, Inbox: d.people, Issuer: authApp, Deployment: "test",
		PublicURL: d.url, Key: key, Interval: time.Second, Log: log,
	})
	if err != nil {
		return nil, err
	}
	d.people.grants = grants
	if d.people.key, err = decision.NewKey(); err != nil {
		return nil, err
	}
	edge, err := httpapi.New(httpapi.Config{
		Auth: who, Jobs: life, Code: codes, Access: d.access, Grants: grants, Ready: func(context.Context) error { return nil },
		LastSeq: func(ctx context.Context) (seq int64, err error) {
			err = db.Read(ctx, func(r store.Reader) error { seq, err = r.LastSeq(); return err })
			return seq, err
		},
		RequestID: server.RequestID, Note: server.Note, Refused: func(hpcsera.AuditLine) {}, Metrics: httpapi.NewMetrics(), Log: log,
	})
	if err != nil {
		return nil, err
	}
	all := http.NewServeMux()
	all.Handle("/", edge)
	all.Handle("/oauth/", grants.Handler())
	work, cancel := context.WithCancel(ctx)
	var running errgroup.Group
	running.Go(func() error { return seen.Run(work) })
	running.Go(func() error { return life.Run(work) })
	running.Go(func() error { return front.Serve(work, all) })
	d.stop = func() error {
		cancel()
		return errors.Join(running.Wait(), d.network.close(), db.Close())
	}
	return d, d.populate(ctx, dir, front.Addr().String())
}

// populate makes everybody there is, and the agent.
func (d *deployment) populate(ctx context.Context, dir, direct string) error {
	a := d.access
	_, err1 := a.CreateUser(ctx, auth.OperatorOnHost(), access.NewUser{Name: "alice"})
	_, err2 := a.CreateProject(ctx, auth.OperatorOnHost(), access.NewProject{Name: "cfd", Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Owner}})
	_, err3 := a.CreateClient(ctx, auth.OperatorOnHost(), access.Named{Name: "cli"})
	_, err4 := a.CreateSite(ctx, auth.OperatorOnHost(), access.Named{Name: "lab"})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return err
	}
	key, err := client.LoadKey(filepath.Join(dir, "agent.key"))
	if err != nil {
		return err
	}
	made, err := a.CreateAgent(ctx, auth.OperatorOnHost(), access.NewAgent{User: "alice", Site: "lab", Projects: []string{"cfd"}, Thumbprint: key.Thumbprint()})
	if err != nil {
		return err
	}
	// The agent's own network is never cut.
	to := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", direct)
	}}
	d.agent = &hand{instance: hpcsera.NewID("i"), thumbprint: key.Thumbprint(), free: 1}
	d.agent.api, err = client.NewAgent(d.url, made.Credential, key, to)
	if err != nil {
		return err
	}
	d.token, err = d.newToken(ctx, "1,4,5,6,7,8")
	return err
}

func (d *deployment) newToken(ctx context.Context, roles string) (string, error) {
	made, err := d.access.CreateToken(ctx, auth.OperatorOnHost(), access.NewToken{User: "alice", Project: "cfd", Client: "cli", Roles: roles})
	return made.Secret, err
}

// hand is an agent that does what a script says.
type hand struct {
	api        *client.Agent
	thumbprint string
	instance   string
	term       int64
	epoch      int64
	cursor     string
	seq        int64
	free       int
	job        hpcsera.Order // the one in hand
	attempt    int
	logged     map[string]int64
	artifacts  []hpcsera.Artifact
}

// labFacts are what the agent tells of the site.
func labFacts() *hpcsera.Facts {
	idle := 3
	return &hpcsera.Facts{
		Version: "test", Host: "login1", System: "slurm", SystemVersion: "22.05.8", Cluster: "lab", LargestArray: 1001,
		Nodes: &hpcsera.Nodes{Total: 8, Up: 7, Idle: 3}, Jobs: &hpcsera.Load{Queued: 5, Running: 4},
		Queues: []hpcsera.Queue{
			{Name: "medium", Default: true, State: "up", Nodes: 4, Idle: &idle, MaxNodes: 2, CoresPerNode: 64, MemoryPerNode: 256 << 30, MaxDuration: hpcsera.Duration(24 * time.Hour)},
			{Name: "large", State: "up", Restricted: true, Nodes: 4},
			{Name: "long", State: "up", Nodes: 8, MaxDuration: hpcsera.Duration(48 * time.Hour)},
		},
	}
}

// take waits for an order that ok accepts.
func (h *hand) take(ok func(hpcsera.Order) bool) (hpcsera.Order, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfScripts)
	defer cancel()
	for {
		answer, err := h.api.Work(ctx, hpcsera.WorkRequest{Instance: h.instance, Term: h.term, Epoch: h.epoch, Acked: h.cursor, Free: h.free, Wait: 10,
			Facts: labFacts()})
		if err != nil {
			return hpcsera.Order{}, err
		}
		h.term, h.epoch, h.cursor = answer.Term, answer.Epoch, answer.Cursor
		for _, o := range answer.Orders {
			if ok(o) {
				return o, nil
			}
		}
	}
}

// poll asks once and waits for nothing.
func (h *hand) poll() error {
	answer, err := h.api.Work(context.Background(), hpcsera.WorkRequest{Instance: h.instance, Term: h.term, Epoch: h.epoch, Acked: h.cursor, Free: h.free})
	h.term, h.epoch = answer.Term, answer.Epoch
	return err
}

// next takes the next job in hand.
func (h *hand) next() error {
	o, err := h.take(func(o hpcsera.Order) bool { return o.Spec != nil && o.JobID != h.job.JobID })
	h.job, h.attempt, h.logged, h.artifacts = o, 1, map[string]int64{}, nil
	return err
}

// report tells a fact about the job in hand.
func (h *hand) report(r hpcsera.Report) error {
	h.seq++
	r.JobID, r.Seq, r.Revision, r.At = h.job.JobID, h.seq, h.job.Revision, time.Now().UTC()
	if r.Attempt > h.attempt { // a native requeue: its output starts anew
		h.attempt, h.logged = r.Attempt, map[string]int64{}
	}
	r.Attempt = h.attempt
	if r.State.Final() {
		r.Artifacts = h.artifacts
	}
	answer, err := h.api.Report(context.Background(), hpcsera.ReportRequest{Instance: h.instance, Term: h.term, Epoch: h.epoch, Reports: []hpcsera.Report{r}})
	if err == nil && answer.Outcomes[0] != hpcsera.Applied {
		err = fmt.Errorf("the server answers %s", answer.Outcomes[0])
	}
	return err
}

// output writes to a stream of the job in hand.
func (h *hand) output(stream string, text []byte) error {
	err := h.api.PutLog(context.Background(), h.job.JobID, stream, h.attempt, h.logged[stream], text)
	h.logged[stream] += int64(len(text))
	return err
}

// leave uploads an artifact, to be named in the final report.
func (h *hand) leave(path string, content []byte) error {
	a := hpcsera.Artifact{Path: path, Size: int64(len(content)), Digest: hpcsera.DigestOf(content)}
	h.artifacts = append(h.artifacts, a)
	return h.api.PutBlob(context.Background(), h.job.JobID, a.Digest, a.Size, strings.NewReader(string(content)))
}

// network carries connections between client and server until it is cut.
type network struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	down     bool
	open     map[net.Conn]struct{}
	all      sync.WaitGroup
}

func newNetwork(to string) (*network, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &network{listener: listener, to: to, open: map[net.Conn]struct{}{}}
	n.all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			n.all.Go(func() { n.carry(conn) })
		}
	})
	return n, nil
}

func (n *network) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", n.to)
	if err != nil {
		return
	}
	defer far.Close()
	n.mu.Lock()
	if n.down {
		n.mu.Unlock()
		return
	}
	n.open[near] = struct{}{}
	n.mu.Unlock()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			near.Close()
			far.Close()
			done <- struct{}{}
		}()
	}
	<-done
	<-done
	n.mu.Lock()
	delete(n.open, near)
	n.mu.Unlock()
}

// set cuts the network, with every connection over it, or mends it.
func (n *network) set(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = down
	for conn := range n.open {
		if down {
			conn.Close()
		}
	}
}

func (n *network) close() error {
	n.set(true)
	err := n.listener.Close()
	n.all.Wait()
	return err
}

// newSigningKeys makes an SSH key in two files, plain and locked by a
// passphrase, and an ssh-agent that has it. It returns the plain file; the
// others are beside it: .locked and .sock, and the public key .pub.
func newSigningKeys(dir string) (path string, stop func(), err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", nil, err
	}
	plain, err1 := ssh.MarshalPrivateKey(private, "alice")
	locked, err2 := ssh.MarshalPrivateKeyWithPassphrase(private, "alice", []byte(passphrase))
	named, err3 := ssh.NewPublicKey(public)
	if err := errors.Join(err1, err2, err3); err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "signing-key")
	for suffix, text := range map[string][]byte{
		"": pem.EncodeToMemory(plain), ".locked": pem.EncodeToMemory(locked), ".pub": ssh.MarshalAuthorizedKey(named),
	} {
		if err := os.WriteFile(path+suffix, text, 0o600); err != nil {
			return "", nil, err
		}
	}
	// A socket's path is short: the name of a test may not be.
	short, err := os.MkdirTemp("", "agent-")
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("unix", filepath.Join(short, "sock"))
	if err != nil {
		return "", nil, err
	}
	keys := agent.NewKeyring()
	if err := keys.Add(agent.AddedKey{PrivateKey: private, Comment: "alice"}); err != nil {
		return "", nil, err
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { _ = agent.ServeAgent(keys, conn); conn.Close() })
		}
	})
	return path, func() { listener.Close(); all.Wait(); os.RemoveAll(short) }, os.Symlink(filepath.Join(short, "sock"), path+".sock")
}

const passphrase = "correct horse"
