package approval

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Assertion is a passkey's signature under a statement, as the Auth app's page
// gets it from navigator.credentials.get with [Challenge] as the challenge.
// String returns it as it stands in a signature's place.
type Assertion struct {
	Credential        []byte // its id; for people who look for it, nothing depends on it
	Key               []byte // the COSE public key
	ClientData        []byte // clientDataJSON
	AuthenticatorData []byte
	Signature         []byte
}

// wireAssertion is an assertion as JSON. All bytes are base64url without
// padding, and no member is optional.
type wireAssertion struct {
	Type              string `json:"type"`
	Credential        string `json:"credential"`
	Key               string `json:"key"`
	ClientData        string `json:"client_data"`
	AuthenticatorData string `json:"authenticator_data"`
	Signature         string `json:"signature"`
}

// String returns the assertion as JSON.
func (a Assertion) String() string {
	b64 := base64.RawURLEncoding.EncodeToString
	text, _ := json.Marshal(wireAssertion{string(Passkey), b64(a.Credential), b64(a.Key), b64(a.ClientData), b64(a.AuthenticatorData), b64(a.Signature)}) // strings cannot fail
	return string(text)
}

// ParseAssertion reads what String writes. It verifies nothing.
func ParseAssertion(text string) (Assertion, error) {
	var a Assertion
	if len(text) > maxSignature {
		return a, refused("a signature of %d bytes is too long.", len(text))
	}
	var w wireAssertion
	if err := hpcsera.Decode([]byte(text), &w); err != nil {
		return a, asRefused(err)
	}
	if w.Type != string(Passkey) {
		return a, refused("%q is not a kind of signature.", w.Type).At("type")
	}
	for _, c := range []struct {
		field, text string
		into        *[]byte
	}{
		{"credential", w.Credential, &a.Credential}, {"key", w.Key, &a.Key}, {"client_data", w.ClientData, &a.ClientData},
		{"authenticator_data", w.AuthenticatorData, &a.AuthenticatorData}, {"signature", w.Signature, &a.Signature},
	} {
		var ok bool
		if *c.into, ok = decodeURL(c.text); !ok || len(*c.into) == 0 {
			return Assertion{}, refused("this is not base64url without padding.").At(c.field)
		}
	}
	return a, nil
}

// decodeURL reads base64url without padding in the one form that it has.
func decodeURL(text string) ([]byte, bool) {
	b, err := base64.RawURLEncoding.DecodeString(text)
	return b, err == nil && base64.RawURLEncoding.EncodeToString(b) == text
}

// Challenge returns what a passkey signs for a statement: the SHA-256 of its
// bytes. A challenge that was made for anything else, such as a sign-in, is
// random and never this.
func Challenge(statement []byte) []byte {
	sum := sha256.Sum256(statement)
	return sum[:]
}

// authenticatorData without attested credential or extensions: the relying
// party's hash, the flags, a counter. We ask for neither, so a device that
// sends them was asked by somebody else.
const authenticatorData = sha256.Size + 1 + 4

const flagsBeyond = 0x40 | 0x80 // attested credential data, extensions

func verifyPasskey(statement []byte, text string) (*Signature, error) {
	a, err := ParseAssertion(text)
	if err != nil {
		return nil, err
	}
	key, err := parseCOSE(a.Key)
	if err != nil {
		return nil, err
	}
	origin, err := a.checkClientData(statement)
	if err != nil {
		return nil, err
	}
	data := a.AuthenticatorData
	if len(data) != authenticatorData || data[sha256.Size]&flagsBeyond != 0 {
		return nil, refused("the authenticator's data are not those of a plain assertion.").At("authenticator_data")
	}
	flags := data[sha256.Size]
	if flags&flagPresent == 0 || flags&flagVerified == 0 {
		return nil, refused("the passkey signed without presence and verification of its user.").At("authenticator_data").
			Hint("Give its PIN, a fingerprint or the like when it asks.")
	}
	client := sha256.Sum256(a.ClientData)
	if !verifyCOSE(key, append(append([]byte{}, data...), client[:]...), a.Signature) {
		return nil, refused("the signature does not belong to these bytes.")
	}
	s := &Signature{Kind: Passkey, Fingerprint: PasskeyFingerprint(a.Key), Present: true, Verified: true, Origin: origin}
	copy(s.RPIDHash[:], data)
	return s, nil
}

