package jobs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestASubmissionIsRefusedWholeAndByName(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	w.file(w.token("bob", client("flowable")), hpcsera.Manifest{Name: "bobs", Program: hpcsera.Program{Script: "true"}}, true)
	at := hpcsera.RunPart{Site: "gwdg"}
	with := func(edit func(*hpcsera.RunPart)) hpcsera.RunPart {
		r := at
		edit(&r)
		return r
	}
	twoNodes := hello()
	twoNodes.Limits = &hpcsera.Limits{NodeCount: 2}
	needsFile := hello()
	needsFile.Files = []hpcsera.File{{Path: "a.dat", Mode: "0644", SHA256: strings.Repeat("a", 64), Size: 1}}
	for _, c := range []struct {
		name  string
		p     *auth.Principal
		spec  hpcsera.JobSpec
		code  hpcsera.Code
		field string
	}{
		{"without role 6", w.token("alice", roles(1, 2, 3, 4, 5, 7, 8)), hpcsera.JobSpec{Code: digest, RunPart: at}, hpcsera.Forbidden, ""},
		{"new code without role 4", w.token("alice", roles(1, 6)), hpcsera.JobSpec{Manifest: hello(), RunPart: at}, hpcsera.Forbidden, ""},
		{"as viewer", w.token("carol"), hpcsera.JobSpec{Code: digest, RunPart: at}, hpcsera.Forbidden, ""},
		{"at another site than the token's", w.token("alice", atSite("hlrs")), hpcsera.JobSpec{Code: digest, RunPart: at}, hpcsera.Forbidden, "site"},
		{"at no site", alice, hpcsera.JobSpec{Code: digest}, hpcsera.InvalidField, "site"},
		{"at an unknown site", alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "mars"}}, hpcsera.UnknownSite, "site"},
		{"code that does not exist", alice, hpcsera.JobSpec{Code: "sha256:" + strings.Repeat("0", 64), RunPart: at}, hpcsera.UnknownCode, "code"},
		{"a name that nobody approved", alice, hpcsera.JobSpec{Code: "nothing", RunPart: at}, hpcsera.UnknownCode, "code"},
		{"a name that another user approved", alice, hpcsera.JobSpec{Code: "bobs", RunPart: at}, hpcsera.UnknownCode, "code"},
		{"another client's code", alice, hpcsera.JobSpec{Code: digestOf(t, hpcsera.Manifest{Name: "bobs", Program: hpcsera.Program{Script: "true"}}), RunPart: at}, hpcsera.UnknownCode, "code"},
		{"another project's code", w.token("alice", inProject("melt")), hpcsera.JobSpec{Code: digest, RunPart: at}, hpcsera.UnknownCode, "code"},
		{"a name with another's digest", alice, hpcsera.JobSpec{Code: "other@" + digest, RunPart: at}, hpcsera.UnknownCode, "code"},
		{"no reference at all", alice, hpcsera.JobSpec{Code: "../x", RunPart: at}, hpcsera.InvalidField, "code"},
		{"code and code", alice, hpcsera.JobSpec{Code: digest, Manifest: hello(), RunPart: at}, hpcsera.InvalidField, "code"},
		{"a wrong value", alice, hpcsera.JobSpec{Code: digest, RunPart: with(func(r *hpcsera.RunPart) { r.Values = hpcsera.Values{"n": json.RawMessage("-1")} })}, hpcsera.InvalidValue, "values.n"},
		{"above the signed limit", alice, hpcsera.JobSpec{Code: digest, RunPart: with(func(r *hpcsera.RunPart) { r.Resources.NodeCount = 3 })}, hpcsera.LimitExceeded, "resources.node_count"},
		{"above the code's own limit", alice, hpcsera.JobSpec{Manifest: twoNodes, RunPart: with(func(r *hpcsera.RunPart) { r.Resources.NodeCount = 3 })}, hpcsera.LimitExceeded, "resources.node_count"},
		{"after a job that does not exist", alice, hpcsera.JobSpec{Code: digest, RunPart: with(func(r *hpcsera.RunPart) {
			r.Dependencies = []hpcsera.Dependency{{Job: hpcsera.NewID("j"), State: hpcsera.Succeeded}}
		})}, hpcsera.InvalidField, "dependencies[0].job"},
		{"without its files", alice, hpcsera.JobSpec{Manifest: needsFile, RunPart: at}, hpcsera.MissingBlobs, "files"},
	} {
		_, err := w.jobs.Submit(t.Context(), c.p, []hpcsera.JobSpec{c.spec}, false, jobs.Idempotency{})
		e, ok := err.(*hpcsera.Error)
		if !ok || e.Code != c.code || e.Field != c.field || e.Index != -1 {
			t.Errorf("%s: got %v, want %s at %q", c.name, err, c.code, c.field)
		}
		good := hpcsera.JobSpec{Code: digest, RunPart: at}
		_, err = w.jobs.Submit(t.Context(), c.p, []hpcsera.JobSpec{good, c.spec, good}, true, jobs.Idempotency{})
		if e, ok = err.(*hpcsera.Error); !ok || e.Index < 0 || !strings.HasPrefix(e.Field, "jobs[") {
			t.Errorf("%s, in a bulk: got %#v, want an index and a field in jobs", c.name, err)
		}
	}
	list, err := w.jobs.List(t.Context(), w.token("dora", wholeProject), jobs.ListQuery{})
	if err != nil || len(list.Jobs) != 0 {
		t.Errorf("after refusals: got %d jobs (%v), want 0", len(list.Jobs), err)
	}
}

