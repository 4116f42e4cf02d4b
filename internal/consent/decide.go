package consent

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// How long a deployment has to fetch a decision. What waits at the other end
// of a token's request gives up after minutes; a job waits for its code.
const (
	decisionLife     = time.Hour
	codeDecisionLife = 7 * 24 * time.Hour
)

// Choice is what a user grants of what was asked for.
type Choice struct {
	Allow bool
	Shown string // with a yes: what the page showed, of [pending.Shown]
	Roles hpcsera.Roles
	Until time.Time
	Mute  time.Duration // with a denial: for how long the client may not ask again
}

// Decide decides a request of user: it takes the request away and keeps a
// signed decision for the deployment, in one transaction, so it happens once.
// Consent to code is given by Sign alone.
func (s *Service) Decide(ctx context.Context, user, deployment, id string, c Choice) error {
	err := s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		p, err := s.requestOf(tx, user, deployment, id)
		if err != nil {
			return err
		}
		d := decision.Decision{Kind: p.Request.Kind, Granted: c.Allow}
		if c.Allow {
			if err := p.as(c.Shown); err != nil {
				return err
			}
			if d.Roles, d.Until, err = p.grant(c, s.cfg.Now()); err != nil {
				return err
			}
		}
		if err := s.conclude(tx, p, d); err != nil {
			return err
		}
		if c.Allow || c.Mute <= 0 {
			return nil
		}
		return s.mute(tx, p, c.Mute)
	})
	s.wake.ring(deployment)
	return err
}

// grant checks a choice against what was asked for.
func (p pending) grant(c Choice, now time.Time) (hpcsera.Roles, time.Time, error) {
	r := p.Request
	switch {
	case r.Kind == decision.Code:
		return 0, time.Time{}, hpcsera.Errorf(hpcsera.Conflict, "Consent to code is a signature.").Hint("Look at what would be signed, and sign it.")
	case c.Roles&^r.Roles != 0:
		return 0, time.Time{}, hpcsera.Errorf(hpcsera.InvalidField, "%s was not asked for.", c.Roles&^r.Roles).At("roles")
	case r.Kind == decision.Token && c.Roles == 0:
		return 0, time.Time{}, hpcsera.Errorf(hpcsera.InvalidField, "No role is chosen.").At("roles").Hint("Choose at least one, or deny the request.")
	case c.Until.After(r.Until):
		return 0, time.Time{}, hpcsera.Errorf(hpcsera.InvalidField, "The end is later than what was asked for.").At("until")
	case !c.Until.After(now):
		return 0, time.Time{}, hpcsera.Errorf(hpcsera.InvalidField, "The end is past.").At("until")
	}
	return c.Roles, c.Until, nil
}

// conclude signs and keeps a decision about p, and takes p away.
func (s *Service) conclude(tx records.Tx, p pending, d decision.Decision) error {
	now := s.cfg.Now().UTC().Truncate(time.Second)
	life := decisionLife
	if d.Kind == decision.Code {
		life = codeDecisionLife
	}
	d.ID, d.Issuer, d.Audience, d.Request, d.User = hpcsera.NewID("dc"), s.cfg.Issuer, p.Deployment, p.Request.ID, p.User
	d.Decided, d.Expires = now, now.Add(life)
	key, err := s.signer(tx)
	if err != nil {
		return err
	}
	text, err := d.Sign(key)
	if err != nil {
		return err
	}
	if err := tx.Insert(kindDecision, p.Deployment+"/"+d.ID, kept{text, s.cfg.Now()}, records.Options{Owner: p.Deployment, Ends: d.Expires}); err != nil {
		return err
	}
	if err := s.forget(tx, p); err != nil {
		return err
	}
	action := "request.deny"
	if d.Granted {
		action = "request.allow"
	}
	if d.Granted && d.Kind == decision.Agent {
		// The user compared this key's fingerprint, which no deployment can say
		// for them later.
		confirmed := named{p.Deployment}
		if err := tx.Put(kindConfirmed, p.User+"/"+p.Request.Thumbprint, confirmed, records.Options{Owner: p.User, Ends: d.Until}); err != nil {
			return err
		}
	}
	return s.note(tx, p.User, action, p.User, p.Request.ID, string(d.Kind)+" for "+p.asker()+" of "+p.Deployment)
}

// longestMute is how long a user can be left alone without saying so again.
const longestMute = 90 * 24 * time.Hour

// mute keeps a client from asking, and denies what else it asks now.
func (s *Service) mute(tx records.Tx, p pending, length time.Duration) error {
	until := s.cfg.Now().Add(min(length, longestMute))
	m := mute{Deployment: p.Deployment, Client: p.asker(), Until: until}
	if err := tx.Put(kindMute, p.muteKey(), m, records.Options{Owner: p.User, Ends: until}); err != nil {
		return err
	}
	open, err := list[pending](tx, kindRequest, p.User)
	if err != nil {
		return err
	}
	for _, o := range open {
		if o.muteKey() == p.muteKey() && o.key() != p.key() {
			if err := s.conclude(tx, o, decision.Decision{Kind: o.Request.Kind}); err != nil {
				return err
			}
		}
	}
	return s.note(tx, p.User, "client.mute", p.User, m.Client, "of "+p.Deployment)
}

// Unmute lets a client ask again.
func (s *Service) Unmute(ctx context.Context, user, deployment, client string) error {
	return s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		if err := tx.Delete(kindMute, user+"/"+deployment+"/"+client); err != nil {
			return err
		}
		return s.note(tx, user, "client.unmute", user, client, "of "+deployment)
	})
}

// Sign takes the user's signature under the statement that they were shown for
// a code request, and hands both to the deployment. It verifies that a
// code-signing passkey of this user made it, on this Auth app's page.
func (s *Service) Sign(ctx context.Context, user, deployment, id, shown string, a approval.Assertion) error {
	err := s.cfg.Store.Write(ctx, func(tx records.Tx) error {
		p, err := s.requestOf(tx, user, deployment, id)
		if err != nil {
			return err
		}
		if err := p.as(shown); err != nil {
			return err
		}
		if len(p.Draft) == 0 {
			return hpcsera.Errorf(hpcsera.Conflict, "Nothing was shown to be signed.").Hint("Choose the limits again.")
		}
		st, err := approval.Parse(p.Draft)
		if err != nil {
			return err
		}
		if !s.cfg.Now().Before(st.NotAfter) {
			return hpcsera.Errorf(hpcsera.Conflict, "The statement's end is past.").Hint("Choose the limits again.")
		}
		key, signature, err := s.verify(tx, user, p.Draft, a)
		if err != nil {
			return err
		}
		if err := s.keepSigned(tx, p, st, key); err != nil {
			return err
		}
		return s.conclude(tx, p, decision.Decision{Kind: decision.Code, Granted: true, Statement: p.Draft, Signature: signature})
	})
	s.wake.ring(deployment)
	return err
}
