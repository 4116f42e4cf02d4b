package approval_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// passkey is an authenticator in software. What it signs is laid out as in
// WebAuthn, and every part can be changed before it signs: a device that lies
// is worse than bytes changed afterwards.
type passkey struct {
	cose []byte
	sign func(message []byte) []byte

	clientData string // a format with the challenge
	rpID       string
	flags      byte
	more       []byte // behind the counter
}

const (
	rpID   = "auth.example.org"
	origin = "https://auth.example.org"
	goodCD = `{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org","crossOrigin":false}`
)

func es256(t *testing.T) *passkey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	cose := append([]byte{0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 0x20}, point[1:33]...)
	cose = append(append(cose, 0x22, 0x58, 0x20), point[33:]...)
	return &passkey{cose: cose, clientData: goodCD, rpID: rpID, flags: 0x05, sign: func(m []byte) []byte {
		sum := sha256.Sum256(m)
		s, err := ecdsa.SignASN1(rand.Reader, private, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return s
	}}
}

func eddsa(t *testing.T) *passkey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cose := append([]byte{0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 0x20}, public...)
	return &passkey{cose: cose, clientData: goodCD, rpID: rpID, flags: 0x05, sign: func(m []byte) []byte { return ed25519.Sign(private, m) }}
}

// assert signs a challenge.
func (p *passkey) assert(challenge []byte) approval.Assertion {
	host := sha256.Sum256([]byte(p.rpID))
	data := append(append(host[:], p.flags, 0, 0, 0, 9), p.more...)
	client := []byte(p.clientData)
	if strings.Contains(p.clientData, "%s") {
		client = fmt.Appendf(nil, p.clientData, base64.RawURLEncoding.EncodeToString(challenge))
	}
	sum := sha256.Sum256(client)
	return approval.Assertion{
		Credential: []byte("credential"), Key: p.cose, ClientData: client, AuthenticatorData: data,
		Signature: p.sign(append(append([]byte{}, data...), sum[:]...)),
	}
}

func TestAPasskeySignsAStatement(t *testing.T) {
	for name, p := range map[string]*passkey{"ES256": es256(t), "EdDSA": eddsa(t)} {
		t.Run(name, func(t *testing.T) {
			text := canonical(t, statement())
			got, err := approval.Verify(text, p.assert(approval.Challenge(text)).String())
			if err != nil {
				t.Fatalf("got %v, want no error", err)
			}
			sum := sha256.Sum256(p.cose)
			want := approval.Signature{
				Kind: approval.Passkey, Fingerprint: "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]), Present: true, Verified: true,
				Origin: origin, RPIDHash: sha256.Sum256([]byte(rpID)),
			}
			if *got != want {
				t.Errorf("got %+v, want %+v", *got, want)
			}
			// Browsers add members, so that nobody compares with a template.
			p.clientData = `{"other_keys_can_be_added_here":"do not compare","challenge":"%s","origin":"https://auth.example.org","type":"webauthn.get"}`
			if _, err := approval.Verify(text, p.assert(approval.Challenge(text)).String()); err != nil {
				t.Errorf("more members, none about origins: got %v, want no error", err)
			}
		})
	}
}

