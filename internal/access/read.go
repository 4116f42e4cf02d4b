package access

import (
	"context"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// AgentState is an enrolment with what ending it would end.
type AgentState struct {
	hpcsera.Agent
	Unfinished int // its jobs that have not ended
}

// Agent returns one enrolment that was not removed.
func (s *Service) Agent(ctx context.Context, by *auth.Principal, id string) (AgentState, error) {
	var state AgentState
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		row, err := r.Agent(id)
		if err == nil && row.Removed {
			err = store.ErrNotFound
		}
		if err == nil {
			err = auth.Allow(by, auth.ListAgents, auth.Target{User: row.User})
		}
		if err != nil {
			return missing(err, "agent", id)
		}
		state.Agent = row.Agent
		state.LastSeen = s.cfg.Sightings.Last(row.ID, row.LastSeen)
		state.Unfinished, err = r.UnfinishedByAgent(id)
		return err
	})
	// What one does not reach does not exist, in the same words.
	if hpcsera.CodeOf(err) == hpcsera.NotFound {
		err = missing(store.ErrNotFound, "agent", id)
	}
	return state, store.Failed("read agent "+id, err)
}

// TrailQuery asks for a page of the audit log, newest first.
type TrailQuery struct {
	All    bool  `json:"all,omitempty"`    // operators: everybody's lines
	Before int64 `json:"before,omitempty"` // only lines with a lower number; 0 is no bound
	Limit  int   `json:"limit,omitempty"`  // 0 is 50, at most 500
}

// Trail returns the lines of the audit log that concern the person, and those of the projects
// that the person owns; all of them where an operator asks for all.
func (s *Service) Trail(ctx context.Context, by *auth.Principal, q TrailQuery) ([]hpcsera.AuditLine, error) {
	target := auth.Target{User: by.User()}
	if q.All {
		target.User = ""
	}
	if err := auth.Allow(by, auth.ReadAudit, target); err != nil {
		return nil, err
	}
	if q.Limit < 1 {
		q.Limit = 50
	}
	filter := store.AuditFilter{User: target.User, Before: q.Before, Newest: true, Limit: min(q.Limit, 500)}
	var lines []hpcsera.AuditLine
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		if !q.All {
			projects, err := r.Projects()
			if err != nil {
				return err
			}
			for _, p := range projects {
				if p.Members[by.User()] == hpcsera.Owner {
					filter.Projects = append(filter.Projects, p.Name)
				}
			}
		}
		var err error
		lines, err = r.Audit(filter)
		return err
	})
	return lines, store.Failed("read the audit log", err)
}

// Revocations asks to revoke several tokens at once.
type Revocations struct {
	User   string `json:"user"`
	Client string `json:"client,omitempty"` // only those of one client
	Stop   bool   `json:"stop,omitempty"`   // cancel the jobs that they started
}

// RevokeTokens revokes all tokens of a user that still work, or those of one
// client, and returns how many. When it fails on the way, those before stay
// revoked; it can be called again.
func (s *Service) RevokeTokens(ctx context.Context, by *auth.Principal, r Revocations) (int, error) {
	tokens, err := s.Tokens(ctx, by, Filter{User: r.User})
	if err != nil {
		return 0, err
	}
	now := s.now()
	tokens = slices.DeleteFunc(tokens, func(t *hpcsera.Token) bool {
		return t.User != r.User || t.Revoked != nil || !now.Before(t.Expires) || r.Client != "" && t.Client != r.Client
	})
	for done, t := range tokens {
		if _, err := s.RevokeToken(ctx, by, Revocation{ID: t.ID, Stop: r.Stop}); err != nil {
			return done, err
		}
	}
	return len(tokens), nil
}

// TokenDays returns how long a token lives when nobody says, and at most.
func (s *Service) TokenDays() (usual, most int) { return s.cfg.TokenDays, s.cfg.MaxTokenDays }
