package agent

import (
	"errors"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Whatever a job was doing when the server was put back to a time before it, it
// goes on, runs once, and its end is told.
func TestOpenJobsGoOnInTheEpochOfARestoredServer(t *testing.T) {
	for name, c := range map[string]struct {
		when    func(w *world, job string) bool // the moment of the restore
		queue   time.Duration
		run     time.Duration
		cut     bool // nobody heard of it before
		restart bool // the agent was stopped meanwhile
	}{
		"ordered, and not yet submitted":   {func(w *world, job string) bool { return w.server.job(job).delivered != 0 }, time.Hour, time.Minute, false, false},
		"queued":                           {func(w *world, job string) bool { return w.server.state(job) == hpcsera.Queued }, time.Hour, time.Minute, false, false},
		"running":                          {func(w *world, job string) bool { return w.server.state(job) == hpcsera.Running }, time.Second, time.Hour, false, false},
		"running, seen from a new process": {func(w *world, job string) bool { return w.server.state(job) == hpcsera.Running }, time.Second, time.Hour, false, true},
		"ended, and nobody has heard":      {func(w *world, job string) bool { return len(w.ran(job)) == 1 }, time.Second, time.Second, true, true},
		"ended, and told":                  {func(w *world, job string) bool { return w.server.isFinal(job) }, time.Second, time.Second, false, false},
	} {
		for life, known := range map[string]bool{"which the backup has": true, "which the backup lacks": false} {
			t.Run(name+", "+life, func(t *testing.T) {
				inWorld(t, 4, func(t *testing.T, w *world) {
					signed := w.sign(10, hpcsera.BatchStep)
					w.batch.tune(func(f *clusterFaults) { f.queue = c.queue })
					i := w.start()
					time.Sleep(time.Minute)
					restore := w.server.backup()
					job := w.submits(signed)
					w.planned(job, program{run: c.run})
					if known {
						restore = w.server.backup()
					}
					w.until("the moment", time.Hour, func() bool { return c.when(w, job) })
					i.cut.Store(c.cut)
					if c.cut {
						time.Sleep(time.Minute)
					}
					if c.restart {
						i.stop()
						i.cut.Store(false)
					}
					restore()
					if !c.restart {
						w.until("it ends", time.Hour, i.hasEnded)
						if !errors.Is(i.err, ErrRestored) {
							t.Fatalf("it ended with %v, want to be started anew", i.err)
						}
					}
					i = w.start()
					w.until("its end", 24*time.Hour, func() bool { return w.server.state(job).Final() })
					last := w.server.job(job).last
					if len(w.ran(job)) != 1 || last.State != hpcsera.Succeeded {
						t.Errorf("it ran %d times and ended %s %s %q", len(w.ran(job)), last.State, last.Reason, last.Message)
					}
					w.ends(w.submits(signed), hpcsera.Succeeded, "")
					if used := i.agent.engine.runs[signed.approval]; used != 2 {
						t.Errorf("%d runs are counted, want 2", used)
					}
				})
			})
		}
	}
}

func (i *instance) hasEnded() bool {
	select {
	case <-i.done:
		return true
	default:
		return false
	}
}

// A cancel stays one, whoever has forgotten it.
func TestNoCancelIsLostWithARestoredServer(t *testing.T) {
	for name, c := range map[string]struct{ before, since, lost bool }{
		"in the lost hours":                            {before: true},
		"since, where the agent had it":                {since: true},
		"since, where the restored server thinks not":  {since: true, lost: true},
		"in the lost hours, in which it was submitted": {before: true, lost: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 4, func(t *testing.T, w *world) {
				signed := w.sign(10, hpcsera.BatchStep)
				w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
				job := w.submits(signed)
				restore := w.server.backup() // as one that no agent has
				w.planned(job, program{run: 3 * time.Hour})
				i := w.start()
				w.until("it runs", time.Hour, func() bool { return w.server.state(job) == hpcsera.Running })
				if !c.lost {
					restore = w.server.backup()
				}
				if c.before {
					w.batch.fail(true)
					w.server.want(job, hpcsera.DesiredCancel)
					time.Sleep(time.Minute)
				}
				i.stop()
				restore()
				w.batch.fail(false)
				if c.since {
					w.server.want(job, hpcsera.DesiredCancel)
				}
				w.start()
				w.until("its end", time.Hour, func() bool { return w.server.isFinal(job) && !w.ran(job)[0].ended.IsZero() })
				state, ran := w.server.state(job), w.ran(job)
				if took := ran[0].ended.Sub(ran[0].started); state != hpcsera.Cancelled || len(ran) != 1 || took > time.Hour {
					t.Errorf("it ended %s after %d runs, the first of %v", state, len(ran), took)
				}
			})
		})
	}
}

// A database that was put back within its epoch knows fewer facts than were
// answered: the instance that serves ends, and one that starts tells them again.
func TestWhatTheDatabaseNoLongerKnowsIsToldAgain(t *testing.T) {
	for _, serving := range []bool{false, true} {
		inWorld(t, 5, func(t *testing.T, w *world) {
			signed := w.sign(10, hpcsera.BatchStep)
			i := w.start()
			time.Sleep(time.Minute)
			restore := w.server.backup()
			job := w.submits(signed)
			w.ends(job, hpcsera.Succeeded, "")
			if !serving {
				i.stop()
			}
			restore()
			w.server.mu.Lock()
			w.server.epoch-- // nobody said that it was put back
			w.server.seq -= 1_000_000_000
			w.server.seq += 1000
			w.server.mu.Unlock()
			if serving {
				w.until("it notices", time.Hour, i.hasEnded)
				if !errors.Is(i.err, ErrRestored) {
					t.Fatalf("it ended with %v, want to be started anew", i.err)
				}
			}
			w.start()
			w.until("it is known", time.Hour, func() bool { return w.server.state(job) == hpcsera.Succeeded })
			if got := len(w.ran(job)); got != 1 {
				t.Errorf("serving %t: it ran %d times", serving, got)
			}
		})
	}
}