func digestOf(t *testing.T, m hpcsera.Manifest) string {
	t.Helper()
	d, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAnAcceptedJobIsShownAsAskedFor(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.submit(alice, hpcsera.JobSpec{Code: w.file(alice, hello(), true), RunPart: hpcsera.RunPart{
		Site: "gwdg", Resources: hpcsera.Resources{NodeCount: 2}, Labels: map[string]string{"paper": "melt2027"}, Annotations: map[string]string{"orcid": "0"},
	}})
	expectState(t, "state", j, hpcsera.Pending, hpcsera.WaitingForAgent)
	if j.Name != "hello" || j.Project != "cfd" || j.User != "alice" || j.Client != "gitlab" || j.Site != "gwdg" || j.Attempt != 1 || j.Desired != hpcsera.DesiredRun {
		t.Errorf("got %+v", j)
	}
	if string(j.Values["n"]) != "1" || j.Resources.NodeCount != 2 || j.Labels["paper"] != "melt2027" || j.Annotation["orcid"] != "0" {
		t.Errorf("what was asked for: got %+v", j)
	}
	if j.Code.Name != "hello" || !hpcsera.ValidID("ap", j.Code.Approval) || j.Version == 0 || j.Times.Created.IsZero() || j.Times.Delivered != nil {
		t.Errorf("got code %+v, version %d, times %+v", j.Code, j.Version, j.Times)
	}
	got, err := w.jobs.Get(t.Context(), alice, j.ID)
	if err != nil || fmt.Sprint(got.Version, got.State, got.Values) != fmt.Sprint(j.Version, j.State, j.Values) {
		t.Errorf("read again: got %+v (%v), want %+v", got, err, j)
	}
}

func TestNewCodeWaitsForItsApproval(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.submit(alice, hpcsera.JobSpec{Manifest: hello(), RunPart: hpcsera.RunPart{Site: "gwdg"}})
	expectState(t, "before", j, hpcsera.Pending, hpcsera.WaitingForApproval)
	a := w.agentOf("alice", "gwdg", "cfd")
	if got := a.work(10).Orders; len(got) != 0 {
		t.Errorf("before: the agent got %d orders, want 0", len(got))
	}
	filed := w.approve(alice, hello(), hpcsera.RunPart{})
	j, err := w.jobs.Get(t.Context(), alice, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "after", j, hpcsera.Pending, hpcsera.WaitingForAgent)
	if j.Code.Approval != filed.ID {
		t.Errorf("approval: got %s, want %s", j.Code.Approval, filed.ID)
	}
	orders := a.work(10).Orders
	if len(orders) != 1 || orders[0].JobID != j.ID || string(orders[0].Spec.Statement) != string(filed.Statement) || orders[0].Spec.Signature != filed.Signature {
		t.Errorf("after: got %+v, want the job with its statement", orders)
	}
}

func TestAnApprovalForOtherPurposesReleasesNothing(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.submit(alice, hpcsera.JobSpec{Manifest: hello(), RunPart: hpcsera.RunPart{Site: "gwdg", Resources: hpcsera.Resources{NodeCount: 2}}})
	w.approve(alice, hello(), hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 2}}, forSites("hlrs"))
	w.approve(w.token("alice", wholeProject), hello(), hpcsera.RunPart{Resources: hpcsera.Resources{NodeCount: 2}}, forClients("flowable"))
	got, err := w.jobs.Get(t.Context(), alice, j.ID)
	if err != nil {
		t.Fatal(err)
	}
	expectState(t, "another site, another client", got, hpcsera.Pending, hpcsera.WaitingForApproval)
	w.approve(alice, hello(), hpcsera.RunPart{})
	if got, err = w.jobs.Get(t.Context(), alice, j.ID); err != nil {
		t.Fatal(err)
	}
	expectState(t, "fewer nodes", got, hpcsera.Pending, hpcsera.WaitingForApproval)
	if !strings.Contains(got.Message, "node_count") {
		t.Errorf("message: got %q, want it to name node_count", got.Message)
	}
}

