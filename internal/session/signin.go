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

// signInPage is what the page to sign in shows.
type signInPage struct {
	Return, Name string
	Institutions []Institution
}

func (s *Service) signInPage(to, name string) page.View {
	return page.View{Data: signInPage{Return: to, Name: name, Institutions: s.cfg.Institutions}}
}

func (s *Service) showSignIn(w http.ResponseWriter, r *http.Request) error {
	to := s.back(r.URL.Query().Get("return"))
	if _, err := s.Session(r); err == nil {
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
	s.pages.Render(w, r, http.StatusOK, "signin", s.signInPage(to, ""))
	return nil
}

// errPassword is the answer to every wrong pair of name and password.
var errPassword = hpcsera.Errorf(hpcsera.Unauthenticated, "Name or password is wrong.")

// takePassword is the first factor.
func (s *Service) takePassword(w http.ResponseWriter, r *http.Request) error {
	name := strings.ToLower(strings.TrimSpace(r.PostFormValue("name")))
	to := s.back(r.PostFormValue("return"))
	if err := s.checkFirst(r, name, r.PostFormValue("password")); err != nil {
		return s.again(w, r, "signin", s.signInPage(to, name), err)
	}
	if err := s.newVisit(w, r, &visit{User: name, Return: to}); err != nil {
		return err
	}
	s.cfg.Frame.Redirect(w, r, "/signin/factor")
	return nil
}

// checkFirst checks name and password. All refusals cost the same: two
// transactions and one hash.
func (s *Service) checkFirst(r *http.Request, name, password string) error {
	address := s.network(r)
	a := new(account)
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		if _, err := addressTries().spend(tx, address, s.cfg.Now()); err != nil {
			return err
		}
		if _, err := passwordTries().spend(tx, name, s.cfg.Now()); err != nil {
			return err
		}
		got, err := getAccount(tx, name)
		if err == nil {
			a = got
		}
		return ignore(err, records.ErrNotFound)
	})
	if err != nil {
		return err
	}
	hash := ""
	if a.usable() && a.factors() {
		hash = a.Password
	}
	ok, err := s.hasher.verify(r.Context(), hash, password)
	if err != nil {
		return err
	}
	err = s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		if !ok {
			// The name only where there is such an account: people type passwords
			// into the wrong field.
			return tx.Note(s.refused(r, a.Name, "pwd"))
		}
		return errors.Join(passwordTries().forgive(tx, name), addressTries().refund(tx, address))
	})
	if err == nil && !ok {
		return errPassword
	}
	return err
}

// refused is the audit line of a sign-in that failed.
func (s *Service) refused(r *http.Request, user, by string) records.AuditLine {
	l := s.line(r, "", user, "session.refuse", "", how([]string{by}))
	l.Refused = true
	return l
}

func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// factorPage is what the page for the second factor shows.
type factorPage struct{ App, Passkey, Recovery bool }

func factorsOf(a *account) page.View {
	return page.View{Data: factorPage{App: a.App != nil, Passkey: len(a.Passkeys) > 0, Recovery: len(a.Recovery) > 0}}
}

func (s *Service) showFactor(w http.ResponseWriter, r *http.Request) error {
	a, err := s.visitor(r)
	if errors.Is(err, errVisit) {
		s.cfg.Frame.Redirect(w, r, "/signin")
		return nil
	}
	if err == nil {
		s.pages.Render(w, r, http.StatusOK, "factor", factorsOf(a))
	}
	return err
}

// visitor returns the account whose password the visit had right.
func (s *Service) visitor(r *http.Request) (a *account, err error) {
	err = s.cfg.Records.Read(r.Context(), func(rd records.Reader) error {
		v, err := getVisit(rd, s.visitKey(r))
		if err != nil {
			return err
		}
		if v.User == "" {
			return errVisit
		}
		a, err = getAccount(rd, v.User)
		return err
	})
	return a, err
}

func (s *Service) takeApp(w http.ResponseWriter, r *http.Request) error {
	code := r.PostFormValue("code")
	return s.second(w, r, []string{"pwd", "otp", "mfa"}, func(a *account) error {
		return s.useApp(a, code)
	})
}

func (s *Service) takeRecovery(w http.ResponseWriter, r *http.Request) error {
	code := r.PostFormValue("code")
	return s.second(w, r, []string{"pwd", "recovery"}, func(a *account) error {
		if !a.useRecovery(code) {
			return hpcsera.Errorf(hpcsera.Unauthenticated, "This is none of your recovery codes, or it was used before.")
		}
		return nil
	})
}

