package session

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// How often an institution is asked about each of its people. Run looks three
// times as often who is due, so that even with the most a leaver is out within
// the hour that is promised.
const (
	checkEvery    = 30 * time.Minute
	maxCheckEvery = 45 * time.Minute
	looksPerCheck = 3
)

// CheckPeople asks institutions about the people who were not asked about for
// half an hour, or what is configured, and disables the accounts of those who
// left. Run calls it. An institution that does not answer has said nothing.
func (s *Service) CheckPeople(ctx context.Context) error {
	type entry struct {
		key string
		id  identity
	}
	var due []entry
	err := s.cfg.Records.Read(ctx, func(r records.Reader) error {
		due = nil
		return each(r, identityKind, "", func(key string, id *identity) error {
			if id.Refresh != "" && s.cfg.Now().Sub(id.Checked) >= s.cfg.CheckEvery {
				due = append(due, entry{key, *id})
			}
			return nil
		})
	})
	for _, e := range due {
		if err == nil {
			err = s.checkPerson(ctx, e.key, e.id)
		}
	}
	return err
}

// errLeft says that the institution disowned somebody.
var errLeft = errors.New("the person left")

func (s *Service) checkPerson(ctx context.Context, key string, id identity) error {
	i := s.institutions[id.Institution]
	if i == nil {
		return nil // it was taken out of the configuration
	}
	p, err := i.provider(ctx, s.cfg.Now())
	if err != nil {
		return nil // it does not answer, and the next round asks again
	}
	before, err := s.vault.open(id.Refresh, key)
	if err != nil {
		return err
	}
	said, refresh, err := i.stillThere(ctx, p, id.Subject, before)
	left := errors.Is(err, errLeft)
	answered := left || err == nil
	if !answered {
		s.cfg.Log.WarnContext(ctx, "an institution did not answer about a person", "institution", i.Name, "user", id.User, "error", err)
		if refresh == before {
			return nil
		}
	}
	return s.cfg.Records.Write(ctx, func(tx records.Tx) error {
		var now identity
		if err := tx.Get(identityKind, key, &now); err != nil || now.Refresh != id.Refresh {
			return ignore(err, records.ErrNotFound) // signed in again meanwhile
		}
		a, err := getAccount(tx, now.User)
		if err != nil {
			return err
		}
		now.Refresh = s.sealRefresh(now, refresh)
		if answered {
			now.Checked = s.cfg.Now()
		}
		if err := tx.Put(identityKind, key, now, records.Options{Owner: now.User}); err != nil {
			return err
		}
		if left {
			if a.Left {
				return nil
			}
			a.Left = true
			return s.turn(tx, a, i.Name)
		}
		if said == nil {
			return nil
		}
		a.Projects = i.projects(said)
		return putAccount(tx, a)
	})
}

// stillThere asks about a person with the refresh token. It returns the token
// to ask with next time, also with an error: a provider that gives a new one
// takes the old one for stolen.
func (i *institution) stillThere(ctx context.Context, p *provider, subject, before string) (said claims, refresh string, err error) {
	ctx = oidc.ClientContext(ctx, i.client)
	token, err := p.oauth.TokenSource(ctx, &oauth2.Token{RefreshToken: before}).Token()
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return nil, "", errLeft
	}
	if err != nil {
		return nil, before, err
	}
	if p.UserInfoEndpoint() == "" {
		return nil, token.RefreshToken, nil // the token's own word is all there is
	}
	if said, err = i.ask(ctx, p, token, subject); err != nil {
		return nil, token.RefreshToken, err
	}
	if !i.admits(said) {
		return nil, "", errLeft
	}
	return said, token.RefreshToken, nil
}

// logoutByInstitution takes a back-channel logout token: sessions that came
// from the institution end at once, and the person is asked about at the next
// look. It is not signed in by a browser, so it answers plainly.
func (s *Service) logoutByInstitution(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, formSize)
	w.Header().Set("Cache-Control", "no-store")
	err := s.takeLogout(r)
	switch hpcsera.CodeOf(err) {
	case "":
		w.WriteHeader(http.StatusOK)
	case hpcsera.Unavailable, hpcsera.Internal:
		s.cfg.Log.WarnContext(r.Context(), "back-channel logout failed", "error", err)
		http.Error(w, "try again later", http.StatusServiceUnavailable)
	default:
		http.Error(w, "this is no logout token for us", http.StatusBadRequest)
	}
}

// logoutKind remembers logout tokens that were used, by institution and id.
const logoutKind = "logout"

// logoutLife is how old a logout token may be, and how long it is remembered.
const logoutLife = 10 * time.Minute

func (s *Service) takeLogout(r *http.Request) error {
	i, err := s.institution(r)
	if err != nil {
		return err
	}
	p, err := i.provider(r.Context(), s.cfg.Now())
	if err != nil {
		return err
	}
	bad := hpcsera.Errorf(hpcsera.InvalidField, "This is no logout token.")
	token, err := p.verifier.VerifyLogout(oidc.ClientContext(r.Context(), i.client), r.PostFormValue("logout_token"))
	if err != nil || token.TokenID == "" || token.Subject == "" && token.SessionID == "" ||
		s.cfg.Now().Sub(token.IssuedAt) > logoutLife {
		return bad
	}
	return s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		err := tx.Insert(logoutKind, identityKey(i.Name, token.TokenID), true, records.Options{Ends: s.cfg.Now().Add(2 * logoutLife)})
		if errors.Is(err, records.ErrExists) {
			return bad
		}
		if err != nil {
			return err
		}
		user := ""
		if token.Subject != "" {
			var id identity
			key := identityKey(i.Name, token.Subject)
			if err := tx.Get(identityKind, key, &id); err != nil {
				return ignore(err, records.ErrNotFound) // nobody we know
			}
			user, id.Checked = id.User, time.Time{}
			if err := tx.Put(identityKind, key, id, records.Options{Owner: id.User}); err != nil {
				return err
			}
		}
		ended := map[string]bool{}
		_, err = s.endAll(tx, user, func(_ string, n *Session) bool {
			ends := n.Institution == i.Name && (token.SessionID == "" || n.Abroad == token.SessionID)
			if ends {
				ended[n.User] = true
			}
			return ends
		})
		for name := range ended {
			err = errors.Join(err, tx.Note(s.line(r, i.Name, name, "session.end", "", "by the institution")))
		}
		return err
	})
}
