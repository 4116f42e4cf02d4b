package decision

import (
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

// decisionType is the type of a decision's token. No id_token, logout token or
// assertion has it, so none of them passes as a decision.
const decisionType = "hpcsera-decision+jwt"

// Decision is what a user decided.
type Decision struct {
	ID       string // dc_…, random
	Issuer   string // the Auth app
	Audience string // the deployment, by its registered name
	Request  string // the id of what is answered
	Kind     Kind
	User     string // who decided
	Granted  bool
	Roles    hpcsera.Roles // of a token: what was granted of what was asked for
	Until    time.Time     // its end; zero for code, whose statement has its own
	// Statement and Signature are consent to code, as agents verify it.
	Statement []byte
	Signature string
	Decided   time.Time
	Expires   time.Time // after which the decision is not accepted
}

// claims are a decision as JSON. Times are seconds, as JWTs have them.
type claims struct {
	Issuer    string        `json:"iss"`
	Audience  string        `json:"aud"`
	ID        string        `json:"jti"`
	Subject   string        `json:"sub"`
	Decided   int64         `json:"iat"`
	Expires   int64         `json:"exp"`
	Request   string        `json:"request"`
	Kind      Kind          `json:"kind"`
	Granted   bool          `json:"granted"`
	Roles     hpcsera.Roles `json:"roles,omitempty"`
	Until     int64         `json:"until,omitempty"`
	Statement []byte        `json:"statement,omitempty"`
	Signature string        `json:"signature,omitempty"`
}

// Sign returns the decision as a compact JWS.
func (d Decision) Sign(k Key) (string, error) {
	if err := d.validate(); err != nil {
		return "", err
	}
	c := claims{
		Issuer: d.Issuer, Audience: d.Audience, ID: d.ID, Subject: d.User, Decided: d.Decided.Unix(), Expires: d.Expires.Unix(),
		Request: d.Request, Kind: d.Kind, Granted: d.Granted, Roles: d.Roles, Statement: d.Statement, Signature: d.Signature,
	}
	if !d.Until.IsZero() {
		c.Until = d.Until.Unix()
	}
	return k.Sign(decisionType, c)
}

// Expected is what a receiver knows of a decision before it reads one.
type Expected struct {
	Issuer   string // the Auth app that is configured, and no other
	Audience string // the receiver's own registered name
	Keys     []jose.JSONWebKey
	Now      time.Time
}

// Verify reads a decision and refuses one that is not from the expected Auth
// app, for this receiver, and in time. Which request it answers, the receiver
// looks up itself and asks [Decision.Answers].
func Verify(text string, e Expected) (Decision, error) {
	var c claims
	if err := Open(text, decisionType, e.Keys, &c); err != nil {
		return Decision{}, err
	}
	d := Decision{
		ID: c.ID, Issuer: c.Issuer, Audience: c.Audience, Request: c.Request, Kind: c.Kind, User: c.Subject, Granted: c.Granted,
		Roles: c.Roles, Statement: c.Statement, Signature: c.Signature, Decided: time.Unix(c.Decided, 0).UTC(), Expires: time.Unix(c.Expires, 0).UTC(),
	}
	if c.Until != 0 {
		d.Until = time.Unix(c.Until, 0).UTC()
	}
	switch {
	case d.Issuer != e.Issuer:
		return Decision{}, refused("the decision is by %q, not by %q.", brief(d.Issuer), e.Issuer).At("iss")
	case d.Audience != e.Audience:
		return Decision{}, refused("the decision is for %q, not for %q.", brief(d.Audience), e.Audience).At("aud")
	case !e.Now.Before(d.Expires):
		return Decision{}, refused("the decision expired at %s.", d.Expires.Format(time.RFC3339)).At("exp")
	case d.Decided.After(e.Now.Add(clockSkew)):
		return Decision{}, refused("the decision is of %s, which is still to come.", d.Decided.Format(time.RFC3339)).At("iat").
			Hint("Set the clocks of both hosts.")
	}
	if err := d.validate(); err != nil {
		return Decision{}, err
	}
	return d, nil
}

// clockSkew is how far two hosts' clocks may be apart.
const clockSkew = time.Minute

// validate refuses a decision that says more than its kind and outcome can.
func (d Decision) validate() error {
	code := d.Granted && d.Kind == Code
	switch {
	case !hpcsera.ValidID("dc", d.ID):
		return refused("%q is not the id of a decision.", brief(d.ID)).At("jti")
	case !hpcsera.ValidID("rq", d.Request):
		return refused("%q is not the id of a request.", brief(d.Request)).At("request")
	case !slices.Contains([]Kind{Token, Session, Agent, Code}, d.Kind):
		return refused("%q is not a kind of request.", brief(string(d.Kind))).At("kind")
	case !hpcsera.ValidName(d.User):
		return refused("%q is not a user's name.", brief(d.User)).At("sub")
	case (d.Roles != 0) != (d.Granted && d.Kind == Token):
		return refused("roles are granted with tokens, and only with them.").At("roles")
	case d.Until.IsZero() == (d.Granted && d.Kind != Code):
		return refused("what is granted has an end, and nothing else has.").At("until")
	case (len(d.Statement) > 0) != code || (d.Signature != "") != code:
		return refused("consent to code is a statement and its signature, and nothing else has them.").At("statement")
	case !d.Expires.After(d.Decided):
		return refused("the decision expired before it was made.").At("exp")
	}
	return nil
}

// Answers checks that the decision is about r, by the user who was asked, and
// grants no more than r asks for. A receiver calls it with the request that
// it made itself.
func (d Decision) Answers(r Request) error {
	switch {
	case d.Request != r.ID:
		return refused("the decision answers %s, not %s.", d.Request, r.ID).At("request")
	case d.Kind != r.Kind:
		return refused("the decision is about a %s, the request about a %s.", d.Kind, r.Kind).At("kind")
	case r.User != "" && d.User != r.User:
		return refused("%s decided what %s was asked.", d.User, r.User).At("sub")
	case d.Roles&^r.Roles != 0:
		return refused("the decision grants %s, which was not asked for.", d.Roles&^r.Roles).At("roles")
	case d.Until.After(r.Until):
		return refused("the decision grants until %s, later than was asked for.", d.Until.Format(time.RFC3339)).At("until")
	}
	return nil
}
