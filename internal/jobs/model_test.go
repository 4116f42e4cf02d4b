package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

// TestNothingIsLostWhateverIsLost drives the server with a model of a user, an
// agent and its batch system, in random order: answers are lost before or
// after they took effect, reports come twice and in another order, agent and
// server restart. What it asserts is in model.check and model.settle.
func TestNothingIsLostWhateverIsLost(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	w.file(alice, hello(), false)
	w.approve(alice, hello(), hpcsera.RunPart{Requeue: true})
	rapid.Check(t, func(rt *rapid.T) {
		// Each run has its own site's worth of jobs: a user of its own.
		m := newModel(t.Context(), w, rt)
		rt.Repeat(map[string]func(*rapid.T){
			"submit":  m.submit,
			"cancel":  m.cancel,
			"hold":    m.hold,
			"work":    m.work,
			"act":     m.act,
			"send":    m.send,
			"rival":   m.rival,
			"restart": m.restart,
			"":        m.check,
		})
		m.settle(rt)
	})
}

// local is what the agent's journal and the batch system know of a job.
type local struct {
	revision int64
	desired  hpcsera.Desired
	state    hpcsera.State
	attempt  int
	requeue  bool
}

type model struct {
	ctx   context.Context
	w     *world
	jobs  *jobs.Service
	alice *auth.Principal
	agent *agentWorld

	ids       []string
	cancelled map[string]bool // accepted before the job's end
	journal   map[string]*local
	outbox    []hpcsera.Report
	finals    map[string]hpcsera.State
}

func newModel(ctx context.Context, w *world, rt *rapid.T) *model {
	user := fmt.Sprintf("u%d", rapid.Uint64().Draw(rt, "user"))
	w.write(func(tx store.Tx) error {
		if _, err := tx.User(user); err == nil {
			return nil
		}
		if err := tx.InsertUser(hpcsera.User{Name: user, Created: w.clock()}); err != nil {
			return err
		}
		return tx.SetMember("cfd", user, hpcsera.Member)
	})
	m := &model{
		ctx: ctx, w: w, jobs: w.jobs, alice: w.token(user), agent: w.agentOf(user, "gwdg", "cfd"),
		cancelled: map[string]bool{}, journal: map[string]*local{}, finals: map[string]hpcsera.State{},
	}
	w.approve(m.alice, hello(), hpcsera.RunPart{Requeue: true})
	return m
}

func (m *model) submit(rt *rapid.T) {
	spec := hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{
		Site: "gwdg", Requeue: rapid.Bool().Draw(rt, "requeue"), Hold: rapid.IntRange(0, 4).Draw(rt, "hold") == 0,
	}}
	if len(m.ids) > 0 && rapid.IntRange(0, 3).Draw(rt, "depends") == 0 {
		spec.Dependencies = []hpcsera.Dependency{{Job: rapid.SampledFrom(m.ids).Draw(rt, "on"), State: hpcsera.Succeeded}}
	}
	key := jobs.Idempotency{Key: hpcsera.NewID("j"), Path: "/api/v1/jobs", BodySHA256: "aa"}
	var id string
	for range rapid.IntRange(1, 2).Draw(rt, "tries") { // the first answer may be lost
		answer, err := m.jobs.Submit(m.ctx, m.alice, []hpcsera.JobSpec{spec}, false, key)
		if err != nil {
			rt.Fatalf("submit: %v", err)
		}
		if again := jobOf(m.w.t, answer).ID; id != "" && again != id {
			rt.Fatalf("the same key made %s and %s", id, again)
		} else {
			id = again
		}
	}
	m.ids = append(m.ids, id)
}

func (m *model) pick(rt *rapid.T) string {
	if len(m.ids) == 0 {
		rt.Skip("no job yet")
	}
	return rapid.SampledFrom(m.ids).Draw(rt, "job")
}

func (m *model) cancel(rt *rapid.T) {
	id := m.pick(rt)
	before := m.w.row(id)
	got, err := m.jobs.Cancel(m.ctx, m.alice, id)
	if err != nil {
		rt.Fatalf("cancel: %v", err)
	}
	switch {
	case before.State.Final():
	case before.Delivered == 0:
		if got.State != hpcsera.Cancelled {
			rt.Fatalf("cancel of a job that nobody has: got %s", got.State)
		}
	default:
		m.cancelled[id] = true
	}
}

