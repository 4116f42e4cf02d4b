package session

import (
	"errors"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/peer"
	"github.com/hpcsera/hpcsera/internal/records"
)

// allowance is how many tries there are in a time.
type allowance struct {
	what   string
	tries  int
	within time.Duration
}

// The allowances. A password is guessed by its thousands, a code of six digits
// by its hundred thousands: at five in a quarter of an hour, somebody who has
// the password would need years. They run out by themselves, because whoever
// could lock accounts for good would.
func passwordTries() allowance { return allowance{"password", 10, 15 * time.Minute} }
func factorTries() allowance   { return allowance{"factor", 5, 15 * time.Minute} }
func addressTries() allowance  { return allowance{"address", 60, 15 * time.Minute} }
func linkTries() allowance     { return allowance{"link", 30, 15 * time.Minute} }

// network is whose tries are counted where nobody is known yet.
func (s *Service) network(r *http.Request) string { return peer.Network(s.cfg.Address(r)) }

type tries struct {
	Count int
	Until time.Time
}

// of returns the key of somebody's tries. What was typed is hashed: it can be
// anything, also a password in the wrong field.
func (a allowance) of(whose string) string { return a.what + ":" + keyOf(whose) }

// spend counts a try before it is answered, so that many at once are no way
// around. last says that it used up the allowance.
func (a allowance) spend(tx records.Tx, whose string, now time.Time) (last bool, err error) {
	t := tries{Until: now.Add(a.within)}
	if err := tx.Get(triesKind, a.of(whose), &t); err != nil && !errors.Is(err, records.ErrNotFound) {
		return false, err
	}
	if t.Count >= a.tries {
		return false, hpcsera.Errorf(hpcsera.QuotaExceeded, "There were too many wrong tries.").
			Hint("Wait until %s UTC, or use a passkey.", t.Until.UTC().Format("15:04"))
	}
	t.Count++
	return t.Count == a.tries, tx.Put(triesKind, a.of(whose), t, records.Options{Ends: t.Until})
}

// forgive forgets the tries of somebody who was right.
func (a allowance) forgive(tx records.Tx, whose string) error {
	return tx.Delete(triesKind, a.of(whose))
}

// refund takes a counted try back, where others share what it is counted for.
func (a allowance) refund(tx records.Tx, whose string) error {
	var t tries
	if err := tx.Get(triesKind, a.of(whose), &t); err != nil {
		return ignore(err, records.ErrNotFound)
	}
	t.Count--
	return tx.Put(triesKind, a.of(whose), t, records.Options{Ends: t.Until})
}
