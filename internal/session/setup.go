package session

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// setupPage is what the first page behind a link shows.
type setupPage struct {
	Code, Name, Mail       string
	Fixed, Renew, Operator bool
}

var errLink = hpcsera.Errorf(hpcsera.NotFound, "This link does not work.").
	Hint("Each works once and for three days. Ask whoever sent it for a new one.")

// showSetup shows what a link is for. Looking uses nothing up: programs that
// read mails look, too.
func (s *Service) showSetup(w http.ResponseWriter, r *http.Request) error {
	code := r.URL.Query().Get("code")
	if code == "" {
		s.pages.Render(w, r, http.StatusOK, "code", page.View{})
		return nil
	}
	l, err := s.readLink(r, code)
	if err != nil {
		return err
	}
	s.pages.Render(w, r, http.StatusOK, "setup", page.View{Data: setupOf(code, l)})
	return nil
}

func setupOf(code string, l *link) setupPage {
	return setupPage{Code: code, Name: l.User, Mail: l.Mail, Fixed: l.User != "", Renew: l.Renew, Operator: l.Operator}
}

func (s *Service) readLink(r *http.Request, code string) (*link, error) {
	var l link
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		if _, err := linkTries().spend(tx, s.network(r), s.cfg.Now()); err != nil {
			return err
		}
		if err := tx.Get(linkKind, linkKey(code), &l); err == nil {
			return linkTries().refund(tx, s.network(r))
		} else if !errors.Is(err, records.ErrNotFound) {
			return err
		}
		l = link{}
		return nil
	})
	if err == nil && l == (link{}) {
		err = errLink
	}
	return &l, err
}

// takeSetup takes name and password. They are kept with the visit: the
// account comes into being with its second factor.
func (s *Service) takeSetup(w http.ResponseWriter, r *http.Request) error {
	code := r.PostFormValue("code")
	l, err := s.readLink(r, code)
	if err != nil {
		return err
	}
	shown := setupOf(code, l)
	if shown.Mail = strings.TrimSpace(r.PostFormValue("mail")); !shown.Fixed {
		shown.Name = strings.ToLower(strings.TrimSpace(r.PostFormValue("name")))
	}
	password := r.PostFormValue("password")
	err = checkPerson(shown.Name, shown.Mail)
	if err == nil {
		err = checkPassword(shown.Name, password)
	}
	if err == nil && password != r.PostFormValue("again") {
		err = hpcsera.Errorf(hpcsera.InvalidField, "The two passwords differ.").At("again")
	}
	if err == nil && !shown.Renew {
		err = s.unusedName(r, shown.Name)
	}
	if err != nil {
		return s.again(w, r, "setup", page.View{Data: shown}, err)
	}
	hash, err := s.hasher.hash(r.Context(), password)
	if err != nil {
		return err
	}
	v := &visit{Setup: &setup{Link: linkKey(code), Name: shown.Name, Mail: shown.Mail, Password: hash, Handle: newHandle()}}
	v.App = s.newApp(shown.Name)
	if err := s.newVisit(w, r, v); err != nil {
		return err
	}
	s.cfg.Frame.Redirect(w, r, "/setup/factor")
	return nil
}

var errTaken = hpcsera.Errorf(hpcsera.InvalidField, "There is an account of this name.").At("name").Hint("Choose another.")

func (s *Service) unusedName(r *http.Request, name string) error {
	err := s.cfg.Records.Read(r.Context(), func(rd records.Reader) error {
		_, err := getAccount(rd, name)
		return err
	})
	if err == nil {
		return errTaken
	}
	return ignore(err, records.ErrNotFound)
}

// setupFactorPage shows the two kinds of factors.
type setupFactorPage struct{ Name, Picture, Secret string }

func (s *Service) showSetupFactor(w http.ResponseWriter, r *http.Request) error {
	v, err := s.setupVisit(r)
	if err != nil {
		return err
	}
	shown, err := s.setupFactorPage(v)
	if err != nil {
		return err
	}
	s.pages.Render(w, r, http.StatusOK, "setupfactor", shown)
	return nil
}

func (s *Service) setupVisit(r *http.Request) (*visit, error) {
	v, err := s.readVisit(r)
	if err == nil && v.Setup == nil {
		err = errVisit
	}
	return v, err
}

func (s *Service) setupFactorPage(v *visit) (page.View, error) {
	key, err := s.app(v.Setup.Name, v.App)
	if err != nil {
		return page.View{}, err
	}
	img, err := picture(key)
	return page.View{Data: setupFactorPage{Name: v.Setup.Name, Picture: img, Secret: spaced(key.Secret())}}, err
}

