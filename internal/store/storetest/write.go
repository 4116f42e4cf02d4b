package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

var errOwn = errors.New("the closure's own error")

var writeTests = map[string]func(*testing.T, Database){
	"a failing closure undoes only itself":                     testFailsAlone,
	"a failing closure undoes every kind of change":            testUndoesAll,
	"an error comes back as it is":                             testErrorAsIs,
	"a closure that ignores ErrNotFound and ErrExists goes on": testGoesOn,
	"a panic is the caller's and the store goes on":            testPanic,
	"a context that ended writes nothing":                      testContextBefore,
	"a context that ends while others write is answered":       testContextWhile,
	"a closure reads what it and those before it wrote":        testReadsOwn,
	"a taken job id fails its closure and no other":            testTakenID,
	"a bulk with a taken id leaves nothing":                    testTakenBulk,
	"a read is a snapshot":                                     testSnapshot,
	"a replica's closure reads what another replica committed": testReplicaReads,
	"counting up in closures of many writers loses no step":    testNoLostUpdate,
	"a closed store refuses and can be closed again":           testClosed,
	"what waits for a closing store is answered":               testClosing,
	"ten thousand jobs are filed together":                     testBulk,
}

func testFailsAlone(t *testing.T, d Database) {
	s := d.Open(t)
	var closures []func(store.Tx) error
	for i := range 24 {
		closures = append(closures, func(tx store.Tx) error {
			if i%8 == 5 {
				return errOwn // before it wrote
			}
			if _, err := file(tx, func(j *store.Job) { j.Name = fmt.Sprintf("job-%d", i) }); err != nil {
				return err
			}
			if err := tx.InsertUser(hpcsera.User{Name: fmt.Sprintf("user-%d", i)}); err != nil {
				return err
			}
			switch i % 8 {
			case 1, 2, 6:
				return errOwn
			case 3:
				panic("in the closure")
			}
			return nil
		})
	}
	errs := inOneTransaction(t, s, closures...)
	for i, err := range errs {
		want := error(nil)
		switch i % 8 {
		case 1, 2, 5, 6:
			want = errOwn
		case 3:
			want = errPanicked
		}
		wantErr(t, fmt.Sprintf("closure %d", i), err, want)
		list := get(t, s, func(r store.Reader) ([]store.Listed, error) {
			return r.Jobs(store.JobFilter{Name: fmt.Sprintf("job-%d", i)})
		})
		if (len(list) == 1) != (want == nil) {
			t.Errorf("closure %d ended with %v and left %d jobs", i, err, len(list))
		}
		_, err := readUser(t, s, fmt.Sprintf("user-%d", i))
		if (err == nil) != (want == nil) {
			t.Errorf("closure %d ended with %v; its user: %v", i, errs[i], err)
		}
	}
}

func readUser(t *testing.T, s store.Store, name string) (u *hpcsera.User, err error) {
	t.Helper()
	err = s.Read(t.Context(), func(r store.Reader) error {
		u, err = r.User(name)
		return err
	})
	return u, err
}

