package scheduler

import "time"

// Count is how many commands of one kind were run.
type Count struct {
	Runs     int64
	Failures int64         // of the command, or of reading what it printed; refusals are none
	Time     time.Duration // wall clock, all together
}

// Stats is what a Scheduler has cost its batch system so far.
type Stats struct {
	Submit, Queue, History, Act, Probe Count
	Jobs                               int64 // that it took
	Running, AtOnce                    int   // commands now, and at most; 0 is no limit
}

// Total adds all kinds up.
func (s Stats) Total() Count {
	var t Count
	for _, c := range []Count{s.Submit, s.Queue, s.History, s.Act, s.Probe} {
		t.Runs += c.Runs
		t.Failures += c.Failures
		t.Time += c.Time
	}
	return t
}

// Stats returns the counts since New.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Running, stats.AtOnce = s.waiting, s.cfg.AtOnce
	return stats
}

type kind string

const (
	submitKind  kind = "submit"
	queueKind   kind = "queue"
	historyKind kind = "history"
	actKind     kind = "act"
	probeKind   kind = "probe"
)

func (s *Scheduler) count(k kind, d time.Duration, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := map[kind]*Count{
		submitKind: &s.stats.Submit, queueKind: &s.stats.Queue, historyKind: &s.stats.History,
		actKind: &s.stats.Act, probeKind: &s.stats.Probe,
	}[k]
	c.Runs++
	c.Time += d
	if failed {
		c.Failures++
	}
}
