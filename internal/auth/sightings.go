package auth

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

// flushEvery is how often sightings are stored. It is far below the 90 seconds
// of silence after which a term may be given away, so that another replica,
// which sees only what was stored, does not take a living agent for dead.
const flushEvery = 10 * time.Second

// Sightings remembers when each agent was last seen and each token last used,
// and stores that now and then, so that a poll costs no write. It may be used
// by many goroutines.
type Sightings struct {
	store store.Store
	now   func() time.Time
	log   *slog.Logger

	mu    sync.Mutex
	last  map[string]time.Time
	dirty map[string]time.Time
	used  map[string]time.Time // tokens
}

// NewSightings returns an empty memory. now nil is time.Now.
func NewSightings(st store.Store, now func() time.Time, log *slog.Logger) *Sightings {
	if now == nil {
		now = time.Now
	}
	return &Sightings{store: st, now: now, log: log, last: map[string]time.Time{}, dirty: map[string]time.Time{}, used: map[string]time.Time{}}
}

// Seen notes that an agent was seen now.
func (s *Sightings) Seen(agent string) {
	at := s.now().UTC()
	s.mu.Lock()
	s.last[agent], s.dirty[agent] = at, at
	s.mu.Unlock()
}

// Used notes that a token is used now.
func (s *Sightings) Used(token string) {
	at := s.now().UTC()
	s.mu.Lock()
	s.used[token] = at
	s.mu.Unlock()
}

// Last returns the later of stored and what this replica saw; nil for never.
func (s *Sightings) Last(agent string, stored *time.Time) *time.Time {
	s.mu.Lock()
	at, seen := s.last[agent]
	s.mu.Unlock()
	if !seen || stored != nil && stored.After(at) {
		return stored
	}
	return &at
}

// Run stores what was seen every 10 seconds until ctx ends, and once more
// then. It is to be run once, in a goroutine of the server.
func (s *Sightings) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.flush(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			s.flush(last)
			return nil
		}
	}
}

// flush stores what is new. What could not be stored is tried again with the
// next flush: a lost sighting costs nothing but a late one.
func (s *Sightings) flush(ctx context.Context) {
	s.mu.Lock()
	batch, used := s.dirty, s.used
	s.dirty, s.used = map[string]time.Time{}, map[string]time.Time{}
	s.mu.Unlock()
	if len(batch)+len(used) == 0 {
		return
	}
	err := s.store.Write(ctx, func(tx store.Tx) error { return errors.Join(tx.SeenAgents(batch), tx.UsedTokens(used)) })
	if err == nil {
		return
	}
	s.log.Warn("last-seen times were not stored", "err", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(s.dirty, batch)
	keep(s.used, used)
}

// keep puts old times back where there is none newer.
func keep(into, old map[string]time.Time) {
	for name, at := range old {
		if _, newer := into[name]; !newer {
			into[name] = at
		}
	}
}
