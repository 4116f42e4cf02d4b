package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

// Mailer sends a mail to a user, whose address it knows.
type Mailer interface {
	Mail(ctx context.Context, user, subject, text string) error
}

// reminders are the documents of what owners were told, by agent and end.
const reminders store.Kind = "agent_reminder"

// The times of reminders.
const (
	remindBefore = 14 * 24 * time.Hour // the end of an enrolment
	remindEvery  = time.Hour
)

// Run tells the owners of agents whose enrolment is about to end, until ctx
// ends. It is to be run once, in a goroutine of the server; with several
// replicas each owner is told once.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(remindEvery)
	defer tick.Stop()
	for {
		if err := s.Remind(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("owners of agents were not reminded", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Remind tells the owners who were not told yet.
func (s *Service) Remind(ctx context.Context) error {
	var ending []*store.Agent
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		rows, err := r.Agents("", "")
		for _, row := range rows {
			if left := row.Expires.Sub(s.now()); left > 0 && left <= remindBefore {
				ending = append(ending, row)
			}
		}
		return err
	})
	if err != nil {
		return store.Failed("look for agents that end", err)
	}
	var failed error
	for _, row := range ending {
		failed = errors.Join(failed, s.remind(ctx, row))
	}
	return failed
}

// remind claims the reminder before it is sent, so that no other replica sends
// it, and gives the claim back where it could not be sent.
func (s *Service) remind(ctx context.Context, row *store.Agent) error {
	key := fmt.Sprintf("%s/%d", row.ID, row.Expires.Unix())
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		return tx.InsertDocument(store.Document{Kind: reminders, Key: key, Owner: row.User, Ends: row.Expires}, true)
	})
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	if err != nil {
		return store.Failed("note a reminder of "+row.ID, err)
	}
	if s.cfg.Mailer == nil {
		s.cfg.Log.Warn("an agent's enrolment ends, and no mail can be sent", "agent", row.ID, "user", row.User, "site", row.Site, "ends", row.Expires)
		return nil
	}
	text := fmt.Sprintf("The enrolment of your agent %s at %s ends on %s.\n\n"+
		"To go on, renew it on the page of your agents, or type on its login node:\n\n    hpcsera-agent enroll --replace\n\nIts jobs stay its own. After the end it takes no jobs and reports none.\n",
		row.ID, row.Site, row.Expires.UTC().Format("2 January 2006, 15:04 MST"))
	err = s.cfg.Mailer.Mail(ctx, row.User, "Your HPCSerA agent at "+row.Site+" ends soon", text)
	if err == nil {
		return nil
	}
	back := s.cfg.Store.Write(context.WithoutCancel(ctx), func(tx store.Tx) error { return tx.DeleteDocument(reminders, key) })
	return errors.Join(fmt.Errorf("mail %s about agent %s: %w", row.User, row.ID, err), back)
}
