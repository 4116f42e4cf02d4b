package jobs

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Sites lists the sites that p reaches, each with the agents of p's user.
func (s *Service) Sites(ctx context.Context, p *auth.Principal) (hpcsera.SiteList, error) {
	list := hpcsera.SiteList{Sites: []hpcsera.Site{}}
	if err := auth.Allow(p, auth.ListSites, auth.Target{}); err != nil {
		return list, err
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		rows, err := r.Sites()
		if err != nil {
			return err
		}
		for _, row := range rows {
			if auth.Allow(p, auth.GetSite, auth.Target{Site: row.Name}) != nil {
				continue
			}
			if err := s.withAgents(r, row, p.User()); err != nil {
				return err
			}
			list.Sites = append(list.Sites, *row)
		}
		return nil
	})
	slices.SortFunc(list.Sites, func(a, b hpcsera.Site) int { return cmp.Compare(a.Name, b.Name) })
	return list, store.Failed("list sites", err)
}

// Site returns one of them.
func (s *Service) Site(ctx context.Context, p *auth.Principal, name string) (hpcsera.Site, error) {
	var row *hpcsera.Site
	err := auth.Allow(p, auth.GetSite, auth.Target{Site: name})
	if err == nil {
		err = s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
			if row, err = r.Site(name); err != nil {
				return err
			}
			return s.withAgents(r, row, p.User())
		})
	}
	if errors.Is(err, store.ErrNotFound) || hpcsera.CodeOf(err) == hpcsera.NotFound {
		return hpcsera.Site{}, hpcsera.Errorf(hpcsera.NotFound, "there is no site %q.", name).Hint("GET /sites lists them.")
	} else if err != nil {
		return hpcsera.Site{}, store.Failed("read site "+name, err)
	}
	return *row, nil
}

func (s *Service) withAgents(r store.Reader, site *hpcsera.Site, user string) error {
	rows, err := r.Agents(user, site.Name)
	site.Agents = []hpcsera.Agent{}
	for _, row := range rows {
		shown := row.Agent
		shown.LastSeen = s.cfg.Sightings.Last(row.ID, row.LastSeen)
		site.Agents = append(site.Agents, shown)
	}
	return err
}

// Self returns the principal's own token.
func (s *Service) Self(p *auth.Principal) (hpcsera.Token, error) {
	if err := auth.Allow(p, auth.GetTokenSelf, auth.Target{}); err != nil {
		return hpcsera.Token{}, err
	}
	return *p.Token, nil
}

// GiveUp revokes the principal's own token; see RevokeToken.
func (s *Service) GiveUp(ctx context.Context, p *auth.Principal) error {
	if err := auth.Allow(p, auth.DeleteTokenSelf, auth.Target{}); err != nil {
		return err
	}
	return s.RevokeToken(ctx, p.Token.ID, false, p.Actor())
}

// RevokeToken revokes a token and holds the jobs made with it that no agent
// has, in one transaction; stop cancels those that an agent has. Whoever calls
// it has decided that it may be done; actor is who did.
func (s *Service) RevokeToken(ctx context.Context, id string, stop bool, actor string) error {
	now := s.now()
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, now)
		if err != nil {
			return err
		}
		token, _, err := tx.Token(id)
		if errors.Is(err, store.ErrNotFound) {
			return hpcsera.Errorf(hpcsera.NotFound, "there is no token %q.", id)
		} else if err != nil || token.Revoked != nil {
			return err
		}
		if err := tx.RevokeToken(id, now); err != nil {
			return err
		}
		line := hpcsera.AuditLine{At: now, Actor: actor, Action: "token.revoke", User: token.User, Project: token.Project, About: id}
		if err := tx.Note(line); err != nil {
			return err
		}
		return s.stopJobsOf(tx, ledger, token, stop)
	})
	return store.Failed("revoke token "+id, err)
}

// stopJobsOf holds the jobs of a token that no agent has, and with stop
// cancels all that have not ended.
func (s *Service) stopJobsOf(tx store.Tx, ledger *store.Ledger, token *hpcsera.Token, stop bool) error {
	if !stop {
		_, err := hold(tx, ledger, token, "The token that submitted it was revoked.")
		return err
	}
	for _, state := range []hpcsera.State{hpcsera.Pending, hpcsera.Held, hpcsera.Staging, hpcsera.Queued, hpcsera.Running, hpcsera.Finishing} {
		err := each(tx, state, token, func(j *store.Job) error { return s.cancel(tx, ledger, j) })
		if err != nil {
			return err
		}
	}
	return nil
}

// hold holds the jobs of a revoked token that no agent has, and counts them.
func hold(tx store.Tx, ledger *store.Ledger, token *hpcsera.Token, message string) (held int, err error) {
	err = each(tx, hpcsera.Pending, token, func(j *store.Job) error {
		if j.Delivered != 0 {
			return nil
		}
		desire(j, hpcsera.DesiredHold)
		j.State, j.Reason, j.Message, j.Ready = hpcsera.Held, hpcsera.TokenRevoked, message, false
		held++
		return ledger.Update(j, store.StateEvent)
	})
	return held, err
}

// Restored holds, in a database that was put back from a backup, the jobs of
// the tokens that were revoked for it and that no agent had then: in the lost
// hours an agent may have run them. It returns their number.
func Restored(tx store.Tx, ledger *store.Ledger, revoked []*hpcsera.Token) (held int, err error) {
	for _, token := range revoked {
		n, err := hold(tx, ledger, token, "A backup was restored; its token was revoked, and it may have run in the lost hours.")
		if err != nil {
			return held, err
		}
		held += n
	}
	return held, nil
}

// each goes through the jobs in a state that were made with a token.
func each(tx store.Tx, state hpcsera.State, token *hpcsera.Token, do func(*store.Job) error) error {
	filter := store.JobFilter{
		Projects: []string{token.Project}, User: token.User, Client: token.Client, Site: token.Site, State: state, Limit: maxPage,
	}
	for {
		page, err := tx.Jobs(filter)
		if err != nil || len(page) == 0 {
			return err
		}
		filter.Older = page[len(page)-1].Cursor
		for _, row := range page {
			j, err := tx.Job(row.ID)
			if err != nil {
				return err
			}
			if j.Token != token.ID {
				continue
			}
			if err := do(j); err != nil {
				return err
			}
		}
	}
}
