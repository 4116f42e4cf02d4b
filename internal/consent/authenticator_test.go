package consent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"strings"
	"testing"
)

// passkey is an authenticator in software, with a browser around it that can
// be made to lie.
type passkey struct {
	private *ecdsa.PrivateKey
	id      []byte
	// What it and its browser say; newPasskey says the truth.
	kind    string // of the client data when it signs
	origin  string
	rpID    string
	flags   byte
	members string // more of the client data
}

func newPasskey(t *testing.T) *passkey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id := make([]byte, 16)
	rand.Read(id)
	return &passkey{private: private, id: id, kind: "webauthn.get", origin: "https://auth.example.org", rpID: "auth.example.org", flags: 0x05}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// cose is the public key as WebAuthn carries it.
func (p *passkey) cose(t *testing.T) []byte {
	t.Helper()
	point, err := p.private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key := append([]byte{0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 0x20}, point[1:33]...)
	return append(append(key, 0x22, 0x58, 0x20), point[33:]...)
}

func (p *passkey) clientData(kind, challenge string) []byte {
	return fmt.Appendf(nil, `{"type":%q,"challenge":%q,"origin":%q,"crossOrigin":false%s}`, kind, challenge, p.origin, p.members)
}

// create answers navigator.credentials.create.
func (p *passkey) create(t *testing.T, challenge string) string {
	t.Helper()
	host := sha256.Sum256([]byte(p.rpID))
	data := append(host[:], p.flags|0x40, 0, 0, 0, 0)
	data = append(data, make([]byte, 16)...) // AAGUID
	data = binary.BigEndian.AppendUint16(data, uint16(len(p.id)))
	data = append(append(data, p.id...), p.cose(t)...)
	object := []byte("\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59")
	object = append(binary.BigEndian.AppendUint16(object, uint16(len(data))), data...)
	return fmt.Sprintf(`{"id":%q,"rawId":%q,"type":"public-key","clientExtensionResults":{},"response":{"clientDataJSON":%q,"attestationObject":%q,"transports":[]}}`,
		b64(p.id), b64(p.id), b64(p.clientData("webauthn.create", challenge)), b64(object))
}

// sign answers navigator.credentials.get.
func (p *passkey) sign(t *testing.T, challenge string) string {
	t.Helper()
	host := sha256.Sum256([]byte(p.rpID))
	data := append(host[:], p.flags, 0, 0, 0, 9)
	client := p.clientData(p.kind, challenge)
	sum := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte{}, data...), sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, p.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"id":%q,"rawId":%q,"type":"public-key","authenticatorAttachment":"platform","clientExtensionResults":{},"response":{"clientDataJSON":%q,"authenticatorData":%q,"signature":%q}}`,
		b64(p.id), b64(p.id), b64(client), b64(data), b64(signature))
}

// options are what a page asks the browser for.
type options struct {
	PublicKey struct {
		Challenge        string                `json:"challenge"`
		RPID             string                `json:"rpId"`
		UserVerification string                `json:"userVerification"`
		Allow            []struct{ ID string } `json:"allowCredentials"`
		Exclude          []struct{ ID string } `json:"excludeCredentials"`
		Selection        struct {
			ResidentKey      string `json:"residentKey"`
			UserVerification string `json:"userVerification"`
		} `json:"authenticatorSelection"`
		User struct {
			ID string `json:"id"`
		} `json:"user"`
	} `json:"publicKey"`
}

func readOptions(t *testing.T, text string) options {
	t.Helper()
	var o options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("options %q: %v", text, err)
	}
	return o
}

// register registers a passkey of user for signing code.
func (w *world) register(user string, p *passkey) {
	w.t.Helper()
	o := w.beginKey(user)
	if got := w.submit(user, "/auth/approvals/keys", form("name", "key of "+user, "credential", p.create(w.t, o.PublicKey.Challenge))); got.status != http.StatusSeeOther {
		w.t.Fatalf("register: got status %d: %s", got.status, got.body)
	}
}

func (w *world) beginKey(user string) options {
	w.t.Helper()
	got := w.submit(user, "/auth/approvals/keys/options", form())
	if got.status != http.StatusOK {
		w.t.Fatalf("options: got status %d: %s", got.status, got.body)
	}
	return readOptions(w.t, got.body)
}

// shown returns what a page to sign asks the browser for.
func shown(t *testing.T, page string) options {
	t.Helper()
	found := optionPattern.FindStringSubmatch(page)
	if found == nil {
		t.Fatalf("nothing to sign on the page: %s", page)
	}
	return readOptions(t, html.UnescapeString(strings.TrimSpace(found[1])))
}
