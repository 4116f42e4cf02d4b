package session

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/page"
	"github.com/hpcsera/hpcsera/internal/records"
)

// accountPage is what a person sees of the own account.
type accountPage struct {
	Person   Person
	Local    bool   // has a password
	Via      string // the institution that vouches for the account
	App      *appFactor
	Passkeys []passkeyRow
	Recovery int
	Only     bool // there is one factor, which cannot be removed
	Sessions []sessionRow
	Events   []records.AuditLine
}

type passkeyRow struct {
	ID, Label   string
	Added, Used time.Time
	Synced      bool
}

type sessionRow struct {
	Session
	Current bool
}

// ownEvents is how many lines of the log the page shows.
const ownEvents = 12

func (s *Service) showAccount(w http.ResponseWriter, r *http.Request) error {
	n, ok := s.Require(w, r, SignedIn)
	if !ok {
		return nil
	}
	v, err := s.accountPage(r, n)
	if err != nil {
		return err
	}
	s.pages.Render(w, r, http.StatusOK, "account", v)
	return nil
}

func (s *Service) accountPage(r *http.Request, n *Session) (page.View, error) {
	var d accountPage
	err := s.cfg.Records.Read(r.Context(), func(rd records.Reader) error {
		d = accountPage{}
		a, err := getAccount(rd, n.User)
		if err != nil {
			return err
		}
		d.Person, d.Local, d.App, d.Recovery = a.person(), a.Password != "", a.App, len(a.Recovery)
		for _, p := range a.Passkeys {
			d.Passkeys = append(d.Passkeys, passkeyRow{ID: p.id(), Label: p.Label, Added: p.Added, Used: p.Used, Synced: p.Credential.Flags.BackupEligible})
		}
		d.Only = !a.canLose()
		if d.Via = a.Institution; s.institutions[a.Institution] != nil {
			d.Via = s.institutions[a.Institution].Title
		}
		err = each(rd, sessionKind, n.User, func(_ string, other *stored) error {
			d.Sessions = append(d.Sessions, sessionRow{Session: other.Session, Current: other.ID == n.ID})
			return nil
		})
		slices.SortFunc(d.Sessions, func(a, b sessionRow) int { return b.Seen.Compare(a.Seen) })
		if err == nil {
			d.Events, err = rd.AuditOf(n.User, 0, ownEvents)
		}
		return err
	})
	return page.View{User: n.User, Operator: n.Operator, Data: d}, err
}

// canLose reports whether a factor may be removed: a local account must keep
// one, or its password alone would open it.
func (a *account) canLose() bool {
	n := len(a.Passkeys)
	if a.App != nil {
		n++
	}
	return n > 1 || a.Password == "" && n > 0
}

// secure is a change of the account by somebody who verified a factor. The
// person is told by mail.
func (s *Service) secure(w http.ResponseWriter, r *http.Request, action, notice, mail string, fn func(records.Tx, *stored, *account) error) error {
	_, ok, err := s.mayChangeOrStepUp(w, r)
	if err != nil || !ok {
		return err
	}
	var changed *account
	err = s.change(r, func(tx records.Tx, n *stored, a *account) error {
		if !s.mayChange(&n.Session, a) {
			return hpcsera.Errorf(hpcsera.Forbidden, "Verify a second factor first.")
		}
		if err := fn(tx, n, a); err != nil {
			return err
		}
		changed = a
		return tx.Note(s.line(r, a.Name, a.Name, action, "", ""))
	})
	if err != nil {
		return err
	}
	if mail != "" {
		s.notify(changed, mail, "This was changed from "+s.cfg.Address(r)+": "+mail+".")
	}
	if notice != "" {
		s.cfg.Frame.Flash(w, notice)
		s.cfg.Frame.Redirect(w, r, "/account")
	}
	return nil
}

func (s *Service) changeMail(w http.ResponseWriter, r *http.Request) error {
	address := strings.TrimSpace(r.PostFormValue("mail"))
	if err := checkPerson("x", address); err != nil {
		n, ok := s.Require(w, r, SignedIn)
		if !ok {
			return nil
		}
		v, pageErr := s.accountPage(r, n)
		if pageErr != nil {
			return pageErr
		}
		return s.again(w, r, "account", v, err)
	}
	var before account
	err := s.secure(w, r, "account.mail", "mail-changed", "", func(_ records.Tx, _ *stored, a *account) error {
		before, a.Mail = *a, address
		return nil
	})
	if err == nil && before.Mail != address {
		s.notify(&before, "mail address changed", "Notices go to another address from now on. It was changed from "+s.cfg.Address(r)+".")
	}
	return err
}