func testUndoesAll(t *testing.T, d Database) {
	s := d.Open(t)
	var kept *store.Job
	write(t, s, func(tx store.Tx) (err error) {
		if kept, err = file(tx, func(j *store.Job) { j.Labels = map[string]string{"case": "a"} }); err != nil {
			return err
		}
		return errors.Join(
			tx.InsertUser(hpcsera.User{Name: "alice"}), tx.InsertProject(hpcsera.Project{Name: "cfd"}), tx.InsertClient(hpcsera.Client{Name: "ci"}),
			tx.InsertSite(hpcsera.Site{Name: "gwdg"}), tx.InsertToken(hpcsera.Token{ID: "t_1"}, []byte{1}),
			tx.InsertAgent(store.Agent{Agent: hpcsera.Agent{ID: "ag_1"}}), tx.PutCode(codeRow("cfd", "a", 0)),
			tx.KeepAnswer("scope", "kept", store.Answer{Status: 201, Created: day}),
		)
	})
	before := dump(t, s, kept.ID)
	everything := func(tx store.Tx) error {
		j, err := tx.Job(kept.ID)
		if err != nil {
			return err
		}
		if j.Version, err = tx.NextSeq(); err != nil {
			return err
		}
		j.State, j.Labels = hpcsera.Cancelled, map[string]string{"case": "b"}
		if _, err := file(tx, func(n *store.Job) { n.Depends = []hpcsera.Dependency{{Job: kept.ID}} }); err != nil {
			return err
		}
		err = errors.Join(
			tx.UpdateJobs(j), tx.Append(eventOf(j)), tx.KeepAnswer("scope", "new", store.Answer{Status: 200, Created: day}),
			tx.DropAnswers(day.Add(time.Hour)), tx.DeleteCode("cfd", digest("a")), tx.PutCode(codeRow("cfd", "b", 0)), tx.PutBlob("cfd", digest("x"), 1),
			tx.PutApproval(store.Approval{Approval: hpcsera.Approval{ID: "ap_1", User: "alice", Project: "cfd"}}),
			tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true}), tx.SetMember("cfd", "alice", hpcsera.Owner),
			tx.UpdateClient(hpcsera.Client{Name: "ci", Disabled: true}), tx.UpdateSite(hpcsera.Site{Name: "gwdg", Disabled: true}),
			tx.RevokeToken("t_1", day), tx.UpdateAgent(store.Agent{Agent: hpcsera.Agent{ID: "ag_1"}, Term: 7}),
			tx.SeenAgents(map[string]time.Time{"ag_1": day}), tx.DeleteJob(kept.ID),
		)
		if err != nil {
			return err
		}
		if _, err := tx.Events(store.EventFilter{}); err != nil { // has them written
			return err
		}
		return errOwn
	}
	other := func(name string) func(store.Tx) error {
		return func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: name}) }
	}
	errs := inOneTransaction(t, s, everything, other("u1"), everything, other("u2"), everything)
	for i, want := range []error{errOwn, nil, errOwn, nil, errOwn} {
		wantErr(t, fmt.Sprintf("closure %d", i), errs[i], want)
	}
	if after := dump(t, s, kept.ID); after != before {
		t.Errorf("the failed closure left something:\nbefore %s\nafter  %s", before, after)
	}
}

// dump returns what the reader shows of what testUndoesAll touches.
func dump(t *testing.T, s store.Store, job string) string {
	t.Helper()
	var text string
	add := func(v any, err error) { text += fmt.Sprintf("%+v %v\n", v, err) }
	read(t, s, func(r store.Reader) error {
		list, err := r.Jobs(store.JobFilter{Label: [2]string{"case", "a"}})
		add(len(list), err)
		list, err = r.Jobs(store.JobFilter{})
		add(len(list), err)
		j, err := r.Job(job)
		add(j.State, err)
		e, err := r.Events(store.EventFilter{})
		add(len(e), err)
		d, err := r.Dependents(job)
		add(len(d), err)
		a, err := r.Idempotent("scope", "kept")
		add(*a, err)
		_, err = r.Idempotent("scope", "new")
		add("new answer", err)
		c, err := r.CodeList("cfd", "", "", 0)
		add(len(c), err)
		b, err := r.HasBlob("cfd", digest("x"))
		add(b, err)
		p, err := r.Approvals("alice", "cfd", "", "", "", 0)
		add(len(p), err)
		u, err := r.User("alice")
		add(*u, err)
		pr, err := r.Project("cfd")
		add(*pr, err)
		cl, err := r.Client("ci")
		add(*cl, err)
		si, err := r.Site("gwdg")
		add(*si, err)
		to, _, err := r.Token("t_1")
		add(to.Revoked, err)
		ag, err := r.Agent("ag_1")
		add(ag.Term, err)
		add(ag.LastSeen, err)
		return nil
	})
	return text
}

func testErrorAsIs(t *testing.T, d Database) {
	s := d.Open(t)
	want := hpcsera.Errorf(hpcsera.Conflict, "the job is not that far").At("state")
	got := s.Write(t.Context(), func(store.Tx) error { return want })
	if got != error(want) { //nolint:errorlint // the promise is identity
		t.Errorf("Write: got %v, want the closure's own error value", got)
	}
	got = s.Read(t.Context(), func(store.Reader) error { return want })
	if got != error(want) { //nolint:errorlint // the promise is identity
		t.Errorf("Read: got %v, want the closure's own error value", got)
	}
}

