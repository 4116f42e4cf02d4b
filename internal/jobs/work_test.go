package jobs_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

func ids(orders []hpcsera.Order) (list []string) {
	for _, o := range orders {
		list = append(list, o.JobID)
	}
	return list
}

func expectOrders(t *testing.T, name string, answer hpcsera.WorkAnswer, want ...string) {
	t.Helper()
	if got := ids(answer.Orders); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: got orders for %v, want %v", name, got, want)
	}
}

func TestOnlyTheAgentsOwnCredentialAsksForWork(t *testing.T) {
	w := newWorld(t)
	a, b := w.agentOf("alice", "gwdg", "cfd"), w.agentOf("bob", "gwdg", "cfd")
	_, err := w.jobs.Work(t.Context(), b.principal(), a.id, a.request(1))
	expect(t, "another agent", err, hpcsera.NotFound)
	_, err = w.jobs.Work(t.Context(), w.token("alice"), a.id, a.request(1))
	expect(t, "a token of its owner", err, hpcsera.NotFound)
	_, err = w.jobs.Reports(t.Context(), b.principal(), a.id, hpcsera.ReportRequest{})
	expect(t, "another agent's reports", err, hpcsera.NotFound)
	for name, edit := range map[string]func(*hpcsera.WorkRequest){
		"no instance":   func(r *hpcsera.WorkRequest) { r.Instance = "" },
		"negative free": func(r *hpcsera.WorkRequest) { r.Free = -1 },
		"negative wait": func(r *hpcsera.WorkRequest) { r.Wait = -1 },
		"too long":      func(r *hpcsera.WorkRequest) { r.Wait = 61 },
		"negative term": func(r *hpcsera.WorkRequest) { r.Term = -1 },
	} {
		r := a.request(1)
		edit(&r)
		_, err := w.jobs.Work(t.Context(), a.principal(), a.id, r)
		expect(t, name, err, hpcsera.InvalidField)
	}
}

func TestAnAgentGetsOnlyItsOwnUsersJobsOfItsProjects(t *testing.T) {
	w := newWorld(t)
	w.ready(w.token("bob"))
	w.ready(w.token("alice", inProject("melt")))
	alice := w.token("alice")
	elsewhere := w.submit(alice, hpcsera.JobSpec{Code: w.file(alice, hello(), true), RunPart: hpcsera.RunPart{Site: "hlrs"}})
	mine := w.ready(alice)
	a := w.agentOf("alice", "gwdg", "cfd")
	expectOrders(t, "at gwdg", a.work(10), mine.ID)
	expectOrders(t, "at hlrs", w.agentOf("alice", "hlrs", "cfd").work(10), elsewhere.ID)
}

func TestALostAnswerIsRepeatedWhole(t *testing.T) {
	w := newWorld(t)
	one := w.ready(w.token("alice"))
	a := w.agentOf("alice", "gwdg", "cfd")
	first, err := a.poll(1)
	if err != nil {
		t.Fatal(err)
	}
	expectOrders(t, "first", first, one.ID)
	if first.Orders[0].Spec == nil || first.Orders[0].Spec.Digest != one.Code.Digest || hpcsera.DigestOf(first.Orders[0].Spec.Manifest) != one.Code.Digest {
		t.Fatalf("spec: got %+v", first.Orders[0].Spec)
	}
	two := w.ready(w.token("alice"))
	again, err := a.poll(1)
	if err != nil {
		t.Fatal(err)
	}
	expectOrders(t, "again, without room for more", again, one.ID)
	if again.Orders[0].Spec == nil {
		t.Error("again: the spec is missing")
	}
	a.acked = again.Cursor
	expectOrders(t, "after the acknowledgement", a.work(1), two.ID)
	expectOrders(t, "with everything acknowledged", a.work(1))
	row := w.row(one.ID)
	if row.Agent != a.id || row.Times.Delivered == nil {
		t.Errorf("delivered: got agent %q at %v", row.Agent, row.Times.Delivered)
	}
}

