package jobs_test

import (
	"encoding/json"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/jobs"
)

func hold(yes bool) hpcsera.JobPatch { return hpcsera.JobPatch{Hold: &yes} }

func TestWhoMayNotChangeAJobChangesNothing(t *testing.T) {
	w := newWorld(t)
	j := w.ready(w.token("alice"))
	values := hpcsera.Values{"n": json.RawMessage("5")}
	for _, c := range []struct {
		name string
		p    *auth.Principal
		want hpcsera.Code
	}{
		{"without the roles", w.token("alice", roles(1)), hpcsera.Forbidden},
		{"another client", w.token("alice", client("flowable")), hpcsera.NotFound},
		{"another project", w.token("alice", inProject("melt"), wholeProject), hpcsera.NotFound},
		{"another site", w.token("alice", atSite("hlrs")), hpcsera.NotFound},
		{"another member", w.token("bob"), hpcsera.Forbidden},
		{"a viewer", w.token("carol"), hpcsera.Forbidden},
		{"an agent", w.agentOf("alice", "gwdg", "cfd").principal(), hpcsera.NotFound},
	} {
		_, err := w.jobs.Patch(t.Context(), c.p, j.ID, hold(true))
		expect(t, c.name+" holds", err, c.want)
		_, err = w.jobs.Cancel(t.Context(), c.p, j.ID)
		expect(t, c.name+" cancels", err, c.want)
		expect(t, c.name+" erases", w.jobs.Purge(t.Context(), c.p, j.ID), c.want)
		_, err = w.jobs.Annotate(t.Context(), c.p, j.ID, hpcsera.JobStatus{})
		expect(t, c.name+" annotates", err, c.want)
	}
	_, err := w.jobs.Patch(t.Context(), w.token("alice", roles(7)), j.ID, hpcsera.JobPatch{Values: &values})
	expect(t, "values without role 6", err, hpcsera.Forbidden)
	if got := w.row(j.ID); got.Version != j.Version {
		t.Errorf("version: got %d, want %d", got.Version, j.Version)
	}
	if _, err := w.jobs.Cancel(t.Context(), w.token("dora"), j.ID); err != nil {
		t.Errorf("the project's owner: got %v, want nil", err)
	}
}

func TestAJobThatNobodyHasIsHeldByTheServer(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.ready(alice)
	a := w.agentOf("alice", "gwdg", "cfd")
	held, err := w.jobs.Patch(t.Context(), alice, j.ID, hold(true))
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "held", held, hpcsera.Held, "")
	expectOrders(t, "held", a.work(10))
	free, err := w.jobs.Patch(t.Context(), alice, j.ID, hold(false))
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "released", free, hpcsera.Pending, hpcsera.WaitingForAgent)
	expectOrders(t, "released", a.work(10), j.ID)
}

func TestAJobIsHeldFromTheBeginning(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.submit(alice, hpcsera.JobSpec{Manifest: hello(), RunPart: hpcsera.RunPart{Site: "gwdg", Hold: true}})
	expectState(t, "at first", j, hpcsera.Held, "")
	w.approve(alice, hello(), hpcsera.RunPart{})
	expectState(t, "approved meanwhile", w.row(j.ID).Job, hpcsera.Held, "")
	free, err := w.jobs.Patch(t.Context(), alice, j.ID, hold(false))
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "released", free, hpcsera.Pending, hpcsera.WaitingForAgent)
}

