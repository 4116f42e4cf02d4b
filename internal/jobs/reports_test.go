package jobs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

// taken returns a job that an agent has.
func (w *world) taken(edit ...func(*hpcsera.JobSpec)) (hpcsera.Job, *agentWorld) {
	w.t.Helper()
	alice := w.token("alice")
	w.file(alice, hello(), false)
	w.approve(alice, hello(), hpcsera.RunPart{Requeue: true})
	spec := hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{Site: "gwdg"}}
	for _, e := range edit {
		e(&spec)
	}
	j := w.submit(alice, spec)
	a := w.agentOf("alice", "gwdg", "cfd")
	expect(w.t, "delivery", nil, "")
	if got := a.work(10).Orders; len(got) != 1 {
		w.t.Fatalf("got %d orders, want 1", len(got))
	}
	return j, a
}

func outcomes(list []hpcsera.Outcome) string { return strings.Trim(fmt.Sprint(list), "[]") }

func TestReportsOfStrangersChangeNothing(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	other := w.agentOf("bob", "gwdg", "cfd")
	other.work(0)
	if got := outcomes(other.send(other.report(j.ID, hpcsera.Failed))); got != "illegal" {
		t.Errorf("another agent: got %s, want illegal", got)
	}
	if got := outcomes(a.send(a.report(hpcsera.NewID("j"), hpcsera.Running), a.report("x", hpcsera.Running))); got != "unknown_job unknown_job" {
		t.Errorf("no such job: got %s, want unknown_job twice", got)
	}
	waiting := w.submit(w.token("alice"), hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{Site: "gwdg"}})
	if got := outcomes(a.send(a.report(waiting.ID, hpcsera.Running))); got != "illegal" {
		t.Errorf("a job that it was never given: got %s, want illegal", got)
	}
	for name, edit := range map[string]func(*hpcsera.Report){
		"an unknown state":                 func(r *hpcsera.Report) { r.State = "done" },
		"an unknown reason":                func(r *hpcsera.Report) { r.Reason = "bored" },
		"attempt 0":                        func(r *hpcsera.Report) { r.Attempt = 0 },
		"a second attempt without requeue": func(r *hpcsera.Report) { r.Attempt = 2 },
		"a negative step":                  func(r *hpcsera.Report) { r.Step = -1 },
		"seq 0":                            func(r *hpcsera.Report) { r.Seq = 0 },
	} {
		if got := outcomes(a.send(a.report(j.ID, hpcsera.Running, edit))); got != "illegal" {
			t.Errorf("%s: got %s, want illegal", name, got)
		}
	}
	if got := w.row(j.ID); got.State != hpcsera.Pending || got.ReportSeq != 0 {
		t.Errorf("the job: got %s, report %d, want pending, 0", got.State, got.ReportSeq)
	}
}

func TestALostAnswerToReportsIsHarmless(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	batch := []hpcsera.Report{a.report(j.ID, hpcsera.Queued), a.report(j.ID, hpcsera.Running), a.report(j.ID, hpcsera.Succeeded)}
	if got := outcomes(a.send(batch...)); got != "applied applied applied" {
		t.Errorf("first: got %s", got)
	}
	version := w.row(j.ID).Version
	if got := outcomes(a.send(batch...)); got != "stale stale duplicate" {
		t.Errorf("again: got %s", got)
	}
	if got := w.row(j.ID).Version; got != version {
		t.Errorf("version: got %d, want %d", got, version)
	}
	if got := a.work(0).AppliedSeq; got != 3 {
		t.Errorf("applied_seq: got %d, want 3", got)
	}
}

func TestOlderFactsAreStaleAndAFinalStateStays(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	old := a.report(j.ID, hpcsera.Queued)
	if got := outcomes(a.send(a.report(j.ID, hpcsera.Running), old)); got != "applied stale" {
		t.Errorf("reordered: got %s, want applied stale", got)
	}
	if got := outcomes(a.send(a.report(j.ID, hpcsera.Failed), a.report(j.ID, hpcsera.Succeeded), a.report(j.ID, hpcsera.Failed))); got != "applied illegal illegal" {
		t.Errorf("after the end: got %s, want applied illegal illegal", got)
	}
	row := w.row(j.ID)
	expectState(t, "the job", row.Job, hpcsera.Failed, "")
	if row.Times.Queued != nil || row.Times.Running == nil || row.Times.Ended == nil {
		t.Errorf("times: got %+v; a skipped state has none", row.Times)
	}
}