func TestOrdersOfAnAcknowledgedJobComeWithoutItsSpec(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.ready(alice)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	if _, err := w.jobs.Cancel(t.Context(), alice, j.ID); err != nil {
		t.Fatal(err)
	}
	answer := a.work(0)
	expectOrders(t, "the cancel, with no room for jobs", answer, j.ID)
	o := answer.Orders[0]
	if o.Desired != hpcsera.DesiredCancel || o.Revision != 2 || o.Spec != nil {
		t.Errorf("got %+v, want cancel, revision 2, no spec", o)
	}
	// An agent that lost its journal asks from the beginning.
	a.acked = ""
	answer = a.work(0)
	expectOrders(t, "from the beginning", answer, j.ID)
	if answer.Orders[0].Spec == nil {
		t.Error("from the beginning: the spec is missing")
	}
}

func TestRoomLimitsNewJobs(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	for range 5 {
		w.ready(alice)
	}
	a := w.agentOf("alice", "gwdg", "cfd")
	for i, want := range []int{0, 2, 3, 0} {
		free := []int{0, 2, 10, 10}[i]
		if got := len(a.work(free).Orders); got != want {
			t.Errorf("poll %d with room for %d: got %d jobs, want %d", i, free, got, want)
		}
	}
}

// However many jobs an answer is about, it says a code and its approval once.
func TestAnAnswerSaysOnceWhatItsJobsShare(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	other := hello()
	other.Script += "\n# another"
	one, two := w.ready(alice), w.submit(alice, hpcsera.JobSpec{Code: w.file(alice, other, true), RunPart: hpcsera.RunPart{Site: "gwdg"}})
	three := w.ready(alice)
	answer := w.agentOf("alice", "gwdg", "cfd").work(10)
	expectOrders(t, "new jobs", answer, one.ID, two.ID, three.ID)
	if first, last := answer.Orders[0].Spec, answer.Orders[2].Spec; last.Like != one.ID || last.Manifest != nil || last.Statement != nil || last.Signature != "" || first.Like != "" {
		t.Errorf("got %+v, want it to say only that it is like the first, %+v", last, first)
	}
	if err := answer.Complete(); err != nil {
		t.Fatal(err)
	}
	for _, o := range answer.Orders {
		if o.Spec.Like != "" || hpcsera.DigestOf(o.Spec.Manifest) != o.Spec.Digest || len(o.Spec.Statement) == 0 || o.Spec.Signature == "" {
			t.Errorf("complete: got %+v, want its own manifest, statement and signature", o.Spec)
		}
	}
}

func TestADisabledSiteGetsNoNewJobs(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	first := w.ready(alice)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	w.write(func(tx store.Tx) error { return tx.UpdateSite(hpcsera.Site{Name: "gwdg", Disabled: true}) })
	second := w.ready(alice)
	expectOrders(t, "disabled", a.work(10))
	if got := a.send(a.report(first.ID, hpcsera.Running)); got[0] != hpcsera.Applied {
		t.Errorf("a report: got %v, want applied", got)
	}
	w.write(func(tx store.Tx) error { return tx.UpdateSite(hpcsera.Site{Name: "gwdg"}) })
	expectOrders(t, "enabled", a.work(10), second.ID)
}

func TestALongPollEndsWithTheFirstJob(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(0)
	r := a.request(10)
	r.Wait = 60
	type result struct {
		answer hpcsera.WorkAnswer
		err    error
	}
	done := make(chan result, 1)
	p := a.principal()
	go func() {
		answer, err := w.jobs.Work(context.Background(), p, a.id, r)
		done <- result{answer, err}
	}()
	j := w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}})
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	expectOrders(t, "the poll", got.answer, j.ID)
}

func TestAStoppingServerTellsPollsToComeBack(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(0)
	r := a.request(10)
	r.Wait = 60
	done := make(chan hpcsera.WorkAnswer, 1)
	p := a.principal()
	go func() {
		answer, err := w.jobs.Work(context.Background(), p, a.id, r)
		if err != nil {
			t.Error(err)
		}
		done <- answer
	}()
	close(w.stop)
	if got := <-done; !got.Stopping || got.Cursor == "" || got.Term != a.term {
		t.Errorf("got %+v, want stopping with a cursor and the term", got)
	}
}

func TestAnIdlePollWritesNothing(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(10)
	before := w.lastSeq()
	for range 3 {
		a.work(10)
	}
	if got := w.lastSeq(); got != before {
		t.Errorf("seq: got %d, want %d", got, before)
	}
}

