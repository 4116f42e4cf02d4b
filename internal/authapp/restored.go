package authapp

import (
	"context"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera/internal/consent"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/session"
)

// Ended is what was ended because a backup was restored.
type Ended struct {
	Sessions int // of browsers
	Links    int // one-time links of invitations
	Requests int // that waited for a decision
}

// Restored makes a database that was put back from a backup one that may be
// served: what may have ended in the lost hours has ended, and the audit log
// says so. Accounts and factors stay. It is not to be used on a database that
// an App serves.
func Restored(ctx context.Context, db records.Store, now time.Time) (e Ended, err error) {
	err = db.Write(ctx, func(tx records.Tx) (err error) {
		if e.Sessions, e.Links, err = session.Restored(tx); err != nil {
			return err
		}
		if e.Requests, err = consent.Restored(tx); err != nil {
			return err
		}
		return tx.Note(records.AuditLine{At: now, Actor: console, Action: "backup.restore", Detail: fmt.Sprintf(
			"A backup was restored: %d sessions, %d one-time links and %d requests were dropped.", e.Sessions, e.Links, e.Requests)})
	})
	return e, err
}
