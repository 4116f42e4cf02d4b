package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

func TestWhatATokenDoesNotReachIsNotListed(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	mine := w.ready(alice)
	w.approve(w.token("alice", wholeProject), hello(), hpcsera.RunPart{})
	flowables := w.submit(w.token("alice", client("flowable")), hpcsera.JobSpec{Code: "hello", RunPart: hpcsera.RunPart{Site: "hlrs"}})
	w.ready(w.token("alice", inProject("melt")))
	for _, c := range []struct {
		name string
		p    *auth.Principal
		want []string
	}{
		{"its own client's", alice, []string{mine.ID}},
		{"the whole project's", w.token("alice", wholeProject), []string{flowables.ID, mine.ID}},
		{"the project's at one site", w.token("alice", wholeProject, atSite("hlrs")), []string{flowables.ID}},
		{"a viewer's, of the same client", w.token("carol", roles(1)), []string{mine.ID}},
	} {
		list, err := w.jobs.List(t.Context(), c.p, jobs.ListQuery{})
		var got []string
		for _, j := range list.Jobs {
			got = append(got, j.ID)
		}
		if err != nil || strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: got %v (%v), want %v", c.name, got, err, c.want)
		}
		events, err := w.jobs.Events(t.Context(), c.p, jobs.EventQuery{})
		if err != nil || len(events.Events) != len(c.want) {
			t.Errorf("%s events: got %+v (%v), want %d", c.name, events, err, len(c.want))
		}
	}
	list, err := w.jobs.List(t.Context(), w.token("alice", wholeProject, atSite("hlrs")), jobs.ListQuery{Site: "gwdg"})
	if err != nil || len(list.Jobs) != 0 {
		t.Errorf("another site than the token's: got %+v (%v), want none", list, err)
	}
	_, err = w.jobs.List(t.Context(), w.token("alice", roles(2, 3, 4, 5, 6, 7, 8)), jobs.ListQuery{})
	expect(t, "without role 1", err, hpcsera.Forbidden)
	_, err = w.jobs.Get(t.Context(), w.token("alice", roles(6)), mine.ID)
	expect(t, "one without role 1", err, hpcsera.Forbidden)
	for name, p := range map[string]*auth.Principal{
		"another project": w.token("alice", inProject("melt")), "another client": w.token("alice", client("flowable")),
		"an agent": w.agentOf("alice", "gwdg", "cfd").principal(),
	} {
		_, err := w.jobs.Get(t.Context(), p, mine.ID)
		expect(t, name, err, hpcsera.NotFound)
		_, absent := w.jobs.Get(t.Context(), p, "j_00000000000000000000")
		if got, want := strings.ReplaceAll(fmt.Sprint(err), mine.ID, "X"), strings.ReplaceAll(fmt.Sprint(absent), "j_00000000000000000000", "X"); got != want {
			t.Errorf("%s: an unreached job says %q, an absent one %q", name, got, want)
		}
	}
}

func TestPagesGoThroughAllJobsOnce(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	var want []string
	for range 7 {
		want = append([]string{w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}).ID}, want...)
	}
	var got []string
	query := jobs.ListQuery{Limit: 3}
	for {
		page, err := w.jobs.List(t.Context(), alice, query)
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range page.Jobs {
			got = append(got, j.ID)
		}
		w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg"}}) // newer ones do not shift the pages
		if query.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
	longest, err := w.jobs.List(t.Context(), alice, jobs.ListQuery{Limit: 1000})
	if err != nil || longest.Next != "" || len(longest.Jobs) < len(want) {
		t.Errorf("the longest page that the contract allows: %d jobs, next %q, %v; want all of them", len(longest.Jobs), longest.Next, err)
	}
	for name, q := range map[string]jobs.ListQuery{
		"cursor": {Cursor: "x"}, "state": {State: "done"}, "limit": {Limit: 1001}, "negative limit": {Limit: -1}, "label": {Label: "a"},
	} {
		_, err := w.jobs.List(t.Context(), alice, q)
		expect(t, name, err, hpcsera.InvalidField)
	}
}