func (w *world) lastSeq() (seq int64) {
	w.t.Helper()
	if err := w.store.Read(w.t.Context(), func(r store.Reader) (err error) {
		seq, err = r.LastSeq()
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return seq
}

func TestATermHasOneHolder(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	if a.term != 1 {
		t.Fatalf("first term: got %d, want 1", a.term)
	}
	rival := *a
	rival.instance, rival.term, rival.host = hpcsera.NewID("i"), 0, "login2"
	_, err := rival.poll(1)
	expect(t, "a second instance", err, hpcsera.AgentActive)
	if err == nil || !strings.Contains(err.Error(), "login1") {
		t.Errorf("a second instance: got %v, want the first one's host", err)
	}
	rival.takeover = a.instance
	_, err = rival.poll(1)
	expect(t, "a takeover from another host", err, hpcsera.AgentActive)
	rival.host, rival.takeover = "login1", hpcsera.NewID("i")
	_, err = rival.poll(1)
	expect(t, "a takeover of somebody else", err, hpcsera.AgentActive)
	rival.takeover = a.instance
	if _, err = rival.poll(1); err != nil || rival.term != 2 {
		t.Errorf("a takeover on the same host: got term %d (%v), want 2", rival.term, err)
	}
	_, err = a.poll(1)
	expect(t, "the old holder's work", err, hpcsera.StaleTerm)
	_, err = w.jobs.Reports(t.Context(), a.principal(), a.id, hpcsera.ReportRequest{Instance: a.instance, Term: a.term, Epoch: a.epoch})
	expect(t, "the old holder's reports", err, hpcsera.StaleTerm)
	a.term = 0
	_, err = a.poll(1)
	expect(t, "the old holder, as if it were new", err, hpcsera.AgentActive)
}

func TestASilentHolderLosesTheTermAfter90Seconds(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	rival := *a
	rival.instance, rival.term, rival.host = hpcsera.NewID("i"), 0, "login2"
	w.pass(89 * time.Second)
	_, err := rival.poll(1)
	expect(t, "after 89 s", err, hpcsera.AgentActive)
	// A server that was down itself has seen nobody, so it counts anew.
	w.pass(time.Second)
	rival.jobs = w.replica()
	_, err = rival.poll(1)
	expect(t, "after 90 s, at a server just started", err, hpcsera.AgentActive)
	rival.jobs = w.jobs
	if _, err = rival.poll(1); err != nil || rival.term != 2 {
		t.Errorf("after 90 s: got term %d (%v), want 2", rival.term, err)
	}
}

func TestAHolderThatStopsGivesTheTermBack(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	r := a.request(1)
	r.Stopping = true
	for range 2 { // the first answer may be lost
		if _, err := w.jobs.Work(t.Context(), a.principal(), a.id, r); err != nil {
			t.Fatal(err)
		}
	}
	next := *a
	next.instance, next.term, next.host = hpcsera.NewID("i"), 0, "login2"
	if _, err := next.poll(1); err != nil || next.term != 2 {
		t.Errorf("the next one: got term %d (%v), want 2", next.term, err)
	}
	_, err := w.jobs.Work(t.Context(), a.principal(), a.id, r)
	expect(t, "stopping again", err, hpcsera.StaleTerm)
}

func TestALostGrantIsRepeated(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	a.term = 0 // the answer never came
	if _, err := a.poll(1); err != nil || a.term != 1 {
		t.Errorf("got term %d (%v), want 1", a.term, err)
	}
}

func TestACursorThatIsNotOursCountsAsNone(t *testing.T) {
	w := newWorld(t)
	j := w.ready(w.token("alice"))
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	other := w.jobs.Cursor("ag_00000000000000000001", a.epoch, 1<<40)
	older := w.jobs.Cursor(a.id, a.epoch-1, 1<<40) // of before a restore
	for _, cursor := range []string{"x", other, older, strings.Repeat("A", 43), a.acked[:len(a.acked)-2] + "AA"} {
		a.acked = cursor
		answer, err := a.poll(0)
		if err != nil {
			t.Fatal(err)
		}
		expectOrders(t, cursor, answer, j.ID)
	}
}

func TestAJobWaitsWhenItsApprovalIsNotForThisKeyOrEnded(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), false)
	w.approve(alice, hello(), hpcsera.RunPart{}, func(o *approval.Options) { o.Agents = []string{strings.Repeat("B", 43)} })
	w.approve(alice, hello(), hpcsera.RunPart{}, func(o *approval.Options) { o.Validity = time.Hour })
	a := w.agentOf("alice", "gwdg", "cfd")
	ended := w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}})
	w.pass(2 * time.Hour)
	expectOrders(t, "one for another key, one at its end", a.work(10))
	j, err := w.jobs.Get(t.Context(), alice, ended.ID)
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "the job", j, hpcsera.Pending, hpcsera.WaitingForApproval)
	if !strings.Contains(j.Message, thumb) {
		t.Errorf("message: got %q, want the agent's thumbprint", j.Message)
	}
	w.approve(alice, hello(), hpcsera.RunPart{})
	expectOrders(t, "after a new approval", a.work(10), ended.ID)
}

