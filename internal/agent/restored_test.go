package agent

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// A backup knows less than the agent. Whatever it orders again, what ran must
// not run again, and its end must be told.
func TestAnIdleAgentGoesOnInTheEpochOfARestoredServer(t *testing.T) {
	for name, c := range map[string]struct {
		between time.Duration // from the ends to the restore
		restart bool          // the agent was stopped meanwhile
	}{
		"while it runs":                            {time.Minute, false},
		"after its restart":                        {time.Minute, true},
		"after the jobs' directories were removed": {3 * time.Hour, false},
		"after that and a restart":                 {3 * time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 3, func(t *testing.T, w *world) {
				signed := w.sign(10, hpcsera.BatchStep)
				signed.spec.Run.Keep.Succeeded = hpcsera.Duration(time.Hour)
				early, never := w.server.submit(signed, false), w.submits(signed)
				w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
				w.planned(early, program{run: 10 * time.Minute})
				i := w.start()
				w.until("it runs", time.Hour, func() bool { return len(w.ran(early)) == 1 })
				late := w.submits(signed)
				restore := w.server.backup() // knows late as one that no agent had
				for _, job := range []string{early, never, late} {
					w.ends(job, hpcsera.Succeeded, "")
				}
				i.stop()
				i = w.start()
				time.Sleep(c.between)
				if c.restart {
					i.stop()
				}
				restore()
				if c.restart {
					i = w.start()
				} else {
					w.until("it ends", time.Hour, func() bool {
						select {
						case <-i.done:
							return true
						default:
							return false
						}
					})
					if !errors.Is(i.err, ErrRestored) {
						t.Fatalf("it ended with %v, want to be started anew", i.err)
					}
					i = w.start() // as the program does
				}
				for _, job := range []string{early, late} {
					if last := w.ends(job, hpcsera.Succeeded, ""); len(w.ran(job)) != 1 {
						t.Errorf("job %s ran %d times, and says %q", job, len(w.ran(job)), last.Message)
					}
				}
				if last := w.server.job(late).last; !strings.Contains(last.Message, "not run again") {
					t.Errorf("its end is told with %q", last.Message)
				}
				if c.between < time.Hour {
					w.ends(w.submits(signed), hpcsera.Succeeded, "")
					if used := i.agent.engine.runs[signed.approval]; used != 4 {
						t.Errorf("%d runs are counted, want those of before as well", used)
					}
				}
				// What a restart reads is the same.
				i.stop()
				w.start()
				time.Sleep(10 * time.Minute)
				for _, job := range []string{early, never, late} {
					if got := len(w.ran(job)); got != 1 {
						t.Errorf("after another restart job %s ran %d times", job, got)
					}
				}
				if s, _ := w.told(); s.Restored || s.Server != "" {
					t.Errorf("its status is %+v, want no trouble", s)
				}
			})
		})
	}
}

func TestAnAgentWithOpenJobsStaysAwayFromARestoredServer(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		restore := w.server.backup()
		job := w.submits(signed)
		w.planned(job, program{run: 3 * time.Hour})
		i := w.start()
		w.until("it runs", time.Hour, func() bool { return len(w.ran(job)) == 1 })
		i.stop()
		restore()
		w.start()
		time.Sleep(10 * time.Minute)
		s, _ := w.told()
		if !s.Restored || !strings.Contains(s.Server, "1 unfinished jobs") || !strings.Contains(s.Server, "hpcsera-agent enroll --replace") {
			t.Errorf("its status is %+v, want what to do", s)
		}
		if !strings.Contains(w.log.String(), "hpcserad agent remove ID --abandon") {
			t.Error("its log does not say what to do")
		}

		// Enrolled anew, it goes on with what must not be forgotten.
		state := filepath.Join(w.real, "state")
		w.instances[1].stop()
		kept, err := SetAside(state, time.Now())
		if err != nil || !strings.Contains(kept, "journal.aside-") {
			t.Fatalf("got %q, %v, want the journal under another name", kept, err)
		}
		w.server.mu.Lock()
		w.server.applied = 0
		w.server.jobs[job] = &served{id: job, spec: signed.spec, desired: hpcsera.DesiredRun, revision: 1, at: hpcsera.Position{State: hpcsera.Pending, Attempt: 1}}
		w.server.list = append(w.server.list, job)
		w.server.mu.Unlock()
		i = w.start()
		w.ends(job, hpcsera.Failed, hpcsera.OutcomeUnknown)
		w.ends(w.submits(signed), hpcsera.Succeeded, "")
		if used := i.agent.engine.runs[signed.approval]; used != 2 {
			t.Errorf("%d runs are counted, want that of before as well", used)
		}
		time.Sleep(time.Hour)
		if got := len(w.ran(job)); got != 1 {
			t.Errorf("it ran %d times", got)
		}
		if kept, err := SetAside(state, time.Now()); kept != "" || err != nil {
			t.Errorf("where all is well: got %q, %v, want nothing done", kept, err)
		}
	})
}

// A database that was put back by hand has no new epoch, and is not gone on with.
func TestAnIdleAgentDoesNotGoOnWithoutANewEpoch(t *testing.T) {
	inWorld(t, 5, func(t *testing.T, w *world) {
		signed := w.sign(10, hpcsera.BatchStep)
		job := w.submits(signed)
		restore := w.server.backup()
		i := w.start()
		w.ends(job, hpcsera.Succeeded, "")
		i.stop()
		restore()
		w.server.mu.Lock()
		w.server.taken = func(a *hpcsera.WorkAnswer) { a.Epoch = 1 }
		w.server.mu.Unlock()
		w.start()
		time.Sleep(10 * time.Minute)
		if s, _ := w.told(); !strings.Contains(s.Server, "hpcserad restore --in-place") || len(w.ran(job)) != 1 {
			t.Errorf("its status is %+v and %d runs, want it to stay away", s, len(w.ran(job)))
		}
	})
}
