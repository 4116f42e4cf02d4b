package web

import (
	"cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
)

// users lists everybody, for operators.
func (s *Site) users(v *visit) error {
	all, err := s.cfg.Access.Users(v.Context(), v.by, access.Filter{})
	if err != nil {
		return err
	}
	return s.show(v, "users", struct {
		User, Name string
		Users      []*hpcsera.User
	}{v.user(), v.PostFormValue("name"), all})
}

func (s *Site) createUser(v *visit) error {
	_, err := s.cfg.Access.CreateUser(v.Context(), v.by, access.NewUser{Name: v.text("name"), Operator: v.text("operator") == "yes"})
	if err != nil {
		return err
	}
	return s.done(v, "user-made", "/users")
}

func (s *Site) disableUser(v *visit) error {
	off := v.text("disabled") == "yes"
	name := v.PathValue("user")
	if off && name == v.user() {
		return hpcsera.Errorf(hpcsera.Conflict, "you would lock yourself out.").Hint("Another operator can disable you.")
	}
	if _, err := s.cfg.Access.SetUser(v.Context(), v.by, access.Switch{Name: name, Disabled: off}); err != nil {
		return err
	}
	return s.done(v, cmp.Or(map[bool]string{true: "user-disabled"}[off], "user-enabled"), "/users")
}
