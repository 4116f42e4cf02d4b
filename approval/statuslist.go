package approval

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// StatusType is the typ of a status list's JWS, so that nothing else that an
// Auth app signs with its key passes as one.
const StatusType = "hpcsera-status-list+jwt"

// MaxStatusAge is the longest time between a list's issue and the next one: for
// so long a server can keep a withdrawal from an agent.
const MaxStatusAge = 24 * time.Hour

// maxStatus bounds what VerifyStatus reads; it is some hundred thousand
// withdrawals.
const maxStatus = 8 << 20

// StatusList says what an Auth app was told to withdraw: all of it, in every
// list. Numbers only grow; two lists with one number are the same list.
type StatusList struct {
	Issuer     string    // the Auth app's URL, in the form of [Deployment]
	Number     int64     // from 1
	Issued     time.Time // UTC, whole seconds
	NextUpdate time.Time // UTC, whole seconds; from then on the list says nothing
	Approvals  []string  // ids of statements, withdrawn or replaced
	Keys       []string  // fingerprints of keys
}

// wireStatus is a status list as JSON: no member is optional.
type wireStatus struct {
	Issuer     string   `json:"issuer"`
	Number     int64    `json:"number"`
	Issued     string   `json:"issued"`
	NextUpdate string   `json:"next_update"`
	Approvals  []string `json:"approvals"`
	Keys       []string `json:"keys"`
}

// statusHeader is the only protected header there is: no algorithm to choose,
// no key to name, so none to mistake.
const statusHeader = `{"alg":"EdDSA","typ":"` + StatusType + `"}`

func (l StatusList) validate() error {
	if !validDeployment(l.Issuer) {
		return refused("%q cannot stand here.", l.Issuer).At("issuer")
	}
	if l.Number < 1 || l.Number > maxNumber {
		return refused("%d is not the number of a list.", l.Number).At("number")
	}
	for _, c := range []struct {
		field string
		list  []string
		valid func(string) bool
	}{
		{"approvals", l.Approvals, func(s string) bool { return hpcsera.ValidID("ap", s) }},
		{"keys", l.Keys, ValidFingerprint},
	} {
		seen := make(map[string]bool, len(c.list)) // lists are long
		for _, s := range c.list {
			if !c.valid(s) || seen[s] {
				return refused("%q cannot stand here, or appears twice.", s).At(c.field)
			}
			seen[s] = true
		}
	}
	for field, t := range map[string]time.Time{"issued": l.Issued, "next_update": l.NextUpdate} {
		if !wholeUTC(t) {
			return refused("%v is not a time in UTC and whole seconds.", t).At(field)
		}
	}
	if after := l.NextUpdate.Sub(l.Issued); after <= 0 || after > MaxStatusAge {
		return refused("the next list comes %v after this one, not within %v.", after, MaxStatusAge).At("next_update")
	}
	return nil
}

// maxNumber keeps a number exact in every JSON reader.
const maxNumber = 1 << 53

// canonical returns the payload.
func (l StatusList) canonical() ([]byte, error) {
	if err := l.validate(); err != nil {
		return nil, err
	}
	return canonicalJSON(wireStatus{
		Issuer: l.Issuer, Number: l.Number, Issued: l.Issued.Format(timeForm), NextUpdate: l.NextUpdate.Format(timeForm),
		Approvals: explicit(l.Approvals), Keys: explicit(l.Keys),
	})
}

// SignStatus returns the list as a compact JWS (RFC 7515, EdDSA).
func SignStatus(key ed25519.PrivateKey, l StatusList) (string, error) {
	payload, err := l.canonical()
	if err != nil {
		return "", err
	}
	b64 := base64.RawURLEncoding.EncodeToString
	signed := b64([]byte(statusHeader)) + "." + b64(payload)
	return signed + "." + b64(ed25519.Sign(key, []byte(signed))), nil
}

// VerifyStatus reads a list that the holder of key signed. It accepts exactly
// what SignStatus writes. Whether it is current, and newer than the last one,
// is for the reader to say.
func VerifyStatus(key ed25519.PublicKey, jws string) (StatusList, error) {
	if len(jws) > maxStatus {
		return StatusList{}, refused("a status list of %d bytes is too long.", len(jws))
	}
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return StatusList{}, refused("this is not a status list (a compact JWS).")
	}
	var decoded [3][]byte
	for i, part := range parts {
		var ok bool
		if decoded[i], ok = decodeURL(part); !ok {
			return StatusList{}, refused("this is not a status list (a compact JWS).")
		}
	}
	if string(decoded[0]) != statusHeader {
		return StatusList{}, refused("the header of the status list is not %s.", statusHeader)
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, []byte(parts[0]+"."+parts[1]), decoded[2]) {
		return StatusList{}, refused("the status list was not signed by the Auth app's key %s.", AuthKey(key).Fingerprint())
	}
	return parseStatus(decoded[1])
}

func parseStatus(text []byte) (StatusList, error) {
	var w wireStatus
	if err := hpcsera.Decode(text, &w); err != nil {
		return StatusList{}, asRefused(err)
	}
	l := StatusList{Issuer: w.Issuer, Number: w.Number, Approvals: w.Approvals, Keys: w.Keys}
	if err := parseTimes([]timeField{{"issued", w.Issued, &l.Issued}, {"next_update", w.NextUpdate, &l.NextUpdate}}); err != nil {
		return StatusList{}, err
	}
	again, err := l.canonical()
	if err != nil {
		return StatusList{}, err
	}
	if !bytes.Equal(again, text) {
		return StatusList{}, refused("the status list lacks a member or is not in canonical form (RFC 8785).")
	}
	return l, nil
}

// authKeyWord begins the line that stands for an Auth app's key.
const authKeyWord = "hpcsera-auth-key"

// AuthKey is the key with which an Auth app signs status lists.
type AuthKey ed25519.PublicKey

// String returns the key's one line, hpcsera-auth-key and the key in base64url:
// what the Auth app shows, and what stands in a trust file.
func (k AuthKey) String() string { return authKeyWord + " " + base64.RawURLEncoding.EncodeToString(k) }

// Fingerprint returns SHA256: and the SHA-256 of the key's 32 bytes, in base64
// without padding.
func (k AuthKey) Fingerprint() string {
	sum := sha256.Sum256(k)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// ParseAuthKey reads the line that String writes.
func ParseAuthKey(line string) (AuthKey, error) {
	text, ok := strings.CutPrefix(line, authKeyWord+" ")
	key, fine := decodeURL(text)
	if !ok || !fine || len(key) != ed25519.PublicKeySize {
		return nil, refused("this is not the line of an Auth app's key.").Hint("It is: %s KEY, as the Auth app shows it.", authKeyWord)
	}
	return key, nil
}
