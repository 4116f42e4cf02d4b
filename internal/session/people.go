package session

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// peoplePage is what operators see of all accounts.
type peoplePage struct {
	Me, Name, Mail string
	People         []Person
	Invited        []string
}

// invitedPage shows a link, once.
type invitedPage struct{ Name, Link string }

// operator returns the session of an operator who may change others. To
// everybody else the page does not exist.
func (s *Service) operator(w http.ResponseWriter, r *http.Request, level Level) (*Session, bool, error) {
	n, ok := s.Require(w, r, level)
	if !ok {
		return nil, false, nil
	}
	if !n.Operator {
		return nil, false, hpcsera.Errorf(hpcsera.NotFound, "The address leads nowhere.")
	}
	return n, true, nil
}

func (s *Service) showPeople(w http.ResponseWriter, r *http.Request) error {
	n, ok, err := s.operator(w, r, SignedIn)
	if err != nil || !ok {
		return err
	}
	v, err := s.peoplePage(r, n)
	if err == nil {
		s.pages.Render(w, r, http.StatusOK, "people", v)
	}
	return err
}

func (s *Service) peoplePage(r *http.Request, n *Session) (page.View, error) {
	var d peoplePage
	err := s.cfg.Records.Read(r.Context(), func(rd records.Reader) error {
		d = peoplePage{Me: n.User}
		have := map[string]bool{}
		err := each(rd, accountKind, "", func(_ string, a *account) error {
			d.People = append(d.People, a.person())
			have[a.Name] = true
			return nil
		})
		if err != nil {
			return err
		}
		return each(rd, linkKind, "", func(_ string, l *link) error {
			if l.User != "" && !have[l.User] {
				d.Invited = append(d.Invited, l.User)
			}
			return nil
		})
	})
	return page.View{User: n.User, Operator: n.Operator, Data: d}, err
}

func (s *Service) invitePerson(w http.ResponseWriter, r *http.Request) error {
	n, ok, err := s.operator(w, r, SteppedUp)
	if err != nil || !ok {
		return err
	}
	name, address := strings.ToLower(strings.TrimSpace(r.PostFormValue("name"))), strings.TrimSpace(r.PostFormValue("mail"))
	err = checkPerson(name, address)
	if err == nil {
		err = s.unusedName(r, name)
	}
	var link string
	if err == nil {
		link, err = s.Invite(r.Context(), n.User, name, address, r.PostFormValue("operator") != "")
	}
	if err != nil {
		v, pageErr := s.peoplePage(r, n)
		if pageErr != nil {
			return pageErr
		}
		if d, ok := v.Data.(peoplePage); ok {
			d.Name, d.Mail = name, address
			v.Data = d
		}
		return s.again(w, r, "people", v, err)
	}
	s.pages.Render(w, r, http.StatusOK, "invited", page.View{User: n.User, Operator: n.Operator, Data: invitedPage{Name: name, Link: link}})
	return nil
}

func (s *Service) renewPerson(w http.ResponseWriter, r *http.Request) error {
	n, ok, err := s.operator(w, r, SteppedUp)
	if err != nil || !ok {
		return err
	}
	name := r.PostFormValue("name")
	if err := s.existing(r, name); err != nil {
		return err
	}
	link, err := s.Invite(r.Context(), n.User, name, "", false)
	if err != nil {
		return err
	}
	s.pages.Render(w, r, http.StatusOK, "invited", page.View{User: n.User, Operator: n.Operator, Data: invitedPage{Name: name, Link: link}})
	return nil
}

func (s *Service) existing(r *http.Request, name string) error {
	return s.cfg.Records.Read(r.Context(), func(rd records.Reader) error {
		_, err := User(rd, name)
		return err
	})
}

func (s *Service) disablePerson(w http.ResponseWriter, r *http.Request) error {
	return s.switchPerson(w, r, true, "person-disabled")
}

func (s *Service) enablePerson(w http.ResponseWriter, r *http.Request) error {
	return s.switchPerson(w, r, false, "person-enabled")
}

func (s *Service) switchPerson(w http.ResponseWriter, r *http.Request, disabled bool, notice string) error {
	n, ok, err := s.operator(w, r, SteppedUp)
	if err != nil || !ok {
		return err
	}
	name := r.PostFormValue("name")
	if name == n.User {
		return hpcsera.Errorf(hpcsera.Conflict, "You cannot disable yourself.").Hint("Another operator can.")
	}
	if err := s.Disable(r.Context(), n.User, name, disabled); err != nil {
		return err
	}
	s.cfg.Frame.Flash(w, notice)
	s.cfg.Frame.Redirect(w, r, "/people")
	return nil
}

// Disable disables an account and ends its sessions, or lets it in again. It
// may be called twice. by is who asks; the caller has checked it.
func (s *Service) Disable(ctx context.Context, by, name string, disabled bool) error {
	return s.cfg.Records.Write(ctx, func(tx records.Tx) error {
		a, err := getAccount(tx, name)
		if errors.Is(err, records.ErrNotFound) {
			return hpcsera.Errorf(hpcsera.NotFound, "There is no account %s.", name)
		}
		if err != nil || a.Disabled == disabled {
			return err
		}
		a.Disabled = disabled
		return s.turn(tx, a, by)
	})
}

// turn stores an account that became usable or unusable, with all that
// follows.
func (s *Service) turn(tx records.Tx, a *account, by string) error {
	kind, action := UserEnabled, "account.enable"
	if !a.usable() {
		kind, action = UserDisabled, "account.disable"
		if _, err := s.endAll(tx, a.Name, func(string, *Session) bool { return true }); err != nil {
			return err
		}
	}
	return errors.Join(putAccount(tx, a), s.tell(tx, Event{Kind: kind, User: a.Name}),
		tx.Note(records.AuditLine{At: s.cfg.Now(), Actor: by, User: a.Name, Action: action}))
}

// People lists all accounts, by name.
func (s *Service) People(ctx context.Context) (list []Person, err error) {
	err = s.cfg.Records.Read(ctx, func(r records.Reader) error {
		list = nil
		return each(r, accountKind, "", func(_ string, a *account) error {
			list = append(list, a.person())
			return nil
		})
	})
	return list, err
}

// User returns a person, or not_found.
func (s *Service) User(ctx context.Context, name string) (p Person, err error) {
	err = s.cfg.Records.Read(ctx, func(r records.Reader) (err error) {
		p, err = User(r, name)
		return err
	})
	return p, err
}
