package agent

import (
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
	o, known := m.past(job)
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
