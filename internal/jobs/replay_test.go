package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

// lost is a deployment whose database went back by some hours: what an agent was
// given in them stands in its journal only.
type lost struct {
	*world
	alice *auth.Principal
	agent *agentWorld
	spec  *hpcsera.OrderSpec // of one of the jobs
}

// loses runs a job in one world and returns another one, which is what a backup
// of before has of it.
func loses(t *testing.T, key string) (lost, string) {
	t.Helper()
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	agent := w.agentOf("alice", "gwdg", "cfd")
	agent.epoch = 7 // of the life before
	w.pass(time.Second)
	// The same key makes the same id; the code and its approval are forgotten.
	job := hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", key, 0)
	part, err := hello().Check()
	if err != nil {
		t.Fatal(err)
	}
	filed, err := w.code.Approvals(t.Context(), alice, digest, "")
	if err != nil || len(filed.Approvals) != 1 {
		t.Fatalf("approvals: %v %v", filed, err)
	}
	a := filed.Approvals[0]
	return lost{world: w, alice: alice, agent: agent, spec: &hpcsera.OrderSpec{
		Name: "hello", User: "alice", Project: "cfd", Client: "gitlab", Submitter: "alice", Site: "gwdg", Idempotency: "cfd gitlab /api/v1/jobs",
		Digest: digest, Manifest: part.Canonical, Statement: a.Statement, Signature: a.Signature, Created: w.clock(),
		Run: hpcsera.RunPart{Site: "gwdg", Values: hpcsera.Values{"n": []byte("1")}},
	}}, job
}

// tells is what the agent's journal knows of the job.
func (l lost) tells(job string, state hpcsera.State, edit ...func(*hpcsera.Report)) hpcsera.Report {
	r := l.agent.report(job, state, edit...)
	if r.Spec = l.spec; r.Desired == "" {
		r.Desired = hpcsera.DesiredRun
	}
	return r
}

// meets polls as a fresh instance that has served in another epoch.
func (l lost) meets() hpcsera.WorkAnswer {
	l.t.Helper()
	l.pass(2 * time.Minute) // the instance of before may not know yet
	r := l.agent.request(10)
	answer, err := l.jobs.Work(l.t.Context(), l.agent.principal(), l.agent.id, r)
	if err != nil {
		l.t.Fatal(err)
	}
	l.agent.term, l.agent.epoch = answer.Term, answer.Epoch
	return answer
}

func TestNothingIsHandedOutBeforeTheReplayIsIn(t *testing.T) {
	l, _ := loses(t, "k")
	waiting := l.submit(l.alice, hpcsera.JobSpec{Code: l.spec.Digest, RunPart: hpcsera.RunPart{Site: "gwdg"}})
	answer := l.meets()
	if !answer.Replay || len(answer.Orders) != 0 || answer.Epoch != l.epoch() || answer.Term != 1 {
		t.Fatalf("got %+v, want a term, the epoch, and to be asked for the replay", answer)
	}
	l.agent.epoch = answer.Epoch
	expectOrders(t, "after it", l.agent.work(10), waiting.ID)

	served := l.agent.request(1)
	served.Epoch--
	_, err := l.jobs.Work(t.Context(), l.agent.principal(), l.agent.id, served)
	expect(t, "an instance that serves in another epoch", err, hpcsera.Conflict)
	served.Epoch, served.Term = l.agent.epoch, served.Term+5
	_, err = l.jobs.Work(t.Context(), l.agent.principal(), l.agent.id, served)
	expect(t, "a term that nobody can prove", err, hpcsera.Conflict)
}

