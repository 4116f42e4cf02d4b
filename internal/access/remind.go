package access

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Mailer sends a mail to a user, whose address it knows. For somebody who has
// none the error is not_found.
type Mailer interface {
	Mail(ctx context.Context, user, subject, text string) error
}

// reminders are the documents of what owners were told, by agent and end, or
// by agent and beginning of its silence.
const reminders store.Kind = "agent_reminder"

// The times of reminders.
const (
	remindBefore = 14 * 24 * time.Hour // the end of an enrolment
	remindEvery  = 10 * time.Minute
)

// notice is something that an agent's owner should know.
type notice struct {
	agent         *store.Agent
	key           string // tells it from all others, so that it is sent once
	about         string // words for our log
	subject, text string
}

// Run tells the owners of agents whose enrolment is about to end or that are
// not heard of, until ctx ends. It is to be run once, in a goroutine of the
// server; with several replicas each owner is told once.
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
	var list []notice
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		rows, err := r.Agents("", "")
		if err != nil {
			return err
		}
		silent, err := s.silent(r, rows)
		list = append(s.ending(rows), silent...)
		return err
	})
	if err != nil {
		return store.Failed("look for agents to remind of", err)
	}
	var failed error
	for _, n := range list {
		failed = errors.Join(failed, s.tell(ctx, n))
	}
	return failed
}

// ending returns notices about enrolments that end soon.
func (s *Service) ending(rows []*store.Agent) (list []notice) {
	for _, row := range rows {
		if left := row.Expires.Sub(s.now()); left <= 0 || left > remindBefore {
			continue
		}
		list = append(list, notice{
			agent: row, key: fmt.Sprintf("%s/%d", row.ID, row.Expires.Unix()), about: "its enrolment ends",
			subject: "Your HPCSerA agent at " + row.Site + " ends soon",
			text: fmt.Sprintf("The enrolment of your agent %s at %s ends on %s.\n\n"+
				"To go on, renew it on the page of your agents, or type on its login node:\n\n    hpcsera-agent enroll --replace\n\nIts jobs stay its own. After the end it takes no jobs and reports none.\n",
				row.ID, row.Site, when(row.Expires)),
		})
	}
	return list
}

func when(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 MST") }

// tell claims the notice before it is sent, so that no other replica sends it,
// and gives the claim back where it could not be sent. To somebody without an
// address it never can.
func (s *Service) tell(ctx context.Context, n notice) error {
	a := n.agent
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		return tx.InsertDocument(store.Document{Kind: reminders, Key: n.key, Owner: a.User, Ends: a.Expires}, true)
	})
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	if err != nil {
		return store.Failed("note a reminder of "+a.ID, err)
	}
	if s.cfg.Mailer == nil {
		s.cfg.Log.Warn("no mail can be sent about an agent", "about", n.about, "agent", a.ID, "user", a.User, "site", a.Site, "ends", a.Expires)
		return nil
	}
	err = s.cfg.Mailer.Mail(ctx, a.User, n.subject, n.text)
	if hpcsera.CodeOf(err) == hpcsera.NotFound {
		s.cfg.Log.Warn("an agent's owner has no mail address", "about", n.about, "agent", a.ID, "user", a.User, "site", a.Site, "err", err)
		return nil
	}
	if err == nil {
		return nil
	}
	back := s.cfg.Store.Write(context.WithoutCancel(ctx), func(tx store.Tx) error { return tx.DeleteDocument(reminders, n.key) })
	return errors.Join(fmt.Errorf("mail %s about agent %s: %w", a.User, a.ID, err), back)
}
