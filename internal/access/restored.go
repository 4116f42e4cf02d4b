package access

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Restored ends, in a database that was put back from a backup, what its bearer
// may have lost since: all tokens and all key-bound sessions, since nobody
// knows which of them were revoked in the lost hours. Agents' credentials stay:
// a copied one is useless without the agent's key. It returns the tokens that
// it revoked and the number of sessions.
func Restored(tx store.Tx, at time.Time) (revoked []*hpcsera.Token, sessions int, err error) {
	tokens, err := tx.Tokens("")
	if err != nil {
		return nil, 0, err
	}
	for _, t := range tokens {
		if t.Revoked != nil {
			continue
		}
		if err := tx.RevokeToken(t.ID, at); err != nil {
			return nil, 0, err
		}
		revoked = append(revoked, t)
	}
	sessions, err = store.DropDocuments(tx, auth.LoginSessions)
	return revoked, sessions, err
}