func TestAJobThatTheDatabaseForgotIsAdopted(t *testing.T) {
	for name, c := range map[string]struct {
		state   hpcsera.State
		attempt int
		seq     int64
	}{
		"ordered only": {hpcsera.Pending, 1, 0},
		"running":      {hpcsera.Running, 1, 12},
		"ended":        {hpcsera.Succeeded, 1, 12},
	} {
		t.Run(name, func(t *testing.T) {
			l, job := loses(t, "k")
			l.meets()
			r := l.tells(job, c.state, attempt(c.attempt), func(r *hpcsera.Report) { r.Seq = c.seq })
			for _, want := range []hpcsera.Outcome{hpcsera.Applied, map[bool]hpcsera.Outcome{true: hpcsera.Stale, false: hpcsera.Duplicate}[c.state.Final()]} {
				if got := l.agent.send(r); got[0] != want && c.seq != 0 {
					t.Errorf("got %s, want %s", got[0], want)
				}
			}
			got, err := l.jobs.Get(t.Context(), l.alice, job)
			if err != nil {
				t.Fatal(err)
			}
			if got.State != c.state || got.Agent != l.agent.id || got.Client != "gitlab" || got.Code.Digest != l.spec.Digest || got.Code.Approval == "" || !got.Times.Created.Equal(l.spec.Created) {
				t.Errorf("got %+v", got)
			}
			// A client that tries again meets it.
			key := jobs.Idempotency{Key: "k", Path: "/api/v1/jobs", BodySHA256: strings.Repeat("0", 64)}
			answer, err := l.jobs.Submit(t.Context(), l.alice, []hpcsera.JobSpec{{Code: l.spec.Digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}}, false, key)
			if err != nil || jobOf(t, answer).ID != job || jobOf(t, answer).State != c.state {
				t.Errorf("submitted again: %s, %v", answer.Body, err)
			}
			l.agent.epoch = l.epoch()
			orders := l.agent.work(10).Orders
			if c.state.Final() {
				expectOrders(t, "of a job that has ended", hpcsera.WorkAnswer{Orders: orders})
				return
			}
			if len(orders) != 1 || orders[0].Spec == nil || orders[0].Desired != hpcsera.DesiredRun {
				t.Fatalf("orders: got %+v", orders)
			}
			if was, is := *l.spec, *orders[0].Spec; !was.Created.Equal(is.Created) || was.Digest != is.Digest || string(was.Statement) != string(is.Statement) || was.Idempotency != is.Idempotency {
				t.Errorf("the order is for another job: %+v, want %+v", is, was)
			}
		})
	}
}

// The client was quicker than the agent: the job stands in the new epoch, and
// no agent has it.
func TestAJobThatWasMadeAgainIsTheOneThatRuns(t *testing.T) {
	submit := func(l lost, edit ...func(*hpcsera.JobSpec)) hpcsera.Job {
		spec := hpcsera.JobSpec{Code: l.spec.Digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}
		for _, e := range edit {
			e(&spec)
		}
		answer, err := l.jobs.Submit(l.t.Context(), l.alice, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{Key: "k", Path: "/api/v1/jobs", BodySHA256: strings.Repeat("0", 64)})
		if err != nil {
			l.t.Fatal(err)
		}
		return jobOf(l.t, answer)
	}
	t.Run("it goes on", func(t *testing.T) {
		l, job := loses(t, "k")
		if got := submit(l); got.ID != job {
			t.Fatalf("got the id %s, want %s", got.ID, job)
		}
		l.meets()
		if got := l.agent.send(l.tells(job, hpcsera.Running)); got[0] != hpcsera.Applied || l.row(job).State != hpcsera.Running {
			t.Errorf("got %v and %s", got, l.row(job).State)
		}
	})
	t.Run("it was held by the restore", func(t *testing.T) {
		l, job := loses(t, "k")
		submit(l, func(s *hpcsera.JobSpec) { s.Hold = true })
		l.meets()
		if got := l.agent.send(l.tells(job, hpcsera.Running)); got[0] != hpcsera.Applied || l.row(job).State != hpcsera.Running || l.row(job).Desired != hpcsera.DesiredRun {
			t.Errorf("got %v and %s, wanted %s", got, l.row(job).State, l.row(job).Desired)
		}
	})
	t.Run("it was cancelled since", func(t *testing.T) {
		l, job := loses(t, "k")
		submit(l)
		if _, err := l.jobs.Cancel(t.Context(), l.alice, job); err != nil {
			t.Fatal(err)
		}
		l.meets()
		if got := l.agent.send(l.tells(job, hpcsera.Running)); got[0] != hpcsera.CalledOff || l.row(job).State != hpcsera.Cancelled {
			t.Errorf("got %v and %s", got, l.row(job).State)
		}
	})
	t.Run("it was cancelled before, and an agent was told", func(t *testing.T) {
		l, job := loses(t, "k")
		submit(l)
		l.meets()
		told := l.tells(job, hpcsera.Running, func(r *hpcsera.Report) { r.Desired, r.Revision = hpcsera.DesiredCancel, 2 })
		if got := l.agent.send(told); got[0] != hpcsera.Applied || l.row(job).Desired != hpcsera.DesiredCancel || l.row(job).CancelAt == nil {
			t.Errorf("got %v and wanted %s", got, l.row(job).Desired)
		}
	})
	t.Run("it is another one", func(t *testing.T) {
		l, job := loses(t, "k")
		other := hello()
		other.Script = "echo other\n"
		digest := l.file(l.alice, other, true)
		submit(l, func(s *hpcsera.JobSpec) { s.Code = digest })
		l.meets()
		got := l.agent.send(l.tells(job, hpcsera.Running))
		if j := l.row(job); got[0] != hpcsera.Illegal || j.State != hpcsera.Failed || !strings.Contains(j.Message, "new key") {
			t.Errorf("got %v and %s %q", got, j.State, j.Message)
		}
	})
	t.Run("it was meant for another site", func(t *testing.T) {
		l, job := loses(t, "k")
		other := l.agentOf("alice", "hlrs", "cfd")
		submit(l, func(s *hpcsera.JobSpec) { s.Site = "hlrs" })
		l.meets()
		if got := l.agent.send(l.tells(job, hpcsera.Running)); got[0] != hpcsera.Applied || l.row(job).State != hpcsera.Running || l.row(job).Site != "gwdg" {
			t.Errorf("got %v and %s at %s", got, l.row(job).State, l.row(job).Site)
		}
		expectOrders(t, "at the other site", other.work(10))
	})
}

