package access

import (
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// ExtendAgent lets an enrolment last as long as a new one would, also one that
// has ended: the same agent with the same key, credential and projects. It
// never ends sooner than before. Only its user does that: whoever has the key
// serves the user's jobs for as long.
func (s *Service) ExtendAgent(ctx context.Context, by *auth.Principal, id string) (hpcsera.Agent, error) {
	found, err := s.enrolment(ctx, id)
	if err != nil {
		return hpcsera.Agent{}, err
	}
	target := auth.Target{User: found.User, Site: found.Site, Agent: id}
	if err := s.hidden(by, auth.ExtendAgent, target, "agent", id); err != nil {
		return hpcsera.Agent{}, err
	}
	var row *store.Agent
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if row, err = standing(tx, id); err != nil {
			return err
		}
		if err := usable(tx, row.User, nil); err != nil {
			return err
		}
		if end := s.now().Add(agentDays * 24 * time.Hour); end.After(row.Expires) {
			row.Expires = end
		}
		if err := tx.UpdateAgent(*row); err != nil {
			return err
		}
		return s.note(tx, by, auth.ExtendAgent, target, id, "until "+row.Expires.UTC().Format(time.RFC3339)+", key "+row.Thumbprint)
	})
	if err != nil {
		return hpcsera.Agent{}, store.Failed("extend agent "+id, err)
	}
	return row.Agent, nil
}

// enrolment reads an agent that was not removed.
func (s *Service) enrolment(ctx context.Context, id string) (row *store.Agent, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		row, err = standing(r, id)
		return err
	})
	return row, store.Failed("read agent "+id, err)
}

// standing is an agent that was not removed: one that was does not exist.
func standing(r store.Reader, id string) (*store.Agent, error) {
	row, err := r.Agent(id)
	if err == nil && row.Removed {
		err = store.ErrNotFound
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing(err, "agent", id)
	}
	return row, err
}
