package access

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// RenewAgent gives an agent a new credential for its key. The old one stays
// good until the new one is used, so an answer that is lost costs nothing; the
// end of the enrolment does not move. Asking again makes another one in place
// of one that was never used.
func (s *Service) RenewAgent(ctx context.Context, by *auth.Principal, id string) (hpcsera.RenewedAgent, error) {
	target := auth.Target{User: by.User(), Agent: id}
	if err := s.allow(by, auth.RenewAgent, target, id); err != nil {
		return hpcsera.RenewedAgent{}, err
	}
	var made hpcsera.RenewedAgent
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		row, err := tx.Agent(id)
		if err != nil {
			return missing(err, "agent", id)
		}
		made.Expires = row.Expires
		made.Credential, row.Renewed = hpcsera.NewSecret(id)
		if err := tx.UpdateAgent(*row); err != nil {
			return err
		}
		return s.note(tx, by, auth.RenewAgent, target, id, "")
	})
	if err != nil {
		return hpcsera.RenewedAgent{}, store.Failed("renew agent "+id, err)
	}
	return made, nil
}
