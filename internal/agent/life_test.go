package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// inWorld runs a test in a bubble whose time passes as fast as the agent
// allows.
func inWorld(t *testing.T, seed uint64, test func(*testing.T, *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		defer w.end()
		test(t, w)
	})
}

// ends waits for a job's end and checks how it came.
func (w *world) ends(job string, state hpcsera.State, reason hpcsera.Reason) hpcsera.Report {
	w.t.Helper()
	w.until("the end of "+job, time.Hour, func() bool { return w.server.isFinal(job) })
	last := w.server.job(job).last
	if last.State != state || last.Reason != reason {
		w.t.Errorf("job %s: got %s %s (%s), want %s %s", job, last.State, last.Reason, last.Message, state, reason)
	}
	return last
}

func (w *world) planned(job string, p program) {
	for _, c := range []*cluster{w.batch, w.login} {
		c.mu.Lock()
		c.programs[job] = p
		c.mu.Unlock()
	}
}

func TestAJobSucceeds(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(10, hpcsera.LoginStep, hpcsera.BatchStep, hpcsera.BatchStep, hpcsera.LoginStep)
		job := w.server.submit(code, false)
		w.planned(job, program{run: time.Minute})
		w.start()
		last := w.ends(job, hpcsera.Succeeded, "")
		if got := len(w.ran(job)); got != 4 {
			t.Errorf("runs: got %d, want one per step", got)
		}
		if string(last.Result) != `{"attempt":1}` || len(last.Artifacts) != 4 {
			t.Errorf("got result %s and %d artifacts, want attempt 1 and 4", last.Result, len(last.Artifacts))
		}
		var printed string
		for _, r := range w.ran(job) {
			printed += r.output
		}
		if got := w.server.log(job, 1); got != printed {
			t.Errorf("log: got %q, want %q", got, printed)
		}
	})
}

// A full disk is a reason to cancel what fills it, so a cancel does not wait
// for the journal: its order stays unacknowledged, and the server repeats it.
func TestACancelIsObeyedWhileTheJournalFails(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		job := w.server.submit(w.sign(1, hpcsera.BatchStep), false)
		w.planned(job, program{run: 30 * time.Minute})
		first := w.start()
		w.until("the job runs", time.Minute, func() bool { return w.server.job(job).last.State == hpcsera.Running })
		if err := first.agent.journal.Close(); err != nil { // every write to it fails from now on
			t.Fatal(err)
		}
		w.server.want(job, hpcsera.DesiredCancel)
		w.until("the batch system was told", 2*time.Minute, func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return !w.runs[job][0].ended.IsZero()
		})
		if last := w.server.job(job).last; last.State.Final() {
			t.Errorf("the job is told to be %s, want nothing told that is not in the journal", last.State)
		}
		first.kill(true)
		w.start()
		w.ends(job, hpcsera.Cancelled, hpcsera.CancelledByUser)
	})
}

// An instance that does not reach the server may live on after another one took
// its place, and write down a fact under a seq that the other one uses, too.
func TestAFactOfAReplacedInstanceIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(10, hpcsera.LoginStep) // there is nothing to tell of it while it runs
		running := func() string {
			job := w.server.submit(code, false)
			w.planned(job, program{run: 20 * time.Minute})
			return job
		}
		runs := func(job string) func() bool {
			return func() bool { return len(w.ran(job)) == 1 }
		}
		job := running()
		first := w.start()
		w.until("the job runs", 5*time.Minute, runs(job))
		first.cut.Store(true)
		time.Sleep(2 * time.Minute) // until the server thinks that it is dead
		other := running()
		second := w.start()
		w.until("the other job runs", 5*time.Minute, runs(other))
		second.kill(true)
		e := first.agent.engine
		err := e.call(t.Context(), func() {
			r := e.jobs[job].view()
			r.State, r.Reason = hpcsera.Failed, hpcsera.OutcomeUnknown
			e.write(journal.Entry{Kind: journal.KindOutcome, Job: job, Outcome: outcome(r.State, r.Reason, "", nil)})
			e.fact(r)
		})
		if err != nil {
			t.Fatal(err)
		}
		first.kill(true)
		w.start()
		w.ends(job, hpcsera.Failed, hpcsera.OutcomeUnknown)
		w.ends(other, hpcsera.Succeeded, "")
	})
}

// An instance that waits for another one goes on as soon as that one's process
// is seen to be dead: not only where it was dead already when this one started.
func TestAWaitingInstanceSeesThatTheOtherDies(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		first := w.start()
		w.until("the first instance leads", time.Minute, func() bool { return first.agent.granted.Load() != 0 })
		second := w.start()
		time.Sleep(time.Second) // it was refused once
		first.kill(true)
		died := time.Now()
		w.until("the second one leads", time.Hour, func() bool { return second.agent.granted.Load() != 0 })
		if got := time.Since(died); got > 10*time.Second {
			t.Errorf("it waited %v, want no longer than until it asks again", got)
		}
	})
}