func TestWhatAPasskeyDidNotSignAsConsentIsRefused(t *testing.T) {
	client := func(text string) func(*passkey) { return func(p *passkey) { p.clientData = text } }
	flags := func(f byte) func(*passkey) { return func(p *passkey) { p.flags = f } }
	for _, c := range []struct {
		name   string
		change func(*passkey)
		say    string
	}{
		{"a registration", client(`{"type":"webauthn.create","challenge":"%s","origin":"https://auth.example.org","crossOrigin":false}`), "webauthn.create"},
		{"a payment", client(`{"type":"payment.get","challenge":"%s","origin":"https://auth.example.org","crossOrigin":false}`), "payment.get"},
		{"no type", client(`{"challenge":"%s","origin":"https://auth.example.org"}`), "was used for"},
		{"a type that is a number", client(`{"type":1,"challenge":"%s","origin":"https://auth.example.org"}`), "was used for"},
		{"in a frame of another page", client(`{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org","crossOrigin":true}`), "embedded"},
		{"crossOrigin in words", client(`{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org","crossOrigin":"false"}`), "embedded"},
		{"below another page", client(`{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org","topOrigin":"https://evil.example"}`), "embedded"},
		{"below its own page", client(`{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org","crossOrigin":false,"topOrigin":"https://auth.example.org"}`), "embedded"},
		{"type twice", client(`{"type":"webauthn.create","type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org"}`), "twice"},
		{"challenge twice", client(`{"type":"webauthn.get","challenge":"x","challenge":"%s","origin":"https://auth.example.org"}`), "twice"},
		{"type twice, once escaped", client(`{"type":"webauthn.create","typ\u0065":"webauthn.get","challenge":"%s","origin":"https://auth.example.org"}`), "twice"},
		{"words after", client(`{"type":"webauthn.get","challenge":"%s","origin":"https://auth.example.org"} {}`), "JSON"},
		{"no object", client(`"%s"`), ""},
		{"no origin", client(`{"type":"webauthn.get","challenge":"%s"}`), "origin"},
		{"an app's origin", client(`{"type":"webauthn.get","challenge":"%s","origin":"android:apk-key-hash:x"}`), "origin"},
		{"a page without TLS", client(`{"type":"webauthn.get","challenge":"%s","origin":"http://auth.example.org"}`), "origin"},
		{"an origin in capitals", client(`{"type":"webauthn.get","challenge":"%s","origin":"https://AUTH.example.org"}`), "origin"},
		{"the statement's hash with padding", client(`{"type":"webauthn.get","challenge":"%s=","origin":"https://auth.example.org"}`), "something else"},
		{"nobody there", flags(0x04), "presence"},
		{"nobody verified", flags(0x01), "verification"},
		{"no flags", flags(0), "presence"},
		{"attested data announced", flags(0x45), "plain assertion"},
		{"extensions announced", flags(0x85), "plain assertion"},
		{"bytes behind", func(p *passkey) { p.more = []byte{0xa0} }, "plain assertion"},
		{"extensions", func(p *passkey) { p.flags, p.more = 0x85, []byte{0xa0} }, "plain assertion"},
		{"no signature", func(p *passkey) { p.sign = func([]byte) []byte { return []byte{0} } }, "does not belong"},
		{"another key", func(p *passkey) { p.cose = eddsa(t).cose }, "does not belong"},
		{"ES256 called ES384", func(p *passkey) { p.cose = bytes.Replace(p.cose, []byte{3, 0x26}, []byte{3, 0x38, 0x22}, 1) }, "COSE"},
		{"bytes behind the key", func(p *passkey) { p.cose = append(bytes.Clone(p.cose), 0) }, "COSE"},
		{"another order of the key's members", func(p *passkey) {
			p.cose = append(append([]byte{0xa5, 3, 0x26, 1, 2}, p.cose[5:10]...), p.cose[10:]...)
		}, "COSE"},
		{"a longer form of a number", func(p *passkey) { p.cose = append([]byte{0xa5, 0x18, 1}, p.cose[2:]...) }, "COSE"},
		{"a map without end", func(p *passkey) { p.cose = append(append([]byte{0xbf}, p.cose[1:]...), 0xff) }, "COSE"},
		{"a member more", func(p *passkey) { p.cose = append(append([]byte{0xa6}, p.cose[1:]...), 0x23, 1) }, "COSE"},
		{"a point beside the curve", func(p *passkey) { p.cose = bytes.Clone(p.cose); p.cose[76] ^= 1 }, "COSE"},
		{"a key cut short", func(p *passkey) { p.cose = p.cose[:40] }, "COSE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, text := es256(t), canonical(t, statement())
			c.change(p)
			got, err := approval.Verify(text, p.assert(approval.Challenge(text)).String())
			if hpcsera.CodeOf(err) != hpcsera.ApprovalRefused || !strings.Contains(fmt.Sprint(err), c.say) {
				t.Errorf("got %+v, %v, want %s with %q", got, err, hpcsera.ApprovalRefused, c.say)
			}
		})
	}
}

func TestASignInIsNoConsent(t *testing.T) {
	p, text := es256(t), canonical(t, statement())
	random := make([]byte, 32)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	for name, challenge := range map[string][]byte{"a random challenge": random, "the statement itself": text, "nothing": nil} {
		if got, err := approval.Verify(text, p.assert(challenge).String()); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %+v, %v, want it refused", name, got, err)
		}
	}
}

func TestNoByteOfAnAssertionCanBeChanged(t *testing.T) {
	for name, p := range map[string]*passkey{"ES256": es256(t), "EdDSA": eddsa(t)} {
		text := canonical(t, statement())
		good := p.assert(approval.Challenge(text))
		for part, field := range map[string]func(*approval.Assertion) *[]byte{
			"key": func(a *approval.Assertion) *[]byte { return &a.Key }, "client data": func(a *approval.Assertion) *[]byte { return &a.ClientData },
			"authenticator data": func(a *approval.Assertion) *[]byte { return &a.AuthenticatorData }, "signature": func(a *approval.Assertion) *[]byte { return &a.Signature },
		} {
			for i := range *field(&good) {
				a := good
				changed := bytes.Clone(*field(&good))
				changed[i] ^= 1
				*field(&a) = changed
				if got, err := approval.Verify(text, a.String()); err == nil {
					t.Errorf("%s: bit of byte %d of the %s turned: got %+v, want it refused", name, i, part, got)
				}
			}
		}
		for i := range text {
			changed := bytes.Clone(text)
			changed[i] ^= 1
			if _, err := approval.Verify(changed, good.String()); err == nil {
				t.Errorf("%s: bit of byte %d of the statement turned: got no error", name, i)
			}
		}
	}
}