func TestHoldAndReleaseOfATakenJobAreOrders(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	alice := w.token("alice")
	for i, want := range []hpcsera.Desired{hpcsera.DesiredHold, hpcsera.DesiredRun} {
		got, err := w.jobs.Patch(t.Context(), alice, j.ID, hold(want == hpcsera.DesiredHold))
		if err != nil {
			t.Fatal(err)
		}
		expectState(t, "before the agent did it", got, hpcsera.Pending, "")
		answer := a.work(10)
		expectOrders(t, string(want), answer, j.ID)
		if o := answer.Orders[0]; o.Desired != want || o.Revision != int64(i+2) {
			t.Errorf("got %s, revision %d, want %s, %d", o.Desired, o.Revision, want, i+2)
		}
	}
	a.send(a.report(j.ID, hpcsera.Running))
	_, err := w.jobs.Patch(t.Context(), alice, j.ID, hold(true))
	expect(t, "while it runs", err, hpcsera.Conflict)
	if _, err := w.jobs.Cancel(t.Context(), alice, j.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.jobs.Patch(t.Context(), alice, j.ID, hold(true))
	expect(t, "while it is being cancelled", err, hpcsera.Conflict)
	a.send(a.report(j.ID, hpcsera.Cancelled))
	_, err = w.jobs.Patch(t.Context(), alice, j.ID, hold(false))
	expect(t, "after its end", err, hpcsera.JobFinal)
}

func TestFieldsChangeOnlyBeforeAnAgentHasTheJob(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.ready(alice)
	labels, notes := map[string]string{"a": "b"}, map[string]string{"c": "d"}
	values, resources := hpcsera.Values{"n": json.RawMessage("5")}, hpcsera.Resources{NodeCount: 2}
	patch := hpcsera.JobPatch{Labels: &labels, Annotations: &notes, Values: &values, Resources: &resources}
	got, err := w.jobs.Patch(t.Context(), alice, j.ID, patch)
	if err != nil {
		t.Fatal(err)
	}
	if got.Labels["a"] != "b" || got.Annotation["c"] != "d" || string(got.Values["n"]) != "5" || got.Resources.NodeCount != 2 || got.Version <= j.Version {
		t.Errorf("got %+v", got)
	}
	row := w.row(j.ID)
	if row.Run.Resources.NodeCount != 2 || string(row.Run.Values["n"]) != "5" || !row.Ready {
		t.Errorf("what the agent will get: %+v, ready %v", row.Run, row.Ready)
	}
	tooMany, wrong := hpcsera.Resources{NodeCount: 3}, hpcsera.Values{"n": json.RawMessage("-5")}
	_, err = w.jobs.Patch(t.Context(), alice, j.ID, hpcsera.JobPatch{Resources: &tooMany})
	expect(t, "above the signed limit", err, hpcsera.LimitExceeded)
	_, err = w.jobs.Patch(t.Context(), alice, j.ID, hpcsera.JobPatch{Values: &wrong})
	expect(t, "a wrong value", err, hpcsera.InvalidValue)
	bad := map[string]string{"a b": "c"}
	_, err = w.jobs.Patch(t.Context(), alice, j.ID, hpcsera.JobPatch{Labels: &bad})
	expect(t, "a wrong label", err, hpcsera.InvalidField)
	a := w.agentOf("alice", "gwdg", "cfd")
	a.work(1)
	_, err = w.jobs.Patch(t.Context(), alice, j.ID, patch)
	expect(t, "afterwards", err, hpcsera.Conflict)
}

func TestCancelEndsWhatNobodyHasAndOrdersTheRest(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	waiting := w.ready(alice)
	dependent := w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{
		Site: "gwdg", Dependencies: []hpcsera.Dependency{{Job: waiting.ID, State: hpcsera.Succeeded}},
	}})
	for range 2 {
		got, err := w.jobs.Cancel(t.Context(), alice, waiting.ID)
		if err != nil {
			t.Fatal(err)
		}
		expectState(t, "nobody has it", got, hpcsera.Cancelled, hpcsera.CancelledByUser)
	}
	expectState(t, "its dependent", w.row(dependent.ID).Job, hpcsera.Failed, hpcsera.DependencyFailed)

	j, a := w.taken()
	var version int64
	for range 2 {
		got, err := w.jobs.Cancel(t.Context(), alice, j.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.State.Final() || got.Desired != hpcsera.DesiredCancel || version != 0 && got.Version != version {
			t.Errorf("an agent has it: got %s, desired %s, version %d after %d", got.State, got.Desired, got.Version, version)
		}
		version = got.Version
	}
	// It ends first and keeps its real end.
	a.send(a.report(j.ID, hpcsera.Succeeded))
	got, err := w.jobs.Cancel(t.Context(), alice, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "ended first", got, hpcsera.Succeeded, "")
	if w.row(j.ID).CancelAt == nil {
		t.Error("when cancel was asked for is not kept")
	}
}

func TestOnlyAJobThatHasEndedIsErased(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	alice := w.token("alice")
	expect(t, "before its end", w.jobs.Purge(t.Context(), alice, j.ID), hpcsera.JobNotFinal)
	if _, err := w.jobs.AppendLog(t.Context(), a.principal(), jobs.LogRef{Job: j.ID, Stream: "stdout", Attempt: 1}, 0, textReader("hello\n")); err != nil {
		t.Fatal(err)
	}
	a.send(a.report(j.ID, hpcsera.Succeeded))
	if err := w.jobs.Purge(t.Context(), alice, j.ID); err != nil {
		t.Fatal(err)
	}
	_, err := w.jobs.Get(t.Context(), alice, j.ID)
	expect(t, "read afterwards", err, hpcsera.NotFound)
	if _, err := w.files.OpenLog(t.Context(), j.ID+"/1/stdout"); err == nil {
		t.Error("its output is still there")
	}
	events, err := w.jobs.Events(t.Context(), alice, jobs.EventQuery{})
	if err != nil || len(events.Events) == 0 || events.Events[len(events.Events)-1].Type != "job.erased" {
		t.Errorf("events: got %+v (%v), want the last one to be job.erased", events, err)
	}
	if got := outcomes(a.send(a.report(j.ID, hpcsera.Succeeded))); got != "unknown_job" {
		t.Errorf("a report afterwards: got %s, want unknown_job", got)
	}
}

