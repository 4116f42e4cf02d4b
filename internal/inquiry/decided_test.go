package inquiry_test

import (
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/inquiry"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestADeniedRequestFailsTheJobsThatWaitAndWhatDependsOnThem(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo 1\n"))
	other := w.wait(alice, hello("echo 2\n"))
	next := w.wait(alice, hello("echo 1\n"), after(job))
	last := w.wait(alice, hello("echo 1\n"), after(next))
	bobs := w.wait(w.token("bob", "cfd"), hello("echo 1\n"))
	w.look()
	w.expect("a dependent, before", next, hpcsera.Pending, hpcsera.WaitingForDependency)
	w.decided(w.inbox.decide(t, w.request(job), nil))
	w.expect("the job", job, hpcsera.Failed, hpcsera.ApprovalDenied)
	w.expect("a dependent", next, hpcsera.Failed, hpcsera.DependencyFailed)
	w.expect("a dependent's dependent", last, hpcsera.Failed, hpcsera.DependencyFailed)
	w.expectWaiting("other code", other)
	w.expectWaiting("the same code of another user", bobs)
	if got, want := w.job(job).Message, "alice decided against this code in the Auth app."; got != want {
		t.Errorf("message: got %q, want %q", got, want)
	}
	if n := w.audited("code.deny"); n != 1 {
		t.Errorf("audit: got %d lines code.deny, want 1", n)
	}
}

func TestADenialCountsOnceAndNotForJobsThatComeLater(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	w.look()
	d := w.inbox.decide(t, w.request(job), nil)
	w.decided(d)
	later := w.wait(alice, hello("echo\n"))
	w.decided(d) // delivered again: its acknowledgement was lost
	w.expectWaiting("the later job", later)
	w.look()
	w.decided(d)
	w.expectWaiting("the later job, which was asked about anew", later)
	w.inbox.expectOpen(t, "at the end", 1)
}

func TestWhatIsNoAnswerToTheRequestChangesNothing(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*decision.Decision)
		want hpcsera.Code
	}{
		{"a denial by another user", func(d *decision.Decision) { d.User, d.Granted = "bob", false }, hpcsera.Unauthenticated},
		{"consent of another user", func(d *decision.Decision) { d.User = "bob" }, hpcsera.Unauthenticated},
		{"a decision about a token", func(d *decision.Decision) { d.Kind, d.Granted = decision.Token, false }, hpcsera.Unauthenticated},
		{"an unknown request", func(d *decision.Decision) { d.Request = hpcsera.NewID("rq") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			job := w.wait(w.token("alice", "cfd"), hello("echo\n"))
			w.look()
			d := w.inbox.decide(t, w.request(job), withSSH)
			genuine := d
			c.edit(&d)
			if got := hpcsera.CodeOf(w.asks.Decided(t.Context(), d)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			w.expectWaiting("the job", job)
			w.decided(genuine)
			w.expectReady("the job, after the user's own decision", job)
		})
	}
}

func TestADecisionAboutAnExpiredRequestChangesNothing(t *testing.T) {
	w := newWorld(t)
	job := w.wait(w.token("alice", "cfd"), hello("echo\n"))
	w.look()
	old := w.request(job)
	w.pass(inquiry.OpenFor)
	w.decided(w.inbox.decide(t, old, nil))
	w.decided(w.inbox.decide(t, old, withSSH))
	w.expectWaiting("the job", job)
}