func TestAReportFillsWhatItBrings(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	digest := w.upload(a, j.ID, "picture")
	started := w.clock().Add(-time.Minute)
	estimated, asOf := w.clock().Add(time.Hour), w.clock()
	a.send(a.report(j.ID, hpcsera.Queued, func(r *hpcsera.Report) {
		r.Reason, r.Message, r.Estimated, r.AsOf = hpcsera.WaitingForPriority, "(Priority)", &estimated, &asOf
		r.Native = &hpcsera.Native{System: "slurm", Cluster: "scc", ID: "4711", State: "PENDING"}
	}))
	row := w.row(j.ID)
	expectState(t, "queued", row.Job, hpcsera.Queued, hpcsera.WaitingForPriority)
	if row.Message != "(Priority)" || row.Native.ID != "4711" || !row.Estimated.Equal(estimated) {
		t.Errorf("queued: got %+v", row.Job)
	}
	a.send(a.report(j.ID, hpcsera.Running, func(r *hpcsera.Report) { r.At, r.Nodes, r.Directory = started, "n[1-2]", "/scratch/j" }))
	a.send(a.report(j.ID, hpcsera.Succeeded, func(r *hpcsera.Report) {
		r.At = w.clock().Add(time.Hour) // a clock that is ahead
		r.Exit, r.Result, r.Warning = &hpcsera.Exit{}, json.RawMessage(`{"loops": 3}`), "left over"
		r.Artifacts = []hpcsera.Artifact{
			{Path: "plot.png", Size: 7, Digest: digest}, {Path: "gone.png", Size: 1, Digest: hpcsera.DigestOf([]byte("never sent"))}, {Path: "../x", Digest: digest},
		}
	}))
	row = w.row(j.ID)
	if row.Nodes != "n[1-2]" || row.Directory != "gwdg:/scratch/j" || row.Exit == nil || string(row.Result) != `{"loops":3}` && string(row.Result) != `{"loops": 3}` || row.Estimated != nil {
		t.Errorf("ended: got %+v", row.Job)
	}
	if len(row.Artifacts) != 1 || row.Artifacts[0].Path != "plot.png" || len(row.Warnings) != 3 {
		t.Errorf("artifacts: got %v with warnings %q, want plot.png and three warnings", row.Artifacts, row.Warnings)
	}
	if !row.Times.Running.Equal(started) || row.Times.Ended.After(w.clock()) {
		t.Errorf("times: got %+v, want running %v and no end in the future", row.Times, started)
	}
	artifact, f, err := w.jobs.Artifact(t.Context(), w.token("alice"), j.ID, "plot.png")
	if err != nil || f.Size() != 7 || artifact.Digest != digest {
		t.Errorf("artifact: got %+v (%v)", artifact, err)
	} else {
		f.Close()
	}
	_, _, err = w.jobs.Artifact(t.Context(), w.token("alice"), j.ID, "gone.png")
	expect(t, "an artifact that never came", err, hpcsera.NotFound)
}

// upload brings bytes as the agent does.
func (w *world) upload(a *agentWorld, job, text string) string {
	w.t.Helper()
	digest := hpcsera.DigestOf([]byte(text))
	_, complete, err := w.code.PutBlob(w.t.Context(), a.principal(), code.BlobUpload{Digest: digest, Job: job, Total: int64(len(text)), Body: strings.NewReader(text)})
	if err != nil || !complete {
		w.t.Fatalf("upload: complete %v, %v", complete, err)
	}
	return digest
}

func TestARequeueArchivesTheAttemptBefore(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken(func(s *hpcsera.JobSpec) { s.Requeue = true })
	a.send(a.report(j.ID, hpcsera.Running, func(r *hpcsera.Report) { r.Native, r.Nodes = &hpcsera.Native{ID: "1"}, "n1" }))
	if got := outcomes(a.send(a.report(j.ID, hpcsera.Queued, attempt(2)))); got != "applied" {
		t.Fatalf("requeue: got %s, want applied", got)
	}
	row := w.row(j.ID)
	if row.Attempt != 2 || row.Native != nil || row.Nodes != "" || row.Times.Running != nil || len(row.Attempts) != 1 {
		t.Fatalf("got %+v", row.Job)
	}
	if first := row.Attempts[0]; first.Attempt != 1 || first.Native.ID != "1" || first.Nodes != "n1" || first.Running == nil {
		t.Errorf("the attempt before: got %+v", first)
	}
	if got := outcomes(a.send(a.report(j.ID, hpcsera.Failed, attempt(1)))); got != "stale" {
		t.Errorf("a late fact of the first attempt: got %s, want stale", got)
	}
	a.send(a.report(j.ID, hpcsera.Succeeded, attempt(2)))
	expectState(t, "at the end", w.row(j.ID).Job, hpcsera.Succeeded, "")
}

