package inquiry_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/inquiry"
	"github.com/hpcsera/hpcsera/internal/store"
)

func person(user string) *auth.Principal {
	return &auth.Principal{Person: &auth.Person{User: user, SteppedUp: true}}
}

// request returns the open request about a job's code.
func (w *world) request(job string) decision.Request {
	w.t.Helper()
	j := w.job(job)
	w.inbox.mu.Lock()
	defer w.inbox.mu.Unlock()
	for _, r := range w.inbox.open {
		if digest, err := r.Code.Manifest.Digest(); err == nil && r.User == j.User && r.Project == j.Project && digest == j.Code.Digest {
			return r
		}
	}
	w.t.Fatalf("nobody was asked about %s", job)
	panic("unreachable")
}

func TestManyJobsOfTheSameCodeAreOneRequest(t *testing.T) {
	w := newWorld(t)
	w.enrol("alice", "hlrs", "cfd")
	alice := w.token("alice", "cfd")
	all := []string{
		w.wait(alice, hello("echo\n"), nodes(2), inQueue("medium")), w.wait(alice, hello("echo\n"), nodes(8)),
		w.wait(alice, hello("echo\n"), at("hlrs"), inQueue("large")),
	}
	w.look()
	r := w.inbox.only(t)
	switch c := r.Code; {
	case r.User != "alice" || r.Project != "cfd" || r.Client != "gitlab" || c.Sender != "alice":
		t.Errorf("got a request of %s for %s in %s of %s", r.Client, r.User, r.Project, c.Sender)
	case c.Deployment != deployment:
		t.Errorf("deployment: got %s, want %s", c.Deployment, deployment)
	case !slices.Equal(c.Sites, []string{"gwdg", "hlrs"}) || len(c.Agents) != 2:
		t.Errorf("got sites %v and agents %v, want both", c.Sites, c.Agents)
	case c.Limits.NodeCount != 8 || !slices.Equal(c.Limits.QueueNames, []string{"large", "medium"}):
		t.Errorf("got limits %+v, want those of all jobs", c.Limits)
	case !slices.Equal(c.Submitters, []string{"alice"}):
		t.Errorf("got submitters %v, want alice alone", c.Submitters)
	}
	w.decided(w.inbox.decide(t, r, withSSH))
	for i, id := range all {
		w.expectReady(fmt.Sprint("job ", i), id)
	}
}

func TestJobsOfAnotherUsersCodeAskTheirOwnUser(t *testing.T) {
	w := newWorld(t)
	bobs := w.wait(w.token("bob", "cfd"), hello("echo\n"))
	mine := w.wait(w.token("alice", "cfd"), hello("echo\n"))
	w.look() // bob has no agent
	r := w.inbox.only(t)
	if r.User != "alice" || r.Code.Sender != "bob" || !slices.Equal(r.Code.Submitters, []string{"alice"}) {
		t.Errorf("%s was asked about code of %s for %v, want alice about bob's", r.User, r.Code.Sender, r.Code.Submitters)
	}
	w.decided(w.inbox.decide(t, r, withSSH))
	w.expectReady("alice's job", mine)
	w.expectWaiting("bob's job", bobs)
}

func TestTwoReplicasAskOnce(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	w.upload(alice, "text")
	job := w.wait(alice, with(hello("echo\n"), "file", "text"))
	second := w.replica()
	looks := func() {
		if _, err := second.Look(t.Context()); err != nil {
			t.Error(err)
		}
	}
	w.files.beside = looks // while the first one reads what to ask
	w.look()
	other := w.wait(alice, hello("echo other\n"))
	w.inbox.beside = looks // while it posts
	w.look()
	if _, err := second.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.look()
	if w.inbox.posts != 2 {
		t.Errorf("%d requests about two kinds of code", w.inbox.posts)
	}
	if n := w.audited("code.ask"); n != 2 {
		t.Errorf("audit: got %d lines code.ask, want 2", n)
	}
	w.request(other)
	d := w.inbox.decide(t, w.request(job), withSSH)
	w.decided(d)
	if err := second.Decided(t.Context(), d); err != nil {
		t.Errorf("the other replica: %v", err)
	}
	w.expectReady("the job", job)
}

