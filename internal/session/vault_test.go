package session

import (
	"bytes"
	"testing"
	"time"

	"github.com/pquerna/otp/hotp"

	"github.com/hpcsera/hpcsera"
)

func TestSealedTextOpensWithItsKeyForItsOwnerOnly(t *testing.T) {
	old, fresh := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	first, err := newVault([][]byte{old})
	if err != nil {
		t.Fatal(err)
	}
	sealed := first.seal("secret", "alice")
	if again := first.seal("secret", "alice"); again == sealed {
		t.Error("the same text is sealed alike twice")
	}
	other, err := newVault([][]byte{fresh})
	if err != nil {
		t.Fatal(err)
	}
	both, err := newVault([][]byte{fresh, old})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		vault *vault
		text  string
		whose string
	}{
		"another owner": {first, sealed, "mallory"}, "another key": {other, sealed, "alice"}, "cut off": {first, sealed[:20], "alice"},
		"nothing": {first, "", "alice"}, "no text": {first, "!", "alice"}, "changed": {first, "A" + sealed[1:len(sealed)-4] + "AAAA", "alice"},
	} {
		if got, err := c.vault.open(c.text, c.whose); err == nil {
			t.Errorf("%s: got %q", name, got)
		}
	}
	for name, v := range map[string]*vault{"its key": first, "its key among others": both} {
		if got, err := v.open(sealed, "alice"); got != "secret" || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestAWeakKeyOrNoneIsRefused(t *testing.T) {
	for _, keys := range [][][]byte{nil, {}, {make([]byte, 31)}, {make([]byte, 32), nil}} {
		if _, err := newVault(keys); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%d keys: got %v, want %s", len(keys), err, hpcsera.InvalidField)
		}
	}
}

// A secret that only an old key opens would keep that key for ever.
func TestAnAppsSecretMovesToTheNewKeyWhenItIsUsed(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	older, newer := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	service := func(keys ...[]byte) *Service {
		t.Helper()
		v, err := newVault(keys)
		if err != nil {
			t.Fatal(err)
		}
		return &Service{vault: v, cfg: Config{Now: func() time.Time { return now }}}
	}
	const secret = "JBSWY3DPEHPK3PXP"
	a := &account{Name: "alice", App: &appFactor{Secret: service(older).vault.seal(secret, "alice")}}
	code := func() string {
		t.Helper()
		text, err := hotp.GenerateCode(secret, uint64(now.Unix()/period))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if err := service(newer).useApp(a, code()); err == nil {
		t.Error("without the old key: got no error")
	}
	sealed := a.App.Secret
	if err := service(newer, older).useApp(a, "000000"); err == nil || a.App.Secret != sealed {
		t.Errorf("a wrong code: got %v, want it refused and nothing changed", err)
	}
	if err := service(newer, older).useApp(a, code()); err != nil {
		t.Fatalf("with both keys: %v", err)
	}
	now = now.Add(time.Minute)
	if err := service(newer).useApp(a, code()); err != nil {
		t.Errorf("with the new key alone, after a use: %v", err)
	}
}
