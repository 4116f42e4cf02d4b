package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hpcsera/hpcsera"
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
