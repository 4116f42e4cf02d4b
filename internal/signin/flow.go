package signin

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// flow is a sign-in that has begun and is remembered by the browser, sealed.
type flow struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	To       string    `json:"to"`
	User     string    `json:"user,omitempty"` // of a step-up
	Old      string    `json:"old,omitempty"`  // the session that it replaces
	Began    time.Time `json:"began"`
}

// Begin asks for a sign-in.
type Begin struct {
	// To is the path on this server to go to afterwards. The caller has checked
	// that it is one of ours.
	To string
	// Now is the session that the browser has, or nil.
	Now *Session
	// StepUp wants a second factor again, from the user of Now.
	StepUp bool
}

// Begun is a sign-in on its way.
type Begun struct {
	URL    string    // where the browser goes
	State  string    // names the cookie, so that two tabs do not disturb one another
	Sealed string    // the cookie's value
	Ends   time.Time // of the cookie
}

// Begin starts a sign-in. It keeps nothing.
func (s *Service) Begin(ctx context.Context, b Begin) (Begun, error) {
	app, err := s.authApp(ctx)
	if err != nil {
		return Begun{}, err
	}
	f := flow{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), To: b.To, Began: s.now()}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	if b.Now != nil {
		f.Old = b.Now.ID
	}
	if b.StepUp && b.Now != nil {
		f.User = b.Now.User
		options = append(options, oauth2.SetAuthURLParam("max_age", "0"), oauth2.SetAuthURLParam("prompt", "login"),
			oauth2.SetAuthURLParam("login_hint", b.Now.User))
	}
	text, err := json.Marshal(f)
	if err != nil {
		return Begun{}, err
	}
	return Begun{
		URL:   s.oauth(app).AuthCodeURL(f.State, options...),
		State: f.State, Ends: f.Began.Add(flowLife),
		Sealed: base64.RawURLEncoding.EncodeToString(s.seal.Seal(nil, nil, text, []byte(f.State))),
	}, nil
}

// open reads a sealed flow, which belongs to one state only.
func (s *Service) open(sealed, state string) (f flow, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(sealed)
	if err != nil || state == "" {
		return f, false
	}
	text, err := s.seal.Open(nil, nil, raw, []byte(state))
	if err != nil || json.Unmarshal(text, &f) != nil {
		return f, false
	}
	age := s.cfg.Now().Sub(f.Began)
	return f, subtle.ConstantTimeCompare([]byte(f.State), []byte(state)) == 1 && age < flowLife && age > -clockSkew
}

// Finished is a sign-in that succeeded.
type Finished struct {
	Session Session
	Secret  string // the cookie's value, kept nowhere else
	To      string
}

// Finish takes the Auth app's answer: the query of the callback, and the
// cookie of its state. The session that the browser had before is ended.
func (s *Service) Finish(ctx context.Context, query url.Values, sealed, browser string) (Finished, error) {
	f, err := s.answered(query, sealed)
	if err != nil {
		return Finished{}, err
	}
	claims, err := s.redeem(ctx, f, query.Get("code"))
	if err != nil {
		return Finished{}, err
	}
	if f.User != "" && f.User != claims.Subject {
		if err := s.noteStranger(ctx, f.User, claims.Subject); err != nil {
			return Finished{}, err
		}
		return Finished{}, hpcsera.Errorf(hpcsera.Forbidden, "%s is signed in here, and %s showed a second factor.", f.User, claims.Subject).
			Hint("Sign out first to go on as somebody else.")
	}
	user, err := s.cfg.Users.Admit(ctx, claims.Subject, claims.Projects)
	if err != nil {
		return Finished{}, err
	}
	made, secret, err := s.establish(ctx, claims, f, browser)
	made.Operator = user.Operator
	return Finished{Session: made, Secret: secret, To: f.To}, err
}

// noteStranger leaves a line for the user whose session somebody else tried to
// step up.
func (s *Service) noteStranger(ctx context.Context, user, stranger string) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		return tx.Note(hpcsera.AuditLine{
			At: s.now(), Actor: "user:" + user, Action: "signin.stepup", User: user, Refused: hpcsera.Forbidden,
			Detail: fmt.Sprintf("the second factor was of %.80q", stranger),
		})
	})
	return store.Failed("note a refused step-up", err)
}