func TestAnAuthAppThatWasAwayIsAskedLater(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job, other := w.wait(alice, hello("echo\n")), w.wait(alice, hello("echo other\n"))
	w.inbox.away = true
	for range 3 {
		if _, err := w.asks.Look(t.Context()); hpcsera.CodeOf(err) != hpcsera.Unavailable {
			t.Fatalf("got %v, want unavailable", err)
		}
	}
	w.expectWaiting("meanwhile", job)
	w.inbox.away = false
	w.look()
	w.inbox.expectOpen(t, "when it is back", 2)
	w.decided(w.inbox.decide(t, w.request(job), withSSH))
	w.expectReady("the job", job)
	w.expectWaiting("the other", other)
}

func TestARequestWhoseAnswerWasLostIsPostedAsTheSame(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	w.inbox.lost = true
	if _, err := w.asks.Look(t.Context()); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
	first := w.inbox.only(t)
	w.inbox.lost = false
	w.wait(alice, hello("echo\n"), nodes(4)) // now the request would be another one
	w.asks = w.replica()                     // and the server was killed
	w.look()
	if got := w.inbox.only(t); got.ID != first.ID || w.inbox.posts != 1 {
		t.Errorf("got %s and %d posts, want %s alone", got.ID, w.inbox.posts, first.ID)
	}
	if got := w.job(job).Message; !strings.Contains(got, first.ID) {
		t.Errorf("the job says %q, want where it was asked", got)
	}
	w.look()
}

func TestAServerThatDiedBeforeItPostedPostsTheSameRequest(t *testing.T) {
	w := newWorld(t)
	job := w.wait(w.token("alice", "cfd"), hello("echo\n"))
	w.inbox.away = true
	if _, err := w.asks.Look(t.Context()); err == nil {
		t.Fatal("got no error, want unavailable")
	}
	var filed string
	w.read(func(r store.Reader) error {
		return r.Documents("inquiry", "", w.clock(), func(_ string, doc []byte) error {
			filed = string(doc)
			return nil
		})
	})
	w.inbox.away, w.asks = false, w.replica()
	w.look()
	if id := w.request(job).ID; !strings.Contains(filed, id) {
		t.Errorf("got request %s, want the one on file: %s", id, filed)
	}
}

func TestARequestThatWasDecidedMeanwhileIsNotOpenedAgain(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	w.upload(alice, "text")
	for name, before := range map[string]func(w *world, do func()){
		"before it is posted": func(w *world, do func()) { w.files.beside = do }, "while it is posted": func(w *world, do func()) { w.inbox.beside = do },
	} {
		job := w.wait(alice, with(hello("echo "+name+"\n"), "file", "text"))
		w.inbox.lost = true
		if _, err := w.asks.Look(t.Context()); err == nil {
			t.Fatal("got no error, want unavailable")
		}
		w.inbox.lost = false
		r, posts := w.inbox.only(t), w.inbox.posts
		before(w, func() { w.decided(w.inbox.decide(t, r, withSSH)) })
		w.look()
		w.expectReady(name, job)
		w.inbox.expectOpen(t, name, 0)
		if name == "before it is posted" && w.inbox.posts != posts {
			t.Errorf("%s: it was posted again", name)
		}
	}
}

