package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var jobTests = map[string]func(*testing.T, Database){
	"a job comes back as it was filed":                     testRoundTrip,
	"a job comes back as it was changed":                   testUpdate,
	"a job that does not exist is not found":               testNoJob,
	"orders are those above a number, oldest first":        testOrders,
	"ready jobs are those an agent may take, oldest first": testReady,
	"jobs that wait for an approval are found by its code": testAwaiting,
	"dependents are the unfinished ones":                   testDependents,
	"an erased job leaves its last event":                  testDelete,
	"odd text is data":                                     testOddText,
}

// fullJob sets every field.
func fullJob(j *store.Job) {
	at := func(s int) *time.Time {
		t := day.Add(time.Duration(s) * time.Second).Add(123456 * time.Microsecond)
		return &t
	}
	sweep, progress := "sw_1", 0.5
	j.Reason, j.Message, j.Estimated, j.AsOf = hpcsera.WaitingForPriority, "(Priority)", at(1), at(2)
	j.State, j.Sweep, j.Step, j.Attempt, j.Agent = hpcsera.Queued, &sweep, 1, 2, "ag_1"
	j.Code = hpcsera.CodeRef{Digest: digest("a"), Name: "cavity", Approval: "ap_1"}
	j.Values = hpcsera.Values{"viscosity": json.RawMessage("0.02"), "text": json.RawMessage(`"a\n\u0000b"`)}
	j.Resources = hpcsera.Resources{NodeCount: 2, ProcessCount: 8, Memory: 32 << 30, ExclusiveNodeUse: true}
	j.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(90 * time.Minute), QueueName: "medium", Account: "a1", ReservationID: "r1"}
	j.Native = &hpcsera.Native{System: "slurm", Cluster: "scc", ID: "4711", State: "PENDING", Submitted: at(3)}
	j.Exit, j.Nodes, j.Directory = &hpcsera.Exit{Code: 1, Signal: 9}, "n[1-2]", "gwdg:/scratch/alice/x"
	j.Requeue, j.RetryOf, j.Depends = true, "j_0", []hpcsera.Dependency{{Job: "j_1", State: hpcsera.Succeeded}, {Job: "j_1", State: hpcsera.Running}}
	j.Labels, j.Annotation = map[string]string{"case": "a"}, map[string]string{"note": strings.Repeat("ä", 2000)}
	j.Progress, j.Warnings = &progress, []string{"the agent was not seen for an hour"}
	j.Times = hpcsera.Times{Created: *at(0), Delivered: at(4), Queued: at(5), Running: at(6), Ended: at(7)}
	j.Keep = hpcsera.Keep{Succeeded: hpcsera.Duration(time.Hour), Failed: hpcsera.Duration(time.Minute)}
	j.Result, j.Artifacts = json.RawMessage(`{"residual":1e-6}`), []hpcsera.Artifact{{Path: "log", Size: 7, Digest: digest("b")}}
	j.Attempts = []hpcsera.Attempt{{Attempt: 1, Native: j.Native, Exit: j.Exit, Nodes: "n1", Queued: at(8), Running: at(9)}}
	j.Run = hpcsera.RunPart{
		Site: "gwdg", Resources: j.Resources, Attributes: j.Attributes, Values: j.Values, Labels: j.Labels, Hold: true, Requeue: true, Keep: j.Keep,
	}
	j.Idempotency, j.Token, j.Ready, j.Revision = "cfd/ci/jobs/key", "t_9", true, 3
	j.OrderSeq, j.Delivered, j.ReportSeq, j.CancelAt = j.Version, j.Version-1, 17, at(10)
}

func testRoundTrip(t *testing.T, d Database) {
	s := d.Open(t)
	for name, change := range map[string]func(*store.Job){"an empty job": func(j *store.Job) { *j = store.Job{Job: hpcsera.Job{ID: j.ID, Version: j.Version}} }, "a full job": fullJob} {
		want := insert(t, s, change)
		got := get(t, s, func(r store.Reader) (*store.Job, error) { return r.Job(want.ID) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		list := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(store.JobFilter{Limit: 1}) })
		if len(list) != 1 {
			t.Fatalf("got %d jobs, want 1", len(list))
		}
		if diff := cmp.Diff(want.Job, list[0].Job); diff != "" {
			t.Errorf("%s in a list (-want +got):\n%s", name, diff)
		}
		got2 := get(t, s, func(r store.Reader) ([]store.Change, error) { return r.Events(store.EventFilter{Job: want.ID}) })
		if diff := cmp.Diff([]store.Change{eventOf(want)}, got2); diff != "" {
			t.Errorf("the event of %s (-want +got):\n%s", name, diff)
		}
	}
}

