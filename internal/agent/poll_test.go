package agent

import (
	"strings"
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

// TestAThrottledQueueIsTriedForAllThatWait: however many jobs wait because of a
// limit, one submission is tried for all, less and less often; each says when.
func TestAThrottledQueueIsTriedForAllThatWait(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.batch.tune(func(f *clusterFaults) { f.throttle = 1 })
		code := w.sign(1000, hpcsera.BatchStep)
		var jobs []string
		for range 20 {
			jobs = append(jobs, w.server.submit(code, false))
			w.planned(jobs[len(jobs)-1], program{run: time.Minute})
		}
		w.start()
		time.Sleep(time.Hour)
		before := w.batch.tried()
		time.Sleep(time.Hour)
		if n := w.batch.tried() - before; n < 10 || n > 30 {
			t.Errorf("an hour of a full queue cost %d submissions, want one in two to five minutes", n)
		}
		for _, job := range jobs {
			last := w.server.job(job).last
			_, text, _ := strings.Cut(last.Message, "next attempt at ")
			at, err := time.Parse(time.RFC3339, strings.TrimSuffix(text, ")"))
			if left := time.Until(at); last.Reason != hpcsera.Throttled || err != nil || left < -10*time.Second || left > 5*time.Minute {
				t.Errorf("job %s says %s (%q) at %v, want throttled and when it is tried next", job, last.Reason, last.Message, time.Now().UTC())
			}
		}
		w.server.want(jobs[0], hpcsera.DesiredCancel)
		w.until("the cancelled one has ended", time.Minute, func() bool { return w.server.isFinal(jobs[0]) })
		w.batch.tune(func(f *clusterFaults) { f.throttle = 0 })
		for _, job := range jobs[1:] {
			w.ends(job, hpcsera.Succeeded, "")
		}
	})
}

// tried is how often the submit command was called.
func (c *cluster) tried() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}
