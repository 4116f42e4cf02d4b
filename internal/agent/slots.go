package agent

import "time"

// slots space out what is done for many at once: the first time at once, again
// after a moment that doubles while somebody waits for it. So what is done for
// thousands that come one by one does not grow with the time that they take.
type slots struct {
	first, longest time.Duration
	slot           time.Duration
	next           time.Time // not before
}

// delay is how long to wait for the next slot.
func (s *slots) delay(now time.Time) time.Duration { return s.next.Sub(now) }

// use takes the slot that has come.
func (s *slots) use(now time.Time) {
	if now.Sub(s.next) > s.first {
		s.slot = s.first // nobody waited for it
	} else {
		s.slot = min(2*s.slot, s.longest)
	}
	s.next = now.Add(s.slot)
}