func testUpdate(t *testing.T, d Database) {
	s := d.Open(t)
	j := insert(t, s)
	want := update(t, s, j.ID, func(j *store.Job) {
		created := j.Times.Created
		fullJob(j)
		j.Times.Created = created
	})
	got := get(t, s, func(r store.Reader) (*store.Job, error) { return r.Job(j.ID) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the changed job (-want +got):\n%s", diff)
	}
	want = update(t, s, j.ID, func(j *store.Job) { j.Labels, j.Annotation, j.Result, j.CancelAt = nil, nil, nil, nil })
	got = get(t, s, func(r store.Reader) (*store.Job, error) { return r.Job(j.ID) })
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the job changed again (-want +got):\n%s", diff)
	}
}

func testNoJob(t *testing.T, d Database) {
	s := d.Open(t)
	read(t, s, func(r store.Reader) error {
		_, err := r.Job("j_none")
		wantErr(t, "Job", err, store.ErrNotFound)
		_, err = r.Idempotent("scope", "none")
		wantErr(t, "Idempotent", err, store.ErrNotFound)
		for what, list := range map[string]func() (int, error){
			"Jobs":             func() (int, error) { l, err := r.Jobs(store.JobFilter{}); return len(l), err },
			"Orders":           func() (int, error) { l, err := r.Orders("none", 0, 10); return len(l), err },
			"Ready":            func() (int, error) { l, err := r.Ready("none", "none", []string{"none"}, 10); return len(l), err },
			"Awaited":          func() (int, error) { l, err := r.Awaited(store.Awaited{}, 10); return len(l), err },
			"AwaitingApproval": func() (int, error) { l, err := r.AwaitingApproval("none", "none", "none"); return len(l), err },
			"Dependents":       func() (int, error) { l, err := r.Dependents("none"); return len(l), err },
			"Unfinished":       func() (int, error) { return r.UnfinishedByAgent("none") },
			"Events":           func() (int, error) { l, err := r.Events(store.EventFilter{Job: "none"}); return len(l), err },
		} {
			if n, err := list(); n != 0 || err != nil {
				t.Errorf("%s of nothing: got %d (%v), want none", what, n, err)
			}
		}
		return nil
	})
	for what, fn := range map[string]func(store.Tx) error{
		"UpdateJob": func(tx store.Tx) error { return tx.UpdateJobs(newJob(1)) },
		"DeleteJob": func(tx store.Tx) error { return tx.DeleteJob("j_none") },
	} {
		wantErr(t, what, s.Write(t.Context(), fn), store.ErrNotFound)
	}
}

// ids returns the names of jobs, which tests give them for this.
func names(jobs []*store.Job) []string {
	list := make([]string, len(jobs))
	for i, j := range jobs {
		list[i] = j.Name
	}
	return list
}

func wantNames(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func named(name string, change ...func(*store.Job)) func(*store.Job) {
	return func(j *store.Job) {
		j.Name = name
		for _, c := range change {
			c(j)
		}
	}
}

func testOrders(t *testing.T, d Database) {
	s := d.Open(t)
	taken := func(agent string) func(*store.Job) {
		return func(j *store.Job) { j.Agent, j.OrderSeq, j.Delivered = agent, j.Version, j.Version }
	}
	a := insert(t, s, named("a", taken("ag_1")))
	b := insert(t, s, named("b", taken("ag_1")))
	insert(t, s, named("other", taken("ag_2")))
	insert(t, s, named("untaken"))
	c := insert(t, s, named("c", taken("ag_1")))
	orders := func(seq int64, limit int) []string {
		return names(get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.Orders("ag_1", seq, limit) }))
	}
	wantNames(t, "from the start", orders(0, 10), []string{"a", "b", "c"})
	wantNames(t, "with a limit", orders(0, 2), []string{"a", "b"})
	wantNames(t, "above the first", orders(a.OrderSeq, 10), []string{"b", "c"})
	wantNames(t, "of no agent", names(get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.Orders("", 0, 10) })), []string{})
	update(t, s, a.ID, func(j *store.Job) { j.Desired, j.OrderSeq = hpcsera.DesiredCancel, j.Version })
	wantNames(t, "after one was cancelled", orders(c.OrderSeq, 10), []string{"a"})
	update(t, s, b.ID, func(j *store.Job) { j.State = hpcsera.Succeeded })
	wantNames(t, "after one ended", orders(0, 10), []string{"c", "a"})
	if n := get(t, s, func(r store.Reader) (int, error) { return r.UnfinishedByAgent("ag_1") }); n != 2 {
		t.Errorf("got %d unfinished jobs, want 2", n)
	}
}

