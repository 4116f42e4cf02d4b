package agent

import (
	"errors"
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
				if s, _ := w.told(); s.Server != "" {
					t.Errorf("its status is %+v, want no trouble", s)
				}
			})
		})
	}
}
