package decision_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
)

var now = time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)

func newKey(t *testing.T) decision.Key {
	t.Helper()
	k, err := decision.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func request() decision.Request {
	return decision.Request{
		ID: "rq_0123456789abcdefghjk", Kind: decision.Token, User: "alice", Client: "gitlab", Project: "cfd",
		Roles: hpcsera.RolesOf(1, 6, 8), Until: now.Add(24 * time.Hour), Expires: now.Add(10 * time.Minute),
	}
}

func granted() decision.Decision {
	return decision.Decision{
		ID: "dc_0123456789abcdefghjk", Issuer: "https://auth.example.org", Audience: "hpc", Request: "rq_0123456789abcdefghjk",
		Kind: decision.Token, User: "alice", Granted: true, Roles: hpcsera.RolesOf(1, 6), Until: now.Add(time.Hour),
		Decided: now, Expires: now.Add(time.Hour),
	}
}

func expected(k decision.Key) decision.Expected {
	return decision.Expected{Issuer: "https://auth.example.org", Audience: "hpc", Keys: []jose.JSONWebKey{k.Public()}, Now: now.Add(time.Minute)}
}

func sign(t *testing.T, k decision.Key, d decision.Decision) string {
	t.Helper()
	text, err := d.Sign(k)
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return text
}

// forge signs any claims as any type with any header.
func forge(t *testing.T, k decision.Key, typ, payload string) string {
	t.Helper()
	text, err := k.Sign(typ, json.RawMessage(payload))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func payload(t *testing.T, token string) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestADecisionThatIsNotForUsIsRefused(t *testing.T) {
	k, other := newKey(t), newKey(t)
	const typ = "hpcsera-decision+jwt"
	good := sign(t, k, granted())
	words := payload(t, good)
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+k.ID()+`","typ":"`+typ+`"}`)) + "." + parts[1] + "."
	withKey := func(extra string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"`+k.ID()+`","typ":"`+typ+`",`+extra+`}`)) + "." + parts[1] + "." + parts[2]
	}
	change := func(f func(*decision.Decision)) string {
		d := granted()
		f(&d)
		return sign(t, k, d)
	}
	for _, c := range []struct{ name, text string }{
		{"nothing", ""},
		{"cut short", good[:len(good)-4]},
		{"no signature", parts[0] + "." + parts[1] + "."},
		{"signed by nobody", none},
		{"another's key", sign(t, other, granted())},
		{"another's key under our id", withKey(`"jwk":{}`)},
		{"a header twice", withKey(`"alg":"none"`)},
		{"another type of token", forge(t, k, "JWT", words)},
		{"no type", forge(t, k, "", words)},
		{"another Auth app", change(func(d *decision.Decision) { d.Issuer = "https://evil.example.org" })},
		{"another deployment", change(func(d *decision.Decision) { d.Audience = "other" })},
		{"expired", change(func(d *decision.Decision) { d.Expires = now.Add(time.Minute) })},
		{"of the future", change(func(d *decision.Decision) { d.Decided = now.Add(10 * time.Minute) })},
		{"an unknown member", forge(t, k, typ, strings.Replace(words, `{`, `{"admin":true,`, 1))},
		{"a member twice", forge(t, k, typ, strings.Replace(words, `{`, `{"sub":"alice",`, 1))},
		{"a member in another case", forge(t, k, typ, strings.Replace(words, `"sub"`, `"Sub"`, 1))},
		{"several audiences", forge(t, k, typ, strings.Replace(words, `"hpc"`, `["hpc","other"]`, 1))},
		{"no user", forge(t, k, typ, strings.Replace(words, `"sub":"alice",`, ``, 1))},
		{"no request", forge(t, k, typ, strings.Replace(words, `"request":"rq_0123456789abcdefghjk",`, ``, 1))},
		{"an end of its own, but refused", forge(t, k, typ, strings.Replace(words, `"granted":true`, `"granted":false`, 1))},
		{"a statement with a token", forge(t, k, typ, strings.Replace(words, `{`, `{"statement":"e30=","signature":"x",`, 1))},
		{"more than a token", good + " "},
		{"endless", strings.Repeat("A", 5<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := decision.Verify(c.text, expected(k))
			if hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
				t.Errorf("got %+v, %v, want %s", got, err, hpcsera.Unauthenticated)
			}
		})
	}
}

func TestADecisionSaysWhatWasSigned(t *testing.T) {
	k := newKey(t)
	code := granted()
	code.Kind, code.Roles, code.Until, code.Statement, code.Signature = decision.Code, 0, time.Time{}, []byte("{}"), "sig"
	denied := granted()
	denied.Granted, denied.Roles, denied.Until = false, 0, time.Time{}
	for name, want := range map[string]decision.Decision{"token": granted(), "code": code, "denied": denied} {
		got, err := decision.Verify(sign(t, k, want), expected(k))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
	}
}

func TestKeysOverlapWhileTheyRotate(t *testing.T) {
	old, young := newKey(t), newKey(t)
	e := expected(old)
	e.Keys = append(e.Keys, young.Public())
	for _, k := range []decision.Key{old, young} {
		if _, err := decision.Verify(sign(t, k, granted()), e); err != nil {
			t.Errorf("%v: got %v, want no error", k, err)
		}
	}
}

func TestADecisionGrantsNoMoreThanWasAskedFor(t *testing.T) {
	for name, change := range map[string]func(*decision.Decision){
		"another request": func(d *decision.Decision) { d.Request = "rq_1123456789abcdefghjk" },
		"another kind":    func(d *decision.Decision) { d.Kind, d.Roles = decision.Session, 0 },
		"another user":    func(d *decision.Decision) { d.User = "bob" },
		"another role":    func(d *decision.Decision) { d.Roles = hpcsera.RolesOf(1, 4) },
		"a later end":     func(d *decision.Decision) { d.Until = now.Add(25 * time.Hour) },
	} {
		d := granted()
		change(&d)
		if err := d.Answers(request()); hpcsera.CodeOf(err) != hpcsera.Unauthenticated {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	if err := granted().Answers(request()); err != nil {
		t.Errorf("fewer roles and an earlier end: got %v, want no error", err)
	}
}

func TestOnlyWhatCanBeMeantIsSigned(t *testing.T) {
	d := granted()
	d.Roles = 0
	if text, err := d.Sign(newKey(t)); err == nil {
		t.Errorf("a token without roles: got %s, want an error", text)
	}
}

func TestKeysAreReadBackAndNeverPrinted(t *testing.T) {
	k := newKey(t)
	text, err := k.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decision.ParseKey(text)
	if err != nil || again.ID() != k.ID() {
		t.Errorf("got %v, %v, want %v", again, err, k)
	}
	if printed := fmt.Sprintf("%v %+v %#v %s", k, k, k, k); len(printed) > 4*60 {
		t.Errorf("printed as %s", printed)
	}
	public, _ := json.Marshal(k.Public())
	if got, err := decision.ParsePublicKey(public); err != nil || got.KeyID != k.ID() {
		t.Errorf("public key: got %v, %v, want %s", got.KeyID, err, k.ID())
	}
	for name, text := range map[string]string{
		"a private key":     `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}`,
		"a symmetric key":   `{"kty":"oct","k":"AAAA"}`,
		"a key of P-256":    `{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`,
		"no key":            `{}`,
		"text that is none": `ssh-ed25519 AAAA`,
	} {
		if got, err := decision.ParsePublicKey([]byte(text)); err == nil {
			t.Errorf("%s: got %v, want an error", name, got.KeyID)
		}
	}
}