func TestARepeatedKeyGetsTheFirstAnswer(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	spec := []hpcsera.JobSpec{{Code: w.file(alice, hello(), true), RunPart: hpcsera.RunPart{Site: "gwdg"}}}
	key := jobs.Idempotency{Key: "pipeline-7", Path: "/api/v1/jobs", BodySHA256: "aa"}
	first, err := w.jobs.Submit(t.Context(), alice, spec, false, key)
	if err != nil {
		t.Fatal(err)
	}
	id := jobOf(t, first).ID
	if want := hpcsera.DerivedJobID("cfd", "gitlab", "/api/v1/jobs", "pipeline-7", 0); id != want {
		t.Errorf("id: got %s, want the derived %s", id, want)
	}
	if _, err := w.jobs.Cancel(t.Context(), alice, id); err != nil {
		t.Fatal(err)
	}
	again, err := w.jobs.Submit(t.Context(), alice, spec, false, key)
	if err != nil || string(again.Body) != string(first.Body) {
		t.Errorf("again: got %s (%v), want the first answer %s", again.Body, err, first.Body)
	}
	other := key
	other.BodySHA256 = "bb"
	_, err = w.jobs.Submit(t.Context(), alice, spec, false, other)
	expect(t, "another body", err, hpcsera.IdempotencyKeyReused)
	_, err = w.jobs.Submit(t.Context(), w.token("alice", roles(1)), spec, false, key)
	expect(t, "without the role", err, hpcsera.Forbidden)
	elsewhere, err := w.jobs.Submit(t.Context(), w.token("alice", client("flowable"), wholeProject), spec, false, key)
	if err != nil || jobOf(t, elsewhere).ID == id {
		t.Errorf("another client: got %s (%v), want another job", elsewhere.Body, err)
	}
	_, err = w.jobs.Submit(t.Context(), alice, spec, false, jobs.Idempotency{Key: "a b", Path: "/", BodySHA256: "aa"})
	expect(t, "a key with a space", err, hpcsera.InvalidField)
	if err := w.jobs.Purge(t.Context(), alice, id); err != nil {
		t.Fatal(err)
	}
	gone, err := w.jobs.Submit(t.Context(), alice, spec, false, key)
	if err != nil || string(gone.Body) != string(first.Body) {
		t.Errorf("after the job was erased: got %s (%v), want the first answer", gone.Body, err)
	}
	if err := w.store.Write(t.Context(), func(tx store.Tx) error { return tx.DeleteCode("cfd", spec[0].Code) }); err != nil {
		t.Fatal(err)
	}
	gone, err = w.jobs.Submit(t.Context(), alice, spec, false, key)
	if err != nil || string(gone.Body) != string(first.Body) {
		t.Errorf("after its code was deleted: got %s (%v), want the first answer", gone.Body, err)
	}
	_, err = w.jobs.Submit(t.Context(), alice, spec, false, other)
	expect(t, "another body after its code was deleted", err, hpcsera.IdempotencyKeyReused)
	_, err = w.jobs.Submit(t.Context(), alice, spec, false, jobs.Idempotency{Key: "pipeline-8", Path: "/api/v1/jobs", BodySHA256: "aa"})
	expect(t, "another key after its code was deleted", err, hpcsera.UnknownCode)
}