func testReady(t *testing.T, d Database) {
	s := d.Open(t)
	a := insert(t, s, named("a"))
	insert(t, s, named("not-ready", func(j *store.Job) { j.Ready = false }))
	insert(t, s, named("delivered", func(j *store.Job) { j.Delivered = j.Version }))
	insert(t, s, named("final", func(j *store.Job) { j.State = hpcsera.Cancelled }))
	insert(t, s, named("other-user", func(j *store.Job) { j.User = "bob" }))
	insert(t, s, named("other-site", func(j *store.Job) { j.Site = "hlrs" }))
	bio := insert(t, s, named("bio", func(j *store.Job) { j.Project = "bio" }))
	b := insert(t, s, named("b"))
	ready := func(limit int, projects ...string) []string {
		return names(get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.Ready("alice", "gwdg", projects, limit) }))
	}
	wantNames(t, "of one project", ready(10, "cfd"), []string{"a", "b"})
	wantNames(t, "of two projects", ready(10, "bio", "cfd"), []string{"a", "bio", "b"})
	wantNames(t, "of no project", ready(10), []string{})
	wantNames(t, "with a limit", ready(1, "cfd"), []string{"a"})
	update(t, s, a.ID, func(j *store.Job) { j.Agent, j.Delivered, j.OrderSeq = "ag_1", j.Version, j.Version })
	wantNames(t, "after one was taken", ready(10, "cfd"), []string{"b"})
	update(t, s, b.ID, func(j *store.Job) { j.Ready = false })
	wantNames(t, "after one is not ready any more", ready(10, "cfd"), []string{})
	update(t, s, b.ID, func(j *store.Job) { j.Ready = true })
	wantNames(t, "after it is again", ready(10, "cfd", bio.Project), []string{"bio", "b"})
}

func testAwaiting(t *testing.T, d Database) {
	s := d.Open(t)
	waits := func(code string) func(*store.Job) {
		return func(j *store.Job) { j.Reason, j.Ready, j.Code.Digest = hpcsera.WaitingForApproval, false, digest(code) }
	}
	a := insert(t, s, named("a", waits("1")))
	insert(t, s, named("other-code", waits("2")))
	insert(t, s, named("other-user", waits("1"), func(j *store.Job) { j.User = "bob" }))
	insert(t, s, named("other-project", waits("1"), func(j *store.Job) { j.Project = "bio" }))
	insert(t, s, named("ended", waits("1"), func(j *store.Job) { j.State = hpcsera.Cancelled }))
	insert(t, s, named("approved", func(j *store.Job) { j.Code.Digest = digest("1") }))
	insert(t, s, named("b", waits("1")))
	awaiting := func() []string {
		return names(get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.AwaitingApproval("alice", "cfd", digest("1")) }))
	}
	wantNames(t, "at first", awaiting(), []string{"a", "b"})
	update(t, s, a.ID, func(j *store.Job) { j.Reason, j.Ready = hpcsera.WaitingForAgent, true })
	wantNames(t, "after one was approved", awaiting(), []string{"b"})
	// Page by page nothing is missed, however much one user's jobs wait for.
	var awaited []store.Awaited
	for after := (store.Awaited{}); len(awaited) < 10; after = awaited[len(awaited)-1] {
		page := get(t, s, func(r store.Reader) ([]store.Awaited, error) { return r.Awaited(after, 1) })
		if len(page) == 0 {
			break
		}
		awaited = append(awaited, page...)
	}
	of := func(user, project, code string) store.Awaited {
		return store.Awaited{User: user, Project: project, Digest: digest(code)}
	}
	want := []store.Awaited{of("alice", "bio", "1"), of("alice", "cfd", "1"), of("alice", "cfd", "2"), of("bob", "cfd", "1")}
	slices.SortFunc(want, func(a, b store.Awaited) int {
		return strings.Compare(a.User+a.Project+a.Digest, b.User+b.Project+b.Digest)
	})
	if !slices.Equal(awaited, want) {
		t.Errorf("Awaited, page by page: got %v, want %v", awaited, want)
	}
	none := get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.AwaitingApproval("alice", "cfd", "") })
	wantNames(t, "of no code", names(none), []string{})
}

func testDependents(t *testing.T, d Database) {
	s := d.Open(t)
	first := insert(t, s, named("first"))
	needs := func(j *store.Job) { j.Depends = []hpcsera.Dependency{{Job: first.ID, State: hpcsera.Succeeded}} }
	a := insert(t, s, named("a", needs))
	insert(t, s, named("ended", needs, func(j *store.Job) { j.State = hpcsera.Failed }))
	insert(t, s, named("b", needs, func(j *store.Job) { j.Project = "bio" }))
	insert(t, s, named("independent"))
	dependents := func() []string {
		return names(get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.Dependents(first.ID) }))
	}
	wantNames(t, "at first", dependents(), []string{"a", "b"})
	update(t, s, a.ID, func(j *store.Job) { j.State = hpcsera.Cancelled })
	wantNames(t, "after one was cancelled", dependents(), []string{"b"})
}

