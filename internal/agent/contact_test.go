package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// A loss of contact closes the gate for submissions. The first poll afterwards
// must not wait for news: there may be none for as long as the server lets it.
func TestSubmissionsGoOnAsSoonAsTheServerAnswersAgain(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		job := w.server.submit(w.sign(1, hpcsera.BatchStep), false)
		w.planned(job, program{run: time.Second})
		w.batch.tune(func(f *clusterFaults) { f.throttle = 1 })
		i := w.start()
		w.until("a submission that is to be tried again", time.Minute, func() bool { return w.server.job(job).last.Reason == hpcsera.Throttled })
		w.server.tune(func(f *serverFaults) { f.refused = 1 })
		w.until("the loss of contact, with the next try due", 10*time.Minute, func() (due bool) {
			err := i.agent.engine.read(t.Context(), func() {
				e := i.agent.engine
				due = e.cut && time.Now().After(e.jobs[job].submitAt)
			})
			return err == nil && due
		})
		w.batch.tune(func(f *clusterFaults) { f.throttle = 0 })
		w.server.tune(func(f *serverFaults) { f.refused = 0 })
		mended := time.Now()
		polls := w.server.polls(i)
		w.until("a poll of the server that works again", 2*time.Minute, func() bool { return w.server.polls(i) > polls })
		asked := time.Now()
		w.until("the submission", time.Minute, func() bool { return w.batch.holds(job) })
		if took := time.Since(asked); took > 2*time.Second {
			t.Errorf("the submission came %v after the first poll (%v after the server was back), want it at once", took, time.Since(mended))
		}
		w.ends(job, hpcsera.Succeeded, "")
	})
}

// polls returns how often an instance has asked for work.
func (s *server) polls(i *instance) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[fmt.Sprintf("work %d", i.number)]
}

// holds reports whether the batch system was given a job.
func (c *cluster) holds(job string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.jobs {
		if sub, err := c.w.spool.Submission(j.tag); err == nil && sub.Members[0].Job == job {
			return true
		}
	}
	return false
}