func TestFiltersNarrowAList(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	digest := w.file(alice, hello(), true)
	one := w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "gwdg", Labels: map[string]string{"paper": "melt"}}})
	two := w.submit(alice, hpcsera.JobSpec{Code: digest, RunPart: hpcsera.RunPart{Site: "hlrs", Annotations: map[string]string{"orcid": "0"}}})
	if _, err := w.jobs.Cancel(t.Context(), alice, two.ID); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		q    jobs.ListQuery
		want string
	}{
		"state":      {jobs.ListQuery{State: hpcsera.Cancelled}, two.ID},
		"site":       {jobs.ListQuery{Site: "gwdg"}, one.ID},
		"label":      {jobs.ListQuery{Label: "paper=melt"}, one.ID},
		"annotation": {jobs.ListQuery{Annotation: "orcid=0"}, two.ID},
		"name":       {jobs.ListQuery{Name: "hello"}, two.ID + " " + one.ID},
		"after":      {jobs.ListQuery{After: w.clock().Add(time.Hour)}, ""},
		"before":     {jobs.ListQuery{Before: w.clock().Add(-time.Hour)}, ""},
	} {
		list, err := w.jobs.List(t.Context(), alice, c.q)
		var got []string
		for _, j := range list.Jobs {
			got = append(got, j.ID)
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %v (%v), want %s", name, got, err, c.want)
		}
	}
}