func TestNobodyIsAskedAboutCodeThatNoAgentCouldRun(t *testing.T) {
	w := newWorldWithoutAgents(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	w.enrol("alice", "gwdg", "melt")         // not of the project
	w.enrol("alice", "hlrs", "cfd")          // not of the site
	w.enrol("bob", "gwdg", "cfd")            // not of the user
	ended := w.enrol("alice", "gwdg", "cfd") // not any more
	w.write(func(tx store.Tx) error {
		a, err := tx.Agent(ended)
		if err != nil {
			return err
		}
		a.Expires = w.clock()
		return tx.UpdateAgent(*a)
	})
	w.look()
	w.inbox.expectOpen(t, "without an agent", 0)
	w.enrol("alice", "gwdg", "cfd")
	w.look()
	if r := w.request(job); len(r.Code.Agents) != 1 || r.Code.Agents[0] != (decision.CodeAgent{Thumbprint: thumb, Site: "gwdg", Host: "login1"}) {
		t.Errorf("got agents %+v, want the one at gwdg", r.Code.Agents)
	}
}

func TestWhoLeftTheProjectIsShownNoCodeOfIt(t *testing.T) {
	w := newWorld(t)
	w.wait(w.token("alice", "cfd"), hello("echo\n"))
	w.write(func(tx store.Tx) error { return tx.SetMember("cfd", "alice", "") })
	w.look()
	w.inbox.expectOpen(t, "after leaving", 0)
}

func TestNobodyIsAskedAboutCodeThatIsGone(t *testing.T) {
	w := newWorld(t)
	job := w.wait(w.token("alice", "cfd"), hello("echo\n"))
	other := w.wait(w.token("alice", "cfd"), hello("echo other\n"))
	w.write(func(tx store.Tx) error { return tx.DeleteCode("cfd", w.job(job).Code.Digest) })
	w.look()
	w.inbox.expectOpen(t, "code that is gone and code that is not", 1)
	w.request(other)
}

func TestARequestThatEndedUndecidedIsAskedAgainWhileJobsWait(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	gone := w.wait(alice, hello("echo other\n"))
	w.look()
	first := w.request(job)
	w.pass(inquiry.OpenFor - time.Minute)
	w.look()
	if got := w.request(job); got.ID != first.ID {
		t.Errorf("before its end: got %s, want %s", got.ID, first.ID)
	}
	w.cancel(alice, gone)
	clear(w.inbox.open)
	w.pass(time.Minute)
	w.look()
	if got := w.inbox.only(t); got.ID == first.ID || !got.Expires.Equal(w.clock().Add(inquiry.OpenFor)) {
		t.Errorf("after its end: got %s until %s, want a new request", got.ID, got.Expires)
	}
	if m := w.job(job).Message; strings.Contains(m, first.ID) || !strings.Contains(m, w.request(job).ID) {
		t.Errorf("the job says %q, want the new request alone", m)
	}
}

func (w *world) cancel(p *auth.Principal, id string) {
	w.t.Helper()
	if _, err := w.jobs.Cancel(w.t.Context(), p, id); err != nil {
		w.t.Fatal(err)
	}
}

func TestARequestForWhichNobodyWaitsAnyMoreIsTakenBack(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job, other := w.wait(alice, hello("echo\n")), w.wait(alice, hello("echo other\n"))
	w.look()
	first := w.request(job)
	w.cancel(alice, job)
	w.inbox.away = true
	if _, err := w.asks.Look(t.Context()); err == nil {
		t.Error("got no error, want unavailable")
	}
	w.inbox.away = false
	w.look()
	if got := w.inbox.only(t); got.ID != w.request(other).ID {
		t.Errorf("%s is open, want the other one", got.ID)
	}
	// A yes that was on its way counts all the same.
	w.decided(w.inbox.decide(t, first, withSSH))
	w.expectReady("the same code again", w.wait(alice, hello("echo\n")))
	// And what was signed by hpcsera approve need not be decided any more.
	w.approve(alice, hello("echo other\n"))
	w.expectReady("the other", other)
	w.look()
	w.inbox.expectOpen(t, "at the end", 0)
}

func TestCodeThatIsAwaitedAgainIsAskedAboutAgain(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	w.look()
	first := w.request(job)
	w.cancel(alice, job)
	w.look()
	job = w.wait(alice, hello("echo\n"))
	w.look()
	second := w.inbox.only(t)
	w.decided(w.inbox.decide(t, first, nil)) // taken back, and replaced
	w.expectWaiting("the new job", job)
	w.decided(w.inbox.decide(t, second, withSSH))
	w.expectReady("the new job", job)
}

func TestWhatTheAuthAppRefusesIsNotPostedAgainAtOnce(t *testing.T) {
	for _, refusal := range []hpcsera.Code{hpcsera.Forbidden, hpcsera.QuotaExceeded} {
		w := newWorld(t)
		alice := w.token("alice", "cfd")
		job := w.wait(alice, hello("echo\n"))
		w.wait(alice, hello("echo other\n"))
		w.inbox.refuse = hpcsera.Errorf(refusal, "alice does not want to be asked by gitlab.")
		if _, err := w.asks.Look(t.Context()); hpcsera.CodeOf(err) != refusal {
			t.Errorf("got %v, want %s", err, refusal)
		}
		w.look() // nothing is posted, so nothing is refused
		w.inbox.refuse = nil
		w.look()
		w.inbox.expectOpen(t, "within the pause", 0)
		w.pass(inquiry.RefusedFor)
		w.look()
		w.inbox.expectOpen(t, "after it", 2)
		w.decided(w.inbox.decide(t, w.request(job), withSSH))
		w.expectReady("the job", job)
	}
}

func TestOneUsersCodeKeepsNobodyElseFromBeingAsked(t *testing.T) {
	w := newWorld(t)
	w.enrol("bob", "gwdg", "cfd")
	bob := w.wait(w.token("bob", "cfd"), hello("echo of bob\n"))
	sample := w.job(w.wait(w.token("alice", "cfd"), hello("echo\n")))
	w.write(func(tx store.Tx) error { // all of code that is gone, so that nothing is posted
		ledger, err := store.NewLedger(tx, w.clock())
		if err != nil {
			return err
		}
		var rows []*store.Job
		for i := range inquiry.MostAwaited {
			j := *sample
			j.ID, j.Code.Digest = hpcsera.NewID("j"), hpcsera.DigestOf(fmt.Append(nil, i))
			rows = append(rows, &j)
		}
		return ledger.Insert(rows)
	})
	looks := 1
	for more := true; more; looks++ {
		var err error
		if more, err = w.asks.Look(t.Context()); err != nil || looks > 2 {
			t.Fatalf("look %d: %v", looks, err)
		}
	}
	w.inbox.expectOpen(t, "after all pages", 2)
	w.request(bob)
}

func TestJobsSayWhoWasAskedAndWhere(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	job := w.wait(alice, hello("echo\n"))
	w.look()
	want := "alice was asked in the Auth app: " + w.inbox.RequestURL(w.request(job).ID)
	late, other := w.wait(alice, hello("echo\n")), w.wait(w.token("bob", "cfd"), hello("echo\n"))
	before := w.job(job).Version
	changes := []store.Change{{Event: hpcsera.Event{Job: job}}, {Event: hpcsera.Event{Job: late}}, {Event: hpcsera.Event{Job: other}}, {Event: hpcsera.Event{Job: "j_gone"}}}
	for range 2 {
		if _, err := w.asks.Look(t.Context(), changes...); err != nil {
			t.Fatal(err)
		}
	}
	for name, id := range map[string]string{"the first": job, "one that came later": late} {
		if got := w.job(id).Message; got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := w.job(other).Message; got != "" {
		t.Errorf("bob, who has no agent, was not asked: got %q", got)
	}
	if after := w.job(job).Version; after != before {
		t.Errorf("a job that said so already was changed: version %d, then %d", before, after)
	}
}

func TestWhoSignsForLessIsAskedAboutTheRest(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	small, big := w.wait(alice, hello("echo\n")), w.wait(alice, hello("echo\n"), nodes(4))
	w.look()
	w.decided(w.inbox.decide(t, w.request(big), withSSH, func(s *approval.Statement) { s.Limits.NodeCount = 1 }))
	w.expectReady("what was signed", small)
	w.expectWaiting("what was not", big)
	w.look()
	r := w.inbox.only(t)
	if got := w.job(big).Message; !strings.Contains(got, "does not cover this job") || !strings.HasSuffix(got, w.inbox.RequestURL(r.ID)) {
		t.Errorf("got %q, want why it waits and where it was asked", got)
	}
	w.decided(w.inbox.decide(t, r, nil))
	w.expect("the rest, which was denied", big, hpcsera.Failed, hpcsera.ApprovalDenied)
	w.expectReady("what was signed before", small)
}

func TestRunAsksAndTellsWhoComesLater(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", "cfd")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.asks.Run(ctx) }()
	for _, name := range []string{"the first", "one that joins"} {
		w.waitForMessage(name, w.wait(alice, hello("echo\n")))
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("at the end: %v", err)
	}
	if w.inbox.posts != 1 {
		t.Errorf("%d requests, want 1", w.inbox.posts)
	}
}

// waitForMessage waits until a job says that its user was asked.
func (w *world) waitForMessage(name, id string) {
	w.t.Helper()
	sub := w.store.Feed().Subscribe(func(c *store.Change) bool { return c.Job == id })
	defer sub.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for !strings.Contains(w.job(id).Message, "was asked in the Auth app") {
		if changes, _ := sub.Wait(ctx); changes == nil {
			w.t.Fatalf("%s: nobody was asked", name)
		}
	}
}