func (s *Service) showPassword(w http.ResponseWriter, r *http.Request) error {
	a, ok, err := s.mayChangeOrStepUp(w, r)
	if err != nil || !ok {
		return err
	}
	if a.Password == "" {
		return hpcsera.Errorf(hpcsera.NotFound, "This account has no password.").Hint("You sign in through %s.", a.Institution)
	}
	s.pages.Render(w, r, http.StatusOK, "password", page.View{User: a.Name, Operator: a.Operator})
	return nil
}

func (s *Service) changePassword(w http.ResponseWriter, r *http.Request) error {
	a, ok, err := s.mayChangeOrStepUp(w, r)
	if err != nil || !ok {
		return err
	}
	if a.Password == "" {
		return hpcsera.Errorf(hpcsera.NotFound, "This account has no password.")
	}
	password := r.PostFormValue("password")
	if err := checkPassword(a.Name, password); err != nil {
		return s.again(w, r, "password", page.View{User: a.Name, Operator: a.Operator}, err)
	}
	if password != r.PostFormValue("again") {
		return s.again(w, r, "password", page.View{User: a.Name, Operator: a.Operator}, hpcsera.Errorf(hpcsera.InvalidField, "The two passwords differ.").At("again"))
	}
	hash, err := s.hasher.hash(r.Context(), password)
	if err != nil {
		return err
	}
	key := s.sessionKey(r)
	return s.secure(w, r, "account.password", "password-changed", "password changed", func(tx records.Tx, _ *stored, a *account) error {
		a.Password = hash
		_, err := s.endAll(tx, a.Name, func(k string, _ *Session) bool { return k != key })
		return err
	})
}

func (s *Service) renewRecovery(w http.ResponseWriter, r *http.Request) error {
	var codes []string
	var own *account
	err := s.secure(w, r, "factor.recovery", "", "new recovery codes", func(_ records.Tx, _ *stored, a *account) error {
		if a.Password == "" {
			return hpcsera.Errorf(hpcsera.Conflict, "Recovery codes belong to a password, and this account has none.")
		}
		codes, own = a.newRecovery(), a
		return nil
	})
	if err == nil && own != nil {
		s.pages.Render(w, r, http.StatusOK, "recovery", page.View{User: own.Name, Operator: own.Operator, Data: codes})
	}
	return err
}

func (s *Service) endSession(w http.ResponseWriter, r *http.Request) error {
	n, ok := s.Require(w, r, SignedIn)
	if !ok {
		return nil
	}
	id := r.PostFormValue("session")
	return s.endOwn(w, r, n, "session-ended", func(_ string, other *Session) bool { return other.ID == id })
}

func (s *Service) endSessions(w http.ResponseWriter, r *http.Request) error {
	n, ok := s.Require(w, r, SignedIn)
	if !ok {
		return nil
	}
	return s.endOwn(w, r, n, "sessions-ended", func(_ string, other *Session) bool { return other.ID != n.ID })
}

// endOwn ends sessions of the person who asks, and of nobody else.
func (s *Service) endOwn(w http.ResponseWriter, r *http.Request, n *Session, notice string, which func(string, *Session) bool) error {
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		ended, err := s.endAll(tx, n.User, which)
		if err != nil {
			return err
		}
		if ended == 0 && notice == "session-ended" {
			return hpcsera.Errorf(hpcsera.NotFound, "You have no such session.").Hint("It may have ended by itself.")
		}
		return tx.Note(s.line(r, n.User, n.User, "session.end", "", ""))
	})
	if err != nil {
		return err
	}
	s.cfg.Frame.Flash(w, notice)
	s.cfg.Frame.Redirect(w, r, "/account")
	return nil
}

// errOnly refuses to remove the last factor.
var errOnly = hpcsera.Errorf(hpcsera.Conflict, "This is your only second factor.").Hint("Add another one first.")

