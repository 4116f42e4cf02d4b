package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// A term is the right to speak for an agent; one instance (process) has it at
// a time. It fences the sender; facts are ordered by their seq, so what was
// journalled under an old term is still reported under a new one.
//
//	free ──work──▶ held by instance ──stopping──▶ free
//	                 │   ▲
//	                 │   └── work of another instance: agent_active, unless the
//	                 │       holder was silent for 90 s, or the other one runs on
//	                 │       the same host and names the holder's dead process
//	                 ▼
//	               its work and reports carry the term; an older one is stale_term
//
// A database that was put back does not know who holds the last term of its lost
// hours. So no instance of that life gets one in the new epoch before it is
// certain that the holder decides nothing any more.

// claim returns the agent with the term given to r's instance, or the error
// that refuses it. It writes only when something changes.
func (s *Service) claim(ctx context.Context, row *store.Agent, r hpcsera.WorkRequest) (*store.Agent, error) {
	if r.Term == 0 {
		if err := s.lingers(ctx, r); err != nil {
			return nil, err
		}
	}
	next, changed, err := s.grant(row, r)
	if err != nil || !changed {
		return next, err
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		current, err := tx.Agent(row.ID)
		if err != nil {
			return err
		}
		if next, changed, err = s.grant(current, r); err != nil || !changed {
			return err
		}
		return tx.UpdateAgent(*next)
	})
	return next, store.Failed("give a term of "+row.ID, err)
}

// grant decides who has the term after r. It is pure but for the clock.
func (s *Service) grant(row *store.Agent, r hpcsera.WorkRequest) (next *store.Agent, changed bool, err error) {
	holder := r.Instance == row.Instance
	switch {
	case holder && r.Stopping && (r.Term == 0 || r.Term == row.Term):
		// It may say so twice: the first answer was lost.
	case r.Term > row.Term:
		return nil, false, unknownTerm(r.Term)
	case r.Term != 0 && (!holder || r.Term != row.Term):
		return nil, false, stale(row, r.Term)
	case !holder && r.Stopping:
		return row, false, nil // it never had the term and wants none
	case !holder && !s.free(row, r):
		return nil, false, s.active(row)
	}
	copied := *row
	if !holder || row.Stopped && r.Term == 0 && !r.Stopping {
		copied.Term++
	}
	copied.Instance, copied.Stopped = r.Instance, r.Stopping
	if r.Facts != nil {
		copied.Facts = r.Facts
	}
	changed = copied.Term != row.Term || copied.Instance != row.Instance || copied.Stopped != row.Stopped || !sameFacts(copied.Facts, row.Facts)
	return &copied, changed, nil
}

// free says whether another instance may have the term.
func (s *Service) free(row *store.Agent, r hpcsera.WorkRequest) bool {
	if row.Instance == "" || row.Stopped {
		return true
	}
	sameHost := r.Facts != nil && row.Facts != nil && r.Facts.Host != "" && r.Facts.Host == row.Facts.Host
	if r.Takeover != "" && r.Takeover == row.Instance && sameHost {
		return true
	}
	// While this server was down nobody could be seen, so silence counts from
	// its start.
	since := s.started
	if last := s.cfg.Sightings.Last(row.ID, row.LastSeen); last != nil && last.After(since) {
		since = *last
	}
	return s.cfg.Now().Sub(since) >= s.cfg.SilentAfter
}

// lingers refuses an instance of another epoch while one that held a term there
// may not know yet that the epoch is over.
func (s *Service) lingers(ctx context.Context, r hpcsera.WorkRequest) error {
	var epoch int64
	err := s.cfg.Store.Read(ctx, func(read store.Reader) (err error) {
		epoch, err = read.Epoch()
		return err
	})
	if err != nil || r.Epoch == 0 || r.Epoch == epoch || r.Takeover != "" || r.Stopping {
		return store.Failed("read the epoch", err)
	}
	now, since := s.cfg.Now(), s.started
	if began := time.Unix(epoch, 0); began.After(since) && !began.After(now) {
		since = began // epochs are the times of their begin, where the clock was right
	}
	if now.Sub(since) >= s.cfg.SilentAfter {
		return nil
	}
	return hpcsera.Errorf(hpcsera.AgentActive, "the server was put back from a backup at %s, and another instance of this agent may not know yet.", since.UTC().Format(time.RFC3339)).
		Hint("Wait: it goes on by itself within %v.", s.cfg.SilentAfter)
}

func (s *Service) active(row *store.Agent) error {
	host, seen := "an unknown host", "never"
	if row.Facts != nil && row.Facts.Host != "" {
		host = row.Facts.Host
	}
	if last := s.cfg.Sightings.Last(row.ID, row.LastSeen); last != nil {
		seen = last.UTC().Format(time.RFC3339)
	}
	return hpcsera.Errorf(hpcsera.AgentActive, "the agent runs on %s already, last seen %s.", host, seen).
		Hint("Stop it there, or wait %v after its end.", s.cfg.SilentAfter)
}

func stale(row *store.Agent, term int64) error {
	return hpcsera.Errorf(hpcsera.StaleTerm, "the term %d is over; %d is the present one.", term, row.Term).
		Hint("Another instance of this agent took over. Stop; facts in the journal are reported by it.")
}

// fence refuses a sender that does not hold the term.
func fence(row *store.Agent, instance string, term int64) error {
	if row.Removed {
		return hpcsera.Errorf(hpcsera.TokenInvalid, "the agent was removed.")
	}
	if term > row.Term {
		return unknownTerm(term)
	}
	if row.Instance != instance || row.Term != term || term == 0 {
		return stale(row, term)
	}
	return nil
}

func sameFacts(a, b *hpcsera.Facts) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
