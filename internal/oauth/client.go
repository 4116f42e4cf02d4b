package oauth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// caller is the client that sends a request, after it proved as much as its
// registration wants.
type caller struct {
	name         string
	public       bool // it proved nothing
	registration store.Registration
}

// builtin reports whether a client is one of our own programs.
func builtin(name string) bool { return name == hpcsera.CLIClient || name == hpcsera.AgentClient }

// client says which client sends the request (RFC 6749 section 2.3, RFC 7523
// section 2.2). It uses one method, and it is the registered one: a client
// with a key is not let in by a secret that it once had.
func (s *Service) client(r *request) (caller, error) {
	user, password, basic, err := basicAuth(r.Request)
	if err != nil {
		return caller{}, err
	}
	assertion, secret, name := r.form["client_assertion"], r.form["client_secret"], r.form["client_id"]
	if basic && name != "" && name != user {
		return caller{}, bad(invalidRequest, "client_id is not the client of the Authorization header")
	}
	// An empty secret is none (RFC 6749 section 2.3.1): some libraries name a
	// public client that way.
	if basic && password == "" {
		basic, name = false, user
	}
	methods := 0
	for _, used := range []bool{basic, assertion != "" || r.form["client_assertion_type"] != "", secret != ""} {
		if used {
			methods++
		}
	}
	switch {
	case methods > 1:
		return caller{}, bad(invalidRequest, "the client authenticates in more than one way")
	case basic:
		name, secret = user, password
	case assertion != "":
		claimed, err := assertionClient(r.form)
		if err != nil || name != "" && name != claimed {
			return caller{}, noClient()
		}
		name = claimed
	case methods == 1 && secret == "":
		return caller{}, bad(invalidRequest, "client_assertion and client_assertion_type go together")
	case name == "":
		return caller{}, noClient()
	}
	c, err := s.registered(r.Context(), name)
	if err != nil {
		return caller{}, err
	}
	switch c.registration.Method {
	case hpcsera.PublicClient:
		c.public = true
		if methods > 0 {
			return caller{}, noClient()
		}
	case hpcsera.SecretClient:
		sum := sha256.Sum256([]byte(secret))
		if secret == "" || subtle.ConstantTimeCompare(sum[:], c.registration.Secret) != 1 {
			return caller{}, noClient()
		}
	case hpcsera.KeyClient:
		if assertion == "" {
			return caller{}, noClient()
		}
		return c, s.assertion(r.Context(), c, assertion)
	default:
		return caller{}, noClient()
	}
	return c, nil
}

// noClient tells no more than that: which part was wrong helps only those who
// guess.
func noClient() error {
	return fault{http.StatusUnauthorized, invalidClient, "the client is unknown, disabled, or did not prove who it is"}
}

// basicAuth reads the Authorization header, whose two halves are encoded as in
// a form (RFC 6749 section 2.3.1).
func basicAuth(r *http.Request) (user, password string, given bool, err error) {
	header := r.Header.Values("Authorization")
	if len(header) == 0 {
		return "", "", false, nil
	}
	user, password, ok := r.BasicAuth()
	if !ok || len(header) > 1 {
		return "", "", true, noClient()
	}
	user, err1 := url.QueryUnescape(user)
	password, err2 := url.QueryUnescape(password)
	if err := errors.Join(err1, err2); err != nil {
		return "", "", true, noClient()
	}
	return user, password, true, nil
}

// registered looks a client up. One that is disabled, or was never registered
// for tokens on demand, is none.
func (s *Service) registered(ctx context.Context, name string) (caller, error) {
	c := caller{name: name, registration: store.Registration{Registration: hpcsera.Registration{Client: name, Method: hpcsera.PublicClient}}}
	if builtin(name) {
		return c, nil
	}
	if !hpcsera.ValidName(name) {
		return c, noClient()
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		row, err := r.Client(name)
		if err != nil {
			return err
		}
		if row.Disabled {
			return noClient()
		}
		found, err := s.cfg.Access.Registered(r, name)
		if err == nil {
			c.registration = *found
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return c, noClient()
	}
	return c, store.Failed("look up client "+name, err)
}

// assertions are the ids of assertions that were used, by client and hash,
// until they end.
const assertions store.Kind = "client_assertion"

// assertionLife is how long an assertion may be good at most, and skew how far
// the client's clock may be off.
const (
	assertionLife = 10 * time.Minute
	skew          = time.Minute
)

// assertionAlgorithms are those that are accepted, all of them asymmetric: a
// client's secret is stored as a hash, which signs nothing.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.EdDSA, jose.PS256, jose.RS256}

// claims are an assertion's (RFC 7523 section 3).
type claims struct {
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub"`
	Audience  audience `json:"aud"`
	ID        string   `json:"jti"`
	Expires   float64  `json:"exp"`
	NotBefore float64  `json:"nbf"`
}

// audience is one text or a list of them.
type audience []string

// UnmarshalJSON reads either.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// assertionClient returns the client that an assertion claims to be by, so
// that its keys can be looked up. Nothing is verified yet.
func assertionClient(f form) (string, error) {
	if f["client_assertion_type"] != decision.AssertionType {
		return "", noClient()
	}
	jws, err := jose.ParseSignedCompact(f["client_assertion"], assertionAlgorithms)
	if err != nil {
		return "", noClient()
	}
	var c claims
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &c); err != nil {
		return "", noClient()
	}
	return c.Subject, nil
}

// assertion verifies a client's assertion, which works once.
func (s *Service) assertion(ctx context.Context, c caller, text string) error {
	jws, err := jose.ParseSignedCompact(text, assertionAlgorithms)
	if err != nil {
		return noClient()
	}
	payload, ok := verify(jws, c.registration.Keys)
	if !ok {
		return noClient()
	}
	var got claims
	if err := json.Unmarshal(payload, &got); err != nil {
		return noClient()
	}
	now := s.now()
	ends := time.Unix(int64(got.Expires), 0)
	meant := false
	for _, a := range got.Audience {
		meant = meant || a == s.cfg.PublicURL || strings.HasPrefix(a, s.cfg.PublicURL+"/oauth/")
	}
	switch {
	case got.Issuer != c.name || got.Subject != c.name || !meant,
		got.ID == "" || len(got.ID) > 256,
		!now.Before(ends.Add(skew)) || ends.Sub(now) > assertionLife+skew,
		got.NotBefore != 0 && time.Unix(int64(got.NotBefore), 0).After(now.Add(skew)):
		return noClient()
	}
	sum := sha256.Sum256([]byte(got.ID))
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		return tx.InsertDocument(store.Document{Kind: assertions, Key: c.name + "/" + hex.EncodeToString(sum[:]), Ends: ends.Add(skew)}, true)
	})
	if errors.Is(err, store.ErrExists) {
		return noClient()
	}
	return store.Failed("note an assertion of "+c.name, err)
}

// verify tries the client's keys, or the one that the header names.
func verify(jws *jose.JSONWebSignature, keys []byte) (payload []byte, ok bool) {
	var set jose.JSONWebKeySet
	if json.Unmarshal(keys, &set) != nil {
		return nil, false
	}
	named := jws.Signatures[0].Protected.KeyID
	for _, key := range set.Keys {
		if named != "" && key.KeyID != "" && key.KeyID != named || !key.IsPublic() {
			continue
		}
		if payload, err := jws.Verify(key); err == nil {
			return payload, true
		}
	}
	return nil, false
}
