package agent

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// told is what `hpcsera-agent status` reads.
func (w *world) told() (s Status, alive bool) {
	w.t.Helper()
	s, alive, _, err := ReadStatus(filepath.Join(w.real, "state"))
	if err != nil {
		w.t.Fatal(err)
	}
	return s, alive
}

// cron makes an instance a run from cron.
func cron(c *Config, _ *instance) { *c = c.Once() }

func TestTheStatusTellsOfTheEnd(t *testing.T) {
	inWorld(t, 6, func(t *testing.T, w *world) {
		c := w.sign(10, hpcsera.BatchStep)
		i := w.start()
		w.ends(w.submits(c), hpcsera.Succeeded, "")
		if s, alive := w.told(); !alive || !s.Ended.IsZero() {
			t.Errorf("while it runs: got alive %t, ended %v, want it alive", alive, s.Ended)
		}
		i.stop()
		if s, alive := w.told(); alive || !s.Ended.Equal(time.Now()) {
			t.Errorf("after its stop at %v: got alive %t, ended %v", time.Now(), alive, s.Ended)
		}
		if !strings.Contains(w.log.String(), "stopped; jobs in the batch system go on") {
			t.Error("its log does not say that it stopped")
		}
		w.start(cron)
		<-w.instances[1].done
		if s, alive := w.told(); alive || s.Ended.IsZero() {
			t.Errorf("after a run from cron: got alive %t, ended %v", alive, s.Ended)
		}
	})
}

func TestARunFromCronBesideALivingAgentDoesNotEndItsStatus(t *testing.T) {
	inWorld(t, 7, func(t *testing.T, w *world) {
		w.start()
		w.until("it has a term", time.Hour, func() bool { return w.instances[0].agent.granted.Load() != 0 })
		w.start(cron)
		<-w.instances[1].done
		if s, alive := w.told(); !alive || !s.Ended.IsZero() {
			t.Errorf("got alive %t, ended %v, want the first one alive", alive, s.Ended)
		}
	})
}

func TestTheServerIsToldWhatWasAskedSinceTheLastPoll(t *testing.T) {
	before := scheduler.Stats{Submit: scheduler.Count{Runs: 2}, Queue: scheduler.Count{Runs: 7}, Jobs: 1500}
	now := scheduler.Stats{Submit: scheduler.Count{Runs: 5}, Queue: scheduler.Count{Runs: 7}, Act: scheduler.Count{Runs: 1}, Jobs: 2500}
	if got, want := since(now, before), (hpcsera.Commands{Jobs: 1000, Submit: 3, Act: 1}); got == nil || *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := since(now, now); got != nil {
		t.Errorf("nothing was asked: got %+v, want nothing told", got)
	}
}
