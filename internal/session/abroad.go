package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// identity is who somebody is at an institution. An account is found by it and
// never by a name, which institutions give to the next person.
type identity struct {
	Institution string
	Subject     string
	User        string
	Refresh     string `json:",omitempty"` // a token by which we ask whether the person is still there; sealed
	Checked     time.Time
}

// sealRefresh seals a token to ask with, if there is one.
func (s *Service) sealRefresh(id identity, token string) string {
	if token == "" {
		return ""
	}
	return s.vault.seal(token, identityKey(id.Institution, id.Subject))
}

func identityKey(institution, subject string) string { return institution + ":" + keyOf(subject) }

func (s *Service) institution(r *http.Request) (*institution, error) {
	i := s.institutions[r.PathValue("name")]
	if i == nil {
		return nil, hpcsera.Errorf(hpcsera.NotFound, "There is no such institution here.")
	}
	return i, nil
}

// startAbroad sends somebody to the institution. State binds the answer to
// this browser, nonce binds the token to this visit, and the verifier binds
// the code to us.
func (s *Service) startAbroad(w http.ResponseWriter, r *http.Request) error {
	i, err := s.institution(r)
	if err != nil {
		return err
	}
	p, err := i.provider(r.Context(), s.cfg.Now())
	if err != nil {
		return err
	}
	if err := s.SpendVisit(r); err != nil {
		return err
	}
	state, _ := newSecret()
	nonce, _ := newSecret()
	a := &abroad{Institution: i.Name, State: state, Nonce: nonce, Verifier: oauth2.GenerateVerifier()}
	if err := s.newVisit(w, r, &visit{Return: s.back(r.URL.Query().Get("return")), Abroad: a}); err != nil {
		return err
	}
	options := []oauth2.AuthCodeOption{oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)}
	if i.consentWanted() {
		options = append(options, oauth2.SetAuthURLParam("prompt", "consent"))
	}
	to := p.oauth.AuthCodeURL(a.State, options...)
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// errAbroad is the answer to whatever comes back and is not what was asked
// for. The page says no more, since the sender may be anybody.
var errAbroad = hpcsera.Errorf(hpcsera.Forbidden, "This is no answer to a sign-in of yours.").Hint("Begin again at the page to sign in.")

// backFromAbroad takes the institution's answer.
func (s *Service) backFromAbroad(w http.ResponseWriter, r *http.Request) error {
	i, err := s.institution(r)
	if err != nil {
		return err
	}
	v, err := s.readVisit(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	a := v.Abroad
	if a == nil || a.Institution != i.Name || subtle.ConstantTimeCompare([]byte(a.State), []byte(q.Get("state"))) != 1 {
		return errAbroad
	}
	// The visit is used up before its code is: an answer counts once.
	err = s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		if _, err := getVisit(tx, s.visitKey(r)); err != nil {
			return err
		}
		return tx.Delete(visitKind, s.visitKey(r))
	})
	if err != nil {
		return err
	}
	p, err := i.provider(r.Context(), s.cfg.Now())
	if err != nil {
		return err
	}
	if iss := q.Get("iss"); iss != i.Issuer && (iss != "" || p.tellsIssuer) {
		return errAbroad
	}
	if q.Get("error") != "" {
		return hpcsera.Errorf(hpcsera.Forbidden, "%s did not sign you in.", i.Title).Hint("Try again, or sign in another way.")
	}
	said, token, err := i.exchange(r.Context(), p, a, q)
	if err != nil {
		return hpcsera.Errorf(hpcsera.Forbidden, "%s's answer could not be verified%w", i.Title, hidden{err}).Hint("Try again. If it happens again, tell the operator.")
	}
	return s.admit(w, r, i, v.Return, said, token)
}

