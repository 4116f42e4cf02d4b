package decision

import (
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

// assertionType keeps a deployment's assertions apart from all other tokens.
const assertionType = "client-authentication+jwt"

// AssertionType is what a form at the token endpoint says beside an assertion
// (RFC 7523, section 2.2).
const AssertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertionLife is how long an assertion can be used. It is made for one
// request, so this only has to cover two clocks and the way.
const assertionLife = time.Minute

// Assertion says which deployment sends a request (RFC 7523).
type Assertion struct {
	Issuer   string `json:"iss"` // the deployment's registered name, as is sub
	Subject  string `json:"sub"`
	Audience string `json:"aud"` // the Auth app's issuer
	ID       string `json:"jti"` // works once
	Issued   int64  `json:"iat"`
	Expires  int64  `json:"exp"`
}

// Assert makes an assertion by the deployment called name for the Auth app
// with the given issuer.
func Assert(k Key, name, issuer string, now time.Time) (string, error) {
	return k.Sign(assertionType, Assertion{
		Issuer: name, Subject: name, Audience: issuer, ID: hpcsera.NewID("as"),
		Issued: now.Unix(), Expires: now.Add(assertionLife).Unix(),
	})
}

// Sender returns the name that an assertion claims, so that its keys can be
// looked up. Nothing is verified yet.
func Sender(assertion string) (string, bool) {
	jws, err := jose.ParseSignedCompact(assertion, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(assertion) > 8<<10 {
		return "", false
	}
	var a Assertion
	if err := hpcsera.Decode(jws.UnsafePayloadWithoutVerification(), &a); err != nil || !hpcsera.ValidName(a.Subject) {
		return "", false
	}
	return a.Subject, true
}

// CheckAssertion verifies an assertion by the deployment called name, whose
// keys are given. The caller refuses an ID that was used before; after the
// returned end it need not remember it.
func CheckAssertion(text, name, issuer string, keys []jose.JSONWebKey, now time.Time) (id string, end time.Time, err error) {
	var a Assertion
	if err := Open(text, assertionType, keys, &a); err != nil {
		return "", end, err
	}
	issued, end := time.Unix(a.Issued, 0), time.Unix(a.Expires, 0)
	switch {
	case a.Issuer != name || a.Subject != name:
		return "", end, refused("the assertion is by %q, not by %q.", brief(a.Issuer), name).At("iss")
	case a.Audience != issuer:
		return "", end, refused("the assertion is for %q, not for %q.", brief(a.Audience), issuer).At("aud")
	case !hpcsera.ValidID("as", a.ID):
		return "", end, refused("%q is not the id of an assertion.", brief(a.ID)).At("jti")
	case !now.Before(end.Add(clockSkew)):
		return "", end, refused("the assertion expired at %s.", end.UTC().Format(time.RFC3339)).At("exp").Hint("Set the clocks of both hosts.")
	case issued.After(now.Add(clockSkew)) || end.Sub(issued) > assertionLife:
		return "", end, refused("the assertion is of %s and holds too long.", issued.UTC().Format(time.RFC3339)).At("iat").Hint("Set the clocks of both hosts.")
	}
	return a.ID, end.Add(clockSkew), nil
}
