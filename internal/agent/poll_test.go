package agent

import (
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// asked is how many queries a cluster got.
func (c *cluster) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queries
}

// TestQueriesGrowRareWhileNothingChanges: one query serves all jobs, and a
// queue in which nothing moves is asked about every minute, by default.
func TestQueriesGrowRareWhileNothingChanges(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.batch.tune(func(f *clusterFaults) { f.queue = 0 })
		code := w.sign(1000, hpcsera.BatchStep)
		var jobs []string
		for range 20 {
			jobs = append(jobs, w.server.submit(code, false))
			w.planned(jobs[len(jobs)-1], program{run: 2 * time.Hour})
		}
		w.start()
		w.until("all run", time.Hour, func() bool {
			for _, job := range jobs {
				if w.server.job(job).last.State != hpcsera.Running {
					return false
				}
			}
			return true
		})
		time.Sleep(5 * time.Minute)
		before := w.batch.asked()
		time.Sleep(time.Hour)
		if n := w.batch.asked() - before; n < 55 || n > 62 {
			t.Errorf("an hour in which nothing changed cost %d queries, want one a minute", n)
		}
		for _, job := range jobs {
			w.ends(job, hpcsera.Succeeded, "")
		}
	})
}

// TestAControllerThatIsDownIsAskedLessAndLess: refused queries back off.
func TestAControllerThatIsDownIsAskedLessAndLess(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		job := w.server.submit(w.sign(1, hpcsera.BatchStep), false)
		w.planned(job, program{run: 2 * time.Hour})
		w.start()
		w.until("it runs", time.Hour, func() bool { return w.server.job(job).last.State == hpcsera.Running })
		w.batch.fail(true)
		time.Sleep(5 * time.Minute)
		before := w.batch.asked()
		time.Sleep(time.Hour)
		if n := w.batch.asked() - before; n < 30 || n > 121 {
			t.Errorf("an hour without a controller cost %d queries, want one in half a minute to a minute", n)
		}
		w.batch.fail(false)
		w.ends(job, hpcsera.Succeeded, "")
	})
}

func TestThePaceOfQueries(t *testing.T) {
	p := pace{usual: 15 * time.Second}
	for i, c := range []struct {
		urgent, news bool
		want         time.Duration
	}{
		{false, true, 15 * time.Second}, {false, false, 30 * time.Second}, {false, false, time.Minute}, {false, false, time.Minute},
		{false, true, 15 * time.Second}, {true, false, 2 * time.Second}, {true, true, 4 * time.Second}, {true, false, 8 * time.Second},
		{true, false, 15 * time.Second}, {true, false, 15 * time.Second}, {false, false, 15 * time.Second}, {true, false, 2 * time.Second},
	} {
		if got := p.after(c.urgent, c.news); got != c.want {
			t.Errorf("answer %d: got %v, want %v", i, got, c.want)
		}
	}
}
