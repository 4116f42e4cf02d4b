package approval_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

func statusList() approval.StatusList {
	issued := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	return approval.StatusList{
		Issuer: "https://auth.example.org", Number: 7, Issued: issued, NextUpdate: issued.Add(24 * time.Hour),
		Approvals: []string{"ap_" + strings.Repeat("0", 20)}, Keys: []string{"SHA256:" + strings.Repeat("A", 43)},
	}
}

func TestAStatusListIsReadAsItWasSigned(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := approval.SignStatus(private, statusList())
	if err != nil {
		t.Fatal(err)
	}
	got, err := approval.VerifyStatus(public, jws)
	if diff := cmp.Diff(statusList(), got); err != nil || diff != "" {
		t.Errorf("got %v, -want +got:\n%s", err, diff)
	}
	empty := statusList()
	empty.Approvals, empty.Keys = nil, nil
	if jws, err = approval.SignStatus(private, empty); err == nil {
		_, err = approval.VerifyStatus(public, jws)
	}
	if err != nil {
		t.Errorf("nothing withdrawn: got %v, want no error", err)
	}
}

func TestNoOtherStatusListIsRead(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	good, err := approval.SignStatus(private, statusList())
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	signed := func(header, payload string) string {
		b64 := base64.RawURLEncoding.EncodeToString
		text := b64([]byte(header)) + "." + b64([]byte(payload))
		return text + "." + b64(ed25519.Sign(private, []byte(text)))
	}
	const header = `{"alg":"EdDSA","typ":"hpcsera-status-list+jwt"}`
	other := func(old, new string) string {
		changed := strings.Replace(string(payload), old, new, 1)
		if changed == string(payload) {
			t.Fatalf("nothing replaced: %s", old)
		}
		return signed(header, changed)
	}
	for name, jws := range map[string]string{
		"none":                           "",
		"another typ":                    signed(`{"alg":"EdDSA","typ":"JWT"}`, string(payload)),
		"no typ":                         signed(`{"alg":"EdDSA"}`, string(payload)),
		"no algorithm":                   signed(`{"alg":"none","typ":"hpcsera-status-list+jwt"}`, string(payload)),
		"an algorithm with a shared key": signed(`{"alg":"HS256","typ":"hpcsera-status-list+jwt"}`, string(payload)),
		"a key of its own":               signed(`{"alg":"EdDSA","jwk":{},"typ":"hpcsera-status-list+jwt"}`, string(payload)),
		"a member of the header twice":   signed(`{"alg":"none","alg":"EdDSA","typ":"hpcsera-status-list+jwt"}`, string(payload)),
		"no signature":                   parts[0] + "." + parts[1] + ".",
		"two signatures":                 good + "." + parts[2],
		"cut short":                      good[:len(good)-4],
		"padding":                        good + "==",
		"a line feed":                    good + "\n",
		"an unknown member":              other(`"number":7`, `"number":7,"only":[]`),
		"a member twice":                 other(`"number":7`, `"number":9,"number":7`),
		"a missing member":               other(`,"number":7`, ``),
		"another order":                  other(`{"approvals"`, `{ "approvals"`),
		"no number":                      other(`"number":7`, `"number":0`),
		"a number beyond exactness":      other(`"number":7`, `"number":9007199254740993`),
		"valid for two days":             other(`2026-11-23T14`, `2026-11-24T14`),
		"valid for a second too long":    other(`2026-11-23T14:00:00`, `2026-11-23T14:00:01`),
		"ends before it begins":          other(`2026-11-23T14`, `2026-11-21T14`),
		"no approval's id":               other(`ap_0`, `j_0`),
		"no fingerprint":                 other(`SHA256:A`, `MD5:AAAAA`),
		"an issuer in another form":      other(`https://auth.example.org`, `https://auth.example.org/`),
	} {
		if got, err := approval.VerifyStatus(public, jws); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %+v, %v, want it refused", name, got, err)
		}
	}
	if _, err := approval.VerifyStatus(stranger, good); err == nil {
		t.Error("another Auth app's key: got no error")
	}
	if _, err := approval.VerifyStatus(nil, good); err == nil {
		t.Error("no key at all: got no error")
	}
	for i := range good {
		if changed := good[:i] + string(good[i]^1) + good[i+1:]; changed != good {
			if _, err := approval.VerifyStatus(public, changed); err == nil {
				t.Errorf("bit of byte %d turned: got no error", i)
			}
		}
	}
}

func TestAnAuthAppsKeyHasOneLine(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	line := approval.AuthKey(public).String()
	for _, text := range []string{"", "hpcsera-auth-key", line + "=", line + " x", strings.Replace(line, "auth-key", "passkey", 1), line[:len(line)-2], "ssh-ed25519 AAAA"} {
		if got, err := approval.ParseAuthKey(text); err == nil {
			t.Errorf("%q: got %v, want it refused", text, got)
		}
	}
	got, err := approval.ParseAuthKey(line)
	if err != nil || got.String() != line || !approval.ValidFingerprint(got.Fingerprint()) {
		t.Errorf("got %v, %v, want the key", got, err)
	}
}
