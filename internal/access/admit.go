package access

import (
	"context"
	"errors"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Admit lets somebody in whom the Auth app has just named: a user who is here
// for the first time is made, one who is disabled is refused. The caller has
// verified the Auth app's word; that is why nobody else is asked.
func (s *Service) Admit(ctx context.Context, name string) (hpcsera.User, error) {
	if !hpcsera.ValidName(name) {
		return hpcsera.User{}, hpcsera.Errorf(hpcsera.Forbidden, "%q cannot be the name of a user here.", name).
			Hint("Names have 1 to 63 of a-z, 0-9 and the hyphen. The operators of the Auth app can change yours.")
	}
	var user hpcsera.User
	refused := false
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		u, err := tx.User(name)
		if err == nil {
			user, refused = *u, u.Disabled
			if refused {
				return tx.Note(hpcsera.AuditLine{At: s.now(), Actor: "user:" + name, Action: "signin", User: name, Refused: hpcsera.Forbidden})
			}
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		user, refused = hpcsera.User{Name: name, Created: s.now()}, false
		if err := tx.InsertUser(user); err != nil {
			return err
		}
		return tx.Note(hpcsera.AuditLine{At: s.now(), Actor: "user:" + name, Action: "user.create", User: name, About: name, Detail: "at the first sign-in"})
	})
	switch {
	case err != nil:
		return hpcsera.User{}, store.Failed("admit "+name, err)
	case refused:
		return hpcsera.User{}, hpcsera.Errorf(hpcsera.Forbidden, "the user %s is disabled.", name).Hint("Ask the operators of this service.")
	}
	return user, nil
}
