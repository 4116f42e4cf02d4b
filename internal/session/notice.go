package session

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera"
)

// notices are the messages that a page shows after a form was taken.
var notices = map[string]string{
	"app-added":        "Your authenticator app was added.",
	"app-removed":      "Your authenticator app was removed.",
	"passkey-added":    "Your passkey was added.",
	"passkey-removed":  "The passkey was removed.",
	"password-changed": "Your password was changed. All other sessions were ended.",
	"mail-changed":     "Your mail address was changed.",
	"session-ended":    "The session was ended.",
	"sessions-ended":   "All other sessions were ended.",
	"signed-out":       "You are signed out.",
	"person-disabled":  "The account was disabled. Its sessions have ended.",
	"person-enabled":   "The account can be used again.",
}

// Mail is a notice to a person.
type Mail struct{ To, Subject, Text string }

// Mailer takes mails. It is called by one goroutine.
type Mailer interface {
	Send(ctx context.Context, m Mail) error
}

// sendTime bounds the sending of one mail.
const sendTime = 30 * time.Second

// notify tells a person what happened to the account, so that they notice what
// they did not do. It never waits and never fails: a mail is a courtesy, and
// the audit log is the record.
func (s *Service) notify(a *account, subject, text string) {
	if s.cfg.Mailer == nil || a.Mail == "" {
		return
	}
	m := letter{Mail: Mail{
		To: a.Mail, Subject: s.cfg.Product + ": " + subject,
		Text: text + "\n\nAccount: " + a.Name + "\nTime: " + s.cfg.Now().UTC().Format("2 January 2006, 15:04 UTC") +
			"\n\nIf that was not you, look at your account's sessions and factors now:\n" + s.cfg.URL + "/account\n",
	}}
	select {
	case s.outbox <- m:
	default:
		s.cfg.Log.Warn("a notice was dropped, because too many wait", "user", a.Name)
	}
}

// Mail sends a person a mail in the caller's words, and waits until it was
// sent. It is not_found for somebody who has no account with an address, and
// unavailable where no mail can be sent now. Run must be running.
func (s *Service) Mail(ctx context.Context, name, subject, text string) error {
	p, err := s.User(ctx, name)
	if err != nil {
		return err
	}
	if p.Disabled || p.Mail == "" {
		return hpcsera.Errorf(hpcsera.NotFound, "there is no account %s to which mails could be sent.", name)
	}
	if s.cfg.Mailer == nil {
		return hpcsera.Errorf(hpcsera.Unavailable, "this Auth app sends no mails.").Hint("Its operator sets the mail server.")
	}
	sent := make(chan error, 1)
	m := letter{Mail: Mail{To: p.Mail, Subject: s.cfg.Product + ": " + subject, Text: text}, unwanted: ctx.Done(), sent: sent}
	select {
	case s.outbox <- m:
	default:
		return hpcsera.Errorf(hpcsera.Unavailable, "too many mails wait.").Hint("Try again later.")
	}
	select {
	case err = <-sent:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil {
		return hpcsera.Errorf(hpcsera.Unavailable, "the mail was not sent: %w.", err)
	}
	return nil
}

// letter is a mail in the outbox.
type letter struct {
	Mail
	unwanted <-chan struct{} // closed: nobody wants it any more; nil is never
	sent     chan<- error    // is told what became of it; nil is nobody
}

func (s *Service) send(ctx context.Context, m letter) {
	select {
	case <-m.unwanted:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	err := s.cfg.Mailer.Send(ctx, m.Mail)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "a notice was not sent", "error", err)
	}
	if m.sent != nil {
		m.sent <- err
	}
}
