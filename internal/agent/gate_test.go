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

func TestASiteGetsNoLargerArrayThanItTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.batch.largest = 7
		code := w.sign(1000, hpcsera.BatchStep)
		w.start()
		w.until("the server was told", time.Hour, func() bool { return w.server.lastFacts().LargestArray == 7 })
		var jobs []string
		for range 60 {
			job := w.server.submit(code, false)
			w.planned(job, program{run: time.Minute})
			jobs = append(jobs, job)
		}
		for _, job := range jobs {
			w.ends(job, hpcsera.Succeeded, "")
		}
		sizes := w.batch.submissions()
		for _, size := range sizes {
			if size > 7 {
				t.Errorf("got submissions of %v, want at most 7 members", sizes)
			}
		}
		if len(sizes) > 30 {
			t.Errorf("got %d submissions of %v, want arrays", len(sizes), sizes)
		}
	})
}

// What a site offers is asked for rarely, and costs the server nothing while it
// stays as it is.
func TestFactsAreToldWhenTheyChange(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		told := func() int {
			w.server.mu.Lock()
			defer w.server.mu.Unlock()
			return len(w.server.told)
		}
		w.start()
		w.until("the site was explored", time.Hour, func() bool { return w.server.lastFacts().SystemVersion == "22.05" })
		before := told()
		time.Sleep(3*time.Hour + time.Minute)
		w.batch.mu.Lock()
		probes := w.batch.probes
		w.batch.largest = 9
		w.batch.mu.Unlock()
		if got := told(); got != before {
			t.Errorf("facts that did not change were told %d times more", got-before)
		}
		if probes < 10 || probes > 30 {
			t.Errorf("the site was explored %d times in three hours, want every ten minutes", probes)
		}
		w.until("the change was told", time.Hour, func() bool { return w.server.lastFacts().LargestArray == 9 })
		if facts := w.server.lastFacts(); facts.Version == "22.05" || facts.Host == "" {
			t.Errorf("got %+v, want the agent's own version and host", facts)
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
