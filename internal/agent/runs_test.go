package agent

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

func TestRunsAreCountedWhicheverInstanceStartsThem(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		c := w.sign(3, hpcsera.BatchStep)
		first := w.start()
		w.ends(w.submits(c), hpcsera.Succeeded, "")
		first.kill(true)
		second := w.start() // reads the journal of a process that was killed
		w.ends(w.submits(c), hpcsera.Succeeded, "")
		second.stop()
		third := w.start()
		w.ends(w.submits(c), hpcsera.Succeeded, "")
		for range 2 {
			job := w.server.submit(c, false)
			if last := w.ends(job, hpcsera.Failed, hpcsera.RunsExhausted); !strings.Contains(last.Message, c.approval+" allows 3 runs") || len(w.ran(job)) > 0 {
				t.Errorf("got %q and %d runs, want none and why", last.Message, len(w.ran(job)))
			}
		}
		third.stop()
		w.start()
		w.ends(w.server.submit(c, false), hpcsera.Failed, hpcsera.RunsExhausted)
		w.ends(w.submits(w.sign(1, hpcsera.BatchStep)), hpcsera.Succeeded, "") // another approval has its own
	})
}

func TestManyJobsAtOnceTakeNoMoreRunsThanSigned(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		c := w.sign(3, hpcsera.BatchStep)
		var jobs []string
		for range 12 {
			jobs = append(jobs, w.submits(c))
		}
		w.start()
		ran := 0
		for _, job := range jobs {
			w.until("the end of "+job, time.Hour, func() bool { return w.server.isFinal(job) })
			if len(w.ran(job)) > 0 {
				ran++
			}
		}
		if ran != 3 {
			t.Errorf("%d jobs ran, want 3", ran)
		}
	})
}

func TestARunIsOnDiskBeforeItsStart(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		c := w.sign(1, hpcsera.BatchStep)
		job := w.submits(c)
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Hour })
		i := w.start()
		w.until("it was submitted", time.Hour, func() bool { return w.server.state(job) == hpcsera.Queued })
		i.kill(true) // what counts is what the next process reads
		var kinds []journal.Kind
		if _, err := journal.Replay(filepath.Join(w.real, "state", "journal"), func(e journal.Entry) {
			if e.Job == job && (e.Kind == journal.KindRun || e.Kind == journal.KindSubmit) {
				kinds = append(kinds, e.Kind)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if len(kinds) < 2 || kinds[0] != journal.KindRun {
			t.Errorf("got %q, want the run counted before the submission", kinds)
		}
		w.start()
		w.ends(job, hpcsera.Succeeded, "") // counted once, whoever ends it
		w.ends(w.server.submit(c, false), hpcsera.Failed, hpcsera.RunsExhausted)
	})
}

func TestARunThatCannotBeCountedIsNotStarted(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		i := w.start()
		w.until("it is connected", time.Hour, func() bool { return i.agent.granted.Load() > 0 })
		i.agent.journal.Close() // every write fails from now on, as on a full disk
		job := w.submits(w.sign(1, hpcsera.BatchStep))
		time.Sleep(10 * time.Minute)
		if len(w.ran(job)) > 0 {
			t.Error("it ran")
		}
	})
}
