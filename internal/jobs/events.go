package jobs

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// EventQuery selects events.
type EventQuery struct {
	Job   string // "" is all jobs that the principal reaches
	After int64  // only events with a higher seq
	Limit int    // of a page: 1 to 10 000; 0 is 1000
}

// Events returns a page of events, oldest first.
func (s *Service) Events(ctx context.Context, p *auth.Principal, q EventQuery) (hpcsera.EventList, error) {
	panic("in work")
}

// Stream calls emit with every event after q.After, in order and once each,
// and goes on as they come. It ends with emit's error, when ctx ends (nil),
// when the server stops (nil), or when p is no longer valid (that error). idle
// is called now and then in between, for keep-alive comments.
func (s *Service) Stream(ctx context.Context, p *auth.Principal, q EventQuery, emit func(hpcsera.Event) error, idle func() error) error {
	panic("in work")
}