func testGoesOn(t *testing.T, d Database) {
	s := d.Open(t)
	write(t, s, func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: "alice"}) })
	write(t, s, func(tx store.Tx) error {
		_, err := tx.Job("j_none")
		wantErr(t, "Job", err, store.ErrNotFound)
		wantErr(t, "InsertUser", tx.InsertUser(hpcsera.User{Name: "alice", Operator: true}), store.ErrExists)
		wantErr(t, "UpdateClient", tx.UpdateClient(hpcsera.Client{Name: "none"}), store.ErrNotFound)
		return tx.InsertUser(hpcsera.User{Name: "bob"})
	})
	if u, err := readUser(t, s, "bob"); err != nil {
		t.Errorf("what came after is missing: %v %v", u, err)
	}
	if u, err := readUser(t, s, "alice"); err != nil || u.Operator {
		t.Errorf("inserting a taken name changed it: %+v %v", u, err)
	}
}

func testPanic(t *testing.T, d Database) {
	s := d.Open(t)
	within(t, "Write", func() {
		defer func() {
			if p := recover(); p != "mine" {
				t.Errorf("recovered %v, want the closure's panic in its caller", p)
			}
		}()
		s.Write(t.Context(), func(tx store.Tx) error { //nolint:errcheck // it panics
			if _, err := file(tx); err != nil {
				t.Error(err)
			}
			panic("mine")
		})
	})
	within(t, "Read", func() {
		defer func() { _ = recover() }()
		s.Read(t.Context(), func(store.Reader) error { panic("mine") }) //nolint:errcheck // it panics
	})
	within(t, "Write", func() {
		done := make(chan struct{})
		go func() { // as t.Fatal in a closure would
			defer close(done)
			s.Write(t.Context(), func(store.Tx) error { exitGoroutine(); return nil }) //nolint:errcheck // it does not return
		}()
		<-done
	})
	insert(t, s)
	if n := len(events(t, s)); n != 1 {
		t.Errorf("got %d events, want the one that came after", n)
	}
}

func testContextBefore(t *testing.T, d Database) {
	s := d.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.Write(ctx, func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: "alice"}) })
	wantErr(t, "Write", err, context.Canceled)
	wantErr(t, "Read", s.Read(ctx, func(store.Reader) error { return nil }), context.Canceled)
	_, err = readUser(t, s, "alice")
	wantErr(t, "User", err, store.ErrNotFound)
}

func testContextWhile(t *testing.T, d Database) {
	s := d.Open(t)
	inside, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- s.Write(t.Context(), func(tx store.Tx) error {
			select {
			case <-inside:
			default:
				close(inside)
				<-release
			}
			return tx.InsertUser(hpcsera.User{Name: "first"})
		})
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, 1)
	go func() {
		waiting <- s.Write(ctx, func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: "second"}) })
	}()
	cancel()
	within(t, "Write with an ended context", func() { wantErr(t, "Write", <-waiting, context.Canceled) })
	close(release)
	if err := <-first; err != nil {
		t.Errorf("the other Write: %v", err)
	}
	insert(t, s)
}

func testReadsOwn(t *testing.T, d Database) {
	s := d.Open(t)
	agent := func(j *store.Job) {
		j.Agent, j.OrderSeq, j.Delivered, j.State = "ag_1", j.Version, j.Version, hpcsera.Queued
	}
	var first, taken *store.Job
	writeAll := func(tx store.Tx) (err error) {
		if first, err = file(tx, func(j *store.Job) { j.Labels = map[string]string{"k": "v"} }); err != nil {
			return err
		}
		if taken, err = file(tx, agent, func(j *store.Job) { j.Depends = []hpcsera.Dependency{{Job: first.ID}} }); err != nil {
			return err
		}
		_, err = file(tx, func(j *store.Job) { j.Reason, j.Ready, j.Code.Digest = hpcsera.WaitingForApproval, false, "sha256:1" })
		return errors.Join(err, tx.KeepAnswer("s", "k", store.Answer{Status: 201, Created: day}), tx.KeepAnswer("s", "k", store.Answer{Status: 202, Created: day}))
	}
	readAll := func(tx store.Tx) error {
		check := func(what string, got, want any, err error) {
			if err != nil || got != want {
				t.Errorf("%s: got %v (%v), want %v", what, got, err, want)
			}
		}
		j, err := tx.Job(first.ID)
		check("Job", j.ID, first.ID, err)
		list, err := tx.Jobs(store.JobFilter{Label: [2]string{"k", "v"}})
		check("Jobs", len(list), 1, err)
		jobs, err := tx.Orders("ag_1", 0, 10)
		check("Orders", len(jobs), 1, err)
		jobs, err = tx.Ready("alice", "gwdg", []string{"cfd"}, 10)
		check("Ready", len(jobs), 1, err)
		jobs, err = tx.AwaitingApproval("alice", "cfd", "sha256:1")
		check("AwaitingApproval", len(jobs), 1, err)
		jobs, err = tx.Dependents(first.ID)
		check("Dependents", len(jobs), 1, err)
		n, err := tx.UnfinishedByAgent("ag_1")
		check("UnfinishedByAgent", n, 1, err)
		list2, err := tx.Events(store.EventFilter{Job: taken.ID})
		check("Events", len(list2), 1, err)
		a, err := tx.Idempotent("s", "k")
		check("Idempotent", a.Status, 202, err)
		return nil
	}
	write(t, s, func(tx store.Tx) error { return errors.Join(writeAll(tx), readAll(tx)) })
	write(t, s, readAll)
}