func TestAWaitEndsWithTheNextChange(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	alice := w.token("alice")
	now := w.row(j.ID).Version
	old, err := w.jobs.Wait(t.Context(), alice, j.ID, now-1, time.Minute)
	if err != nil || old.Version != now {
		t.Errorf("already newer: got version %d (%v), want %d", old.Version, err, now)
	}
	unchanged, err := w.jobs.Wait(t.Context(), alice, j.ID, now, 0)
	if err != nil || unchanged.Version != now {
		t.Errorf("without waiting: got version %d (%v), want %d", unchanged.Version, err, now)
	}
	done := make(chan hpcsera.Job, 1)
	go func() {
		got, err := w.jobs.Wait(context.Background(), alice, j.ID, now, time.Minute)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	a.send(a.report(j.ID, hpcsera.Running))
	if got := <-done; got.State != hpcsera.Running {
		t.Errorf("woken: got %s, want running", got.State)
	}
	a.send(a.report(j.ID, hpcsera.Succeeded))
	final := w.row(j.ID).Version
	if got, err := w.jobs.Wait(t.Context(), alice, j.ID, final, time.Minute); err != nil || got.Version != final {
		t.Errorf("after its end: got %d (%v), want %d at once", got.Version, err, final)
	}
	_, err = w.jobs.Wait(t.Context(), w.token("alice", client("flowable")), j.ID, 0, time.Minute)
	expect(t, "another client", err, hpcsera.NotFound)
}

// listen streams into a slice until n events came, and returns them.
func listen(t *testing.T, w *world, p *auth.Principal, q jobs.EventQuery, n int, meanwhile func()) []hpcsera.Event {
	t.Helper()
	var mu sync.Mutex
	var got []hpcsera.Event
	enough := errors.New("enough")
	started := make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	go func() {
		done <- w.jobs.Stream(context.Background(), p, q, func(e hpcsera.Event) error {
			mu.Lock()
			defer mu.Unlock()
			once.Do(func() { close(started) })
			if got = append(got, e); len(got) == n {
				return enough
			}
			return nil
		}, func() error { return nil })
	}()
	<-started
	meanwhile()
	if err := <-done; err != enough {
		t.Fatalf("stream: %v", err)
	}
	return got
}

func TestAStreamShowsEachEventOnceAndInOrder(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	alice := w.token("alice")
	before, err := w.jobs.Events(t.Context(), alice, jobs.EventQuery{Job: j.ID})
	if err != nil || len(before.Events) != 2 {
		t.Fatalf("before: got %+v (%v), want submission and delivery", before, err)
	}
	got := listen(t, w, alice, jobs.EventQuery{Job: j.ID}, 5, func() {
		a.send(a.report(j.ID, hpcsera.Queued), a.report(j.ID, hpcsera.Running))
		w.ready(w.token("alice", inProject("melt")))
		a.send(a.report(j.ID, hpcsera.Succeeded))
	})
	var states []string
	last := int64(0)
	for _, e := range got {
		states = append(states, string(e.State))
		if e.Seq <= last || e.Job != j.ID {
			t.Errorf("event %+v after seq %d", e, last)
		}
		last = e.Seq
	}
	if want := "pending pending queued running succeeded"; strings.Join(states, " ") != want {
		t.Errorf("got %v, want %s", states, want)
	}
	again := listen(t, w, alice, jobs.EventQuery{After: got[2].Seq}, 2, func() {})
	if again[0].Seq != got[3].Seq || again[1].Seq != got[4].Seq {
		t.Errorf("resumed after %d: got %+v", got[2].Seq, again)
	}
}

func TestASlowStreamReadsAgainWhatItMissed(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.ready(alice)
	const n = 5000 // more than a subscription holds
	next := int64(0)
	got := listen(t, w, alice, jobs.EventQuery{Job: j.ID}, n, func() {
		// The listener's own emit is held up by nothing, so the backlog is
		// filled in one transaction.
		w.write(func(tx store.Tx) error {
			ledger, err := store.NewLedger(tx, w.clock())
			if err != nil {
				return err
			}
			row, err := tx.Job(j.ID)
			if err != nil {
				return err
			}
			for range n {
				if err := ledger.Update(row, store.AnnotatedEvent); err != nil {
					return err
				}
			}
			return nil
		})
	})
	for _, e := range got {
		if next != 0 && e.Seq != next {
			t.Fatalf("got seq %d, want %d", e.Seq, next)
		}
		next = e.Seq + 1
	}
}

func TestAStreamEndsSoonAfterItsTokenWasRevoked(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	w.ready(alice)
	done := make(chan error, 1)
	started := make(chan struct{}, 10)
	go func() {
		done <- w.jobs.Stream(context.Background(), alice, jobs.EventQuery{}, func(hpcsera.Event) error {
			started <- struct{}{}
			return nil
		}, func() error { return nil })
	}()
	<-started
	if err := w.jobs.RevokeToken(t.Context(), alice.Token.ID, false, "user:alice"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		expect(t, "the stream", err, hpcsera.TokenInvalid)
	case <-time.After(30 * time.Second):
		t.Fatal("the stream goes on")
	}
}

func TestAStoppingServerEndsStreams(t *testing.T) {
	w := newWorld(t)
	alice := w.token("alice")
	j := w.ready(alice)
	done := make(chan error, 2)
	started := make(chan struct{}, 10)
	go func() {
		done <- w.jobs.Stream(context.Background(), alice, jobs.EventQuery{}, func(hpcsera.Event) error {
			started <- struct{}{}
			return nil
		}, func() error { return nil })
	}()
	go func() {
		done <- w.jobs.FollowLog(context.Background(), alice, jobs.LogRef{Job: j.ID, Stream: "stdout"}, 0, io.Discard, func() error { return nil })
	}()
	<-started
	close(w.stop)
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("got %v, want nil", err)
		}
	}
}