func TestAKeyGivesNobodyAnothersAnswer(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.token("alice"), w.token("bob")
	spec := []hpcsera.JobSpec{{Code: w.file(alice, hello(), true), RunPart: hpcsera.RunPart{Site: "gwdg"}}}
	for _, c := range []struct {
		name  string
		specs []hpcsera.JobSpec
		bulk  bool
	}{{"a job", spec, false}, {"a bulk", append(spec, spec...), true}} {
		key := jobs.Idempotency{Key: "of " + c.name, Path: "/api/v1/jobs", BodySHA256: "aa"}
		key.Key = strings.ReplaceAll(key.Key, " ", "-")
		first, err := w.jobs.Submit(t.Context(), alice, c.specs, c.bulk, key)
		if err != nil {
			t.Fatal(err)
		}
		for _, kept := range []string{"its answer", "its job"} {
			got, err := w.jobs.Submit(t.Context(), bob, c.specs, c.bulk, key)
			expect(t, c.name+", by "+kept, err, hpcsera.IdempotencyKeyReused)
			if len(got.Body) > 0 || err != nil && strings.Contains(err.Error(), "j_") {
				t.Errorf("%s, by %s: bob got %s, %v", c.name, kept, got.Body, err)
			}
			if again, err := w.jobs.Submit(t.Context(), w.token("alice"), c.specs, c.bulk, key); err != nil || string(again.Body) != string(first.Body) {
				t.Errorf("%s, by %s: alice with another token got %s (%v), want %s", c.name, kept, again.Body, err, first.Body)
			}
			w.dropAnswers()
		}
		key.Key += "-of-bob"
		if _, err := w.jobs.Submit(t.Context(), bob, c.specs, c.bulk, key); err != nil {
			t.Errorf("%s, with a key of bob's: %v", c.name, err)
		}
	}
}

func TestConcurrentRepeatsMakeOneJob(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	spec := []hpcsera.JobSpec{{Code: w.file(alice, hello(), true), RunPart: hpcsera.RunPart{Site: "gwdg"}}}
	var all sync.WaitGroup
	var mu sync.Mutex
	bodies := map[string]int{}
	for range 32 {
		all.Go(func() {
			answer, err := w.jobs.Submit(t.Context(), alice, spec, false, jobs.Idempotency{Key: "k", Path: "/api/v1/jobs", BodySHA256: "aa"})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			bodies[string(answer.Body)]++
			mu.Unlock()
		})
	}
	all.Wait()
	list, err := w.jobs.List(t.Context(), alice, jobs.ListQuery{})
	if err != nil || len(list.Jobs) != 1 || len(bodies) != 1 {
		t.Errorf("got %d jobs and %d answers (%v), want 1 and 1", len(list.Jobs), len(bodies), err)
	}
}

// After 30 days, or with a restored backup, the answer is gone, but the job
// may be there.
func TestARepeatedKeyMeetsItsJobWithoutItsAnswer(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	spec := []hpcsera.JobSpec{{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}}
	key := jobs.Idempotency{Key: "k", Path: "/api/v1/jobs", BodySHA256: "aa"}
	first, err := w.jobs.Submit(t.Context(), alice, spec, false, key)
	if err != nil {
		t.Fatal(err)
	}
	w.dropAnswers()
	again, err := w.jobs.Submit(t.Context(), alice, spec, false, key)
	if err != nil || jobOf(t, again).ID != jobOf(t, first).ID {
		t.Errorf("got %s (%v), want the same job", again.Body, err)
	}
	w.dropAnswers()
	other := []hpcsera.JobSpec{{Code: digest, RunPart: hpcsera.RunPart{Site: "hlrs"}}}
	_, err = w.jobs.Submit(t.Context(), alice, other, false, key)
	expect(t, "another request", err, hpcsera.IdempotencyKeyReused)
}

