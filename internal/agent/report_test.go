package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// One fact that the server does not take as it is must not keep the others from
// being told.
func TestAFactThatTheServerRefusesStopsNoOther(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.server.mostBytes = 3000 // a handful of facts
		w.batch.tune(func(f *clusterFaults) { f.refuse, f.words = 1, strings.Repeat("no! ", 1<<15) })
		code := w.sign(100, hpcsera.BatchStep)
		refused := w.server.submit(code, false)
		w.start()
		last := w.ends(refused, hpcsera.Failed, hpcsera.RejectedByScheduler)
		if last.Message != "" || !strings.Contains(last.Warning, "refused") {
			t.Errorf("got %d bytes of message and the warning %q", len(last.Message), last.Warning)
		}
		w.batch.tune(func(f *clusterFaults) { f.refuse = 0 })
		var jobs []string
		for range 20 {
			job := w.submits(code)
			jobs = append(jobs, job)
			w.planned(job, program{run: time.Minute})
		}
		for _, job := range jobs {
			w.ends(job, hpcsera.Succeeded, "")
		}
	})
}

// A server that was taken over ordered what its contract does not have. Its
// successor is told of all other jobs.
func TestAJobThatCannotBeToldStopsNoReplay(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		code := w.sign(10, hpcsera.BatchStep)
		restore := w.server.backup()
		odd, sound := w.server.submit(code, false), w.submits(code)
		w.server.taken = func(answer *hpcsera.WorkAnswer) {
			if i := slices.IndexFunc(answer.Orders, func(o hpcsera.Order) bool { return o.JobID == odd && o.Spec != nil }); i >= 0 {
				spec := *answer.Orders[i].Spec
				spec.RunFault = "shell is not a known field"
				answer.Orders[i].Spec = &spec
			}
		}
		w.planned(sound, program{run: 2 * time.Hour})
		i := w.start()
		w.until("the odd one to be refused", time.Hour, func() bool { return w.server.isFinal(odd) })
		w.until("the other one to run", time.Hour, func() bool { return len(w.ran(sound)) == 1 })
		w.server.mu.Lock()
		w.server.taken = nil
		w.server.mu.Unlock()
		restore()
		<-i.done
		if !errors.Is(i.err, ErrRestored) {
			t.Fatalf("it ended with %v", i.err)
		}
		w.start()
		w.until("the job to be adopted", time.Hour, func() bool { return w.server.state(sound) == hpcsera.Running })
		w.until("its end", 3*time.Hour, func() bool { return w.server.isFinal(sound) })
		if got := len(w.ran(sound)); got != 1 {
			t.Errorf("it ran %d times", got)
		}
	})
}