func TestAStatementAboutAnythingElseIsRefused(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	// All that the statements name is there, so that nothing else refuses them.
	elsewhere := w.wait(w.token("alice", "melt"), hello("echo\n"))
	otherCode := w.wait(alice, hello("echo other\n"))
	bobs := w.wait(w.token("bob", "cfd"), hello("echo\n"))
	job := w.wait(alice, hello("echo\n"))
	for name, edit := range map[string]func(*approval.Statement){
		"another project":    func(s *approval.Statement) { s.Project = "melt" },
		"other code":         func(s *approval.Statement) { s.Code = w.job(otherCode).Code.Digest },
		"another user":       func(s *approval.Statement) { s.User, s.Submitters = "bob", []string{"bob"} },
		"another deployment": func(s *approval.Statement) { s.Deployment = "https://other.example.org" },
		"another name":       func(s *approval.Statement) { s.Name = "harmless" },
		"other parameters":   func(s *approval.Statement) { s.Schema = hpcsera.DigestOf([]byte("x")) },
	} {
		w.look()
		err := w.asks.Decided(t.Context(), w.inbox.decide(t, w.request(job), withSSH, edit))
		if got := hpcsera.CodeOf(err); got != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %q (%v), want approval_refused", name, got, err)
		}
		for what, id := range map[string]string{"the job": job, "the other project's": elsewhere, "the other code's": otherCode, "bob's": bobs} {
			w.expectWaiting(name+", "+what, id)
		}
	}
	w.look()
	r := w.request(job)
	d := w.inbox.decide(t, r, withSSH)
	d.Signature = w.inbox.decide(t, r, withSSH, func(s *approval.Statement) { s.Runs++ }).Signature
	if got := hpcsera.CodeOf(w.asks.Decided(t.Context(), d)); got != hpcsera.ApprovalRefused {
		t.Errorf("a signature of another statement: got %q, want approval_refused", got)
	}
	// The user signed and is not to wait for nothing.
	w.look()
	w.decided(w.inbox.decide(t, w.request(job), withSSH))
	w.expectReady("after a good one", job)
}

func TestADisabledUserConsentsToNothing(t *testing.T) {
	w := newWorld(t)
	job := w.wait(w.token("alice", "cfd"), hello("echo\n"))
	w.look()
	w.write(func(tx store.Tx) error {
		u, err := tx.User("alice")
		if err != nil {
			return err
		}
		u.Disabled = true
		return tx.UpdateUser(*u)
	})
	if got := hpcsera.CodeOf(w.asks.Decided(t.Context(), w.inbox.decide(t, w.request(job), withSSH))); got != hpcsera.Forbidden {
		t.Errorf("got %q, want forbidden", got)
	}
	w.expectWaiting("the job", job)
	w.look()
	w.inbox.expectOpen(t, "a disabled user", 0)
}

func TestASignedRequestMakesItsJobsReady(t *testing.T) {
	for name, sign := range map[string]signer{"by an SSH key": withSSH, "by a passkey": withPasskey} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			alice := w.token("alice", "cfd")
			job, second := w.wait(alice, hello("echo\n")), w.wait(alice, hello("echo\n"))
			w.look()
			d := w.inbox.decide(t, w.request(job), sign)
			w.decided(d)
			w.expectReady("the job", job)
			w.expectReady("the other job", second)
			st, err := approval.Parse(d.Statement)
			if err != nil {
				t.Fatal(err)
			}
			if got := w.job(job); got.Code.Approval != st.ID || got.Message != "" {
				t.Errorf("the job runs under %q (%q), want %s", got.Code.Approval, got.Message, st.ID)
			}
			w.decided(d) // delivered again
			third := w.wait(alice, hello("echo\n"))
			w.expectReady("a job that comes later", third)
			w.look()
			w.inbox.expectOpen(t, "at the end", 0)
			if n := w.audited("code.approve"); n != 1 {
				t.Errorf("audit: got %d lines code.approve, want 1", n)
			}
		})
	}
}

func TestADecisionThatCouldNotBeAppliedCanBeAppliedLater(t *testing.T) {
	w := newWorld(t)
	job := w.wait(w.token("alice", "cfd"), hello("echo\n"))
	w.look()
	d := w.inbox.decide(t, w.request(job), withSSH)
	// The server died after filing the approval, before it closed the request.
	if _, err := w.code.FileApproval(t.Context(), person("alice"), hpcsera.ApprovalRequest{Statement: d.Statement, Signature: d.Signature}); err != nil {
		t.Fatal(err)
	}
	w.pass(time.Minute)
	w.decided(d)
	w.expectReady("the job", job)
	w.look()
	w.inbox.expectOpen(t, "at the end", 0)
}
