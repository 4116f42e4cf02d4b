package agent

import "time"

// slots space out what is done for many at once: the first time at once, again
// after a moment that doubles while somebody waits for it. So what is done for
// thousands that come one by one does not grow with the time that they take.
type slots struct {
	first, longest time.Duration
	slot           time.Duration
	next           time.Time // not before
	awaited        bool      // somebody was told to wait for it
}

// delay is how long whoever asks has to wait for the next slot.
func (s *slots) delay(now time.Time) time.Duration {
	wait := s.next.Sub(now)
	s.awaited = s.awaited || wait > 0
	return wait
}

// use takes the slot that has come.
func (s *slots) use(now time.Time) {
	if s.awaited && now.Sub(s.next) <= s.first {
		s.slot = min(2*s.slot, s.longest)
	} else {
		s.slot = s.first // nobody waited for it, or it came long ago
	}
	s.next, s.awaited = now.Add(s.slot), false
}
