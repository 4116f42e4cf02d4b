// Package storetest is the specification of a [store.Store]: one suite that
// every engine has to pass on the real database. What is not tested here is
// not promised.
package storetest

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Database is an empty database of one test.
type Database struct {
	// Open opens it. It may be called again after Close, and with Replicas
	// while it is open.
	Open func(t *testing.T) store.Store
	// Replicas says that several stores may be open at once.
	Replicas bool
	// Writer returns a command that opens the database in a process of its own
	// and calls [WriteForever].
	Writer func(t *testing.T) *exec.Cmd
	// Small opens another database that has little space. grow gives it more.
	Small func(t *testing.T) (s store.Store, grow func())
}

// Run runs the suite. newDatabase makes an empty database per test and cleans
// up after it.
func Run(t *testing.T, newDatabase func(t *testing.T) Database) {
	groups := []struct {
		name  string
		tests map[string]func(*testing.T, Database)
	}{
		{"sequence", sequenceTests}, {"feed", feedTests}, {"write", writeTests}, {"crash", crashTests},
		{"jobs", jobTests}, {"lists", listTests}, {"answers", answerTests}, {"code", codeTests}, {"access", accessTests}, {"agents", agentTests},
		{"audit", auditTests}, {"documents", documentTests},
	}
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for name, test := range g.tests {
				t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { test(t, newDatabase(t)) })
			}
		})
	}
}

// patience is how long something may take that has to happen. Nothing is timed:
// it only turns a hang into a failure.
const patience = 60 * time.Second

func write(t *testing.T, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Write(t.Context(), fn); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

func read(t *testing.T, s store.Store, fn func(store.Reader) error) {
	t.Helper()
	if err := s.Read(t.Context(), fn); err != nil {
		t.Fatalf("Read: %v", err)
	}
}

// get reads one thing.
func get[T any](t *testing.T, s store.Store, fn func(store.Reader) (T, error)) T {
	t.Helper()
	var v T
	read(t, s, func(r store.Reader) (err error) {
		v, err = fn(r)
		return err
	})
	return v
}

// wantErr fails unless err is want, in the sense of errors.Is.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// within runs fn and fails if it does not return.
func within(t *testing.T, what string, fn func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

var day = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newJob returns a job of alice in the project cfd that an agent could take.
func newJob(seq int64, change ...func(*store.Job)) *store.Job {
	j := &store.Job{Token: "t_1", Ready: true}
	j.ID, j.Version, j.Name = hpcsera.NewID("j"), seq, "cavity"
	j.Project, j.User, j.Client, j.Site = "cfd", "alice", "ci", "gwdg"
	j.State, j.Reason, j.Attempt, j.Desired = hpcsera.Pending, hpcsera.WaitingForAgent, 1, hpcsera.DesiredRun
	j.Times.Created = day.Add(time.Duration(seq) * time.Second)
	for _, c := range change {
		c(j)
	}
	return j
}

// eventOf returns the event of a job's last change.
func eventOf(j *store.Job) store.Change {
	return store.Change{
		Event: hpcsera.Event{
			Seq: j.Version, At: day, Type: "job.state", Job: j.ID, Project: j.Project, Attempt: j.Attempt, State: j.State, Reason: j.Reason,
		},
		User: j.User, Client: j.Client, Site: j.Site, Agent: j.Agent,
	}
}

// file inserts a new job with its event.
func file(tx store.Tx, change ...func(*store.Job)) (*store.Job, error) {
	seq, err := tx.NextSeq()
	if err != nil {
		return nil, err
	}
	j := newJob(seq, change...)
	if err := tx.InsertJobs([]*store.Job{j}); err != nil {
		return nil, err
	}
	return j, tx.Append(eventOf(j))
}

// insert files a job in a transaction of its own.
func insert(t *testing.T, s store.Store, change ...func(*store.Job)) *store.Job {
	t.Helper()
	var j *store.Job
	write(t, s, func(tx store.Tx) (err error) {
		j, err = file(tx, change...)
		return err
	})
	return j
}

// update changes a job in a transaction of its own.
func update(t *testing.T, s store.Store, id string, change func(*store.Job)) *store.Job {
	t.Helper()
	var j *store.Job
	write(t, s, func(tx store.Tx) (err error) {
		if j, err = tx.Job(id); err != nil {
			return err
		}
		if j.Version, err = tx.NextSeq(); err != nil {
			return err
		}
		change(j)
		if err := tx.UpdateJobs(j); err != nil {
			return err
		}
		return tx.Append(eventOf(j))
	})
	return j
}

// inOneTransaction runs closures so that they share a transaction, in their
// order, as far as the engine lets them: a first one waits inside its closure
// until the others have called Write.
func inOneTransaction(t *testing.T, s store.Store, closures ...func(store.Tx) error) []error {
	t.Helper()
	inside, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		once := false
		first <- s.Write(t.Context(), func(store.Tx) error {
			if !once {
				once = true
				close(inside)
				<-release
			}
			return nil
		})
	}()
	<-inside
	errs := make([]error, len(closures))
	done := make(chan int)
	for i, fn := range closures {
		go func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = errPanicked
				}
				done <- i
			}()
			errs[i] = s.Write(t.Context(), fn)
		}()
		// He calls Write within this time or does not share the transaction; what
		// is asserted holds either way.
		<-time.After(2 * time.Millisecond)
	}
	close(release)
	within(t, "Write", func() {
		for range closures {
			<-done
		}
	})
	if err := <-first; err != nil {
		t.Errorf("the first Write: %v", err)
	}
	return errs
}

var errPanicked = errors.New("panicked")

// events returns all events.
func events(t *testing.T, s store.Store) []store.Change {
	t.Helper()
	return get(t, s, func(r store.Reader) ([]store.Change, error) { return r.Events(store.EventFilter{}) })
}

// collect reads a subscription until it has n changes.
func collect(t *testing.T, sub *store.Subscription, n int) []store.Change {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []store.Change
	for len(got) < n {
		changes, lost := sub.Wait(ctx)
		if lost {
			t.Fatalf("the feed lost changes after %d", len(got))
		}
		if len(changes) == 0 {
			t.Fatalf("got %d changes from the feed, want %d", len(got), n)
		}
		got = append(got, changes...)
	}
	return got
}

func all(*store.Change) bool { return true }

func seqs(changes []store.Change) []int64 {
	list := make([]int64, len(changes))
	for i, c := range changes {
		list[i] = c.Seq
	}
	return list
}
