package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// rules writes the site's policy; "" takes it away.
func (w *world) rules(text string) {
	w.t.Helper()
	path := filepath.Join(w.site.Dir, "policy.yaml")
	if text == "" {
		if err := os.Remove(path); err != nil {
			w.t.Fatal(err)
		}
		return
	}
	if err := os.MkdirAll(w.site.Dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// waits checks that a job says why it waits, and does not run.
func (w *world) waits(job string, reason hpcsera.Reason, say string) {
	w.t.Helper()
	w.until("it says "+string(reason), 10*time.Minute, func() bool { return w.server.job(job).last.Reason == reason })
	if last := w.server.job(job).last; last.State.Final() || !strings.Contains(last.Message, say) || len(w.ran(job)) > 0 {
		w.t.Errorf("job %s: got %s %s (%s) and %d runs, want it to wait and say %q", job, last.State, last.Reason, last.Message, len(w.ran(job)), say)
	}
}

func TestTheSitesDrainStartsNothingAndEndsNothing(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		c := w.sign(10, hpcsera.BatchStep, hpcsera.BatchStep)
		running := w.server.submit(c, false)
		w.planned(running, program{run: 20 * time.Minute})
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		w.start()
		w.until("it runs", time.Hour, func() bool { return len(w.ran(running)) == 1 })
		w.rules("mode: drain\nmessage: The cooling is repaired until Friday.\n")
		waiting := w.submits(c)
		w.waits(waiting, hpcsera.SiteMaintenance, "cooling is repaired")
		w.until("the first step has ended", 2*time.Hour, func() bool { return w.server.job(running).last.Reason == hpcsera.SiteMaintenance })
		if got := len(w.ran(running)); got != 1 {
			t.Errorf("%d runs of the job that ran, want its next step to wait", got)
		}
		w.rules("")
		w.ends(running, hpcsera.Succeeded, "")
		w.ends(waiting, hpcsera.Succeeded, "")
	})
}

func TestTheSitesCancelEndsWhatWasSubmitted(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		c := w.sign(10, hpcsera.BatchStep)
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		running := w.server.submit(c, false)
		w.planned(running, program{run: 100 * time.Hour})
		w.start()
		w.until("it runs", time.Hour, func() bool { return len(w.ran(running)) == 1 })
		w.batch.tune(func(f *clusterFaults) { f.queue = 1000 * time.Hour })
		queued := w.submits(c)
		w.until("it is queued", time.Hour, func() bool { return w.server.state(queued) == hpcsera.Queued })
		w.rules("mode: cancel\n")
		w.ends(running, hpcsera.Cancelled, hpcsera.CancelledBySite)
		w.ends(queued, hpcsera.Cancelled, hpcsera.CancelledBySite)
		if len(w.ran(queued)) > 0 {
			t.Error("what was queued ran")
		}
		later := w.submits(c)
		w.waits(later, hpcsera.SiteMaintenance, "lets nothing start")
		w.batch.tune(func(f *clusterFaults) { f.queue = time.Second })
		w.rules("mode: drain\n")
		w.rules("")
		w.ends(later, hpcsera.Succeeded, "")
	})
}

func TestAPolicyThatCannotBeReadStopsStarts(t *testing.T) {
	for name, spoil := range map[string]func(*world) error{
		"another owner":      func(w *world) error { w.site.Owner++; return nil },
		"writable by others": func(w *world) error { return os.Chmod(filepath.Join(w.site.Dir, "policy.yaml"), 0o666) },
		"not understood":     func(w *world) error { w.rules("forbid: all\n"); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 3, func(t *testing.T, w *world) {
				w.rules("mode: cancel\n") // which is not obeyed either while it cannot be believed
				if err := spoil(w); err != nil {
					t.Fatal(err)
				}
				job := w.submits(w.sign(10, hpcsera.BatchStep))
				i := w.start()
				w.waits(job, hpcsera.HeldBySite, "the site's policy cannot be used")
				i.stop()
				w.site.Owner = os.Geteuid()
				w.rules("queues: [x]\n")
				w.rules("")
				w.start()
				w.ends(job, hpcsera.Succeeded, "")
			})
		})
	}
}

func TestAHostWithoutALogIsToldOnceAndStopsNothing(t *testing.T) {
	inWorld(t, 4, func(t *testing.T, w *world) {
		c := w.sign(10, hpcsera.BatchStep)
		w.start()
		for range 3 {
			w.ends(w.submits(c), hpcsera.Succeeded, "")
		}
		if got := strings.Count(w.log.String(), "this host's log cannot be told"); got != 1 {
			t.Errorf("told %d times, want once", got)
		}
	})
}

func TestTheDoctorTellsWhatTheSiteForbidsAndHears(t *testing.T) {
	w := newWorld(t, 5)
	d := &Doctor{Site: w.site, Syslog: w.syslog}
	if f := d.site(t.Context()); !f.OK {
		t.Errorf("no policy: got %+v, want it well", f)
	}
	if f := d.hostLog(t.Context()); !f.OK || !strings.Contains(f.Found, "not told of starts; they go on") {
		t.Errorf("no log: got %+v, want it said, and well all the same", f)
	}
	w.rules("mode: drain\nmessage: Until Friday.\n")
	if f := d.site(t.Context()); f.OK || !strings.Contains(f.Found, "Until Friday.") || f.Advice == "" {
		t.Errorf("drained: got %+v, want it said", f)
	}
	file := filepath.Join(w.site.Dir, "policy.yaml")
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if f := d.site(t.Context()); f.OK || !strings.Contains(f.Found, file+" can be written by others") {
		t.Errorf("writable by others: got %+v, want the file named", f)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	w.rules("mode: [\n")
	if f := d.site(t.Context()); f.OK || !strings.Contains(f.Found, "cannot be used") {
		t.Errorf("not understood: got %+v, want it said", f)
	}
	d.Syslog = newHostLog(t).path
	if f := d.hostLog(t.Context()); !f.OK || !strings.Contains(f.Found, "every start is told") {
		t.Errorf("a log: got %+v, want it said", f)
	}
}
