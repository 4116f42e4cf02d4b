package scheduler

import (
	"maps"

	"github.com/hpcsera/hpcsera"
)

// Traits are in what batch systems differ without the agent's having to know.
// The suite has to, on a test bed as on a user's site. The zero value is a
// system of which nothing is known.
type Traits struct {
	// Submit, Queue and History are the names of those commands; History is
	// empty where there is none.
	Submit, Queue, History string
	// HistoryOption is the argument that makes one command the history's where
	// Queue and History are the same.
	HistoryOption string
	// Limit is the shortest time limit the system knows; 0 where it knows none.
	Limit hpcsera.Duration
	// Waits are custom attributes that keep a job in the queue until something
	// is done to it.
	Waits map[string]string
	// BadQueue are the words with which the system refuses the queue "nosuch".
	BadQueue string
	// Arrays is how many members an array of the system has at most, unless a
	// site decides otherwise; 0 where there are no arrays.
	Arrays int
	// Leaves says that ended jobs leave the queue's listing within seconds.
	Leaves bool
	// Forgets says that a job which is cancelled before it ran leaves no trace:
	// it is absent then.
	Forgets bool
	// CancelIsKill says that the system tells a running job that was cancelled as
	// one that SIGKILL ended.
	CancelIsKill bool
	// NoDefault says that the system has no default queue.
	NoDefault bool
}

// Distinct is a driver that tells the traits of its batch system.
type Distinct interface {
	Driver
	Traits() Traits
}

// Traits returns what is known of the batch system.
func (s *Scheduler) Traits() Traits {
	if d, ok := s.driver.(Distinct); ok {
		return d.Traits()
	}
	return Traits{}
}

// With returns a Scheduler of the same batch system whose configuration was
// changed. Both share one budget of commands, and the room for them.
func (s *Scheduler) With(change func(*Config)) *Scheduler {
	cfg := s.cfg
	if cfg.Commands = maps.Clone(cfg.Commands); cfg.Commands == nil {
		cfg.Commands = map[string]string{}
	}
	if change != nil {
		change(&cfg)
	}
	other := New(s.driver, cfg)
	other.budget, other.room = s.budget, s.room
	return other
}

// KeepsHistory reports whether nothing so far has said that the site keeps no
// history of jobs.
func (s *Scheduler) KeepsHistory() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noHistory.IsZero()
}