// checkClientData holds the browser's words against what a signature under
// this statement says, and returns the origin. Members that we do not know may
// stand there (browsers add some to keep readers honest), but none twice.
func (a Assertion) checkClientData(statement []byte) (origin string, err error) {
	var members map[string]json.RawMessage
	if err := hpcsera.Decode(a.ClientData, &members); err != nil {
		return "", asRefused(err).At("client_data")
	}
	text := func(name string) (s string) {
		_ = json.Unmarshal(members[name], &s) // what is no string is ""
		return s
	}
	if got := text("type"); got != "webauthn.get" {
		return "", refused("the passkey was used for %q, not to sign.", got).At("client_data.type")
	}
	if text("challenge") != base64.RawURLEncoding.EncodeToString(Challenge(statement)) {
		return "", refused("the passkey signed something else than this statement.").At("client_data.challenge")
	}
	if cross, there := members["crossOrigin"]; there && string(cross) != "false" {
		return "", refused("the page that asked was embedded in another one.").At("client_data.crossOrigin")
	}
	if _, there := members["topOrigin"]; there {
		return "", refused("the page that asked was embedded in another one.").At("client_data.topOrigin")
	}
	if origin = text("origin"); !validOrigin(origin) {
		return "", refused("%q is not the origin of a page.", origin).At("client_data.origin")
	}
	return origin, nil
}

// validOrigin accepts an origin as browsers write it: lower case, no default
// port, nothing behind. http is for a host that is its own network.
func validOrigin(s string) bool {
	form, err := Deployment(s)
	u, parsed := url.Parse(s)
	return err == nil && parsed == nil && form == s && u.Path == "" && (u.Scheme == "https" || u.Hostname() == "localhost")
}

// passkeyWord begins the line that stands for a passkey, as ssh-ed25519 begins
// an SSH key's.
const passkeyWord = "hpcsera-passkey"

// PasskeyEntry says which passkey is trusted, and at which page: what the Auth
// app shows, and what stands in a trust file.
type PasskeyEntry struct {
	Key    []byte // COSE
	RPID   string // the Auth app's own host
	Origin string // of the Auth app's pages
	Name   string // for people; may be ""
}

// String returns the entry's one line:
//
//	hpcsera-passkey KEY rp_id=HOST origin=URL NAME
func (e PasskeyEntry) String() string {
	line := passkeyWord + " " + base64.RawURLEncoding.EncodeToString(e.Key) + " rp_id=" + e.RPID + " origin=" + e.Origin
	if e.Name != "" {
		line += " " + e.Name
	}
	return line
}

// Fingerprint returns the key's.
func (e PasskeyEntry) Fingerprint() string { return PasskeyFingerprint(e.Key) }

// IsPasskeyEntry reports whether a line is meant to be a passkey's.
func IsPasskeyEntry(line string) bool { return strings.HasPrefix(line, passkeyWord+" ") }

// ParsePasskeyEntry reads the one line that String writes.
func ParsePasskeyEntry(line string) (PasskeyEntry, error) {
	words := strings.SplitN(line, " ", 5)
	malformed := refused("this is not the line of a passkey.").Hint("It is: %s KEY rp_id=HOST origin=URL NAME, as the Auth app shows it.", passkeyWord)
	if len(words) < 4 || words[0] != passkeyWord {
		return PasskeyEntry{}, malformed
	}
	var e PasskeyEntry
	var ok [3]bool
	e.Key, ok[0] = decodeURL(words[1])
	e.RPID, ok[1] = strings.CutPrefix(words[2], "rp_id=")
	e.Origin, ok[2] = strings.CutPrefix(words[3], "origin=")
	if len(words) == 5 {
		e.Name = words[4]
	}
	if ok != [3]bool{true, true, true} || e.String() != line {
		return PasskeyEntry{}, malformed
	}
	if err := CheckPasskey(e.Key); err != nil {
		return PasskeyEntry{}, err
	}
	if !validOrigin(e.Origin) {
		return PasskeyEntry{}, refused("%q is not the origin of the Auth app's pages.", e.Origin).At("origin").Hint("Write it as https://HOST[:PORT].")
	}
	// The relying party is the Auth app's own host: a wider one would let every
	// other host below it ask for the same passkey.
	if u, err := url.Parse(e.Origin); err != nil || u.Hostname() != e.RPID {
		return PasskeyEntry{}, refused("%q is not the host of %s.", e.RPID, e.Origin).At("rp_id")
	}
	return e, nil
}

// Accepts says why a signature by this passkey does not count: it was made at
// another page than the entry's. The key itself is compared by fingerprint.
func (e PasskeyEntry) Accepts(s *Signature) error {
	if s.Origin != e.Origin {
		return refused("the passkey signed at %s, and it is trusted at %s.", s.Origin, e.Origin)
	}
	if s.RPIDHash != sha256.Sum256([]byte(e.RPID)) {
		return refused("the passkey signed for another relying party than %s.", e.RPID)
	}
	return nil
}