// A run from cron that asked the server once leads no longer when the batch
// system has hung for long enough, and has to ask again or it never ends.
func TestARunFromCronEndsAlthoughTheBatchSystemHangs(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(100, hpcsera.BatchStep)
		var jobs []string
		for range 12 {
			job := w.server.submit(code, false)
			w.planned(job, program{run: time.Minute})
			jobs = append(jobs, job)
		}
		w.batch.tune(func(f *clusterFaults) { f.hang = 1 })
		time.AfterFunc(3*trusted, func() { w.batch.tune(func(f *clusterFaults) { f.hang = 0 }) })
		for range 40 {
			i := w.start(func(c *Config, _ *instance) { *c = c.Once() })
			select {
			case <-i.done:
			case <-time.After(time.Hour):
				t.Fatal("the run from cron does not end")
			}
			if i.err != nil {
				t.Errorf("got %v, want no error", i.err)
			}
			time.Sleep(time.Minute)
		}
		for _, job := range jobs {
			w.ends(job, hpcsera.Succeeded, "")
		}
	})
}

// A run from cron lives for seconds. It waits for the word that tells a job which
// was queued once more from an answer of before its start, or that job could
// neither be held nor released from cron.
func TestFromCronAJobIsHeldAndReleasedThatWasQueuedOnceMore(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		job := w.server.submit(w.sign(1, hpcsera.BatchStep), true)
		w.planned(job, program{run: time.Minute, diesFirst: true})
		runUntil := func(what string, holds func(served) bool) {
			t.Helper()
			for range 60 {
				if holds(w.server.job(job)) {
					return
				}
				<-w.start(cron).done
				time.Sleep(time.Minute)
			}
			t.Fatalf("never %s: %+v", what, w.server.job(job).last)
		}
		<-w.start(cron).done
		w.until("its program", time.Hour, func() bool { return len(w.ran(job)) > 0 })
		w.batch.tune(func(f *clusterFaults) { f.queue = 24 * time.Hour })
		w.until("its end", time.Hour, func() bool {
			run := w.ran(job)[0]
			w.mu.Lock()
			defer w.mu.Unlock()
			return !run.ended.IsZero()
		})
		w.server.want(job, hpcsera.DesiredHold)
		runUntil("held", func(j served) bool { return j.last.State == hpcsera.Held })
		time.Sleep(24 * time.Hour) // it would be its turn
		w.server.want(job, hpcsera.DesiredRun)
		runUntil("over", func(j served) bool { return j.at.State.Final() })
		if last := w.server.job(job).last; last.State != hpcsera.Succeeded || last.Attempt != 2 {
			t.Errorf("got %s in attempt %d (%s), want succeeded in attempt 2", last.State, last.Attempt, last.Message)
		}
	})
}

// Whatever keeps a job from being prepared, such as an image of many gigabytes
// or a registry that never comes to an end, its cancel counts at once.
func TestAJobIsCancelledWhileItIsPrepared(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		i := w.start()
		for range cap(i.agent.stageSlots) {
			i.agent.stageSlots <- struct{}{}
		}
		job := w.submits(w.sign(1, hpcsera.BatchStep))
		time.Sleep(time.Minute)
		w.server.want(job, hpcsera.DesiredCancel)
		w.until("it to be cancelled", time.Minute, func() bool { return w.server.isFinal(job) })
		if last := w.server.job(job).last; last.State != hpcsera.Cancelled || len(w.ran(job)) != 0 {
			t.Errorf("got %s (%s) after %d runs", last.State, last.Message, len(w.ran(job)))
		}
		for range cap(i.agent.stageSlots) {
			<-i.agent.stageSlots
		}
	})
}

// An agent that stops waits for the commands that run, and begins none: whoever
// waits for the last one must not find another.
func TestAnAgentThatStopsBeginsNothing(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.batch.tune(func(f *clusterFaults) { f.hang = 1 })
		i := w.start()
		job := w.submits(w.sign(1, hpcsera.BatchStep))
		e, at := i.agent.engine, place{hpcsera.NewID("s"), 0}
		w.until("its submission", time.Minute, func() bool {
			tag := ""
			return e.read(t.Context(), func() {
				if j := e.jobs[job]; j != nil {
					tag = j.tag
				}
			}) == nil && tag != ""
		})
		if err := e.call(t.Context(), func() { e.leave(at, leftover{since: time.Now().Add(5 * time.Second)}) }); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		i.stop()
		<-i.done
		if took := time.Since(began); took < 30*time.Second {
			t.Fatalf("it ended after %v, before its submission", took)
		}
		if begun := e.leftover[at].done; begun != 0 {
			t.Errorf("%d searches were begun while it stopped", begun)
		}
	})
}

// A disk that cannot be written is this host's trouble: jobs wait for it instead
// of failing on the nodes one after the other.
func TestJobsWaitForAPlaceForTheirFolders(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.start()
		work := filepath.Join(w.real, "work")
		if err := errors.Join(os.RemoveAll(work), os.WriteFile(work, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		job := w.server.submit(w.sign(1, hpcsera.BatchStep), false)
		time.Sleep(10 * time.Minute)
		if w.server.state(job).Final() || len(w.ran(job)) > 0 {
			t.Fatalf("it is %s and ran %d times", w.server.state(job), len(w.ran(job)))
		}
		if err := os.Remove(work); err != nil {
			t.Fatal(err)
		}
		w.ends(job, hpcsera.Succeeded, "")
	})
}
