package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

// Sightings remembers when each agent was last seen and stores that now and
// then, so that a poll costs no write.
type Sightings struct{}

// NewSightings returns an empty memory. now nil is time.Now.
func NewSightings(st store.Store, now func() time.Time, log *slog.Logger) *Sightings { panic("in work") }

// Seen notes that an agent was seen now.
func (s *Sightings) Seen(agent string) { panic("in work") }

// Last returns the later of stored and what this replica saw; nil for never.
func (s *Sightings) Last(agent string, stored *time.Time) *time.Time { panic("in work") }

// Run stores what was seen every 10 seconds until ctx ends, and once more
// then. It is to be run once, in a goroutine of the server.
func (s *Sightings) Run(ctx context.Context) error { panic("in work") }
