package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// After the restore the key is used again with another body: same id, other code.
func TestTheEndOfOtherCodeIsNotToldOfAJobUnderItsID(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		w.taken = true
		signed := w.sign(10, hpcsera.BatchStep)
		m := w.plan(hpcsera.BatchStep)
		m.Name = "anothercode"
		other := w.signed(m, 10)
		restore := w.server.backup()
		job := w.submits(signed)
		i := w.start()
		w.ends(job, hpcsera.Succeeded, "")
		time.Sleep(time.Minute)
		i.stop()
		restore()
		w.server.mu.Lock()
		w.server.jobs[job] = &served{id: job, spec: other.spec, desired: hpcsera.DesiredRun, revision: 1, at: hpcsera.Position{State: hpcsera.Pending, Attempt: 1}}
		w.server.list = append(w.server.list, job)
		w.server.mu.Unlock()
		w.start()
		w.until("end", time.Hour, func() bool { return w.server.isFinal(job) })
		last := w.server.job(job).last
		if last.State != hpcsera.Failed || !strings.Contains(last.Message, "with a new key") || len(w.ran(job)) != 1 {
			t.Errorf("of code that never ran it tells %s %q, after %d runs", last.State, last.Message, len(w.ran(job)))
		}
	})
}

// A known end is set aside as unknown.
func TestAKnownEndIsStillKnownAfterTheJournalIsSetAside(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		restore := w.server.backup()
		job := w.submits(signed)
		w.planned(job, program{run: 10 * time.Minute})
		i := w.start()
		w.until("it runs", time.Hour, func() bool { return len(w.ran(job)) == 1 })
		time.Sleep(9*time.Minute + 45*time.Second)
		i.cut.Store(true)
		time.Sleep(20 * time.Second)
		time.Sleep(10 * time.Second)
		i.stop()
		i.cut.Store(false)
		restore()
		i = w.start()
		time.Sleep(10 * time.Minute)
		i.stop()
		state := filepath.Join(w.real, "state")
		if _, err := SetAside(state, time.Now()); err != nil {
			t.Fatal(err)
		}
		w.server.mu.Lock()
		w.server.applied = 0
		w.server.jobs[job] = &served{id: job, spec: signed.spec, desired: hpcsera.DesiredRun, revision: 1, at: hpcsera.Position{State: hpcsera.Pending, Attempt: 1}}
		w.server.list = append(w.server.list, job)
		w.server.mu.Unlock()
		w.start()
		w.until("end", time.Hour, func() bool { return w.server.isFinal(job) })
		last := w.server.job(job).last
		if last.State != hpcsera.Succeeded {
			t.Errorf("told %s %s, the journal knew success", last.State, last.Reason)
		}
	})
}

// What the user wants kept is not for a new journal to remove.
func TestADirectoryThatIsToStayStaysAfterTheJournalIsSetAside(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		signed.spec.Run.Keep = hpcsera.Keep{Succeeded: hpcsera.Duration(60 * 24 * time.Hour), Failed: hpcsera.Duration(50 * 24 * time.Hour)}
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		restore := w.server.backup()
		job := w.submits(signed)
		i := w.start()
		w.ends(job, hpcsera.Succeeded, "")
		open := w.submits(signed)
		w.planned(open, program{run: 3 * time.Hour})
		w.until("it runs", time.Hour, func() bool { return len(w.ran(open)) == 1 })
		i.stop()
		restore()
		i = w.start()
		time.Sleep(10 * time.Minute)
		i.stop()
		if _, err := SetAside(filepath.Join(w.real, "state"), time.Now()); err != nil {
			t.Fatal(err)
		}
		w.server.mu.Lock()
		w.server.applied = 0
		w.server.mu.Unlock()
		i = w.start()
		time.Sleep(10 * time.Minute)
		i.stop()
		for id, want := range map[string]hpcsera.Duration{job: signed.spec.Run.Keep.Succeeded, open: signed.spec.Run.Keep.Failed} {
			o := i.agent.engine.ended[id]
			if got := keepFor(o); got != time.Duration(want) || len(o.Tags) != 1 {
				t.Errorf("job %s stays for %v, with the submissions %v, want %v and one", id, got, o.Tags, time.Duration(want))
			}
		}
	})
}

// An instance that started with an empty journal meets a restored server.
func TestAnInstanceWithoutATermMeetsARestoredServer(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		signed.spec.Run.Keep.Succeeded = hpcsera.Duration(time.Hour)
		job := w.submits(signed)
		w.server.want(job, hpcsera.DesiredRun)
		restore := w.server.backup()
		i1 := w.start()
		i2 := w.start()
		first := i1
		w.ends(job, hpcsera.Succeeded, "")
		if i2.agent.granted.Load() != 0 {
			first, i2 = i2, i1
		}
		time.Sleep(3 * time.Hour)
		first.kill(false)
		restore()
		w.until("end", time.Hour, func() bool { return w.server.isFinal(job) })
		time.Sleep(time.Hour)
		if n := len(w.ran(job)); n != 1 {
			t.Errorf("it ran %d times", n)
		}
	})
}