func TestOutputComesFromTheJobsAgentOnlyAndWithoutGaps(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	ref := jobs.LogRef{Job: j.ID, Stream: "stdout", Attempt: 1}
	put := func(p *auth.Principal, ref jobs.LogRef, offset int64, text string) error {
		_, err := w.jobs.AppendLog(t.Context(), p, ref, offset, textReader(text))
		return err
	}
	expect(t, "a client", put(w.token("alice"), ref, 0, "x"), hpcsera.NotFound)
	expect(t, "another agent", put(w.agentOf("bob", "gwdg", "cfd").principal(), ref, 0, "x"), hpcsera.NotFound)
	for name, bad := range map[string]jobs.LogRef{
		"another stream": {Job: j.ID, Stream: "../stdout", Attempt: 1}, "no attempt": {Job: j.ID, Stream: "stdout"},
		"a negative attempt": {Job: j.ID, Stream: "stdout", Attempt: -1},
	} {
		expect(t, name, put(a.principal(), bad, 0, "x"), hpcsera.InvalidField)
	}
	expect(t, "a path as job", put(a.principal(), jobs.LogRef{Job: "../x", Stream: "stdout", Attempt: 1}, 0, "x"), hpcsera.NotFound)
	expect(t, "the beginning", put(a.principal(), ref, 0, "hello "), "")
	for _, offset := range []int64{0, 3, 7} {
		err := put(a.principal(), ref, offset, "world\n")
		var e *hpcsera.Error
		if !errors.As(err, &e) || e.Code != hpcsera.WrongOffset || e.Expected != 6 {
			t.Errorf("at %d: got %v, want wrong_offset, expected 6", offset, err)
		}
	}
	expect(t, "the rest", put(a.principal(), ref, 6, "world\n"), "")
	f, err := w.jobs.Log(t.Context(), w.token("alice"), jobs.LogRef{Job: j.ID, Stream: "stdout"})
	if got := readAll(t, f, err); got != "hello world\n" {
		t.Errorf("got %q", got)
	}
	f, err = w.jobs.Log(t.Context(), w.token("alice"), jobs.LogRef{Job: j.ID, Stream: "stderr"})
	if got := readAll(t, f, err); got != "" {
		t.Errorf("without output: got %q, want nothing", got)
	}
	_, err = w.jobs.Log(t.Context(), w.token("alice", roles(6)), ref)
	expect(t, "without role 1", err, hpcsera.Forbidden)
	_, err = w.jobs.Log(t.Context(), w.token("alice", client("flowable")), ref)
	expect(t, "another client", err, hpcsera.NotFound)
}

func readAll(t *testing.T, f blob.File, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, f.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAFollowerGetsAllOutputUntilTheEnd(t *testing.T) {
	w := newWorld(t)
	j, a := w.taken()
	var got bytes.Buffer
	began := make(chan struct{}, 100)
	done := make(chan error, 1)
	alice := w.token("alice")
	p := a.principal()
	go func() {
		done <- w.jobs.FollowLog(context.Background(), alice, jobs.LogRef{Job: j.ID, Stream: "stdout"}, 2, &got, func() error {
			began <- struct{}{}
			return nil
		})
	}()
	var want strings.Builder
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		if _, err := w.jobs.AppendLog(t.Context(), p, jobs.LogRef{Job: j.ID, Stream: "stdout", Attempt: 1}, int64(want.Len()), textReader(line)); err != nil {
			t.Fatal(err)
		}
		want.WriteString(line)
	}
	<-began
	a.send(a.report(j.ID, hpcsera.Succeeded))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String()[2:] {
		t.Errorf("got %q, want %q", got.String(), want.String()[2:])
	}
}

func TestASiteShowsTheUsersOwnAgentsOnly(t *testing.T) {
	w := newWorld(t)
	a := w.agentOf("alice", "gwdg", "cfd")
	w.agentOf("bob", "gwdg", "cfd")
	a.work(0)
	site, err := w.jobs.Site(t.Context(), w.token("alice", roles()), "gwdg")
	if err != nil || len(site.Agents) != 1 || site.Agents[0].ID != a.id || site.Agents[0].LastSeen == nil || site.Agents[0].Facts.Host != "login1" {
		t.Errorf("got %+v (%v), want alice's agent, seen, with its facts", site, err)
	}
	list, err := w.jobs.Sites(t.Context(), w.token("carol"))
	if err != nil || len(list.Sites) != 2 || len(list.Sites[0].Agents) != 0 {
		t.Errorf("carol: got %+v (%v), want two sites without agents", list, err)
	}
	if list, err = w.jobs.Sites(t.Context(), w.token("alice", atSite("hlrs"))); err != nil || len(list.Sites) != 1 || list.Sites[0].Name != "hlrs" {
		t.Errorf("a token for hlrs: got %+v (%v), want hlrs", list, err)
	}
	_, err = w.jobs.Site(t.Context(), w.token("alice", atSite("hlrs")), "gwdg")
	expect(t, "another site than the token's", err, hpcsera.NotFound)
	_, err = w.jobs.Site(t.Context(), w.token("alice"), "mars")
	expect(t, "no site", err, hpcsera.NotFound)
	_, err = w.jobs.Self(a.principal())
	expect(t, "an agent asks for its token", err, hpcsera.NotFound)
}