// spaced writes a secret in groups of four.
func spaced(secret string) string {
	var groups []string
	for len(secret) > 4 {
		groups = append(groups, secret[:4])
		secret = secret[4:]
	}
	return strings.Join(append(groups, secret), " ")
}

// account returns the account that a setup would make.
func (p *setup) account() *account {
	return &account{Name: p.Name, Mail: p.Mail, Password: p.Password, Handle: p.Handle}
}

func (s *Service) setupApp(w http.ResponseWriter, r *http.Request) error {
	code := r.PostFormValue("code")
	return s.finishSetup(w, r, []string{"pwd", "otp", "mfa"}, func(v *visit, a *account) error {
		a.App = &appFactor{Secret: v.App, Added: s.cfg.Now()}
		return s.useApp(a, code)
	})
}

func (s *Service) offerSetup(w http.ResponseWriter, r *http.Request) error {
	v, err := s.setupVisit(r)
	if err != nil {
		return err
	}
	options, ceremony, err := s.beginCreate(v.Setup.account())
	if err != nil {
		return err
	}
	v.Passkey = ceremony
	if err := s.newVisit(w, r, v); err != nil {
		return err
	}
	return answer(w, options)
}

func (s *Service) setupPasskey(w http.ResponseWriter, r *http.Request) error {
	response, label := r.PostFormValue("credential"), r.PostFormValue("label")
	return s.finishSetup(w, r, []string{"pwd", "hwk", "mfa"}, func(v *visit, a *account) error {
		if v.Passkey == nil {
			return badPasskey(errors.New("it was not asked for"))
		}
		return s.create(a, v.Passkey, response, label)
	})
}

// finishSetup makes the account, once its second factor works, uses the link
// up, signs in, and shows the recovery codes.
func (s *Service) finishSetup(w http.ResponseWriter, r *http.Request, methods []string, factor func(*visit, *account) error) error {
	var v *visit
	var wrong error
	var cookie string
	var codes []string
	var a *account
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) (err error) {
		wrong = nil
		if v, err = getVisit(tx, s.visitKey(r)); err != nil {
			return err
		}
		if v.Setup == nil {
			return errVisit
		}
		if _, wrong = factorTries().spend(tx, v.Setup.Link, s.cfg.Now()); wrong != nil {
			return nil
		}
		a = v.Setup.account()
		if wrong = factor(v, a); wrong != nil {
			return nil
		}
		var l link
		if err := tx.Get(linkKind, v.Setup.Link, &l); err != nil {
			if errors.Is(err, records.ErrNotFound) {
				return errLink
			}
			return err
		}
		codes = a.newRecovery()
		if err := errors.Join(tx.Delete(linkKind, v.Setup.Link), s.settle(tx, r, a, l)); err != nil {
			return err
		}
		cookie, err = s.arrive(tx, r, a, methods)
		return err
	})
	if err != nil {
		return err
	}
	if wrong != nil {
		shown, err := s.setupFactorPage(v)
		if err != nil {
			return err
		}
		return s.again(w, r, "setupfactor", shown, wrong)
	}
	s.cfg.Frame.SetCookie(w, sessionCookie, cookie, time.Time{})
	s.cfg.Frame.DropCookie(w, visitCookie)
	s.notify(a, "your account", "Your account was set up, with a password and a second factor.")
	s.pages.Render(w, r, http.StatusOK, "recovery", page.View{User: a.Name, Operator: a.Operator, Data: codes})
	return nil
}

// settle stores the account that a link makes, or renews one: its old
// password, factors and sessions are gone.
func (s *Service) settle(tx records.Tx, r *http.Request, a *account, l link) error {
	a.Operator, a.Created = l.Operator, s.cfg.Now()
	if !l.Renew {
		if err := insertAccount(tx, a); err != nil {
			if errors.Is(err, records.ErrExists) {
				return errTaken
			}
			return err
		}
		return tx.Note(s.line(r, a.Name, a.Name, "account.make", "", ""))
	}
	old, err := getAccount(tx, a.Name)
	if err != nil {
		return err
	}
	a.Operator, a.Created, a.Disabled = old.Operator, old.Created, old.Disabled
	if a.Disabled {
		return hpcsera.Errorf(hpcsera.Forbidden, "The account is disabled.").Hint("Ask an operator.")
	}
	if _, err := s.endAll(tx, a.Name, func(string, *Session) bool { return true }); err != nil {
		return err
	}
	return errors.Join(
		tx.Delete(handleKind, handleKey(old.Handle)),
		tx.Put(handleKind, handleKey(a.Handle), a.Name, records.Options{}),
		putAccount(tx, a), tx.Note(s.line(r, a.Name, a.Name, "account.renew", "", "")))
}
