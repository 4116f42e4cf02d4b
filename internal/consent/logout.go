package consent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

const (
	relyingLife = 30 * 24 * time.Hour // for which a session's deployments are remembered
	eventLife   = 30 * 24 * time.Hour // for which a deployment may be away
	pushLife    = 10 * time.Minute    // for which a logout token is pushed; polling does the rest
)

// SignedOut tells the deployments that a session signed in at that it ended.
// Call it within the transaction that ends the session.
func (s *Service) SignedOut(tx records.Tx, user, session string) error {
	relying, err := list[named](tx, kindRelying, session)
	if err != nil {
		return err
	}
	for _, d := range relying {
		if err := s.event(tx, d.Key, decision.Event{Type: decision.SignedOut, User: user, Session: session}); err != nil {
			return err
		}
		if err := tx.Delete(kindRelying, session+"/"+d.Key); err != nil {
			return err
		}
	}
	// A code that was not redeemed yet is no way back in.
	codes := []string{}
	err = tx.List(kindGrant, session, func(key string, _ []byte) error {
		codes = append(codes, key)
		return nil
	})
	for _, key := range codes {
		err = errors.Join(err, tx.Delete(kindGrant, key))
	}
	return err
}

// Left tells every deployment that a user is disabled or left the institution.
// What waits for their decision is not decided any more.
func (s *Service) Left(tx records.Tx, user string) error {
	open, err := list[pending](tx, kindRequest, user)
	if err != nil {
		return err
	}
	for _, p := range open {
		if err := s.forget(tx, p); err != nil {
			return err
		}
	}
	return s.everywhere(tx, decision.Event{Type: decision.Left, User: user})
}

// Returned tells every deployment that a user is enabled again.
func (s *Service) Returned(tx records.Tx, user string) error {
	return s.everywhere(tx, decision.Event{Type: decision.Returned, User: user})
}

func (s *Service) everywhere(tx records.Tx, e decision.Event) error {
	all, err := list[Deployment](tx, kindDeployment, "")
	if err != nil {
		return err
	}
	for _, d := range all {
		if err := s.event(tx, d.Name, e); err != nil {
			return err
		}
	}
	return nil
}

// event keeps an event for a deployment that polls, and to be pushed as a
// logout token where it means one.
func (s *Service) event(tx records.Tx, deployment string, e decision.Event) error {
	e.ID, e.At = hpcsera.NewID("ev"), s.cfg.Now().UTC()
	if err := tx.Insert(kindEvent, deployment+"/"+e.ID, e, records.Options{Owner: deployment, Ends: e.At.Add(eventLife)}); err != nil {
		return err
	}
	// Both are hints: who was not woken looks again soon.
	defer s.wake.ring(deployment)
	if s.cfg.Push == nil || e.Type == decision.Returned {
		return nil
	}
	defer s.wake.push()
	return tx.Insert(kindPush, deployment+"/"+e.ID, pushed{deployment, e}, records.Options{Ends: e.At.Add(pushLife)})
}

// pushed is an event that is still to be pushed.
type pushed struct {
	Deployment string         `json:"deployment"`
	Event      decision.Event `json:"event"`
}

// logoutToken are the claims of OpenID Connect Back-Channel Logout.
type logoutToken struct {
	Issuer   string                    `json:"iss"`
	Subject  string                    `json:"sub"`
	Audience string                    `json:"aud"`
	Issued   int64                     `json:"iat"`
	Expires  int64                     `json:"exp"`
	ID       string                    `json:"jti"`
	Session  string                    `json:"sid,omitempty"`
	Events   map[string]map[string]any `json:"events"`
}

const (
	logoutType  = "logout+jwt"
	logoutEvent = "http://schemas.openid.net/event/backchannel-logout"
)

// push sends the logout tokens that wait, each until it is taken or its time
// is over. What fails is tried again by the next round.
func (s *Service) push(ctx context.Context) error {
	if s.cfg.Push == nil {
		return nil
	}
	var waiting []pushed
	err := s.cfg.Store.Read(ctx, func(r records.Reader) (err error) {
		waiting, err = list[pushed](r, kindPush, "")
		return err
	})
	for _, p := range waiting {
		if sent := s.pushOne(ctx, p); sent != nil {
			s.cfg.Log.WarnContext(ctx, "logout token was not taken", "deployment", p.Deployment, "error", sent)
			continue
		}
		err = errors.Join(err, s.cfg.Store.Write(ctx, func(tx records.Tx) error { return tx.Delete(kindPush, p.Deployment+"/"+p.Event.ID) }))
	}
	return err
}

func (s *Service) pushOne(ctx context.Context, p pushed) error {
	var d Deployment
	var text string
	err := s.cfg.Store.Read(ctx, func(r records.Reader) (err error) {
		var found bool
		if d, found, err = get[Deployment](r, kindDeployment, p.Deployment); err != nil || !found || d.Logout == "" {
			return err
		}
		key, err := s.signer(r)
		if err != nil {
			return err
		}
		now := s.cfg.Now()
		text, err = key.Sign(logoutType, logoutToken{
			Issuer: s.cfg.Issuer, Subject: p.Event.User, Audience: d.Name, Issued: now.Unix(), Expires: now.Add(2 * time.Minute).Unix(),
			ID: p.Event.ID, Session: p.Event.Session, Events: map[string]map[string]any{logoutEvent: {}},
		})
		return err
	})
	if err != nil || text == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body := url.Values{"logout_token": {text}}.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Logout, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("push to %s: %w", d.Logout, err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := s.cfg.Push.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 && res.StatusCode != http.StatusBadRequest {
		return fmt.Errorf("it answered %d", res.StatusCode)
	}
	return nil
}