// The first that could take a job in the lost hours need not be the first that
// can take it now.
func TestARepeatedRequestGoesNowhereElseBeforeAllHaveTold(t *testing.T) {
	l, job := loses(t, "k")
	l.write(func(tx store.Tx) error { _, err := tx.NewEpoch(l.clock()); return err })
	l.pass(time.Second)
	other := l.agentOf("alice", "hlrs", "cfd")
	submit := func(key string, sites ...string) (hpcsera.Job, error) {
		spec := hpcsera.JobSpec{Code: l.spec.Digest, RunPart: hpcsera.RunPart{Site: hpcsera.SitesOf(sites...)}}
		answer, err := l.jobs.Submit(t.Context(), l.alice, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{Key: key, Path: "/api/v1/jobs", BodySHA256: strings.Repeat("0", 64)})
		if err != nil {
			return hpcsera.Job{}, err
		}
		return jobOf(t, answer), nil
	}
	other.work(0)
	for _, sites := range [][]string{{"hlrs", "gwdg"}, {}} {
		_, err := submit("k", sites...)
		expect(t, "before the agent has told", err, hpcsera.Unavailable)
	}
	if j, err := submit("new", "hlrs"); err != nil || j.Site != "hlrs" {
		t.Errorf("one that names its site: got %s, %v", j.Site, err)
	}
	if answer := l.meets(); !answer.Replay {
		t.Fatalf("got %+v, want to be asked for the replay", answer)
	}
	_, err := submit("k", "hlrs", "gwdg")
	expect(t, "while it tells", err, hpcsera.Unavailable)
	l.agent.send(l.tells(job, hpcsera.Running))
	l.agent.epoch = l.epoch()
	l.agent.work(0)
	if j, err := submit("k", "hlrs", "gwdg"); err != nil || j.ID != job || j.Site != "gwdg" || j.State != hpcsera.Running {
		t.Errorf("afterwards: got %s %s at %s, %v, want the one that runs", j.ID, j.State, j.Site, err)
	}
	if j, err := submit("k2", "hlrs", "gwdg"); err != nil || j.Site != "hlrs" {
		t.Errorf("a new one: got %s, %v", j.Site, err)
	}
}