// second takes a code as the second factor, after the password.
func (s *Service) second(w http.ResponseWriter, r *http.Request, methods []string, use func(*account) error) error {
	var a *account
	var wrong error
	var last bool
	var cookie, to string
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		wrong, cookie = nil, ""
		v, err := getVisit(tx, s.visitKey(r))
		if err != nil {
			return err
		}
		if a, err = getAccount(tx, v.User); err != nil || !a.usable() {
			return errVisit
		}
		if last, wrong = factorTries().spend(tx, a.Name, s.cfg.Now()); wrong != nil {
			return nil
		}
		if wrong = use(a); wrong != nil {
			return tx.Note(s.refused(r, a.Name, methods[1]))
		}
		to = v.Return
		cookie, err = s.arrive(tx, r, a, methods)
		return err
	})
	switch {
	case err != nil:
		return err
	case wrong != nil:
		if last {
			s.notify(a, "wrong second factor", "Somebody who knows your password entered a wrong second factor several times, from "+s.cfg.Address(r)+".")
		}
		return s.again(w, r, "factor", factorsOf(a), wrong)
	}
	if methods[1] == "recovery" {
		s.notify(a, "recovery code used", "One of your recovery codes was used to sign in, from "+s.cfg.Address(r)+".")
	}
	s.enter(w, r, cookie, to)
	return nil
}

// arrive turns a visit into a session within a transaction.
func (s *Service) arrive(tx records.Tx, r *http.Request, a *account, methods []string) (cookie string, err error) {
	if err := errors.Join(putAccount(tx, a), factorTries().forgive(tx, a.Name), tx.Delete(visitKind, s.visitKey(r))); err != nil {
		return "", err
	}
	// A session that this browser has ends: one browser, one person.
	if err := s.leave(tx, r); err != nil {
		return "", err
	}
	return s.begin(tx, r, a, methods, s.verified)
}

// leave ends the session of the request's own cookie, if there is one.
func (s *Service) leave(tx records.Tx, r *http.Request) error {
	key := s.sessionKey(r)
	if key == "" {
		return nil
	}
	var n stored
	if err := tx.Get(sessionKind, key, &n); err != nil {
		return ignore(err, records.ErrNotFound)
	}
	return errors.Join(s.end(tx, key, &n.Session), tx.Note(s.line(r, n.User, n.User, "session.end", n.ID, "")))
}

// visitTries bounds how many sign-ins strangers can begin and leave for us to
// remember.
func visitTries() allowance { return allowance{"visit", 600, 15 * time.Minute} }

// SpendVisit counts a request of somebody who did not sign in and leaves
// something for us to remember, and refuses too many from one address.
func (s *Service) SpendVisit(r *http.Request) error {
	return s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		_, err := visitTries().spend(tx, s.network(r), s.cfg.Now())
		return err
	})
}

// offerSignIn asks for a passkey: after the password one of the account, and
// before it any.
func (s *Service) offerSignIn(w http.ResponseWriter, r *http.Request) error {
	to := s.back(r.URL.Query().Get("return"))
	v, err := s.readVisit(r)
	if errors.Is(err, errVisit) {
		v, err = &visit{}, nil
	}
	if err != nil {
		return err
	}
	var a *account
	if v.User != "" {
		if a, err = s.visitor(r); err != nil {
			return err
		}
	} else {
		v = &visit{Return: to}
	}
	options, ceremony, err := s.beginGet(a)
	if err != nil {
		return err
	}
	if err := s.SpendVisit(r); err != nil {
		return err
	}
	v.Passkey = ceremony
	if err := s.newVisit(w, r, v); err != nil {
		return err
	}
	return answer(w, options)
}

// takePasskey signs in by passkey, alone or after the password. Its challenge
// is used up whatever comes of it.
func (s *Service) takePasskey(w http.ResponseWriter, r *http.Request) error {
	var a *account
	var v *visit
	var wrong error
	var cookie string
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) (err error) {
		wrong, cookie = nil, ""
		if v, err = getVisit(tx, s.visitKey(r)); err != nil {
			return err
		}
		ceremony := v.Passkey
		if v.Passkey = nil; ceremony == nil {
			return errVisit
		}
		if a, wrong = s.check(tx, ceremony, r.PostFormValue("credential")); wrong == nil && !a.usable() {
			wrong = badPasskey(errors.New("the account cannot be used"))
		}
		if wrong != nil {
			return errors.Join(s.putVisit(tx, s.visitKey(r), v), tx.Note(s.refused(r, v.User, "hwk")))
		}
		methods := []string{"hwk", "user", "mfa"}
		if v.User != "" {
			methods = []string{"pwd", "hwk", "mfa"}
		}
		cookie, err = s.arrive(tx, r, a, methods)
		return err
	})
	switch {
	case err != nil:
		return err
	case wrong == nil:
		s.enter(w, r, cookie, v.Return)
		return nil
	case v.User == "":
		return s.again(w, r, "signin", s.signInPage(v.Return, ""), wrong)
	}
	if a, err = s.visitor(r); err != nil {
		return err
	}
	return s.again(w, r, "factor", factorsOf(a), wrong)
}

func (s *Service) signOut(w http.ResponseWriter, r *http.Request) error {
	if err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) error { return s.leave(tx, r) }); err != nil {
		return err
	}
	s.cfg.Frame.DropCookie(w, sessionCookie)
	s.cfg.Frame.Flash(w, "signed-out")
	s.cfg.Frame.Redirect(w, r, "/signin")
	return nil
}
