package session_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
)

// device is an authenticator in software, with all that an attacker's could
// get wrong.
type device struct {
	t    *testing.T
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
	user string
}

func newDevice(t *testing.T) *device {
	t.Helper()
	return &device{
		t: t, rp: virtualwebauthn.RelyingParty{ID: "auth.example", Name: "HPCSerA", Origin: site},
		auth: virtualwebauthn.NewAuthenticator(), key: virtualwebauthn.NewCredentialWithImportedKey(virtualwebauthn.KeyTypeEC2, newKey(t)),
	}
}

// newKey makes a key for the authenticator, which writes coordinates that begin
// with a zero too short.
func newKey(t *testing.T) []byte {
	t.Helper()
	for {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] == 0 || point[33] == 0 {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
}

// create answers the options of a registration.
func (d *device) create(options string) string {
	d.t.Helper()
	o, err := virtualwebauthn.ParseAttestationOptions(options)
	if err != nil {
		d.t.Fatalf("options %s: %v", options, err)
	}
	d.user = o.UserID
	return virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.key, *o)
}

// assertion is an answer to the options of a sign-in, before it is signed.
type assertion struct {
	client map[string]any
	rp     string
	flags  byte
	count  uint32
	user   string
}

// get answers the options of a sign-in. change spoils the answer; it is signed
// afterwards.
func (d *device) get(options string, change ...func(*assertion)) string {
	d.t.Helper()
	var o struct {
		PublicKey struct {
			Challenge string `json:"challenge"`
		} `json:"publicKey"`
	}
	if err := json.Unmarshal([]byte(options), &o); err != nil {
		d.t.Fatalf("options %s: %v", options, err)
	}
	d.key.Counter++
	a := &assertion{
		client: map[string]any{"type": "webauthn.get", "challenge": o.PublicKey.Challenge, "origin": d.rp.Origin, "crossOrigin": false},
		rp:     d.rp.ID, flags: 0x05, count: d.key.Counter, user: d.user,
	}
	for _, c := range change {
		c(a)
	}
	client, err := json.Marshal(a.client)
	if err != nil {
		d.t.Fatal(err)
	}
	rp, sum := sha256.Sum256([]byte(a.rp)), sha256.Sum256(client)
	data := binary.BigEndian.AppendUint32(append(rp[:], a.flags), a.count)
	digest := sha256.Sum256(slices.Concat(data, sum[:]))
	signature, err := d.key.Key.Sign(digest[:])
	if err != nil {
		d.t.Fatal(err)
	}
	e := base64.RawURLEncoding
	out, err := json.Marshal(map[string]any{
		"id": e.EncodeToString(d.key.ID), "rawId": e.EncodeToString(d.key.ID), "type": "public-key",
		"response": map[string]any{
			"clientDataJSON": e.EncodeToString(client), "authenticatorData": e.EncodeToString(data),
			"signature": e.EncodeToString(signature), "userHandle": e.EncodeToString([]byte(a.user)),
		},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return string(out)
}

// addPasskey adds a device to somebody's account.
func (p *person) addPasskey(label string) *device {
	p.t.Helper()
	d := newDevice(p.t)
	p.expect(p.get("/auth/account/passkey"), http.StatusOK)
	options := p.expect(p.post("/auth/account/passkey/options"), http.StatusOK)
	p.expect(p.post("/auth/account/passkey", "credential", d.create(options.body), "label", label), http.StatusSeeOther, "/auth/account")
	return d
}

func TestAssertionsThatAreNotForUsAreRefused(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	d := p.addPasskey("key")
	for name, spoil := range map[string]func(*assertion){
		"another type":          func(a *assertion) { a.client["type"] = "webauthn.create" },
		"a payment":             func(a *assertion) { a.client["type"] = "payment.get" },
		"another origin":        func(a *assertion) { a.client["origin"] = "https://evil.example" },
		"another port":          func(a *assertion) { a.client["origin"] = site + ":8443" },
		"plain http":            func(a *assertion) { a.client["origin"] = "http://auth.example" },
		"another challenge":     func(a *assertion) { a.client["challenge"] = base64.RawURLEncoding.EncodeToString(make([]byte, 32)) },
		"in a foreign frame":    func(a *assertion) { a.client["crossOrigin"] = true },
		"below a foreign page":  func(a *assertion) { a.client["crossOrigin"] = true; a.client["topOrigin"] = "https://evil.example" },
		"another RP id":         func(a *assertion) { a.rp = "example" },
		"nobody present":        func(a *assertion) { a.flags &^= 0x01 },
		"owner not checked":     func(a *assertion) { a.flags &^= 0x04 },
		"backed up suddenly":    func(a *assertion) { a.flags |= 0x18 },
		"a counter that stands": func(a *assertion) { a.count = 0 },
		"another user":          func(a *assertion) { a.user = strings.Repeat("x", 32) },
		"no user":               func(a *assertion) { a.user = "" },
	} {
		if name == "a counter that stands" {
			b := r.browser() // a first use, so that the counter has run
			options := b.post("/auth/signin/passkey/options")
			b.expect(b.post("/auth/signin/passkey", "credential", d.get(options.body)), http.StatusSeeOther)
		}
		b := r.browser()
		options := b.expect(b.post("/auth/signin/passkey/options"), http.StatusOK)
		a := b.post("/auth/signin/passkey", "credential", d.get(options.body, spoil))
		if a.status != http.StatusUnauthorized || b.who() != "" {
			t.Errorf("%s: got status %d and %q, want 401 and nobody", name, a.status, b.who())
		}
	}
	for name, credential := range map[string]string{"nothing": "", "no JSON": "<script>", "half": `{"id":"AA","type":"public-key"}`} {
		b := r.browser()
		b.post("/auth/signin/passkey/options")
		if a := b.post("/auth/signin/passkey", "credential", credential); a.status != http.StatusUnauthorized {
			t.Errorf("%s: got status %d, want 401", name, a.status)
		}
	}
	r.wantTrail(" session.refuse  refused")
}

func TestAPasskeySignsInAlone(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	d := p.addPasskey("My laptop")
	b := r.browser()
	options := b.expect(b.post("/auth/signin/passkey/options?return="+"/auth/decide"), http.StatusOK)
	if strings.Contains(options.body, "allowCredentials\":[{") {
		t.Error("the options tell a stranger which keys there are")
	}
	b.expect(b.post("/auth/signin/passkey", "credential", d.get(options.body)), http.StatusSeeOther, "/auth/decide")
	if b.who() != "alice" {
		t.Fatalf("signed in as %q, want alice", b.who())
	}
	b.expect(b.get("/auth/decide"), http.StatusOK) // it counts as two factors
}

func TestAnAssertionWorksOnce(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	d := p.addPasskey("key")
	b := r.browser()
	options := b.post("/auth/signin/passkey/options")
	response := d.get(options.body)
	b.expect(b.post("/auth/signin/passkey", "credential", response), http.StatusSeeOther)
	b.expect(b.post("/auth/signin/passkey", "credential", response), http.StatusConflict)
	thief := r.browser()
	thief.post("/auth/signin/passkey/options")
	thief.expect(thief.post("/auth/signin/passkey", "credential", response), http.StatusUnauthorized)
	thief.expect(thief.post("/auth/signin/passkey", "credential", response), http.StatusConflict)
}

func TestAPasskeyIsASecondFactorOfItsOwnAccountOnly(t *testing.T) {
	r := newRig(t)
	alice, mallory := r.first("alice"), r.join("mallory")
	mine, theirs := alice.addPasskey("a"), mallory.addPasskey("m")
	b := r.browser()
	b.expect(b.post("/auth/signin", "name", "alice", "password", password), http.StatusSeeOther)
	options := b.expect(b.post("/auth/signin/passkey/options"), http.StatusOK)
	b.expect(b.post("/auth/signin/passkey", "credential", theirs.get(options.body)), http.StatusUnauthorized)
	options = b.expect(b.post("/auth/signin/passkey/options"), http.StatusOK)
	b.expect(b.post("/auth/signin/passkey", "credential", mine.get(options.body)), http.StatusSeeOther)

	alice.pass(6 * time.Minute)
	options = alice.expect(alice.post("/auth/stepup/passkey/options"), http.StatusOK)
	alice.expect(alice.post("/auth/stepup/passkey", "credential", theirs.get(options.body)), http.StatusUnauthorized)
	response := mine.get(alice.post("/auth/stepup/passkey/options").body)
	alice.expect(alice.post("/auth/stepup/passkey", "credential", response, "return", "/auth/decide"), http.StatusSeeOther, "/auth/decide")
	alice.expect(alice.get("/auth/decide"), http.StatusOK)
	alice.expect(alice.post("/auth/stepup/passkey", "credential", response), http.StatusUnauthorized)
}

func TestAPasskeyWhoseOwnerIsNotCheckedIsNotRegistered(t *testing.T) {
	r := newRig(t)
	p := r.first("alice")
	d := newDevice(t)
	d.auth.Options.UserNotVerified = true
	options := p.post("/auth/account/passkey/options")
	p.expect(p.post("/auth/account/passkey", "credential", d.create(options.body)), http.StatusUnauthorized)
	d = newDevice(t)
	d.rp.Origin = "https://evil.example"
	options = p.post("/auth/account/passkey/options")
	p.expect(p.post("/auth/account/passkey", "credential", d.create(options.body)), http.StatusUnauthorized)
}

func TestAPasskeyThatWasRemovedOpensNothing(t *testing.T) {
	r := newRig(t)
	r.running()
	p := r.first("alice")
	d := p.addPasskey("key")
	id := base64.RawURLEncoding.EncodeToString(d.key.ID)
	p.expect(p.post("/auth/account/passkey/remove", "passkey", "x"), http.StatusNotFound)
	p.expect(p.post("/auth/account/passkey/remove", "passkey", id), http.StatusSeeOther)
	b := r.browser()
	options := b.post("/auth/signin/passkey/options")
	b.expect(b.post("/auth/signin/passkey", "credential", d.get(options.body)), http.StatusUnauthorized)
	r.wantMail("alice@example.org", "passkey removed")
}

func TestAnAccountCanBeginWithAPasskey(t *testing.T) {
	r := newRig(t)
	link, err := r.FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &person{browser: r.browser(), name: "alice"}
	_, code, _ := strings.Cut(link, "code=")
	p.expect(p.post("/auth/setup", "code", code, "name", "alice", "password", password, "again", password), http.StatusSeeOther)
	d := newDevice(t)
	options := p.expect(p.post("/auth/setup/passkey/options"), http.StatusOK)
	p.readCodes(p.expect(p.post("/auth/setup/passkey", "credential", d.create(options.body), "label", ""), http.StatusOK))
	if a := p.get("/auth/account"); !a.has("Passkey 1") {
		t.Error("the page does not name the passkey")
	}
	b := r.browser()
	options = b.post("/auth/signin/passkey/options")
	b.expect(b.post("/auth/signin/passkey", "credential", d.get(options.body)), http.StatusSeeOther)
	if b.who() != "alice" {
		t.Errorf("signed in as %q, want alice", b.who())
	}
}
