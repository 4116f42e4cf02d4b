package session

import (
	"context"
	"time"
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
	m := Mail{
		To: a.Mail, Subject: s.cfg.Product + ": " + subject,
		Text: text + "\n\nAccount: " + a.Name + "\nTime: " + s.cfg.Now().UTC().Format("2 January 2006, 15:04 UTC") +
			"\n\nIf that was not you, look at your account's sessions and factors now:\n" + s.cfg.URL + "/account\n",
	}
	select {
	case s.outbox <- m:
	default:
		s.cfg.Log.Warn("a notice was dropped, because too many wait", "user", a.Name)
	}
}

func (s *Service) send(ctx context.Context, m Mail) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	if err := s.cfg.Mailer.Send(ctx, m); err != nil {
		s.cfg.Log.WarnContext(ctx, "a notice was not sent", "error", err)
	}
}
