package auth_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// login makes a key-bound session of alice's. Its key becomes the server's.
func (s *server) login() auth.LoginSession {
	s.t.Helper()
	_, s.key, _ = ed25519.GenerateKey(rand.Reader)
	row := auth.LoginSession{Session: hpcsera.Session{
		ID: hpcsera.NewID("ls"), User: "alice", Thumbprint: thumbprint(s.t, s.key), Created: s.now, Expires: s.now.Add(12 * time.Hour),
	}}
	var text string
	text, row.Hash = hpcsera.NewSecret(row.ID)
	s.secrets[row.ID] = text
	s.write(func(tx store.Tx) error {
		return tx.PutDocument(store.Document{Kind: auth.LoginSessions, Key: row.ID, Owner: "alice", Ends: row.Expires}, row)
	})
	return row
}

// inSession sends a request with the session's credential and a proof that
// edit may spoil.
func (s *server) inSession(row auth.LoginSession, scheme string, edit func(*proof)) (*auth.Principal, error) {
	s.t.Helper()
	p := s.proof(store.Agent{Agent: hpcsera.Agent{ID: row.ID}}, "GET", "/api/v1/tokens")
	edit(p)
	return s.auth.Authenticate(s.t.Context(), auth.Request{
		Authorization: scheme + " " + s.secrets[row.ID], Proofs: []string{p.sign(s.t)}, Method: "GET", Path: "/api/v1/tokens",
	})
}

func as(*proof) {}

func TestASessionsCredentialIsUselessWithoutItsKey(t *testing.T) {
	s := newServer(t)
	row := s.login()
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	for _, c := range []struct {
		name, scheme string
		edit         func(*proof)
		want         hpcsera.Code
	}{
		{"as a bearer", "Bearer", as, hpcsera.Unauthenticated},
		{"another key", "DPoP", func(p *proof) { p.key = other }, hpcsera.DPoPRequired},
		{"another credential", "DPoP", func(p *proof) { p.claims["ath"] = "x" }, hpcsera.DPoPRequired},
		{"another path", "DPoP", func(p *proof) { p.claims["htu"] = publicURL + "/api/v1/agents" }, hpcsera.DPoPRequired},
		{"no nonce", "DPoP", func(p *proof) { delete(p.claims, "nonce") }, hpcsera.UseDPoPNonce},
		{"as it should be", "DPoP", as, ""},
	} {
		p, err := s.inSession(row, c.scheme, c.edit)
		expect(t, c.name, err, c.want)
		if err == nil && (p.Person == nil || p.Person.User != "alice" || !p.Person.KeyBound || p.Person.SteppedUp || p.Person.Operator) {
			t.Errorf("%s: got %+v, want alice, key-bound and without a second factor", c.name, p.Person)
		}
	}
}

func TestASessionEndsFromTheNextRequest(t *testing.T) {
	for name, end := range map[string]func(*server, auth.LoginSession) func(store.Tx) error{
		"ended": func(_ *server, row auth.LoginSession) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.DeleteDocument(auth.LoginSessions, row.ID) }
		},
		"user disabled": func(*server, auth.LoginSession) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true}) }
		},
		"12 hours old": func(s *server, row auth.LoginSession) func(store.Tx) error {
			return func(store.Tx) error { s.now = row.Expires; return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			row := s.login()
			p, err := s.inSession(row, "DPoP", as)
			expect(t, "before", err, "")
			expect(t, "a stream before", s.auth.Still(t.Context(), p), "")
			s.write(end(s, row))
			_, err = s.inSession(row, "DPoP", as)
			expect(t, "after", err, hpcsera.TokenInvalid)
			expect(t, "a stream after", s.auth.Still(t.Context(), p), hpcsera.TokenInvalid)
		})
	}
}

func TestAProofForTheTokenEndpointWorksOnceAndWithoutACredential(t *testing.T) {
	s := newServer(t)
	s.login()
	fresh := func(edit func(*proof)) string {
		p := s.proof(store.Agent{}, "POST", "/oauth/token")
		delete(p.claims, "ath")
		edit(p)
		return p.sign(t)
	}
	prove := func(text string) (string, error) {
		return s.auth.Prove(auth.Request{Proofs: []string{text}, Method: "POST", Path: "/oauth/token"}, thumbprint(t, s.key))
	}
	for _, c := range []struct {
		name string
		edit func(*proof)
		want hpcsera.Code
	}{
		{"one for a credential", func(p *proof) { p.claims["ath"] = "x" }, hpcsera.DPoPRequired},
		{"one for another place", func(p *proof) { p.claims["htu"] = publicURL + "/oauth/revoke" }, hpcsera.DPoPRequired},
		{"an old nonce", func(p *proof) { p.claims["nonce"] = "x" }, hpcsera.UseDPoPNonce},
	} {
		_, err := prove(fresh(c.edit))
		expect(t, c.name, err, c.want)
	}
	text := fresh(as)
	got, err := prove(text)
	if want := thumbprint(t, s.key); err != nil || got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
	_, err = prove(text)
	expect(t, "again", err, hpcsera.DPoPRequired)
}

func TestARenewedCredentialReplacesTheOldOneWhenItIsUsed(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	old := s.secrets[a.ID]
	renewed, hash := hpcsera.NewSecret(a.ID)
	a.Renewed = hash
	s.write(func(tx store.Tx) error { return tx.UpdateAgent(a) })
	with := func(text string) error {
		s.secrets[a.ID] = text
		_, err := s.asAgent(a, s.auth, s.proof(a, "POST", workPath).sign(t))
		return err
	}
	expect(t, "the old one, while the new one was not used", with(old), "")
	forged, _ := hpcsera.NewSecret(a.ID)
	expect(t, "a third one", with(forged), hpcsera.TokenInvalid)
	expect(t, "the new one", with(renewed), "")
	expect(t, "the old one, after the new one was used", with(old), hpcsera.TokenInvalid)
	expect(t, "the new one again", with(renewed), "")
}

func TestLookingAtATokenIsNotUsingIt(t *testing.T) {
	s := newServer(t)
	used := 0
	looked, err := auth.New(auth.Config{Store: s.store, PublicURL: publicURL, Key: make([]byte, 32), Used: func(string) { used++ }, Now: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	token := s.token()
	_, err = looked.Look(t.Context(), s.secrets[s.agent().ID])
	expect(t, "an agent's credential", err, hpcsera.Unauthenticated)
	_, err = looked.Look(t.Context(), "a.b.c")
	expect(t, "a JWT", err, hpcsera.Unauthenticated)
	p, err := looked.Look(t.Context(), s.secrets[token.ID])
	if err != nil || p.Token.ID != token.ID || used != 0 {
		t.Errorf("got %+v (%v), used %d times, want the token and 0", p, err, used)
	}
}