func TestAJobThatOthersAskAboutIsNotErased(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	alice := w.token("alice")
	other := w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{Site: "hlrs"}})
	w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{Site: "gwdg", Dependencies: []hpcsera.Dependency{
		{Job: j.ID, State: hpcsera.Succeeded}, {Job: other.ID, State: hpcsera.Succeeded},
	}}})
	a.send(a.report(j.ID, hpcsera.Succeeded))
	expect(t, "while one waits for both", w.jobs.Purge(t.Context(), alice, j.ID), hpcsera.Conflict)
	if _, err := w.jobs.Cancel(t.Context(), alice, other.ID); err != nil {
		t.Fatal(err)
	}
	expect(t, "after that one failed", w.jobs.Purge(t.Context(), alice, j.ID), "")
}

func TestClientsTellNotesProgressAndAMessageOnly(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice", roles(2))
	j := w.ready(w.token("alice"))
	progress, message := 0.5, "half way"
	got, err := w.jobs.Annotate(t.Context(), alice, j.ID, hpcsera.JobStatus{
		Annotations: map[string]string{"a": "1", "b": "2"}, Progress: &progress, Message: &message,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got.Annotation["a"] != "1" || *got.Progress != 0.5 || got.Message != "half way" || got.State != j.State || got.Reason != j.Reason {
		t.Errorf("got %+v", got)
	}
	if got, err = w.jobs.Annotate(t.Context(), alice, j.ID, hpcsera.JobStatus{Annotations: map[string]string{"a": ""}}); err != nil {
		t.Fatal(err)
	}
	if _, there := got.Annotation["a"]; there || got.Annotation["b"] != "2" || *got.Progress != 0.5 {
		t.Errorf("one removed: got %+v", got)
	}
	for _, p := range []float64{-0.1, 1.1} {
		_, err := w.jobs.Annotate(t.Context(), alice, j.ID, hpcsera.JobStatus{Progress: &p})
		expect(t, "progress", err, hpcsera.InvalidField)
	}
}

func TestRevokingATokenHoldsItsWaitingJobs(t *testing.T) {
	w := newWorld(t)
	lost, kept := w.token("alice"), w.token("alice")
	taken, a := w.taken()
	waiting, other := w.ready(lost), w.ready(kept)
	a2 := *a
	if err := w.jobs.GiveUp(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	expectState(t, "the token's job", w.row(waiting.ID).Job, hpcsera.Held, hpcsera.TokenRevoked)
	expectState(t, "another token's job", w.row(other.ID).Job, hpcsera.Pending, hpcsera.WaitingForAgent)
	expectOrders(t, "the agent", a2.work(10), other.ID)
	expectState(t, "a job that was taken", w.row(taken.ID).Job, hpcsera.Pending, "")
	free, err := w.jobs.Patch(t.Context(), kept, waiting.ID, hold(false))
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "released with another token", free, hpcsera.Pending, hpcsera.WaitingForAgent)
	expect(t, "revoked again", w.jobs.RevokeToken(t.Context(), lost.Token.ID, false, "user:alice"), "")
	expect(t, "a token that does not exist", w.jobs.RevokeToken(t.Context(), hpcsera.NewID("t"), false, "user:alice"), hpcsera.NotFound)
}

func TestRevokingATokenAndStoppingCancelsAllItStarted(t *testing.T) {
	w := newWorld(t)
	lost, kept := w.token("alice"), w.token("alice")
	started := w.ready(lost)
	a := w.agentOf("alice", "gwdg", "cfd")
	expectOrders(t, "the agent", a.work(10), started.ID)
	waiting, other := w.ready(lost), w.ready(kept)
	if err := w.jobs.RevokeToken(t.Context(), lost.Token.ID, true, "user:alice"); err != nil {
		t.Fatal(err)
	}
	expectState(t, "its job that no agent has", w.row(waiting.ID).Job, hpcsera.Cancelled, hpcsera.CancelledByUser)
	if got := w.row(started.ID).Desired; got != hpcsera.DesiredCancel {
		t.Errorf("its job that an agent has: got desired %s, want cancel", got)
	}
	expectState(t, "another token's job", w.row(other.ID).Job, hpcsera.Pending, hpcsera.WaitingForAgent)
}