func TestAnAssertionHasOneForm(t *testing.T) {
	text := canonical(t, statement())
	good := es256(t).assert(approval.Challenge(text)).String()
	replace := func(old, new string) string {
		changed := strings.Replace(good, old, new, 1)
		if changed == good {
			t.Fatalf("nothing replaced: %s", old)
		}
		return changed
	}
	for name, signature := range map[string]string{
		"another type":        replace(`"passkey"`, `"ssh"`),
		"no type":             replace(`"type":"passkey",`, ``),
		"an unknown member":   replace(`{`, `{"user_handle":"x",`),
		"a member twice":      replace(`{`, `{"type":"passkey",`),
		"another case":        replace(`"key"`, `"Key"`),
		"a missing member":    replace(`"credential":"Y3JlZGVudGlhbA",`, ``),
		"an empty member":     replace(`"Y3JlZGVudGlhbA"`, `""`),
		"padding":             replace(`"Y3JlZGVudGlhbA"`, `"Y3JlZGVudGlhbA=="`),
		"a line feed inside":  replace(`"Y3JlZGVudGlhbA"`, `"Y3JlZGVu\ndGlhbA"`),
		"loose last bits":     replace(`"Y3JlZGVudGlhbA"`, `"Y3JlZGVudGlhbB"`),
		"text after":          good + "x",
		"a second one":        good + good,
		"cut short":           good[:len(good)/2],
		"endless":             "{" + strings.Repeat(" ", 1<<17) + good[1:],
		"an SSH armor around": "-----BEGIN SSH SIGNATURE-----\n" + good,
	} {
		if got, err := approval.Verify(text, signature); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %+v, %v, want it refused", name, got, err)
		}
	}
}

func TestAPasskeyCountsAtItsPageOnly(t *testing.T) {
	entry := approval.PasskeyEntry{Key: es256(t).cose, RPID: rpID, Origin: origin}
	good := approval.Signature{Kind: approval.Passkey, Origin: origin, RPIDHash: sha256.Sum256([]byte(rpID))}
	for name, change := range map[string]func(*approval.Signature){
		"another origin":          func(s *approval.Signature) { s.Origin = "https://hpc.example.org" },
		"another port":            func(s *approval.Signature) { s.Origin = origin + ":8443" },
		"a host below":            func(s *approval.Signature) { s.Origin = "https://x.auth.example.org" },
		"another relying party":   func(s *approval.Signature) { s.RPIDHash = sha256.Sum256([]byte("example.org")) },
		"no relying party at all": func(s *approval.Signature) { s.RPIDHash = [32]byte{} },
	} {
		s := good
		change(&s)
		if err := entry.Accepts(&s); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	if err := entry.Accepts(&good); err != nil {
		t.Errorf("its own page: got %v, want no error", err)
	}
}

func TestAPasskeysLineHasOneForm(t *testing.T) {
	key := base64.RawURLEncoding.EncodeToString(es256(t).cose)
	line := "hpcsera-passkey " + key + " rp_id=auth.example.org origin=https://auth.example.org Alice's phone"
	for name, text := range map[string]string{
		"an SSH key":                "ssh-ed25519 AAAA alice",
		"no key":                    "hpcsera-passkey rp_id=auth.example.org origin=https://auth.example.org x",
		"padding":                   strings.Replace(line, " rp_id", "= rp_id", 1),
		"another order":             "hpcsera-passkey " + key + " origin=https://auth.example.org rp_id=auth.example.org",
		"two spaces":                strings.Replace(line, " rp_id", "  rp_id", 1),
		"no relying party":          "hpcsera-passkey " + key + " origin=https://auth.example.org",
		"a wider relying party":     strings.Replace(line, "rp_id=auth.", "rp_id=", 1),
		"another relying party":     strings.Replace(line, "rp_id=auth.example.org", "rp_id=evil.example", 1),
		"a page without TLS":        strings.Replace(line, "https", "http", 1),
		"a path":                    strings.Replace(line, "origin=https://auth.example.org", "origin=https://auth.example.org/auth", 1),
		"the default port":          strings.Replace(line, "origin=https://auth.example.org", "origin=https://auth.example.org:443", 1),
		"a key of another kind":     strings.Replace(line, key, base64.RawURLEncoding.EncodeToString([]byte{0xa0}), 1),
		"something before the word": " " + line,
	} {
		if got, err := approval.ParsePasskeyEntry(text); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %+v, %v, want it refused", name, got, err)
		}
	}
	for _, text := range []string{line, strings.TrimSuffix(line, " Alice's phone"), "hpcsera-passkey " + key + " rp_id=localhost origin=http://localhost:8080 dev"} {
		got, err := approval.ParsePasskeyEntry(text)
		if err != nil || got.String() != text || got.Fingerprint() != approval.PasskeyFingerprint(got.Key) {
			t.Errorf("%s: got %+v, %v, want it read", text, got, err)
		}
	}
}