func (m *model) hold(rt *rapid.T) {
	id := m.pick(rt)
	on := rapid.Bool().Draw(rt, "on")
	_, err := m.jobs.Patch(m.ctx, m.alice, id, hpcsera.JobPatch{Hold: &on})
	if code := hpcsera.CodeOf(err); code != "" && code != hpcsera.JobFinal && code != hpcsera.Conflict {
		rt.Fatalf("hold: %v", err)
	}
}

// work polls; a lost answer is not journalled, so it is not acknowledged.
func (m *model) work(rt *rapid.T) {
	if rapid.IntRange(0, 9).Draw(rt, "forget the cursor") == 0 {
		m.agent.acked = ""
	}
	m.poll(rt, rapid.IntRange(0, 3).Draw(rt, "free"), rapid.Bool().Draw(rt, "lost"))
}

func (m *model) poll(rt *rapid.T, free int, lost bool) int {
	answer, err := m.agent.poll(free)
	if err != nil {
		rt.Fatalf("work: %v", err)
	}
	if lost {
		return len(answer.Orders)
	}
	for _, o := range answer.Orders {
		j := m.journal[o.JobID]
		if j == nil {
			if o.Spec == nil {
				rt.Fatalf("a first order of %s without its spec", o.JobID)
			}
			j = &local{state: hpcsera.Pending, attempt: 1, requeue: o.Spec.Run.Requeue}
			m.journal[o.JobID] = j
		}
		if o.Revision > j.revision {
			j.revision, j.desired = o.Revision, o.Desired
		}
	}
	m.agent.acked = answer.Cursor
	return len(answer.Orders)
}

// act lets the agent or the batch system do one thing with one job.
func (m *model) act(rt *rapid.T) {
	var open []string
	for _, id := range m.ids {
		if j := m.journal[id]; j != nil && !j.state.Final() {
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		rt.Skip("nothing to do")
	}
	id := rapid.SampledFrom(open).Draw(rt, "job")
	m.step(id, rapid.IntRange(0, 3).Draw(rt, "luck"))
}

func (m *model) step(id string, luck int) {
	j := m.journal[id]
	switch {
	case j.desired == hpcsera.DesiredCancel && !(j.state == hpcsera.Running && luck == 0):
		j.state = hpcsera.Cancelled
	case j.desired == hpcsera.DesiredHold && (j.state == hpcsera.Pending || j.state == hpcsera.Queued):
		j.state = hpcsera.Held
	case j.desired == hpcsera.DesiredHold && j.state == hpcsera.Held:
		return
	case j.state == hpcsera.Held || j.state == hpcsera.Pending:
		j.state = hpcsera.Queued
	case j.state == hpcsera.Queued:
		j.state = hpcsera.Running
	case j.requeue && luck == 1 && j.attempt < 4:
		j.state, j.attempt = hpcsera.Queued, j.attempt+1
	case luck == 2:
		j.state = hpcsera.Failed
	default:
		j.state = hpcsera.Succeeded
	}
	m.outbox = append(m.outbox, m.agent.report(id, j.state, attempt(j.attempt)))
}

// send reports some of what is in the outbox, perhaps out of order, and
// perhaps without hearing of it.
func (m *model) send(rt *rapid.T) {
	if len(m.outbox) == 0 {
		rt.Skip("nothing to report")
	}
	batch := slices.Clone(m.outbox)
	if rapid.IntRange(0, 3).Draw(rt, "shuffle") == 0 {
		batch = rapid.Permutation(batch).Draw(rt, "order")
	}
	batch = batch[:rapid.IntRange(1, len(batch)).Draw(rt, "many")]
	m.deliver(rt, batch, rapid.Bool().Draw(rt, "answer lost"))
}

func (m *model) deliver(rt *rapid.T, batch []hpcsera.Report, lost bool) {
	answer, err := m.agent.jobs.Reports(m.ctx, m.agent.principal(), m.agent.id, hpcsera.ReportRequest{Instance: m.agent.instance, Term: m.agent.term, Epoch: m.agent.epoch, Acked: m.agent.acked, Reports: batch})
	if hpcsera.CodeOf(err) == hpcsera.StaleTerm && m.agent.term == 0 {
		return // restarted, and no work yet
	}
	if err != nil {
		rt.Fatalf("reports: %v", err)
	}
	for i, o := range answer.Outcomes {
		if o == hpcsera.Illegal || o == hpcsera.UnknownJob {
			rt.Fatalf("report %+v: %s", batch[i], o)
		}
	}
	if lost {
		return
	}
	m.outbox = slices.DeleteFunc(m.outbox, func(r hpcsera.Report) bool {
		return slices.ContainsFunc(batch, func(b hpcsera.Report) bool { return b.Seq == r.Seq })
	})
}

// rival is another process with the agent's key: it never gets anything.
func (m *model) rival(rt *rapid.T) {
	if m.agent.term == 0 {
		rt.Skip("nobody has the term")
	}
	other := *m.agent
	other.instance, other.term = hpcsera.NewID("i"), 0
	if _, err := other.poll(3); hpcsera.CodeOf(err) != hpcsera.AgentActive {
		rt.Fatalf("a rival: got %v, want agent_active", err)
	}
}

// restart kills the agent or the server; the journal stays.
func (m *model) restart(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "server") {
		m.jobs = m.w.replica()
		m.agent.jobs = m.jobs
		return
	}
	m.agent.takeover, m.agent.instance, m.agent.term = m.agent.instance, hpcsera.NewID("i"), 0
	m.poll(rt, 0, false) // nothing is done before one successful work
}

