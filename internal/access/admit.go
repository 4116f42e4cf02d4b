package access

import (
	"context"
	"errors"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Admit lets somebody in whom the Auth app has just named: a user who is here
// for the first time is made, one who is disabled is refused. The caller has
// verified the Auth app's word; that is why nobody else is asked. projects are
// where the user's institution says that they belong; they count only where
// the configuration lets institutions say so, and take nobody out.
func (s *Service) Admit(ctx context.Context, name string, projects []string) (hpcsera.User, error) {
	if !hpcsera.ValidName(name) {
		return hpcsera.User{}, hpcsera.Errorf(hpcsera.Forbidden, "%q cannot be the name of a user here.", name).
			Hint("Names have 1 to 63 of a-z, 0-9 and the hyphen. The operators of the Auth app can change yours.")
	}
	if !s.cfg.Institutions {
		projects = nil
	}
	var user hpcsera.User
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) (err error) {
		if user, err = s.admit(tx, name); err != nil || user.Disabled {
			return err
		}
		for _, project := range projects {
			if err := s.join(tx, name, project); err != nil {
				return err
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return hpcsera.User{}, store.Failed("admit "+name, err)
	case user.Disabled:
		s.cfg.Refused(hpcsera.AuditLine{At: s.now(), Actor: "user:" + name, Action: "signin", User: name, Refused: hpcsera.Forbidden})
		return hpcsera.User{}, hpcsera.Errorf(hpcsera.Forbidden, "the user %s is disabled.", name).Hint("Ask the operators of this service.")
	}
	return user, nil
}

// Leave disables a user whose account at the Auth app was ended. A user who is
// not here, or disabled already, is no error.
func (s *Service) Leave(ctx context.Context, name string) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		u, err := tx.User(name)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		} else if err != nil || u.Disabled {
			return err
		}
		u.Disabled = true
		if err := tx.UpdateUser(*u); err != nil {
			return err
		}
		return tx.Note(hpcsera.AuditLine{At: s.now(), Actor: "auth", Action: "user.leave", User: name, About: name, Detail: "the account at the Auth app was ended"})
	})
	return store.Failed("disable "+name, err)
}

// admit returns the user, made when new.
func (s *Service) admit(tx store.Tx, name string) (hpcsera.User, error) {
	u, err := tx.User(name)
	switch {
	case err == nil:
		return *u, nil
	case !errors.Is(err, store.ErrNotFound):
		return hpcsera.User{}, err
	}
	made := hpcsera.User{Name: name, Created: s.now()}
	if err := tx.InsertUser(made); err != nil {
		return made, err
	}
	return made, tx.Note(hpcsera.AuditLine{
		At: s.now(), Actor: "user:" + name, Action: "user.create", User: name, About: name, Detail: "at the first sign-in",
	})
}

// join makes a user a member of a project that the institution named, and the
// project where there is none. What the user is there already stays.
func (s *Service) join(tx store.Tx, user, project string) error {
	if !hpcsera.ValidName(project) {
		s.cfg.Log.Warn("an institution names a project that cannot be one", "user", user)
		return nil
	}
	p, err := tx.Project(project)
	if errors.Is(err, store.ErrNotFound) {
		p = &hpcsera.Project{Name: project, Created: s.now()}
		err = tx.InsertProject(*p)
	}
	if err != nil || p.Members[user] != "" {
		return err
	}
	if err := tx.SetMember(project, user, hpcsera.Member); err != nil {
		return err
	}
	return tx.Note(hpcsera.AuditLine{
		At: s.now(), Actor: "user:" + user, Action: string(auth.SetMember), User: user, Project: project, About: user, Detail: "member, by the institution's word",
	})
}
