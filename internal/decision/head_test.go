package decision_test

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

const aHead = "7:5ae3000000000000000000000000000000000000000000000000000000000000"

func TestAHeadThatSomebodyElseWroteIsFound(t *testing.T) {
	h := decision.Heads{Key: newKey(t), Log: "hpc", Now: clock}
	sign := func(h decision.Heads) string {
		t.Helper()
		text, err := h.Sign(aHead)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	good := sign(h)
	_, jws, _ := strings.Cut(good, " ")
	another := strings.Replace(aHead, "7:", "8:", 1)
	for name, c := range map[string]struct {
		text string
		code hpcsera.Code
	}{
		"another's key":           {sign(decision.Heads{Key: newKey(t), Log: "hpc", Now: clock}), hpcsera.Conflict},
		"another log":             {sign(decision.Heads{Key: h.Key, Log: "other", Now: clock}), hpcsera.Conflict},
		"another head before it":  {"hpcsera audit head " + another + " " + jws, hpcsera.Conflict},
		"a token of another type": {aHead + " " + tokenOf(t, h.Key), hpcsera.Conflict},
		"a changed signature":     {aHead + " " + jws[:len(jws)-4] + "AAAA", hpcsera.Conflict},
		"a signature cut off":     {aHead + " " + jws[:40], hpcsera.InvalidField},
		"nothing":                 {"hpcsera audit head ", hpcsera.InvalidField},
		"empty":                   {"", hpcsera.InvalidField},
		"blank":                   {" \n", hpcsera.InvalidField},
		"an own line cut off":     {`time=x msg="audit head" log=server head="` + aHead + " " + jws[:40], hpcsera.InvalidField},
		"more":                    {good + " x", hpcsera.InvalidField},
	} {
		if head, _, err := h.Read(c.text); hpcsera.CodeOf(err) != c.code {
			t.Errorf("%s: got %q, %v, want %s", name, head, err, c.code)
		}
	}
	for name, c := range map[string]struct {
		text   string
		signed bool
	}{
		"a head alone":   {aHead, false},
		"a line of old":  {"hpcsera audit head " + aHead, false},
		"both":           {good, true},
		"a JWS alone":    {jws, true},
		"its own log":    {`time=2026-11-25T12:00:00Z level=INFO msg="audit head" log=server head="` + good + "\"\n", true},
		"its own JSON":   {`{"time":"2026-11-25T12:00:00Z","level":"INFO","msg":"audit head","log":"server","head":"` + good + `"}`, true},
		"its own of old": {`level=INFO msg="audit head" head=` + aHead, false},
		"the whole line": {"<37>Nov 25 12:00:00 login1 hpcserad[7]: hpcsera audit head " + good + "\n", true},
	} {
		if head, signed, err := h.Read(c.text); err != nil || head != aHead || signed != c.signed {
			t.Errorf("%s: got %q, signed %t, %v", name, head, signed, err)
		}
	}
}

func TestAHeadOfTheOtherLogIsToldAsThat(t *testing.T) {
	server := decision.Heads{Key: newKey(t), Log: "https://hpc.example.org", Now: clock}
	app := decision.Heads{Key: newKey(t), Log: "https://hpc.example.org/auth", Now: clock}
	text, err := app.Sign(aHead)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = server.Read("hpcsera-auth audit head " + text)
	if hpcsera.CodeOf(err) != hpcsera.Conflict || !strings.Contains(err.Error(), "a head of the audit log of https://hpc.example.org/auth, and the log here is that of https://hpc.example.org.") {
		t.Errorf("got %v, want a conflict that names both logs", err)
	}
}

// tokenOf is a token that the same key made for something else.
func tokenOf(t *testing.T, k decision.Key) string {
	t.Helper()
	text, err := k.Sign("JWT", map[string]any{"iss": "hpc", "head": aHead, "iat": now.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestADerivedKeyIsTheSameForItsPurposeAndNoOther(t *testing.T) {
	secret := []byte(strings.Repeat("s", 32))
	derive := func(secret []byte, purpose string) string {
		t.Helper()
		k, err := decision.DeriveKey(secret, purpose)
		if err != nil {
			t.Fatal(err)
		}
		return k.ID()
	}
	first := derive(secret, "a")
	if first == derive(secret, "b") || first == derive([]byte(strings.Repeat("x", 32)), "a") {
		t.Error("another purpose or secret: got the same key")
	}
	if first != derive(secret, "a") {
		t.Error("again: got another key")
	}
	if _, err := decision.DeriveKey(secret[:31], "a"); err == nil {
		t.Error("a short secret: got no error")
	}
}
