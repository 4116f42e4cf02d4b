package auth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

const publicURL = "https://hpc.example.org/hpcsera"

// server is an auth service on a real database, with a clock that tests move.
type server struct {
	t       *testing.T
	store   store.Store
	auth    *auth.Service
	now     time.Time
	secrets map[string]string // texts of tokens and credentials by id
	key     crypto.Signer     // the agent's
}

func newServer(t *testing.T) *server {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s := &server{t: t, store: db, now: time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC), secrets: map[string]string{}}
	s.auth = s.replica()
	s.write(func(tx store.Tx) error {
		for _, err := range []error{
			tx.InsertUser(hpcsera.User{Name: "alice", Created: s.now}),
			tx.InsertProject(hpcsera.Project{Name: "cfd", Created: s.now}),
			tx.SetMember("cfd", "alice", hpcsera.Member),
			tx.InsertClient(hpcsera.Client{Name: "gitlab", Created: s.now}),
			tx.InsertSite(hpcsera.Site{Name: "gwdg", Created: s.now}),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

// replica returns another server with the same key and database.
func (s *server) replica() *auth.Service {
	a, err := auth.New(auth.Config{
		Store: s.store, PublicURL: publicURL, Key: []byte(strings.Repeat("k", 32)), Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return s.now },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *server) write(fn func(store.Tx) error) {
	s.t.Helper()
	if err := s.store.Write(s.t.Context(), fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) token(edit ...func(*hpcsera.Token)) hpcsera.Token {
	s.t.Helper()
	t := hpcsera.Token{
		ID: hpcsera.NewID("t"), User: "alice", Project: "cfd", Client: "gitlab", Scope: hpcsera.ClientScope, Roles: hpcsera.RolesOf(1),
		Created: s.now, Expires: s.now.Add(time.Hour),
	}
	for _, e := range edit {
		e(&t)
	}
	text, hash := hpcsera.NewSecret(t.ID)
	s.secrets[t.ID] = text
	s.write(func(tx store.Tx) error { return tx.InsertToken(t, hash) })
	return t
}

func (s *server) agent() store.Agent {
	s.t.Helper()
	_, s.key, _ = ed25519.GenerateKey(rand.Reader)
	a := store.Agent{Agent: hpcsera.Agent{
		ID: hpcsera.NewID("ag"), User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: thumbprint(s.t, s.key),
		Created: s.now, Expires: s.now.Add(time.Hour),
	}}
	var text string
	text, a.Hash = hpcsera.NewSecret(a.ID)
	s.secrets[a.ID] = text
	s.write(func(tx store.Tx) error { return tx.InsertAgent(a) })
	return a
}

func thumbprint(t *testing.T, key crypto.Signer) string {
	t.Helper()
	sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

func (s *server) bearer(id string) error {
	p, err := s.auth.Authenticate(s.t.Context(), auth.Request{Authorization: "Bearer " + s.secrets[id], Method: "GET", Path: "/api/v1/jobs"})
	if err == nil && (p.Token == nil || p.Token.ID != id) {
		s.t.Errorf("authenticated as %+v, want %s", p, id)
	}
	return err
}

func expect(t *testing.T, name string, err error, want hpcsera.Code) {
	t.Helper()
	if got := hpcsera.CodeOf(err); got != want {
		t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
	}
}

func TestWhatIsNoTokenIsRefused(t *testing.T) {
	s := newServer(t)
	good, ag := s.token(), s.agent()
	text := s.secrets[good.ID]
	for name, header := range map[string]string{
		"no header":               "",
		"no scheme":               text,
		"another scheme":          "Basic " + text,
		"cut":                     "Bearer " + text[:len(text)-1],
		"mistyped":                "Bearer " + strings.Replace(text, text[30:31], "#", 1),
		"spaces":                  "Bearer  " + text,
		"an agent's as a token":   "Bearer " + s.secrets[ag.ID],
		"a token as an agent's":   "DPoP " + text,
		"two tokens":              "Bearer " + text + "," + text,
		"very long":               "Bearer " + strings.Repeat("a", 1<<16),
		"a token without Bearer:": "Bearer: " + text,
	} {
		_, err := s.auth.Authenticate(t.Context(), auth.Request{Authorization: header, Method: "GET", Path: "/api/v1/jobs"})
		expect(t, name, err, hpcsera.Unauthenticated)
	}
	unknown, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	_, err := s.auth.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + unknown})
	expect(t, "a token that does not exist", err, hpcsera.TokenInvalid)
	forged, _ := hpcsera.NewSecret(good.ID)
	_, err = s.auth.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + forged})
	expect(t, "another secret of the same token", err, hpcsera.TokenInvalid)
	expect(t, "the token", s.bearer(good.ID), "")
}

// counting is a store that knows how often it was asked.
type counting struct {
	store.Store
	reads int
}

func (c *counting) Read(ctx context.Context, fn func(store.Reader) error) error {
	c.reads++
	return c.Store.Read(ctx, fn)
}

// counted returns a server whose look-ups are counted.
func (s *server) counted() (*auth.Service, *counting) {
	c := &counting{Store: s.store}
	a, err := auth.New(auth.Config{Store: c, PublicURL: publicURL, Key: []byte(strings.Repeat("k", 32)), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return s.now }})
	if err != nil {
		s.t.Fatal(err)
	}
	return a, c
}

func TestWhatCannotBeASecretCausesNoLookUp(t *testing.T) {
	s := newServer(t)
	service, asked := s.counted()
	text, a := s.secrets[s.token().ID], s.agent()
	jwt := s.proof(a, "POST", workPath).sign(t) // signed, and even ours
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"alice"}`)) + "."
	for _, header := range []string{
		"", "Bearer ", "Bearer " + jwt, "Bearer " + unsigned, "DPoP " + jwt, "Bearer " + text + jwt, "Bearer " + jwt + text,
		"Bearer " + text[:len(text)-1], "Bearer " + text + "0", "Bearer " + strings.ToUpper(text), "Bearer " + s.secrets[a.ID], "DPoP " + text,
		"Bearer ' OR 1=1 --", "Bearer hpcsera_t_", "Bearer " + strings.Repeat("a", 1<<16),
	} {
		_, err := service.Authenticate(t.Context(), auth.Request{Authorization: header, Proofs: []string{jwt}, Method: "POST", Path: workPath})
		expect(t, header, err, hpcsera.Unauthenticated)
	}
	// Nor does a credential whose proof cannot be right.
	for _, proofs := range [][]string{nil, {""}, {unsigned}, {jwt, jwt}, {s.proof(a, "GET", workPath).sign(t)}, {s.proof(a, "POST", "/api/v1/jobs").sign(t)}} {
		_, err := service.Authenticate(t.Context(), auth.Request{Authorization: "DPoP " + s.secrets[a.ID], Proofs: proofs, Method: "POST", Path: workPath})
		expect(t, "a wrong proof", err, hpcsera.DPoPRequired)
	}
	if asked.reads != 0 {
		t.Errorf("the store was asked %d times, want never", asked.reads)
	}
}

// Time tells no more than the words do: both look once, and compare hashes of
// secrets, of which a guess tells nothing about another.
func TestAnUnknownIDAndAWrongSecretLookTheSame(t *testing.T) {
	s := newServer(t)
	service, asked := s.counted()
	valid, revoked, expired := s.token(), s.token(), s.token(func(t *hpcsera.Token) { t.Expires = s.now.Add(-time.Second) })
	s.write(func(tx store.Tx) error { return tx.RevokeToken(revoked.ID, s.now) })
	agent := s.agent()
	removed := agent
	removed.ID, removed.Removed = hpcsera.NewID("ag"), true
	ended := agent
	ended.ID, ended.Expires = hpcsera.NewID("ag"), s.now
	s.write(func(tx store.Tx) error {
		return errors.Join(tx.InsertAgent(removed), tx.InsertAgent(ended))
	})
	told := func(id string) string {
		t.Helper()
		before := asked.reads
		text, _ := hpcsera.NewSecret(id)
		s.secrets[id] = text
		var err error
		if strings.HasPrefix(id, "t_") {
			_, err = service.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + text, Method: "POST", Path: workPath})
		} else {
			a := store.Agent{Agent: hpcsera.Agent{ID: id}}
			_, err = s.asAgent(a, service, s.proof(a, "POST", workPath).sign(t))
		}
		expect(t, id, err, hpcsera.TokenInvalid)
		if got := asked.reads - before; got != 1 {
			t.Errorf("%s: %d look-ups, want one", id, got)
		}
		return err.Error()
	}
	for prefix, ids := range map[string][]string{"t": {valid.ID, revoked.ID, expired.ID}, "ag": {agent.ID, removed.ID, ended.ID}} {
		want := told(hpcsera.NewID(prefix))
		for i, id := range ids {
			if got := told(id); got != want {
				t.Errorf("%s number %d with another secret: got %q, want %q as for an unknown one", prefix, i, got, want)
			}
		}
	}
}

func TestATokenIsLookedUpAgainOnlyWhenSomethingChanged(t *testing.T) {
	s := newServer(t)
	service, asked := s.counted()
	mine, other := s.token(), s.token()
	look := func(a *auth.Service, what string, want int) {
		t.Helper()
		before := asked.reads
		_, err := a.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + s.secrets[mine.ID]})
		expect(t, what, err, "")
		if got := asked.reads - before; got != want {
			t.Errorf("%s: %d look-ups, want %d", what, got, want)
		}
	}
	look(service, "first", 1)
	look(service, "again", 0)
	s.write(func(tx store.Tx) error { return tx.SeenAgents(map[string]time.Time{"ag_x": s.now}) })
	look(service, "after a change that is none of who there is", 0)
	s.write(func(tx store.Tx) error { return tx.RevokeToken(other.ID, s.now) })
	look(service, "after another token's revocation", 1)
	look(service, "again", 0)
	s.write(func(tx store.Tx) error { return tx.SetMember("cfd", "alice", hpcsera.Viewer) })
	look(service, "after a change of membership", 1)
}

func TestARevocationIsNeverOvertakenByARequest(t *testing.T) {
	s := newServer(t)
	for range 15 {
		token := s.token()
		ctx, stop := context.WithCancel(t.Context())
		var busy sync.WaitGroup
		for range 4 {
			busy.Go(func() {
				for ctx.Err() == nil {
					_, _ = s.auth.Authenticate(t.Context(), auth.Request{Authorization: "Bearer " + s.secrets[token.ID]})
				}
			})
		}
		s.write(func(tx store.Tx) error { return tx.RevokeToken(token.ID, s.now) })
		for range 10 {
			expect(t, "after the revocation", s.bearer(token.ID), hpcsera.TokenInvalid)
		}
		stop()
		busy.Wait()
	}
}

func TestErrorsNeverRepeatATokensText(t *testing.T) {
	s := newServer(t)
	text := s.secrets[s.token().ID]
	for _, header := range []string{"Bearer " + text[:len(text)-1], "Basic " + text, "DPoP " + text} {
		_, err := s.auth.Authenticate(t.Context(), auth.Request{Authorization: header})
		if secret := text[len(text)-30 : len(text)-10]; err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%.10s…: the error repeats the secret or is missing: %v", header, err)
		}
	}
}

// helps says who or what helps a bearer whose token ended so.
var helps = map[string]string{
	"revoked": "hpcsera token create", "expired": "hpcsera token create", "user disabled": "Ask the server's operator",
	"client disabled": "Ask the server's operator", "no member any more": "Ask an owner of the project",
}

func TestATokenEndsFromTheNextRequest(t *testing.T) {
	for name, end := range map[string]func(*server, hpcsera.Token) func(store.Tx) error{
		"revoked": func(s *server, t hpcsera.Token) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.RevokeToken(t.ID, s.now) }
		},
		"user disabled": func(*server, hpcsera.Token) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true}) }
		},
		"client disabled": func(*server, hpcsera.Token) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.UpdateClient(hpcsera.Client{Name: "gitlab", Disabled: true}) }
		},
		"no member any more": func(*server, hpcsera.Token) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.SetMember("cfd", "alice", "") }
		},
		"expired": func(s *server, t hpcsera.Token) func(store.Tx) error {
			return func(store.Tx) error { s.now = t.Expires; return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			token := s.token()
			expect(t, "before", s.bearer(token.ID), "")
			p := &auth.Principal{Token: &token, Member: hpcsera.Member}
			expect(t, "a stream before", s.auth.Still(t.Context(), p), "")
			s.write(end(s, token))
			err := s.bearer(token.ID)
			expect(t, "after", err, hpcsera.TokenInvalid)
			if who := helps[name]; !strings.Contains(err.Error(), who) {
				t.Errorf("got %v, want it to name %q", err, who)
			}
			expect(t, "a stream after", s.auth.Still(t.Context(), p), hpcsera.TokenInvalid)
		})
	}
}

func TestATokenIsGoodFromItsBeginningOn(t *testing.T) {
	s := newServer(t)
	begin := s.now.Add(time.Minute)
	token := s.token(func(t *hpcsera.Token) { t.NotBefore = begin })
	expect(t, "at once", s.bearer(token.ID), hpcsera.TokenInvalid)
	s.now = begin.Add(-time.Microsecond)
	expect(t, "just before", s.bearer(token.ID), hpcsera.TokenInvalid)
	s.now = begin
	expect(t, "from then on", s.bearer(token.ID), "")
}

// proof is a DPoP proof in the making.
type proof struct {
	key    crypto.Signer
	alg    jose.SignatureAlgorithm
	typ    string
	claims map[string]any
}

func (s *server) proof(a store.Agent, method, path string) *proof {
	sum := sha256.Sum256([]byte(s.secrets[a.ID]))
	return &proof{key: s.key, alg: jose.EdDSA, typ: "dpop+jwt", claims: map[string]any{
		"jti": rand.Text(), "htm": method, "htu": publicURL + path, "iat": s.now.Unix(),
		"ath": base64.RawURLEncoding.EncodeToString(sum[:]), "nonce": s.auth.Nonce(),
	}}
}

func (p *proof) sign(t *testing.T) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: p.alg, Key: p.key}, (&jose.SignerOptions{EmbedJWK: true}).WithType(jose.ContentType(p.typ)))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(p.claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

const workPath = "/api/v1/agents/x/work"

func (s *server) asAgent(a store.Agent, service *auth.Service, proofs ...string) (*auth.Principal, error) {
	return service.Authenticate(s.t.Context(), auth.Request{
		Authorization: "DPoP " + s.secrets[a.ID], Proofs: proofs, Method: "POST", Path: workPath,
	})
}

func TestACopiedCredentialIsUseless(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	_, otherKey, _ := ed25519.GenerateKey(rand.Reader)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		edit func(*proof)
		want hpcsera.Code
	}{
		{"another key", func(p *proof) { p.key = otherKey }, hpcsera.DPoPRequired},
		{"an algorithm that is not accepted", func(p *proof) { p.key, p.alg = rsaKey, jose.RS256 }, hpcsera.DPoPRequired},
		{"another kind of JWT", func(p *proof) { p.typ = "JWT" }, hpcsera.DPoPRequired},
		{"another method", func(p *proof) { p.claims["htm"] = "GET" }, hpcsera.DPoPRequired},
		{"another path", func(p *proof) { p.claims["htu"] = publicURL + "/api/v1/agents/y/work" }, hpcsera.DPoPRequired},
		{"another server", func(p *proof) { p.claims["htu"] = "https://evil.example.org" + workPath }, hpcsera.DPoPRequired},
		{"another credential", func(p *proof) { p.claims["ath"] = "x" }, hpcsera.DPoPRequired},
		{"no credential", func(p *proof) { delete(p.claims, "ath") }, hpcsera.DPoPRequired},
		{"no jti", func(p *proof) { p.claims["jti"] = "" }, hpcsera.DPoPRequired},
		{"made an hour ago", func(p *proof) { p.claims["iat"] = s.now.Add(-time.Hour).Unix() }, hpcsera.DPoPRequired},
		{"made in an hour", func(p *proof) { p.claims["iat"] = s.now.Add(time.Hour).Unix() }, hpcsera.DPoPRequired},
		{"no time", func(p *proof) { delete(p.claims, "iat") }, hpcsera.DPoPRequired},
		{"claims of other types", func(p *proof) { p.claims["htm"] = 1 }, hpcsera.DPoPRequired},
		{"no nonce", func(p *proof) { delete(p.claims, "nonce") }, hpcsera.UseDPoPNonce},
		{"an invented nonce", func(p *proof) { p.claims["nonce"] = rand.Text() }, hpcsera.UseDPoPNonce},
		{"as it should be", func(*proof) {}, ""},
		{"no URL", func(p *proof) { p.claims["htu"] = "://" }, hpcsera.DPoPRequired},
		{"another user in the URL", func(p *proof) { p.claims["htu"] = strings.Replace(publicURL, "hpc.", "evil@hpc.", 1) + workPath + "/" }, hpcsera.DPoPRequired},
		{"the same server written otherwise", func(p *proof) { p.claims["htu"] = "HTTPS://HPC.example.org:443/hpcsera" + workPath }, ""},
		{"with a query in htu", func(p *proof) { p.claims["htu"] = publicURL + workPath + "?job=x" }, ""},
	} {
		p := s.proof(a, "POST", workPath)
		c.edit(p)
		_, err := s.asAgent(a, s.auth, p.sign(t))
		expect(t, c.name, err, c.want)
	}
	_, err = s.asAgent(a, s.auth)
	expect(t, "no proof", err, hpcsera.DPoPRequired)
	_, err = s.asAgent(a, s.auth, s.proof(a, "POST", workPath).sign(t), s.proof(a, "POST", workPath).sign(t))
	expect(t, "two proofs", err, hpcsera.DPoPRequired)
	for _, text := range []string{"", "x", "a.b.c", "{}", strings.Repeat("a", 1<<16)} {
		_, err = s.asAgent(a, s.auth, text)
		expect(t, "the proof "+text[:min(5, len(text))], err, hpcsera.DPoPRequired)
	}
	signed := s.proof(a, "POST", workPath).sign(t)
	_, err = s.asAgent(a, s.auth, signed[:len(signed)-4]+"AAAA")
	expect(t, "a broken signature", err, hpcsera.DPoPRequired)
}

func TestAProofWorksOnce(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	text := s.proof(a, "POST", workPath).sign(t)
	_, err := s.asAgent(a, s.auth, text)
	expect(t, "first", err, "")
	_, err = s.asAgent(a, s.auth, text)
	expect(t, "again", err, hpcsera.DPoPRequired)
	s.now = s.now.Add(59 * time.Second)
	_, err = s.asAgent(a, s.auth, text)
	expect(t, "again, later", err, hpcsera.DPoPRequired)
	// For as long as the nonce would let it pass, the proof is remembered.
	s.now = s.now.Add(2 * time.Second)
	_, err = s.asAgent(a, s.auth, text)
	expect(t, "again, after its nonce's end", err, hpcsera.UseDPoPNonce)
}

func TestANonceOfOneReplicaIsGoodAtAnotherForAMinute(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	other := s.replica()
	p := s.proof(a, "POST", workPath)
	_, err := s.asAgent(a, other, p.sign(t))
	expect(t, "at once", err, "")
	p.claims["jti"] = rand.Text()
	s.now = s.now.Add(60 * time.Second)
	_, err = s.asAgent(a, other, p.sign(t))
	expect(t, "after 60 s", err, "")
	p.claims["jti"] = rand.Text()
	s.now = s.now.Add(time.Second)
	_, err = s.asAgent(a, other, p.sign(t))
	expect(t, "after 61 s", err, hpcsera.UseDPoPNonce)
}

func TestES256IsAcceptedToo(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.key = key
	a.Thumbprint = thumbprint(t, key)
	s.write(func(tx store.Tx) error { return tx.UpdateAgent(a) })
	p := s.proof(a, "POST", workPath)
	p.alg = jose.ES256
	got, err := s.asAgent(a, s.auth, p.sign(t))
	expect(t, "ES256", err, "")
	if err == nil && (got.Agent == nil || got.Agent.ID != a.ID || got.User() != "alice") {
		t.Errorf("authenticated as %+v, want %s", got, a.ID)
	}
}

func TestAnAgentEndsFromTheNextRequest(t *testing.T) {
	for name, end := range map[string]func(*server, store.Agent) func(store.Tx) error{
		"removed": func(_ *server, a store.Agent) func(store.Tx) error {
			a.Removed = true
			return func(tx store.Tx) error { return tx.UpdateAgent(a) }
		},
		"user disabled": func(*server, store.Agent) func(store.Tx) error {
			return func(tx store.Tx) error { return tx.UpdateUser(hpcsera.User{Name: "alice", Disabled: true}) }
		},
		"ended": func(s *server, a store.Agent) func(store.Tx) error {
			return func(store.Tx) error { s.now = a.Expires; return nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			a := s.agent()
			_, err := s.asAgent(a, s.auth, s.proof(a, "POST", workPath).sign(t))
			expect(t, "before", err, "")
			s.write(end(s, a))
			_, err = s.asAgent(a, s.auth, s.proof(a, "POST", workPath).sign(t))
			expect(t, "after", err, hpcsera.TokenInvalid)
			expect(t, "a stream after", s.auth.Still(t.Context(), &auth.Principal{Agent: &a}), hpcsera.TokenInvalid)
		})
	}
}

func TestAnAgentServesOnlyWhereItsUserIsAMember(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	projects := func() []string {
		t.Helper()
		p, err := s.asAgent(a, s.auth, s.proof(a, "POST", workPath).sign(t))
		expect(t, "the agent", err, "")
		return p.Projects()
	}
	if got, want := projects(), []string{"cfd"}; !slices.Equal(got, want) {
		t.Errorf("before: got %v, want %v", got, want)
	}
	s.write(func(tx store.Tx) error { return tx.SetMember("cfd", "alice", "") })
	if got := projects(); len(got) != 0 {
		t.Errorf("without membership: got %v, want none", got)
	}
	s.write(func(tx store.Tx) error {
		return errors.Join(tx.SetMember("cfd", "alice", hpcsera.Viewer), tx.InsertProject(hpcsera.Project{Name: "melt"}), tx.SetMember("melt", "alice", hpcsera.Owner))
	})
	if got, want := projects(), []string{"cfd"}; !slices.Equal(got, want) {
		t.Errorf("a member again, and of another project: got %v, want %v", got, want)
	}
}

func TestSightingsAreStoredAtTheEndAtTheLatest(t *testing.T) {
	s := newServer(t)
	a := s.agent()
	seen := auth.NewSightings(s.store, func() time.Time { return s.now }, slog.New(slog.DiscardHandler))
	if got := seen.Last(a.ID, nil); got != nil {
		t.Errorf("before: got %v, want nil", got)
	}
	seen.Seen(a.ID)
	old := s.now.Add(-time.Hour)
	if got := seen.Last(a.ID, &old); got == nil || !got.Equal(s.now) {
		t.Errorf("in memory: got %v, want %v", got, s.now)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := seen.Run(ctx); err != nil {
		t.Fatal(err)
	}
	var row *store.Agent
	err := s.store.Read(t.Context(), func(r store.Reader) (err error) {
		row, err = r.Agent(a.ID)
		return err
	})
	if err != nil || row.LastSeen == nil || !row.LastSeen.Equal(s.now) {
		t.Errorf("stored: got %v (%v), want %v", row.LastSeen, err, s.now)
	}
}