// A server forgets jobs after a while; submitted again under its key, one gets
// the same id in the same epoch.
func TestAJobThatIsMadeAgainUnderItsIDComesToAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		keep    time.Duration
		restore bool
		want    hpcsera.State
	}{
		"its files still stand":                  {60 * 24 * time.Hour, false, hpcsera.Failed},
		"its files still stand, after a restore": {60 * 24 * time.Hour, true, hpcsera.Failed},
		"its files are gone":                     {time.Hour, false, hpcsera.Succeeded},
		"its files are gone, after a restore":    {time.Hour, true, hpcsera.Succeeded},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 3, func(t *testing.T, w *world) {
				signed := w.sign(10, hpcsera.BatchStep)
				signed.spec.Run.Keep.Succeeded = hpcsera.Duration(c.keep)
				i := w.start()
				time.Sleep(time.Minute)
				if c.restore {
					i.stop()
					w.server.backup()()
					i = w.start()
				}
				job := w.submits(signed)
				w.ends(job, hpcsera.Succeeded, "")
				time.Sleep(3 * time.Hour) // or a month: it is the same to the agent
				i.stop()
				w.mu.Lock()
				w.runs[job] = nil
				w.mu.Unlock()
				signed.spec.Created = time.Now()
				w.server.mu.Lock()
				w.server.jobs[job] = &served{id: job, spec: signed.spec, desired: hpcsera.DesiredRun, revision: 1, at: hpcsera.Position{State: hpcsera.Pending, Attempt: 1}}
				w.server.mu.Unlock()
				i = w.start()
				w.until("its end", 2*time.Hour, func() bool { return w.server.isFinal(job) })
				last, ran := w.server.job(job).last, 0
				if c.want == hpcsera.Succeeded {
					ran = 1
				}
				if last.State != c.want || len(w.ran(job)) != ran || ran == 0 && !strings.Contains(last.Message, "with a new key") {
					t.Errorf("got %s %q after %d runs, want %s", last.State, last.Message, len(w.ran(job)), c.want)
				}
				// What a restart reads is the same, also when all is ordered again.
				i.stop()
				w.start()
				time.Sleep(10 * time.Minute)
				if got := w.server.job(job).last; got.State != last.State || len(w.ran(job)) != ran {
					t.Errorf("after a restart it is %s after %d runs", got.State, len(w.ran(job)))
				}
			})
		})
	}
}

func TestACursorEndsWithItsEpoch(t *testing.T) {
	m := newMemory()
	for _, e := range []journal.Entry{
		{Kind: journal.KindTerm, Term: 1, Epoch: 1},
		{Kind: journal.KindCursor, Cursor: "c"},
		{Kind: journal.KindTerm, Term: 2, Epoch: 1},
	} {
		m.fold(e)
	}
	if m.cursor != "c" {
		t.Errorf("in the same epoch: got %q, want the cursor", m.cursor)
	}
	if m.fold(journal.Entry{Kind: journal.KindTerm, Term: 1, Epoch: 2}); m.cursor != "" {
		t.Errorf("in the next epoch, before a cursor of it: got %q, want none", m.cursor)
	}
}

// The operator puts back the database that the agent knows.
func TestAnAgentGoesOnOnceTheServerIsPutRight(t *testing.T) {
	inWorld(t, 5, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		job := w.submits(signed)
		restore := w.server.backup()
		i := w.start()
		w.ends(job, hpcsera.Succeeded, "")
		i.stop()
		right := w.server.backup()
		restore()
		w.server.mu.Lock()
		w.server.taken = func(a *hpcsera.WorkAnswer) { a.Epoch = 1 }
		w.server.mu.Unlock()
		w.start()
		time.Sleep(10 * time.Minute)
		right()
		w.server.mu.Lock()
		w.server.taken, w.server.epoch = nil, 1
		w.server.mu.Unlock()
		w.ends(w.submits(signed), hpcsera.Succeeded, "")
	})
}