// What the database knows of a job may be older or newer than the journal.
func TestAnOrderIsTheLaterOneOfBothLives(t *testing.T) {
	for name, c := range map[string]struct {
		here, there   hpcsera.Desired
		hereR, thereR int64
		want          hpcsera.Desired
		news          bool // the agent gets another revision than it had
	}{
		"the same":                      {hpcsera.DesiredRun, hpcsera.DesiredRun, 1, 1, hpcsera.DesiredRun, false},
		"held in the lost hours":        {hpcsera.DesiredRun, hpcsera.DesiredHold, 1, 2, hpcsera.DesiredHold, false},
		"held since":                    {hpcsera.DesiredHold, hpcsera.DesiredRun, 2, 1, hpcsera.DesiredHold, true},
		"held here, released there":     {hpcsera.DesiredHold, hpcsera.DesiredRun, 2, 3, hpcsera.DesiredRun, false},
		"cancelled in the lost hours":   {hpcsera.DesiredHold, hpcsera.DesiredCancel, 4, 2, hpcsera.DesiredCancel, false},
		"cancelled since":               {hpcsera.DesiredCancel, hpcsera.DesiredHold, 2, 4, hpcsera.DesiredCancel, true},
		"held since, as often as there": {hpcsera.DesiredHold, hpcsera.DesiredRun, 3, 3, hpcsera.DesiredHold, true},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := loses(t, "k")
			job := l.submit(l.alice, hpcsera.JobSpec{Code: l.spec.Digest, RunPart: hpcsera.RunPart{Site: "gwdg"}})
			l.agent.epoch = l.epoch()
			l.spec = l.agent.work(1).Orders[0].Spec
			l.write(func(tx store.Tx) error {
				j, err := tx.Job(job.ID)
				if err != nil {
					return err
				}
				j.Desired, j.Revision = c.here, c.hereR
				return tx.UpdateJobs(j)
			})
			told := l.tells(job.ID, hpcsera.Staging, func(r *hpcsera.Report) { r.Desired, r.Revision = c.there, c.thereR })
			if got := l.agent.send(told); got[0] != hpcsera.Applied {
				t.Fatalf("got %v", got)
			}
			j := l.row(job.ID)
			if j.Desired != c.want || j.Revision < c.thereR || c.news != (j.Revision > c.thereR) && c.hereR <= c.thereR {
				t.Errorf("got %s in revision %d, want %s, after %d: %t", j.Desired, j.Revision, c.want, c.thereR, c.news)
			}
			if got := l.agent.work(1).Orders; len(got) != 1 || got[0].Desired != c.want {
				t.Errorf("the agent gets %+v", got)
			}
		})
	}
}

func TestAJournalCannotMakeJobsThatAreNotItsUsers(t *testing.T) {
	bobs := func(l lost) string { return l.ready(l.token("bob")).ID }
	for name, edit := range map[string]func(lost, *hpcsera.Report){
		"another user's":          func(_ lost, r *hpcsera.Report) { r.Spec.User = "bob" },
		"at another site":         func(_ lost, r *hpcsera.Report) { r.Spec.Site = "hlrs" },
		"in another project":      func(_ lost, r *hpcsera.Report) { r.Spec.Project = "melt" },
		"of an unknown client":    func(_ lost, r *hpcsera.Report) { r.Spec.Client = "nobody" },
		"of other code":           func(_ lost, r *hpcsera.Report) { r.Spec.Digest = "sha256:" + strings.Repeat("0", 64) },
		"that nobody signed":      func(_ lost, r *hpcsera.Report) { r.Spec.Statement = nil },
		"with a wrong signature":  func(_ lost, r *hpcsera.Report) { r.Spec.Signature = strings.Replace(r.Spec.Signature, "A", "B", 8) },
		"with an id that is none": func(_ lost, r *hpcsera.Report) { r.JobID = "../x" },
		"which another user has":  func(l lost, r *hpcsera.Report) { r.JobID = bobs(l) },
		"with a strange order":    func(_ lost, r *hpcsera.Report) { r.Desired = "explode" },
		"of before all time":      func(_ lost, r *hpcsera.Report) { r.Spec.Created = time.Time{} },
	} {
		t.Run(name, func(t *testing.T) {
			l, job := loses(t, "k")
			l.meets()
			r := l.tells(job, hpcsera.Running)
			if strings.Contains(name, "signature") { // else the approval is on file, and known
				l.write(func(tx store.Tx) error {
					return tx.PutApproval(store.Approval{Approval: hpcsera.Approval{ID: "ap_x", User: "alice", Project: "cfd"}})
				})
				st := strings.Replace(string(r.Spec.Statement), `"id":"ap_`, `"id":"ap_0`, 1)
				r.Spec.Statement = []byte(st)
			}
			edit(l, &r)
			if got := l.agent.send(r); got[0] != hpcsera.Illegal {
				t.Errorf("got %s, want it refused", got[0])
			}
			if strings.Contains(name, "another user has") {
				if j := l.row(r.JobID); j.User != "bob" || j.Agent != "" {
					t.Errorf("it is %s's and %q's now", j.User, j.Agent)
				}
				return
			}
			if _, err := l.jobs.Get(t.Context(), l.alice, job); hpcsera.CodeOf(err) != hpcsera.NotFound {
				t.Errorf("it was made: %v", err)
			}
		})
	}
}