func testTakenID(t *testing.T, d Database) {
	s := d.Open(t)
	taken := insert(t, s)
	again := func(tx store.Tx) error {
		_, err := file(tx, func(j *store.Job) { j.ID, j.Name = taken.ID, "thief" })
		return err
	}
	good := func(tx store.Tx) error {
		_, err := file(tx, func(j *store.Job) { j.Name = "good" })
		return err
	}
	same := hpcsera.NewID("j")
	twice := func(tx store.Tx) error {
		_, err := file(tx, func(j *store.Job) { j.ID, j.Name = same, "twice" })
		return err
	}
	look := func(tx store.Tx) error {
		_, err := tx.Jobs(store.JobFilter{})
		return err
	}
	errs := inOneTransaction(t, s, good, again, look, good, twice, again, twice, good)
	failed := 0
	for i, err := range errs {
		switch i {
		case 1, 5:
			wantErr(t, "a taken id", err, store.ErrExists)
		case 4, 6:
			if err != nil {
				failed++
				wantErr(t, "an id twice", err, store.ErrExists)
			}
		default:
			wantErr(t, fmt.Sprintf("closure %d", i), err, nil)
		}
	}
	if failed != 1 {
		t.Errorf("%d of two closures with the same new id failed, want 1", failed)
	}
	for name, want := range map[string]int{"good": 3, "thief": 0, "twice": 1, "cavity": 1} {
		list := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(store.JobFilter{Name: name}) })
		if len(list) != want {
			t.Errorf("got %d jobs named %s, want %d", len(list), name, want)
		}
	}
}

func testTakenBulk(t *testing.T, d Database) {
	s := d.Open(t)
	taken := insert(t, s)
	bulk := func(tx store.Tx) error {
		jobs := make([]*store.Job, 100)
		for i := range jobs {
			seq, err := tx.NextSeq()
			if err != nil {
				return err
			}
			jobs[i] = newJob(seq)
		}
		jobs[70].ID = taken.ID
		return tx.InsertJobs(jobs)
	}
	wantErr(t, "bulk", s.Write(t.Context(), bulk), store.ErrExists)
	err := s.Write(t.Context(), func(tx store.Tx) error {
		bulk(tx) //nolint:errcheck // a careless caller
		return nil
	})
	wantErr(t, "bulk by a closure that ignores the error", err, store.ErrExists)
	list := get(t, s, func(r store.Reader) ([]store.Listed, error) { return r.Jobs(store.JobFilter{}) })
	if len(list) != 1 {
		t.Errorf("got %d jobs, want the one that was there", len(list))
	}
}

func testSnapshot(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s)
	read(t, s, func(r store.Reader) error {
		before, err := r.Jobs(store.JobFilter{})
		if err != nil {
			return err
		}
		insert(t, s)
		after, err := r.Jobs(store.JobFilter{})
		if err != nil {
			return err
		}
		last, err := r.LastSeq()
		if len(before) != 1 || len(after) != 1 || last != 1 {
			t.Errorf("got %d and then %d jobs and LastSeq %d in one Read, want 1, 1 and 1", len(before), len(after), last)
		}
		return err
	})
}

