package session

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// stepUpPage is what the page to verify a factor again shows.
type stepUpPage struct {
	Return       string
	App, Passkey bool
}

func (s *Service) stepUpPage(a *account, to string) page.View {
	return page.View{User: a.Name, Operator: a.Operator, Data: stepUpPage{Return: to, App: a.App != nil, Passkey: len(a.Passkeys) > 0}}
}

// own returns the session of a request with its account.
func (s *Service) own(r *http.Request) (n *stored, a *account, err error) {
	err = s.cfg.Records.Read(r.Context(), func(rd records.Reader) (err error) {
		n, a, err = s.find(rd, s.sessionKey(r))
		return err
	})
	if errors.Is(err, records.ErrNotFound) {
		err = errNobody
	}
	return n, a, err
}

func (s *Service) showStepUp(w http.ResponseWriter, r *http.Request) error {
	if _, ok := s.Require(w, r, SignedIn); !ok {
		return nil
	}
	_, a, err := s.own(r)
	if err != nil {
		return err
	}
	s.pages.Render(w, r, http.StatusOK, "stepup", s.stepUpPage(a, s.back(r.URL.Query().Get("return"))))
	return nil
}

func (s *Service) stepUpByApp(w http.ResponseWriter, r *http.Request) error {
	code := r.PostFormValue("code")
	return s.stepUp(w, r, "otp", func(_ records.Tx, _ *stored, a *account) error {
		return s.useApp(a, code)
	})
}

func (s *Service) offerStepUp(w http.ResponseWriter, r *http.Request) error {
	_, a, err := s.own(r)
	if err != nil {
		return err
	}
	options, ceremony, err := s.beginGet(a)
	if err != nil {
		return err
	}
	err = s.change(r, func(_ records.Tx, n *stored, _ *account) error {
		n.Passkey = ceremony
		return nil
	})
	if err != nil {
		return err
	}
	return answer(w, options)
}

func (s *Service) stepUpByPasskey(w http.ResponseWriter, r *http.Request) error {
	response := r.PostFormValue("credential")
	return s.stepUp(w, r, "hwk", func(tx records.Tx, n *stored, a *account) error {
		ceremony := n.Passkey
		if n.Passkey = nil; ceremony == nil {
			return badPasskey(errors.New("it was not asked for"))
		}
		used, err := s.check(tx, ceremony, response)
		if err == nil {
			*a = *used // with the key's use
		}
		return err
	})
}

// change reads the request's session and account, lets fn change them, and
// stores them.
func (s *Service) change(r *http.Request, fn func(records.Tx, *stored, *account) error) error {
	key := s.sessionKey(r)
	return s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		n, a, err := s.find(tx, key)
		if errors.Is(err, records.ErrNotFound) {
			return errNobody
		}
		if err != nil {
			return err
		}
		if err := fn(tx, n, a); err != nil {
			return err
		}
		return errors.Join(putAccount(tx, a), s.putSession(tx, key, n))
	})
}

// stepUp verifies a factor of somebody who is signed in. The session gets a
// new name, because from here on it may decide.
func (s *Service) stepUp(w http.ResponseWriter, r *http.Request, method string, use func(records.Tx, *stored, *account) error) error {
	var a *account
	var wrong error
	var cookie string
	key, to := s.sessionKey(r), s.back(r.PostFormValue("return"))
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) (err error) {
		var n *stored
		wrong = nil
		if n, a, err = s.find(tx, key); errors.Is(err, records.ErrNotFound) {
			return errNobody
		} else if err != nil {
			return err
		}
		if _, wrong = factorTries().spend(tx, a.Name, s.cfg.Now()); wrong != nil {
			return nil
		}
		if wrong = use(tx, n, a); wrong != nil {
			l := s.line(r, a.Name, a.Name, "session.stepup", n.ID, how([]string{method}))
			l.Refused = true
			return errors.Join(s.putSession(tx, key, n), tx.Note(l))
		}
		if err := errors.Join(putAccount(tx, a), factorTries().forgive(tx, a.Name), tx.Delete(sessionKind, key)); err != nil {
			return err
		}
		var fresh string
		cookie, fresh = newSecret()
		n.Stepped, n.Seen = s.cfg.Now(), s.cfg.Now()
		for _, m := range []string{method, "mfa"} {
			if !slices.Contains(n.Methods, m) {
				n.Methods = append(n.Methods, m)
			}
		}
		return errors.Join(s.putSession(tx, fresh, n), tx.Note(s.line(r, a.Name, a.Name, "session.stepup", n.ID, how([]string{method}))))
	})
	if err != nil {
		return err
	}
	if wrong != nil {
		return s.again(w, r, "stepup", s.stepUpPage(a, to), wrong)
	}
	s.cfg.Frame.SetCookie(w, sessionCookie, cookie, time.Time{})
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// firstFactorTime is how long after coming from the institution a person may
// add a first factor here without having one to verify.
const firstFactorTime = 10 * time.Minute

// mayChange reports whether the person may change factors now.
func (s *Service) mayChange(n *Session, a *account) bool {
	now := s.cfg.Now()
	return n.SteppedUp(now) || !a.factors() && n.Institution != "" && now.Sub(n.Began) < firstFactorTime
}

// mayChangeOrStepUp is mayChange for a page, which sends on who may not.
func (s *Service) mayChangeOrStepUp(w http.ResponseWriter, r *http.Request) (a *account, ok bool, err error) {
	n, ok := s.Require(w, r, SignedIn)
	if !ok {
		return nil, false, nil
	}
	if _, a, err = s.own(r); err != nil {
		return nil, false, err
	}
	switch {
	case s.mayChange(n, a):
		return a, true, nil
	case !a.factors():
		return nil, false, hpcsera.Errorf(hpcsera.Forbidden, "It is too long ago that you came from %s.", n.Institution).
			Hint("Sign out and in again, then add a factor at once.")
	}
	_, ok = s.Require(w, r, SteppedUp)
	return a, ok, nil
}