func TestHugeOrdersComeInParts(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	big := hello()
	big.Script = "#" + strings.Repeat("x", 3<<20) + "\ntrue\n"
	digest := w.file(alice, big, true)
	var want []string
	for range 7 {
		want = append(want, w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}).ID)
	}
	a := w.agentOf("alice", "gwdg", "cfd")
	var got []string
	for range 7 {
		answer := a.work(100)
		if text, err := json.Marshal(answer); err != nil || len(text) > 16<<20 {
			t.Errorf("an answer has %d bytes (%v)", len(text), err)
		}
		got = append(got, ids(answer.Orders)...)
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestAnOrderThatChangesBeforeItsJobWasHeardOfBringsTheSpec(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	one, two := w.ready(alice), w.ready(alice)
	a := w.agentOf("alice", "gwdg", "cfd")
	if _, err := a.poll(2); err != nil { // its answer is lost
		t.Fatal(err)
	}
	for _, id := range []string{one.ID, two.ID} {
		if _, err := w.jobs.Cancel(t.Context(), alice, id); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range a.work(0).Orders {
		if o.Spec == nil || o.Desired != hpcsera.DesiredCancel {
			t.Errorf("%s: got %s, spec %v, want cancel with the spec", o.JobID, o.Desired, o.Spec)
		}
	}
}

// The same when the orders do not fit into one answer.
func TestAnOrderThatChangesBetweenPartsBringsTheSpec(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	big := hello()
	big.Script = "#" + strings.Repeat("x", 5<<20) + "\ntrue\n"
	digest := w.file(alice, big, true)
	var all []string
	for range 4 {
		all = append(all, w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}).ID)
	}
	a := w.agentOf("alice", "gwdg", "cfd")
	if _, err := a.poll(4); err != nil { // its answer is lost
		t.Fatal(err)
	}
	if _, err := w.jobs.Cancel(t.Context(), alice, all[0]); err != nil {
		t.Fatal(err)
	}
	specs := map[string]bool{}
	for range 4 {
		answer := a.work(0)
		if len(answer.Orders) > 2 {
			t.Fatalf("got %d orders at once; this test needs parts", len(answer.Orders))
		}
		for _, o := range answer.Orders {
			specs[o.JobID] = specs[o.JobID] || o.Spec != nil
			if !specs[o.JobID] {
				t.Errorf("%s came without its spec", o.JobID)
			}
		}
	}
	if got := a.work(0).Orders; len(got) != 0 || len(specs) != len(all) {
		t.Errorf("got %d jobs and %d orders left over, want %d and 0", len(specs), len(got), len(all))
	}
}

func TestSightingsAreTheHoldersOnly(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.ready(alice)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	warned := func() bool {
		t.Helper()
		j, err := w.jobs.Get(t.Context(), alice, j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if j.State != hpcsera.Pending {
			t.Errorf("state: got %s, want pending", j.State)
		}
		return len(j.Warnings) > 0
	}
	if warned() {
		t.Error("just seen: got a warning")
	}
	w.pass(80 * time.Second)
	rival := *a
	rival.instance, rival.term = hpcsera.NewID("i"), 0
	_, err := rival.poll(1)
	expect(t, "a rival", err, hpcsera.AgentActive)
	w.pass(41 * time.Second)
	if !warned() {
		t.Error("after 121 s: got no warning; a refused rival must not count as the agent")
	}
	a.work(1)
	if warned() {
		t.Error("seen again: got a warning")
	}
	list, err := w.jobs.List(t.Context(), alice, jobs.ListQuery{})
	if err != nil || len(list.Jobs) != 1 || len(list.Jobs[0].Warnings) != 0 {
		t.Errorf("list: got %+v (%v)", list.Jobs, err)
	}
}