func TestABulkIsAcceptedWholeInItsOrder(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	var specs []hpcsera.JobSpec
	for i := range 250 {
		specs = append(specs, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg", Values: hpcsera.Values{"n": json.RawMessage(fmt.Sprint(i))}}})
	}
	answer, err := w.jobs.Submit(t.Context(), alice, specs, true, jobs.Idempotency{Key: "bulk", Path: "/api/v1/jobs", BodySHA256: "aa"})
	if err != nil {
		t.Fatal(err)
	}
	var bulk hpcsera.BulkAnswer
	if err := json.Unmarshal(answer.Body, &bulk); err != nil || len(bulk.Jobs) != len(specs) {
		t.Fatalf("got %d jobs (%v), want %d", len(bulk.Jobs), err, len(specs))
	}
	last := int64(0)
	for i, s := range bulk.Jobs {
		row := w.row(s.ID)
		if string(row.Values["n"]) != fmt.Sprint(i) || s.Version <= last || s.Version != row.Version {
			t.Fatalf("job %d: got n=%s, version %d after %d, row's %d", i, row.Values["n"], s.Version, last, row.Version)
		}
		last = s.Version
	}
	for _, n := range []int{0, 10_001} {
		_, err := w.jobs.Submit(t.Context(), alice, make([]hpcsera.JobSpec, n), true, jobs.Idempotency{})
		expect(t, fmt.Sprint(n, " jobs"), err, hpcsera.InvalidField)
	}
}

func TestARetryIsANewJobLikeTheOldOne(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	old := w.submit(alice, hpcsera.JobSpec{Code: w.file(alice, hello(), true), RunPart: hpcsera.RunPart{
		Site: "gwdg", Values: hpcsera.Values{"n": json.RawMessage("7")}, Labels: map[string]string{"a": "b"}, Hold: true,
	}})
	_, err := w.jobs.Retry(t.Context(), alice, old.ID, jobs.Idempotency{})
	expect(t, "before its end", err, hpcsera.JobNotFinal)
	if _, err := w.jobs.Cancel(t.Context(), alice, old.ID); err != nil {
		t.Fatal(err)
	}
	_, err = w.jobs.Retry(t.Context(), w.token("alice", roles(1, 8)), old.ID, jobs.Idempotency{})
	expect(t, "without role 6", err, hpcsera.Forbidden)
	_, err = w.jobs.Retry(t.Context(), w.token("alice", client("flowable")), old.ID, jobs.Idempotency{})
	expect(t, "of another client", err, hpcsera.NotFound)
	key := jobs.Idempotency{Key: "k", Path: "/api/v1/jobs/" + old.ID + "/retry", BodySHA256: "aa"}
	answer, err := w.jobs.Retry(t.Context(), alice, old.ID, key)
	if err != nil {
		t.Fatal(err)
	}
	j := jobOf(t, answer)
	expectState(t, "the retry", j, hpcsera.Pending, hpcsera.WaitingForAgent)
	if j.ID == old.ID || j.RetryOf != old.ID || string(j.Values["n"]) != "7" || j.Labels["a"] != "b" || j.Code.Digest != old.Code.Digest {
		t.Errorf("got %+v", j)
	}
	again, err := w.jobs.Retry(t.Context(), alice, old.ID, key)
	if err != nil || string(again.Body) != string(answer.Body) {
		t.Errorf("again: got %s (%v), want the first answer", again.Body, err)
	}
}

func TestANameMeansTheNewestApprovedVersion(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	at := hpcsera.RunPart{Site: "gwdg"}
	one := w.file(alice, hello(), true)
	w.pass(1e9)
	second := hello()
	second.Script = "echo again\n"
	two := w.file(alice, second, true)
	w.pass(1e9)
	third := hello()
	third.Script = "echo not approved\n"
	w.file(alice, third, false)
	if got := w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: at}).Code.Digest; got != two {
		t.Errorf("hello: got %s, want the second %s", got, two)
	}
	if got := w.submit(alice, hpcsera.JobSpec{Code: "hello@" + one, RunPart: at}).Code.Digest; got != one {
		t.Errorf("pinned: got %s, want %s", got, one)
	}
	w.pass(1e9)
	w.approve(alice, hello(), hpcsera.RunPart{})
	if got := w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: at}).Code.Digest; got != one {
		t.Errorf("after the first was approved again: got %s, want %s", got, one)
	}
}

func TestApprovedCodeOfAnotherClientIsReached(t *testing.T) {
	w := newWorld(t)
	alice, flowable := w.token("alice"), w.token("alice", client("flowable"))
	digest := w.file(alice, hello(), false)
	spec := hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}
	_, err := w.jobs.Submit(t.Context(), flowable, []hpcsera.JobSpec{spec}, false, jobs.Idempotency{})
	expect(t, "before", err, hpcsera.UnknownCode)
	w.approve(w.token("alice", wholeProject), hello(), hpcsera.RunPart{}, forClients("flowable"))
	expectState(t, "after", w.submit(flowable, spec), hpcsera.Pending, hpcsera.WaitingForAgent)
}

// Who is in a project can call code as others do; a name is its user's own.
func TestANameNeverMeansWhatAnotherMemberApproved(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.token("alice", wholeProject), w.token("bob", wholeProject)
	at := hpcsera.RunPart{Site: "gwdg"}
	mine := w.file(alice, hello(), true)
	w.pass(time.Second)
	theirs := hello()
	theirs.Script = "echo of bob\n"
	other := w.file(bob, theirs, true)
	if got := w.submit(alice, hpcsera.JobSpec{Code: "hello", RunPart: at}).Code.Digest; got != mine {
		t.Errorf("alice's hello: got %s, want her own %s, not bob's newer %s", got, mine, other)
	}
	j := w.submit(alice, hpcsera.JobSpec{Code: other, RunPart: at})
	expectState(t, "bob's code by its digest, without alice's own approval", j, hpcsera.Pending, hpcsera.WaitingForApproval)
}