func (s *Service) removeApp(w http.ResponseWriter, r *http.Request) error {
	return s.secure(w, r, "factor.remove", "app-removed", "authenticator app removed", func(_ records.Tx, _ *stored, a *account) error {
		if a.App != nil && !a.canLose() {
			return errOnly
		}
		a.App = nil
		return nil
	})
}

func (s *Service) removePasskey(w http.ResponseWriter, r *http.Request) error {
	id := r.PostFormValue("passkey")
	return s.secure(w, r, "factor.remove", "passkey-removed", "passkey removed", func(_ records.Tx, _ *stored, a *account) error {
		i := slices.IndexFunc(a.Passkeys, func(p passkey) bool { return p.id() == id })
		if i < 0 {
			return hpcsera.Errorf(hpcsera.NotFound, "You have no such passkey.")
		}
		if !a.canLose() {
			return errOnly
		}
		a.Passkeys = slices.Delete(a.Passkeys, i, i+1)
		return nil
	})
}

// appPage shows the secret of an app that is being added.
type appPage struct{ Picture, Secret string }

func (s *Service) appPage(a *account, sealed string) (page.View, error) {
	key, err := s.app(a.Name, sealed)
	if err != nil {
		return page.View{}, err
	}
	img, err := picture(key)
	return page.View{User: a.Name, Operator: a.Operator, Data: appPage{Picture: img, Secret: spaced(key.Secret())}}, err
}

func (s *Service) showApp(w http.ResponseWriter, r *http.Request) error {
	a, ok, err := s.mayChangeOrStepUp(w, r)
	if err != nil || !ok {
		return err
	}
	secret := s.newApp(a.Name)
	err = s.change(r, func(_ records.Tx, n *stored, _ *account) error {
		n.App = secret
		return nil
	})
	if err != nil {
		return err
	}
	v, err := s.appPage(a, secret)
	if err == nil {
		s.pages.Render(w, r, http.StatusOK, "app", v)
	}
	return err
}

func (s *Service) addApp(w http.ResponseWriter, r *http.Request) error {
	code := r.PostFormValue("code")
	var secret string
	var own *account
	err := s.secure(w, r, "factor.add", "app-added", "authenticator app added", func(_ records.Tx, n *stored, a *account) error {
		if n.App == "" {
			return hpcsera.Errorf(hpcsera.Conflict, "There is no app to add.").Hint("Begin again.")
		}
		secret, own = n.App, a
		a.App, n.App = &appFactor{Secret: n.App, Added: s.cfg.Now()}, ""
		return s.useApp(a, code)
	})
	if !errors.Is(err, errCode) {
		return err
	}
	v, pageErr := s.appPage(own, secret)
	if pageErr != nil {
		return pageErr
	}
	return s.again(w, r, "app", v, err)
}

func (s *Service) showPasskey(w http.ResponseWriter, r *http.Request) error {
	a, ok, err := s.mayChangeOrStepUp(w, r)
	if err == nil && ok {
		s.pages.Render(w, r, http.StatusOK, "passkey", page.View{User: a.Name, Operator: a.Operator})
	}
	return err
}

func (s *Service) offerPasskey(w http.ResponseWriter, r *http.Request) error {
	n, a, err := s.own(r)
	if err != nil {
		return err
	}
	if !s.mayChange(&n.Session, a) {
		return hpcsera.Errorf(hpcsera.Forbidden, "Verify a second factor first.")
	}
	options, ceremony, err := s.beginCreate(a)
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

func (s *Service) addPasskey(w http.ResponseWriter, r *http.Request) error {
	response, label := r.PostFormValue("credential"), r.PostFormValue("label")
	var own *account
	err := s.secure(w, r, "factor.add", "passkey-added", "passkey added", func(_ records.Tx, n *stored, a *account) error {
		ceremony := n.Passkey
		own, n.Passkey = a, nil
		if ceremony == nil {
			return badPasskey(errors.New("it was not asked for"))
		}
		return s.create(a, ceremony, response, label)
	})
	if hpcsera.CodeOf(err) == hpcsera.Unauthenticated && own != nil {
		return s.again(w, r, "passkey", page.View{User: own.Name, Operator: own.Operator}, err)
	}
	return err
}
