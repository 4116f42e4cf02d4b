package agent

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// ward is a site as the doctor finds it: a server and a batch system of one
// job.
type ward struct {
	ahead  time.Duration // of the server's clock
	health int           // status of /healthz
	answer int           // status to a request with the credential
	says   string        // its WWW-Authenticate

	settings func(*Config)
	projects []string // that were granted; default the project
	trust    string   // the trust file, if another one
	rules    string   // the site's policy
	status   string   // what the agent said of itself

	dead      error // of the batch system
	wait      time.Duration
	unshared  bool   // what the job writes never comes back
	silent    bool   // its doorbell does not ring
	failure   string // why the job could do nothing
	elsewhere bool   // it made its folder on another file system
	submit    error
	queued    bool // forever
	acts      []scheduler.Action
	ran       atomic.Bool
}

func (w *ward) RoundTrip(req *http.Request) (*http.Response, error) {
	res := &http.Response{Header: http.Header{"Date": {time.Now().Add(w.ahead).UTC().Format(http.TimeFormat)}}, Body: io.NopCloser(strings.NewReader("")), Request: req}
	res.StatusCode = w.health
	if req.URL.Path != "/healthz" {
		res.StatusCode = w.answer
		if w.says != "" {
			res.Header.Set("WWW-Authenticate", w.says)
		}
	}
	res.Status = http.StatusText(res.StatusCode)
	return res, nil
}

func (w *ward) System() string             { return "slurm" }
func (w *ward) SubmitDelay() time.Duration { return 0 }

func (w *ward) Environment() scheduler.Environment { return scheduler.Environment{} }

func (w *ward) Probe(context.Context) (hpcsera.Facts, error) {
	return hpcsera.Facts{Version: "22.05.8", Queues: []hpcsera.Queue{{Name: "medium"}}}, w.dead
}

// Submit runs the job as a compute node would.
func (w *ward) Submit(_ context.Context, sub scheduler.Submission) ([]scheduler.Ref, error) {
	if w.submit != nil {
		return nil, w.submit
	}
	dir := filepath.Dir(filepath.Dir(filepath.Dir(sub.Script)))
	if w.queued {
		return []scheduler.Ref{{ID: "7", Tag: sub.Tag}}, nil
	}
	go func() {
		sleep(context.Background(), w.wait)
		w.ran.Store(true)
		s, err := spool.Open(dir)
		if err != nil || w.unshared {
			return
		}
		read, err := s.Submission(sub.Tag)
		if err != nil {
			return
		}
		job := read.Members[0].Job
		if _, _, err := s.Take(job, 0, 1, spool.Claim{Owner: spool.OwnerWrapper, Tag: sub.Tag, Host: "n1"}); err != nil {
			return
		}
		if w.silent {
			_ = os.RemoveAll(filepath.Join(dir, "inbox")) // so that it cannot ring
		}
		if task, err := s.Task(sub.Tag, read.Members[0]); err != nil || !w.elsewhere && spool.Folder(task.Directory) != nil {
			return
		}
		_ = s.Finish(job, 0, 1, spool.End{Host: "n1", Ended: time.Now(), Failure: w.failure})
		if w.silent {
			_ = os.Mkdir(filepath.Join(dir, "inbox"), 0o700)
		}
	}()
	return []scheduler.Ref{{ID: "7", Tag: sub.Tag}}, nil
}

func (w *ward) Statuses(_ context.Context, refs []scheduler.Ref) (map[scheduler.Ref]scheduler.Status, error) {
	phase := scheduler.PhaseQueued
	if w.ran.Load() {
		phase = scheduler.PhaseEnded
	}
	return map[scheduler.Ref]scheduler.Status{refs[0]: {Ref: refs[0], Phase: phase, Native: "PENDING", Message: "Priority"}}, nil
}

func (w *ward) Act(_ context.Context, action scheduler.Action, _ []scheduler.Ref) error {
	w.acts = append(w.acts, action)
	return nil
}

func TestTheDoctorFindsWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name  string
		ward  *ward
		check string // the one that is not OK, "" for none
		want  string // what is found or advised
	}{
		{"all is well", &ward{wait: 3 * time.Second}, "", ""},
		{"the server is ill", &ward{health: 500}, "server", "Tell the operator"},
		{"the server's clock is ahead", &ward{ahead: 5 * time.Minute}, "clock", "NTP"},
		{"the server's clock is behind", &ward{ahead: -5 * time.Minute}, "clock", "differ by 5m"},
		{"the agent was removed", &ward{answer: 401, says: `DPoP algs="EdDSA ES256", error="invalid_token"`}, "credential", "hpcsera-agent enroll"},
		{"another user in the settings", &ward{settings: func(c *Config) { c.User = "alcie" }}, "enrolment", "enrolled for the user alice, and the settings say user: alcie"},
		{"another site in the settings", &ward{settings: func(c *Config) { c.Site = "gwgd" }}, "enrolment", "enrolled for the site gwdg"},
		{"one more project in the settings", &ward{settings: func(c *Config) { c.Projects = []string{theProject, "melt"} }}, "enrolment", "it gets no jobs of it"},
		{"one project less in the settings", &ward{settings: func(c *Config) { c.Projects = []string{"melt"} }, projects: []string{theProject, "melt"}}, "enrolment", "its jobs are refused"},
		{"no key is trusted", &ward{trust: "keys: []\n"}, "trust", "hpcsera-agent trust add"},
		{"the site forbids the kind of the key", &ward{rules: "trust: [sk]\n"}, "trust", "is a plain key"},
		{"the site forbids the server", &ward{rules: "servers: [{url: \"https://other.example\"}]\n"}, "site policy", "does not allow the server"},
		{"the site forbids the account", &ward{rules: "users: [bob]\n"}, "site policy", "account alice01"},
		{"the site forbids the version", &ward{rules: "min_agent_version: 2.0.0\n"}, "site policy", "2.0.0 at least"},
		{"the key is another one", &ward{answer: 401, says: `DPoP algs="EdDSA ES256", error="invalid_dpop_proof"`}, "credential", "public_url"},
		{"the scheduler is dead", &ward{dead: errors.New("Unable to contact slurm controller")}, "scheduler", "Unable to contact slurm controller"},
		{"the scheduler takes no job", &ward{submit: &scheduler.Refused{Message: "Invalid account"}}, "spool shared", "Invalid account"},
		{"the spool is not shared", &ward{unshared: true}, "spool shared", "left no record"},
		{"the work root is not shared", &ward{failure: "chdir /work: no such file or directory"}, "spool shared", "work_root must be"},
		{"the work root is another one there", &ward{elsewhere: true}, "spool shared", "work_root must be"},
		{"the doorbell is not heard", &ward{silent: true}, "spool shared", "doorbell was not heard"},
		{"the queue is long", &ward{queued: true}, "spool shared", "still PENDING (Priority)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			key, err := client.LoadKey(filepath.Join(dir, "key.pem"))
			if err != nil {
				t.Fatal(err)
			}
			state := filepath.Join(dir, "state")
			if err := errors.Join(os.Mkdir(state, 0o700), os.WriteFile(filepath.Join(state, "credential"), nil, 0o600),
				os.WriteFile(filepath.Join(dir, "agent"), nil, 0o700)); err != nil {
				t.Fatal(err)
			}
			trust := c.ward.trust
			if trust == "" {
				trust = "keys:\n  - {name: laptop, plain: true, key: " + publicKey(t) + "}\n"
			}
			projects := c.ward.projects
			if projects == nil {
				projects = []string{theProject}
			}
			if err := errors.Join(os.WriteFile(filepath.Join(state, "trust.yaml"), []byte(trust), 0o600),
				os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(c.ward.rules), 0o644),
				Enrolment{Agent: agentID, User: theUser, Site: theSite, Projects: projects}.Keep(state)); err != nil {
				t.Fatal(err)
			}
			if c.ward.status != "" {
				if err := os.WriteFile(statusPath(state), []byte(c.ward.status), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Test(t, func(t *testing.T) {
				w := c.ward
				w.health, w.answer = first(w.health, 200), first(w.answer, 404)
				secret, _ := hpcsera.NewSecret(agentID)
				api, err := client.NewAgent(theServer, secret, key, w)
				if err != nil {
					t.Fatal(err)
				}
				var told []Finding
				d := &Doctor{
					Config: Config{Server: theServer, User: theUser, Site: theSite, Projects: []string{theProject}, StateDir: state, SpoolDir: filepath.Join(state, "spool"), WorkRoot: filepath.Join(state, "work")},
					HTTP:   w, API: api, Batch: w, Binary: filepath.Join(dir, "agent"), Submit: true, Tell: func(f Finding) { told = append(told, f) },
					Version: "1.0.0", Account: "alice01", Site: policy.SiteFiles{Dir: dir, Owner: os.Geteuid()},
				}
				if w.settings != nil {
					w.settings(&d.Config)
				}
				well := d.Examine(t.Context())
				synctest.Wait()
				if well != (c.check == "") {
					t.Errorf("all is well: got %v, told %+v", well, told)
				}
				missing := map[string]bool{"state": true, "server": c.check != "clock", "credential": true, "scheduler": true, "spool": true, "spool shared": true, c.check: c.check != ""}
				for _, f := range told {
					delete(missing, f.Check)
					if f.OK == (f.Check == c.check) {
						t.Errorf("%s: OK is %v: %s", f.Check, f.OK, f.Found)
					}
					if !f.OK && (f.Advice == "" || !strings.Contains(f.Found+" "+f.Advice, c.want)) {
						t.Errorf("%s: found %q, advised %q, want %q", f.Check, f.Found, f.Advice, c.want)
					}
				}
				for check, wanted := range missing {
					if wanted {
						t.Errorf("nothing was told of %s", check)
					}
				}
				if c.ward.queued != (len(w.acts) == 1 && w.acts[0] == scheduler.Cancel) {
					t.Errorf("acted: %v, want a cancel of the job that waits, and of no other", w.acts)
				}
				if left, _ := filepath.Glob(filepath.Join(state, "spool", "doctor-*")); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		})
	}
}

// publicKey returns the line of a fresh key.
func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func first(a, b int) int {
	if a != 0 {
		return a
	}
	return b
}