// exchange turns the institution's code into verified claims.
func (i *institution) exchange(ctx context.Context, p *provider, a *abroad, q url.Values) (claims, *oauth2.Token, error) {
	ctx = oidc.ClientContext(ctx, i.client)
	token, err := p.oauth.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return nil, nil, err
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := p.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, nil, err
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Nonce)) != 1 {
		return nil, nil, errors.New("the token has another nonce")
	}
	said := claims{}
	if err := id.Claims(&said); err != nil {
		return nil, nil, err
	}
	if p.UserInfoEndpoint() == "" {
		return said, token, nil
	}
	more, err := i.ask(ctx, p, token, id.Subject)
	if err != nil {
		return nil, nil, err
	}
	// The signed token's word counts where both say something.
	maps.Copy(more, said)
	return more, token, nil
}

// ask fetches the person's claims with an access token.
func (i *institution) ask(ctx context.Context, p *provider, token *oauth2.Token, subject string) (claims, error) {
	info, err := p.UserInfo(oidc.ClientContext(ctx, i.client), oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, err
	}
	if info.Subject != subject {
		return nil, errors.New("the institution speaks of somebody else")
	}
	said := claims{}
	return said, info.Claims(&said)
}

// admit makes or finds the account of a person and signs in.
func (s *Service) admit(w http.ResponseWriter, r *http.Request, i *institution, to string, said claims, token *oauth2.Token) error {
	name, err := i.name(said)
	if err != nil {
		return err
	}
	if !i.admits(said) {
		return hpcsera.Errorf(hpcsera.Forbidden, "People like you at %s are not served here.", i.Title).Hint("Ask the operator.")
	}
	subject, _ := said["sub"].(string)
	sid, _ := said["sid"].(string)
	mail, _ := said["email"].(string)
	if verified, _ := said["email_verified"].(bool); !verified || checkPerson("x", mail) != nil {
		mail = ""
	}
	offline := slices.Contains(i.Scopes, oidc.ScopeOfflineAccess)
	if offline && token.RefreshToken == "" {
		s.cfg.Log.WarnContext(r.Context(), "an institution gives no offline access, so nobody will hear when this person leaves", "institution", i.Name, "user", name)
	}
	var cookie string
	err = s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		a, err := s.vouched(tx, i, subject, name, mail)
		if err != nil {
			return err
		}
		a.Projects = i.projects(said)
		id := identity{Institution: i.Name, Subject: subject, User: a.Name, Checked: s.cfg.Now()}
		if offline {
			id.Refresh = s.sealRefresh(id, token.RefreshToken)
		}
		err = errors.Join(putAccount(tx, a), tx.Put(identityKind, identityKey(i.Name, subject), id, records.Options{Owner: a.Name}), s.leave(tx, r))
		if err != nil {
			return err
		}
		cookie, err = s.begin(tx, r, a, []string{"fed"}, func(n *Session) { n.Institution, n.Abroad = i.Name, sid })
		return err
	})
	if err == nil {
		s.enter(w, r, cookie, to)
	}
	return err
}

// vouched returns the account of an identity, made now if it is new. A name
// that is somebody else's is not taken over by an institution's word.
func (s *Service) vouched(tx records.Tx, i *institution, subject, name, mail string) (*account, error) {
	var id identity
	err := tx.Get(identityKind, identityKey(i.Name, subject), &id)
	if errors.Is(err, records.ErrNotFound) {
		a := &account{Name: name, Mail: mail, Created: s.cfg.Now(), Handle: newHandle(), Institution: i.Name}
		if err := insertAccount(tx, a); errors.Is(err, records.ErrExists) {
			return nil, hpcsera.Errorf(hpcsera.Conflict, "The name %s belongs to another account.", name).
				Hint("If it is yours, sign in as you did before; otherwise ask the operator.")
		} else if err != nil {
			return nil, err
		}
		return a, tx.Note(records.AuditLine{At: s.cfg.Now(), Actor: name, User: name, Action: "account.make", Detail: "by " + i.Name})
	}
	if err != nil {
		return nil, err
	}
	a, err := getAccount(tx, id.User)
	if err != nil {
		return nil, err
	}
	if a.Disabled {
		return nil, hpcsera.Errorf(hpcsera.Forbidden, "The account is disabled.").Hint("Ask an operator.")
	}
	if a.Left {
		a.Left = false
		err = s.turn(tx, a, i.Name)
	}
	return a, err
}