// answered checks everything that needs no look at the Auth app. Each
// parameter stands there once: of two, one was added.
func (s *Service) answered(query url.Values, sealed string) (flow, error) {
	for _, name := range []string{"state", "code", "iss", "error"} {
		if len(query[name]) > 1 {
			return flow{}, again("the answer of the Auth app holds %s twice.", name)
		}
	}
	f, ok := s.open(sealed, query.Get("state"))
	switch {
	case !ok:
		return f, again("this sign-in did not begin in this browser, or it took too long.")
	case query.Get("iss") != s.cfg.Issuer:
		return f, again("the answer comes from another place than the one that was asked.")
	case query.Get("error") == "access_denied":
		return f, again("the Auth app let nobody in.")
	case query.Get("error") != "":
		return f, again("the Auth app refused: %.80q.", query.Get("error"))
	case query.Get("code") == "":
		return f, again("the Auth app's answer holds no code.")
	}
	return f, nil
}

// claims are what the Auth app says of somebody.
type claims struct {
	Subject  string   `json:"sub"`
	Issued   int64    `json:"iat"`
	AuthTime int64    `json:"auth_time"`
	Methods  []string `json:"amr"`
	Session  string   `json:"sid"`
	Projects []string `json:"hpcsera_projects"`
}

func (s *Service) redeem(ctx context.Context, f flow, code string) (c claims, err error) {
	app, err := s.authApp(ctx)
	if err != nil {
		return c, err
	}
	assertion, err := s.cfg.Assertion()
	if err != nil {
		return c, err
	}
	answer, err := s.oauth(app).Exchange(oidc.ClientContext(ctx, s.http), code, oauth2.VerifierOption(f.Verifier),
		oauth2.SetAuthURLParam("client_assertion_type", decision.AssertionType),
		oauth2.SetAuthURLParam("client_assertion", assertion))
	if err != nil {
		return c, s.unverified("the Auth app did not take the code", err)
	}
	text, _ := answer.Extra("id_token").(string)
	token, err := s.verifier(app).Verify(ctx, text)
	if err != nil {
		return c, s.unverified("the id_token is none for us", err)
	}
	if err := token.Claims(&c); err != nil {
		return c, s.unverified("the id_token cannot be read", err)
	}
	at := time.Unix(c.AuthTime, 0)
	switch {
	case subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(f.Nonce)) != 1:
		return c, again("the Auth app's answer belongs to another sign-in.")
	case len(token.Audience) != 1:
		return c, again("the Auth app's answer is meant for others, too.")
	case c.AuthTime <= 0 || at.After(s.cfg.Now().Add(clockSkew)):
		return c, again("the Auth app does not say when you signed in.")
	case f.User != "" && (at.Before(f.Began.Add(-clockSkew)) || !multiFactor(c.Methods)):
		return c, hpcsera.Errorf(hpcsera.Forbidden, "the Auth app did not ask for your second factor.").
			Hint("Add one to your account there, then try again.")
	}
	return c, nil
}

// unverified tells the user nothing of a failure that is between the two
// servers, and the log all.
func (s *Service) unverified(what string, err error) error {
	s.cfg.Log.Warn("a sign-in failed", "step", what, "err", err)
	return again("the Auth app's answer could not be verified.")
}

func again(format string, args ...any) error {
	return hpcsera.Errorf(hpcsera.Forbidden, format, args...).Hint("Nobody was signed in. Go to the start and sign in again.")
}

// multiFactor reports whether the methods of a sign-in (RFC 8176) were more
// than one factor.
func multiFactor(methods []string) bool {
	for _, m := range methods {
		if m == "mfa" {
			return true
		}
	}
	return false
}

// steppedUp reports whether a second factor was shown within [auth.StepUp].
func steppedUp(r record, now time.Time) bool {
	return multiFactor(r.Methods) && now.Sub(r.AuthTime) < auth.StepUp
}