func TestOversizedFactsAreCutNotRefused(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	long := strings.Repeat("ä", 5000)
	got := outcomes(a.send(a.report(j.ID, hpcsera.Running, func(r *hpcsera.Report) {
		r.Message, r.Result = long, json.RawMessage(`{"x": "`+long+strings.Repeat("x", 1<<17)+`"}`)
	})))
	row := w.row(j.ID)
	if got != "applied" || len(row.Message) > 4200 || !strings.HasPrefix(long, strings.TrimSuffix(row.Message, "…")) || len(row.Result) > 100 || len(row.Warnings) != 1 {
		t.Errorf("got %s, a message of %d bytes, a result of %d, warnings %q", got, len(row.Message), len(row.Result), row.Warnings)
	}
	for i := range 100 {
		a.send(a.report(j.ID, hpcsera.Running, func(r *hpcsera.Report) { r.Warning = fmt.Sprint("warning ", i) }))
	}
	if got := len(w.row(j.ID).Warnings); got > 20 {
		t.Errorf("got %d warnings, want at most 20", got)
	}
	reports := make([]hpcsera.Report, 1001)
	_, err := w.jobs.Reports(t.Context(), a.principal(), a.id, hpcsera.ReportRequest{Instance: a.instance, Term: a.term, Reports: reports})
	expect(t, "1001 reports", err, hpcsera.InvalidField)
}

func TestADependentStartsWithItsDependency(t *testing.T) {
	w := newWorld(t)
	first, a := w.taken()
	alice := w.token("alice")
	after := func(job string, state hpcsera.State) hpcsera.Job {
		return w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{
			Site: "gwdg", Dependencies: []hpcsera.Dependency{{Job: job, State: state}},
		}})
	}
	onRun, onSuccess, onFailure := after(first.ID, hpcsera.Running), after(first.ID, hpcsera.Succeeded), after(first.ID, hpcsera.Failed)
	chained := after(onFailure.ID, hpcsera.Succeeded)
	for name, j := range map[string]hpcsera.Job{"on run": onRun, "on success": onSuccess, "on failure": onFailure, "chained": chained} {
		expectState(t, name+" at first", j, hpcsera.Pending, hpcsera.WaitingForDependency)
	}
	expectOrders(t, "at first", a.work(10))
	a.send(a.report(first.ID, hpcsera.Running))
	expectOrders(t, "when it runs", a.work(10), onRun.ID)
	a.send(a.report(first.ID, hpcsera.Succeeded))
	expectOrders(t, "when it has succeeded", a.work(10), onSuccess.ID)
	expectState(t, "on failure", w.row(onFailure.ID).Job, hpcsera.Failed, hpcsera.DependencyFailed)
	expectState(t, "chained", w.row(chained.ID).Job, hpcsera.Failed, hpcsera.DependencyFailed)
	late := after(first.ID, hpcsera.Succeeded)
	expectState(t, "submitted afterwards", late, hpcsera.Pending, hpcsera.WaitingForAgent)
	never := after(first.ID, hpcsera.Failed)
	expectState(t, "submitted afterwards, for the other end", never, hpcsera.Failed, hpcsera.DependencyFailed)
}

func TestAJobThatSkipsRunningStillReleasesWhoWaitsForIt(t *testing.T) {
	w := newWorld(t)
	first, a := w.taken()
	waiting := w.submit(w.token("alice"), hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{
		Site: "gwdg", Dependencies: []hpcsera.Dependency{{Job: first.ID, State: hpcsera.Running}},
	}})
	a.send(a.report(first.ID, hpcsera.Succeeded))
	expectOrders(t, "afterwards", a.work(10), waiting.ID)
}

func TestAnAbandonedAgentsJobsEndAndTakeTheirDependentsAlong(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	waiting := w.submit(w.token("alice"), hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{
		Site: "gwdg", Dependencies: []hpcsera.Dependency{{Job: j.ID, State: hpcsera.Succeeded}},
	}})
	w.write(func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, w.clock())
		if err != nil {
			return err
		}
		return w.jobs.Abandon(tx, ledger, a.id)
	})
	expectState(t, "its job", w.row(j.ID).Job, hpcsera.Failed, hpcsera.AgentRemoved)
	expectState(t, "the dependent", w.row(waiting.ID).Job, hpcsera.Failed, hpcsera.DependencyFailed)
	events, err := w.jobs.Events(t.Context(), w.token("alice"), jobs.EventQuery{Job: j.ID})
	if err != nil || events.Events[len(events.Events)-1].State != hpcsera.Failed {
		t.Errorf("events: got %+v (%v)", events, err)
	}
}