// check reads every job's whole history: each step is legal, numbers rise, a
// final state stays.
func (m *model) check(rt *rapid.T) {
	for _, id := range m.ids {
		list, err := m.jobs.Events(m.ctx, m.alice, jobs.EventQuery{Job: id})
		if err != nil {
			rt.Fatalf("events: %v", err)
		}
		requeue := m.w.row(id).Requeue
		var at hpcsera.Position
		seq := int64(0)
		for i, e := range list.Events {
			to := hpcsera.Position{State: e.State, Attempt: e.Attempt}
			if e.Seq <= seq {
				rt.Fatalf("%s: seq %d after %d", id, e.Seq, seq)
			}
			if i > 0 && !hpcsera.CanFollow(at, to, requeue) && !(at == to && at.State.Final()) {
				rt.Fatalf("%s: %+v after %+v", id, to, at)
			}
			at, seq = to, e.Seq
		}
		row := m.w.row(id)
		if row.State != at.State || row.Version != seq {
			rt.Fatalf("%s: the job is %s at %d, its last event %s at %d", id, row.State, row.Version, at.State, seq)
		}
		if was, ended := m.finals[id]; ended && was != row.State {
			rt.Fatalf("%s: was %s, is %s", id, was, row.State)
		}
		if row.State.Final() {
			m.finals[id] = row.State
		}
		if row.Delivered == 0 && m.journal[id] != nil {
			rt.Fatalf("%s: the agent has it, the server says that nobody has", id)
		}
	}
}

// settle lets everything arrive and everything end, and compares both sides.
func (m *model) settle(rt *rapid.T) {
	for m.poll(rt, 1000, false) > 0 {
	}
	for _, id := range m.ids {
		row, j := m.w.row(id), m.journal[id]
		switch {
		case row.Delivered == 0:
		case j == nil:
			rt.Fatalf("%s: delivered at %d, and the agent never heard of it", id, row.Delivered)
		case !row.State.Final() && (j.revision != row.Revision || j.desired != row.Desired):
			rt.Fatalf("%s: an order was lost: the agent has %s (%d), the server wants %s (%d)", id, j.desired, j.revision, row.Desired, row.Revision)
		}
	}
	for id, j := range m.journal {
		for !j.state.Final() && !(j.state == hpcsera.Held && j.desired == hpcsera.DesiredHold) {
			m.step(id, 3)
		}
	}
	for len(m.outbox) > 0 {
		m.deliver(rt, slices.Clone(m.outbox[:min(len(m.outbox), 1000)]), false)
	}
	m.check(rt)
	for id, j := range m.journal {
		row := m.w.row(id)
		if row.State != j.state || row.Attempt != j.attempt {
			rt.Fatalf("%s: the agent says %s (%d), the server %s (%d)", id, j.state, j.attempt, row.State, row.Attempt)
		}
		// Whoever was cancelled has ended: by that, or by its own end, which the
		// batch system may have reached before.
		if m.cancelled[id] && !j.state.Final() {
			rt.Fatalf("%s: cancel was accepted, and it is %s", id, j.state)
		}
	}
}