func TestTheJournalOfAnAgentThatRunsElsewhereIsNotSetAside(t *testing.T) {
	now := time.Now()
	host, _ := os.Hostname()
	for name, c := range map[string]struct {
		status  Status
		refused bool
	}{
		"it wrote lately on another host":        {Status{Host: "elsewhere", At: now.Add(-10 * time.Second)}, true},
		"... by a clock that is ahead":           {Status{Host: "elsewhere", At: now.Add(10 * time.Second)}, true},
		"it was stopped there":                   {Status{Host: "elsewhere", At: now, Ended: now}, false},
		"it has been silent for long":            {Status{Host: "elsewhere", At: now.Add(-time.Hour)}, false},
		"it was killed here, as anybody can see": {Status{Host: host, PID: 1 << 30, At: now}, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBoard(t.TempDir())
			dir := filepath.Dir(b.path)
			if err := os.Mkdir(filepath.Join(dir, "journal"), 0o700); err != nil {
				t.Fatal(err)
			}
			b.now = c.status
			b.now.Restored = true
			if err := b.write(); err != nil {
				t.Fatal(err)
			}
			kept, err := SetAside(dir, now)
			if refused := hpcsera.CodeOf(err) == hpcsera.Conflict; refused != c.refused || (kept == "") != c.refused {
				t.Errorf("got %q, %v, want it refused %t", kept, err, c.refused)
			}
		})
	}
}

func TestAJournalThatIsSetAsideKeepsAnEndThatNobodyHeard(t *testing.T) {
	w := hpcsera.NewID("j")
	now := time.Now()
	failed := hpcsera.Report{JobID: w, Seq: 1, State: hpcsera.Failed, Reason: hpcsera.ExitNonzero, Exit: &hpcsera.Exit{Code: 3}, At: now.Add(-time.Hour), Attempt: 2}
	m := newMemory()
	m.fold(journal.Entry{Kind: journal.KindOrder, Order: &hpcsera.Order{JobID: w, Attempt: 1, Revision: 1, Spec: &hpcsera.OrderSpec{Digest: "d", Manifest: []byte("{}")}}})
	m.fold(journal.Entry{Kind: journal.KindFact, Fact: &failed})
	list := m.remains(now)
	if len(list) != 1 {
		t.Fatalf("got %d entries, want one", len(list))
	}
	next := newMemory()
	next.fold(list[0])
	o := next.ended[w]
	if o.state != hpcsera.Failed || o.reason != hpcsera.ExitNonzero || !o.at.Equal(failed.At) || o.exit == nil || o.exit.Code != 3 || o.attempt != 2 || o.Digest != "d" {
		t.Errorf("got %+v, want what the fact says", o)
	}
}

// Until the server has heard an end it may repeat the order, also to an instance
// that only reads the journal.
func TestARepeatedOrderIsNotForAnotherJob(t *testing.T) {
	job, first := hpcsera.NewID("j"), time.Now()
	order := func(created time.Time) *hpcsera.Order {
		return &hpcsera.Order{JobID: job, Attempt: 1, Revision: 1, Spec: &hpcsera.OrderSpec{Digest: "d", Manifest: []byte("{}"), Created: created}}
	}
	end := hpcsera.Report{JobID: job, Seq: 1, State: hpcsera.Succeeded, At: first, Attempt: 1}
	m := newMemory()
	m.remember = true
	for _, e := range []journal.Entry{
		{Kind: journal.KindTerm, Term: 1, Epoch: 1},
		{Kind: journal.KindOrder, Order: order(first)},
		{Kind: journal.KindFact, Fact: &end},
		{Kind: journal.KindSent, Seq: 1},
		{Kind: journal.KindForgotten, Job: job},
		{Kind: journal.KindTerm, Term: 1, Epoch: 2},
		{Kind: journal.KindFact, Fact: &hpcsera.Report{JobID: job, Seq: 2, State: hpcsera.Succeeded, At: first, Attempt: 1}, Created: first.Add(time.Hour)},
	} {
		m.fold(e)
	}
	o, known := m.over(job)
	if !known {
		t.Fatal("it is forgotten")
	}
	for name, c := range map[string]struct {
		after time.Duration
		want  bool
	}{"as before the restore": {0, false}, "as it was answered": {time.Hour, false}, "made later": {2 * time.Hour, true}} {
		if got := o.another(*order(first.Add(c.after)), m.epoch); got != c.want {
			t.Errorf("%s: got another %t, want %t", name, got, c.want)
		}
	}
}

func TestAnInstanceWithoutATermStaysAwayFromARestoredServerWhereJobsAreOpen(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		restore := w.server.backup()
		job := w.submits(signed)
		w.planned(job, program{run: 3 * time.Hour})
		first, second := w.start(), w.start()
		w.until("it runs", time.Hour, func() bool { return len(w.ran(job)) == 1 })
		if second.agent.granted.Load() != 0 {
			first, second = second, first
		}
		first.kill(false)
		restore()
		w.until("it ends", time.Hour, func() bool {
			select {
			case <-second.done:
				return true
			default:
				return false
			}
		})
		if s, _ := w.told(); !errors.Is(second.err, errOpen) || !s.Restored {
			t.Errorf("it ended with %v and the status %+v, want the restored server in both", second.err, s)
		}
	})
}