func testDelete(t *testing.T, d Database) {
	s := d.Open(t)
	other := insert(t, s, named("other"))
	j := insert(t, s, func(j *store.Job) {
		j.Labels, j.Depends = map[string]string{"k": "v"}, []hpcsera.Dependency{{Job: other.ID}}
	})
	update(t, s, j.ID, func(j *store.Job) { j.State = hpcsera.Queued })
	last := update(t, s, j.ID, func(j *store.Job) { j.State = hpcsera.Succeeded })
	write(t, s, func(tx store.Tx) error { return tx.DeleteJob(j.ID) })
	wantErr(t, "the job", s.Read(t.Context(), func(r store.Reader) error {
		_, err := r.Job(j.ID)
		return err
	}), store.ErrNotFound)
	got := get(t, s, func(r store.Reader) ([]store.Change, error) { return r.Events(store.EventFilter{Job: j.ID}) })
	if !slices.Equal(seqs(got), []int64{last.Version}) {
		t.Errorf("the events left are %v, want the last, %d", seqs(got), last.Version)
	}
	list := get(t, s, func(r store.Reader) ([]store.Listed, error) {
		return r.Jobs(store.JobFilter{Label: [2]string{"k", "v"}})
	})
	deps := get(t, s, func(r store.Reader) ([]*store.Job, error) { return r.Dependents(other.ID) })
	if len(list) != 0 || len(deps) != 0 {
		t.Errorf("the label finds %d jobs and the dependency %d, want none", len(list), len(deps))
	}
	// The event of the erasure, appended before it, is the one that stays.
	var erased store.Change
	write(t, s, func(tx store.Tx) error {
		j, err := tx.Job(other.ID)
		if err != nil {
			return err
		}
		if j.Version, err = tx.NextSeq(); err != nil {
			return err
		}
		erased = eventOf(j)
		erased.Type = "job.erased"
		return errors.Join(tx.Append(erased), tx.DeleteJob(other.ID))
	})
	got = get(t, s, func(r store.Reader) ([]store.Change, error) { return r.Events(store.EventFilter{Job: other.ID}) })
	if diff := cmp.Diff([]store.Change{erased}, got); diff != "" {
		t.Errorf("the events left (-want +got):\n%s", diff)
	}
}

func testOddText(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s)
	for i, text := range []string{"'; DROP TABLE jobs; --", "a\x00b", "\xff\xfe", "%", "_", "$1", "\\", "ä€😀", strings.Repeat("x", 100_000), " "} {
		what := fmt.Sprintf("text %d", i)
		read(t, s, func(r store.Reader) error {
			for _, f := range []store.JobFilter{
				{Name: text}, {User: text}, {Client: text}, {Site: text}, {State: hpcsera.State(text)}, {Projects: []string{text}},
				{Label: [2]string{text, text}}, {Note: [2]string{text, text}},
			} {
				if list, err := r.Jobs(f); err != nil || len(list) != 0 {
					t.Errorf("%s: the filter finds %d jobs (%v), want none", what, len(list), err)
				}
			}
			_, err := r.Job(text)
			wantErr(t, what+" as id", err, store.ErrNotFound)
			_, err = r.Idempotent(text, text)
			wantErr(t, what+" as key", err, store.ErrNotFound)
			_, err = r.Principal(text)
			wantErr(t, what+" as token", err, store.ErrNotFound)
			return nil
		})
		key := text[:min(len(text), 200)]
		j := insert(t, s, func(j *store.Job) {
			j.Message, j.Labels = text, map[string]string{key: text}
			j.Times.Created = day
		})
		write(t, s, func(tx store.Tx) error {
			return tx.KeepAnswer("odd", key, store.Answer{Status: 200, Body: []byte(text), Created: day})
		})
		read(t, s, func(r store.Reader) error {
			if list, err := r.Jobs(store.JobFilter{Label: [2]string{key, text}}); err != nil || len(list) != 1 || list[0].ID != j.ID {
				t.Errorf("%s as label: got %d jobs (%v), want one", what, len(list), err)
			}
			if a, err := r.Idempotent("odd", key); err != nil || string(a.Body) != text {
				t.Errorf("%s as answer: %v", what, err)
			}
			return nil
		})
	}
}