func testReplicaReads(t *testing.T, d Database) {
	a, b := d.Open(t), store.Store(nil)
	if b = a; d.Replicas {
		b = d.Open(t)
	}
	for i := range 5 {
		name := fmt.Sprintf("user-%d", i)
		write(t, a, func(tx store.Tx) error { return tx.InsertUser(hpcsera.User{Name: name}) })
		write(t, b, func(tx store.Tx) error {
			_, err := tx.User(name)
			return err
		})
		if _, err := readUser(t, b, name); err != nil {
			t.Errorf("the other replica reads %v", err)
		}
	}
}

func testNoLostUpdate(t *testing.T, d Database) {
	stores := []store.Store{d.Open(t)}
	if d.Replicas {
		stores = append(stores, d.Open(t))
	}
	j := insert(t, stores[0])
	const writers, steps = 8, 20
	var failed atomic.Int64
	done := make(chan struct{})
	for n := range writers {
		go func() {
			defer func() { done <- struct{}{} }()
			for range steps {
				err := stores[n%len(stores)].Write(t.Context(), func(tx store.Tx) error {
					j, err := tx.Job(j.ID)
					if err != nil {
						return err
					}
					j.Revision++
					return tx.UpdateJobs(j)
				})
				if err != nil {
					failed.Add(1)
					t.Errorf("Write: %v", err)
				}
			}
		}()
	}
	for range writers {
		<-done
	}
	got := get(t, stores[0], func(r store.Reader) (*store.Job, error) { return r.Job(j.ID) })
	if want := writers*steps - failed.Load(); got.Revision != want {
		t.Errorf("after %d steps the revision is %d", want, got.Revision)
	}
}

func testClosed(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	within(t, "a closed store", func() {
		err := s.Write(context.Background(), func(store.Tx) error { return nil })
		if got := hpcsera.CodeOf(err); got != hpcsera.Unavailable {
			t.Errorf("Write: got %q (%v), want %q", got, err, hpcsera.Unavailable)
		}
		err = s.Read(context.Background(), func(store.Reader) error { return nil })
		if got := hpcsera.CodeOf(err); got != hpcsera.Unavailable {
			t.Errorf("Read: got %q (%v), want %q", got, err, hpcsera.Unavailable)
		}
	})
}

func testClosing(t *testing.T, d Database) {
	s := d.Open(t)
	done := make(chan struct{})
	for n := range 16 {
		go func() {
			defer func() { done <- struct{}{} }()
			for i := 0; ; i++ {
				err := s.Write(context.Background(), func(tx store.Tx) error {
					return tx.InsertUser(hpcsera.User{Name: fmt.Sprintf("u-%d-%d", n, i)})
				})
				if err != nil {
					if got := hpcsera.CodeOf(err); got != hpcsera.Unavailable {
						t.Errorf("Write: got %q (%v), want %q", got, err, hpcsera.Unavailable)
					}
					return
				}
			}
		}()
	}
	within(t, "closing", func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for range 16 {
			<-done
		}
	})
}

func testBulk(t *testing.T, d Database) {
	s := d.Open(t)
	const n = 10_000
	write(t, s, func(tx store.Tx) error {
		jobs := make([]*store.Job, n)
		for i := range jobs {
			seq, err := tx.NextSeq()
			if err != nil {
				return err
			}
			jobs[i] = newJob(seq, func(j *store.Job) { j.Labels = map[string]string{"half": fmt.Sprint(i % 2)} })
		}
		if err := tx.InsertJobs(jobs); err != nil {
			return err
		}
		for _, j := range jobs {
			if err := tx.Append(eventOf(j)); err != nil {
				return err
			}
		}
		return nil
	})
	if got := len(events(t, s)); got != n {
		t.Errorf("got %d events, want %d", got, n)
	}
	got, older := 0, int64(0)
	for {
		page := get(t, s, func(r store.Reader) ([]store.Listed, error) {
			return r.Jobs(store.JobFilter{Label: [2]string{"half", "1"}, Older: older, Limit: 1000})
		})
		got += len(page)
		if len(page) < 1000 {
			break
		}
		older = page[len(page)-1].Cursor
	}
	if got != n/2 {
		t.Errorf("got %d jobs with the label, want %d", got, n/2)
	}
}