// What an agent brings along is for the job that it has. It could otherwise
// decide what runs at other sites under a name.
func TestAnAdoptedApprovalCountsForItsJobAlone(t *testing.T) {
	l, job := loses(t, "k")
	l.meets()
	other := hello()
	other.Script = "echo other\n"
	part, err := other.Check()
	if err != nil {
		t.Fatal(err)
	}
	brought := l.signed(l.alice, other, hpcsera.RunPart{})
	r := l.tells(job, hpcsera.Running)
	r.Spec.Digest, r.Spec.Manifest, r.Spec.Statement, r.Spec.Signature = part.Digest, part.Canonical, brought.Statement, brought.Signature
	was := l.file(l.alice, hello(), false)
	if got := l.agent.send(r); got[0] != hpcsera.Applied {
		t.Fatalf("got %v", got)
	}
	if got := l.noted("code.adopt"); len(got) != 2 || got[0].Actor != "agent:"+l.agent.id || got[0].User != "alice" || got[0].About != part.Digest || got[1].About == "" {
		t.Errorf("the audit log has %+v, want the code and the approval by the agent", got)
	}
	l.agent.epoch = l.epoch()
	if orders := l.agent.work(0).Orders; len(orders) != 1 || orders[0].Spec == nil || string(orders[0].Spec.Statement) != string(brought.Statement) {
		t.Errorf("its order: got %+v", orders)
	}
	named := func(code string) hpcsera.Job {
		return l.submit(l.alice, hpcsera.JobSpec{Code: code, RunPart: hpcsera.RunPart{Site: "gwdg"}})
	}
	if got := named("hello"); got.Code.Digest != was {
		t.Errorf("the name means %s now, want %s", got.Code.Digest, was)
	}
	waiting := named(part.Digest)
	expectState(t, "another job of the code", waiting, hpcsera.Pending, hpcsera.WaitingForApproval)
	if _, err := l.code.FileApproval(t.Context(), l.alice, brought); err != nil {
		t.Fatal(err)
	}
	expectState(t, "when its owner has filed it", l.row(waiting.ID).Job, hpcsera.Pending, hpcsera.WaitingForAgent)
	if got := named("hello"); got.Code.Digest != part.Digest {
		t.Errorf("then the name means %s, want %s", got.Code.Digest, part.Digest)
	}
}

// A database that was put back by hand is noticed by what agents hold of ours.
func TestAnAuthenticCursorFromTheFutureBeginsAnEpoch(t *testing.T) {
	for name, c := range map[string]struct {
		term   int64 // beyond the agent's
		ahead  int64 // of the sequence
		epochs int64
		begins bool
	}{
		"of now":              {0, 0, 0, false},
		"orders to come":      {0, 1 << 40, 0, true},
		"a term to come":      {3, 0, 0, true},
		"an epoch to come":    {0, 0, 5, true},
		"an epoch that is no": {0, 1 << 40, -5, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ready(w.token("alice"))
			a := w.agentOf("alice", "gwdg", "cfd")
			a.work(1)
			before, last := w.epoch(), w.last()
			r := a.request(1)
			r.Term += c.term
			r.Acked = w.jobs.CursorAt(a.id, before+c.epochs, last+c.ahead, r.Term)
			_, err := w.jobs.Work(t.Context(), a.principal(), a.id, r)
			if began := w.epoch() > before; began != c.begins || began != (hpcsera.CodeOf(err) == hpcsera.Conflict) {
				t.Fatalf("got %v and the epoch %d after %d", err, w.epoch(), before)
			}
			if !c.begins {
				return
			}
			if w.last() < last+store.Lift || w.epoch() <= before+c.epochs {
				t.Errorf("the sequence is at %d after %d, the epoch %d", w.last(), last, w.epoch())
			}
			again := w.epoch()
			if _, err := w.jobs.Work(t.Context(), a.principal(), a.id, r); hpcsera.CodeOf(err) != hpcsera.Conflict || w.epoch() != again {
				t.Errorf("once more: %v, epoch %d after %d", err, w.epoch(), again)
			}
			r.Term, r.Instance, r.Takeover = 0, hpcsera.NewID("i"), r.Instance
			answer, err := w.jobs.Work(t.Context(), a.principal(), a.id, r)
			if err != nil || !answer.Replay {
				t.Errorf("the next instance: %+v, %v, want to be asked for the replay", answer, err)
			}
		})
	}
}
