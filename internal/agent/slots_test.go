package agent

import (
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

func TestSlotsDoubleWhileSomebodyWaits(t *testing.T) {
	s := slots{first: time.Second, longest: 10 * time.Second}
	now := time.Now()
	if got := s.delay(now); got > 0 {
		t.Errorf("the first waits %v", got)
	}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
		s.use(now)
		if got := s.delay(now); got != want {
			t.Errorf("slot %d: got %v, want %v", i, got, want)
		}
		now = s.next
	}
	now = s.next.Add(1100 * time.Millisecond)
	s.use(now)
	if got := s.delay(now); got != time.Second {
		t.Errorf("after one that nobody waited for: got %v, want 1s", got)
	}
}

// What comes no faster than the slots never waits: jobs that are submitted a few
// in a second go at once, each.
func TestSlotsStayShortWhileNobodyWaits(t *testing.T) {
	s := slots{first: time.Second, longest: 10 * time.Second}
	now := time.Now()
	for i, later := range []time.Duration{0, time.Second, 1500 * time.Millisecond, 2 * time.Second, time.Second} {
		now = now.Add(later)
		if got := s.delay(now); got > 0 {
			t.Errorf("number %d waits %v", i, got)
		}
		s.use(now)
	}
}

// Jobs that are cancelled one by one cost the batch system a handful of
// commands, however long that takes.
func TestCancelsOneByOneGoTogether(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.batch.tune(func(f *clusterFaults) { f.queue = 10 * time.Hour })
		code := w.sign(1000, hpcsera.BatchStep)
		var jobs []string
		for range 120 {
			jobs = append(jobs, w.server.submit(code, false))
		}
		w.start()
		w.until("all were handed in", 10*time.Minute, func() bool {
			n := 0
			for _, size := range w.batch.submissions() {
				n += size
			}
			return n >= len(jobs)
		})
		w.batch.mu.Lock()
		before := w.batch.acts
		w.batch.mu.Unlock()
		for _, job := range jobs {
			w.server.want(job, hpcsera.DesiredCancel)
			time.Sleep(time.Second)
		}
		for _, job := range jobs {
			w.until("its end", time.Hour, func() bool { return w.server.isFinal(job) })
		}
		w.batch.mu.Lock()
		defer w.batch.mu.Unlock()
		if got := w.batch.acts - before; got > 20 {
			t.Errorf("120 cancels in two minutes cost %d commands, want at most 20", got)
		}
	})
}
