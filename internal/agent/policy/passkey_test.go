package policy_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// phone is a passkey in software, at the Auth app's page.
type phone struct {
	private ed25519.PrivateKey
	cose    []byte
	rpID    string
	origin  string
}

func newPhone(t testing.TB) phone {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return phone{private, append([]byte{0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 0x20}, public...), "auth.example.org", "https://auth.example.org"}
}

func (p phone) line() string {
	return approval.PasskeyEntry{Key: p.cose, RPID: p.rpID, Origin: p.origin, Name: "phone"}.String()
}

func (p phone) sign(statement []byte) string {
	host := sha256.Sum256([]byte(p.rpID))
	data := append(host[:], 0x05, 0, 0, 0, 1)
	client := fmt.Appendf(nil, `{"type":"webauthn.get","challenge":%q,"origin":%q,"crossOrigin":false}`,
		base64.RawURLEncoding.EncodeToString(approval.Challenge(statement)), p.origin)
	sum := sha256.Sum256(client)
	return approval.Assertion{Credential: []byte("c"), Key: p.cose, ClientData: client, AuthenticatorData: data,
		Signature: ed25519.Sign(p.private, append(append([]byte{}, data...), sum[:]...))}.String()
}

// withPhone is a site that trusts a phone, and a job that it approved.
func withPhone(t testing.TB, p phone) (site, *job) {
	t.Helper()
	key := plainKey(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	d := &desk{path: s.path}
	file := filepath.Join(t.TempDir(), "phone.txt")
	if err := os.WriteFile(file, []byte(p.line()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.typing("").Add(policy.AddOptions{File: file, Fingerprint: approval.PasskeyFingerprint(p.cose)}); err != nil {
		t.Fatalf("trust add: got %v, want no error", err)
	}
	j.order.Signature = p.sign(j.order.Statement)
	return s, j
}

func TestAPasskeyApprovesAtItsAuthApp(t *testing.T) {
	p := newPhone(t)
	s, j := withPhone(t, p)
	v, err := j.verify(t, s)
	if err != nil || v.Kind != policy.Passkey || v.KeyName != "phone" || v.Fingerprint != approval.PasskeyFingerprint(p.cose) {
		t.Errorf("got %+v, %v, want it accepted", v, err)
	}
}

func TestAPasskeyFromElsewhereIsRefused(t *testing.T) {
	invalid := hpcsera.ApprovalInvalid
	for _, c := range []struct {
		name   string
		change func(*phone)
		say    string
	}{
		{"another origin", func(p *phone) { p.origin = "https://evil.example" }, "signed at https://evil.example"},
		{"another relying party", func(p *phone) { p.rpID = "example.org" }, "another relying party"},
		{"a passkey that nobody trusts", func(p *phone) { *p = newPhone(t) }, "not in this agent's trust file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPhone(t)
			s, j := withPhone(t, p)
			c.change(&p)
			j.order.Signature = p.sign(j.order.Statement)
			v, err := j.verify(t, s)
			wantRefusal(t, v, err, invalid, c.say)
		})
	}
	t.Run("under another statement", func(t *testing.T) {
		p := newPhone(t)
		s, j := withPhone(t, p)
		j.order.Signature = p.sign([]byte("sign me in"))
		v, err := j.verify(t, s)
		wantRefusal(t, v, err, invalid, "something else")
	})
}

func TestAPageOfTheAPIServerApprovesOnlyWhereTheUserSaysSo(t *testing.T) {
	p := newPhone(t)
	p.rpID, p.origin = "hpc.example.org", "https://hpc.example.org"
	s, j := withPhone(t, p)
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "passkey_same_origin: true")
	j.in.Deployment, j.statement.Deployment = "https://hpc.example.org/hpcsera", "https://hpc.example.org/hpcsera"
	j.sign(t, s.key)
	j.order.Signature = p.sign(j.order.Statement)
	v, err = j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "page of the API server itself")
	j.in.PasskeySameOrigin = true
	if _, err := j.verify(t, s); err != nil {
		t.Errorf("allowed: got %v, want no error", err)
	}
}

func TestAPasskeysEntryIsAddedLikeAKey(t *testing.T) {
	p := newPhone(t)
	fingerprint := approval.PasskeyFingerprint(p.cose)
	add := func(d *desk, answers, line string, o policy.AddOptions) error {
		o.File = "-"
		return d.typing(line + "\n" + answers).Add(o)
	}
	d := newDesk(t)
	if err := add(d, "AAAAAAAAAAAA\n", p.line(), policy.AddOptions{}); err == nil || !strings.Contains(err.Error(), "nothing was added") {
		t.Errorf("another fingerprint: got %v, want it refused", err)
	}
	if err := add(d, "", p.line(), policy.AddOptions{Plain: true, Fingerprint: fingerprint}); err == nil {
		t.Error("plain: got no error")
	}
	if err := add(d, "", strings.Replace(p.line(), "rp_id=auth.", "rp_id=", 1), policy.AddOptions{Fingerprint: fingerprint}); err == nil {
		t.Error("a wider relying party: got no error")
	}
	if err := add(d, fingerprint[len(fingerprint)-12:]+"\n", p.line(), policy.AddOptions{}); err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	if err := d.typing("").List(); err != nil || !strings.Contains(d.out.String(), "passkey") || !strings.Contains(d.out.String(), fingerprint) {
		t.Errorf("List: got %v: %s", err, d.out.String())
	}
	if err := d.typing("").Withdraw("phone"); err != nil {
		t.Errorf("Withdraw: got %v, want no error", err)
	}
	if err := add(d, "", p.line(), policy.AddOptions{Fingerprint: fingerprint}); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("adding a withdrawn passkey: got %v, want it refused", err)
	}
}
