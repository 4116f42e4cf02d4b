package agent

import (
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// submissions are the sizes of what the batch system was handed so far.
func (c *cluster) submissions() (sizes []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := map[string]int{}
	for _, j := range c.jobs {
		by[j.tag]++
	}
	for _, n := range by {
		sizes = append(sizes, n)
	}
	return sizes
}

func TestLikeJobsGoTogether(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		like, other := w.sign(1000, hpcsera.BatchStep), w.sign(1000, hpcsera.BatchStep)
		var jobs []string
		for range 200 {
			jobs = append(jobs, w.server.submit(like, false))
		}
		jobs = append(jobs, w.server.submit(other, false), w.server.submit(like, true))
		for i, job := range jobs {
			w.planned(job, program{run: time.Minute, exit: hpcsera.Exit{Code: i % 2}})
		}
		w.start(func(c *Config, _ *instance) { c.MaxJobs = 1000 })
		for i, job := range jobs {
			if i%2 == 0 {
				w.ends(job, hpcsera.Succeeded, "")
			} else {
				w.ends(job, hpcsera.Failed, hpcsera.ExitNonzero)
			}
			if got := len(w.ran(job)); got != 1 {
				t.Errorf("job %d ran %d times", i, got)
			}
		}
		if got := w.batch.submissions(); len(got) > 10 {
			t.Errorf("got submissions of %v, want at most 10", got)
		}
	})
}

// A member's end has nothing to do with the others, whether it was queued or
// nobody knows.
func TestACancelledMemberLeavesTheOthers(t *testing.T) {
	for name, tune := range map[string]func(*clusterFaults){
		"queued":                        func(*clusterFaults) {},
		"queued, but an error was said": func(f *clusterFaults) { f.queueError = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				w.batch.tune(func(f *clusterFaults) { f.queue = 10 * time.Minute })
				w.batch.tune(tune)
				code := w.sign(1000, hpcsera.BatchStep)
				var jobs []string
				for range 20 {
					jobs = append(jobs, w.server.submit(code, false))
				}
				for _, job := range jobs {
					w.planned(job, program{run: time.Minute})
				}
				w.start()
				w.until("all were handed in", 10*time.Minute, func() bool {
					n := 0
					for _, size := range w.batch.submissions() {
						n += size
					}
					return n >= len(jobs)
				})
				w.batch.tune(func(f *clusterFaults) { f.queueError = 0 })
				for _, job := range jobs[:10] {
					w.server.want(job, hpcsera.DesiredCancel)
				}
				for _, job := range jobs[10:] {
					w.ends(job, hpcsera.Succeeded, "")
				}
				for i, job := range jobs {
					w.until("its end", time.Hour, func() bool { return w.server.isFinal(job) })
					if got := len(w.ran(job)); got > 1 || i >= 10 && got != 1 {
						t.Errorf("job %d ran %d times", i, got)
					}
				}
			})
		})
	}
}

func TestTheWordOnASmallerArrayIsTheWordForAll(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.batch.tune(func(f *clusterFaults) { f.refuse = 1 })
		code := w.sign(1000, hpcsera.BatchStep)
		var jobs []string
		for range 64 {
			jobs = append(jobs, w.server.submit(code, false))
		}
		w.start()
		for _, job := range jobs {
			if last := w.ends(job, hpcsera.Failed, hpcsera.RejectedByScheduler); last.Message != "invalid partition" {
				t.Errorf("got the message %q, want the batch system's", last.Message)
			}
		}
		w.batch.mu.Lock()
		defer w.batch.mu.Unlock()
		if w.batch.calls > 20 {
			t.Errorf("the batch system was asked %d times, want a handful", w.batch.calls)
		}
	})
}

// A submission's files are needed by those of its members that did not start.
func TestASubmissionStaysWhileAMemberNeedsIt(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(1000, hpcsera.BatchStep)
		code.spec.Run.Keep = hpcsera.Keep{Succeeded: hpcsera.Duration(time.Minute)}
		var jobs []string
		for range 8 {
			job := w.server.submit(code, false)
			w.planned(job, program{run: time.Second})
			jobs = append(jobs, job)
		}
		w.batch.tune(func(f *clusterFaults) { f.queue = 2 * time.Hour })
		w.start()
		for _, job := range jobs {
			w.until("its end", 4*time.Hour, func() bool { return w.server.isFinal(job) })
			if w.server.state(job) != hpcsera.Succeeded {
				t.Errorf("job %s: got %+v", job, w.server.job(job).last)
			}
		}
	})
}
