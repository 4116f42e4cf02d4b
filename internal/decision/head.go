package decision

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
)

// headType is the type of a signed head of an audit log.
const headType = "hpcsera-audit-head+jwt"

// headMark stands before a head in a line of the host's log.
const headMark = "audit head "

// ownLine is a head as it stands in a program's own log, which is all there is
// on a host without a syslog: as text or JSON of log/slog.
var ownLine = regexp.MustCompile(`"audit head".*?\bhead"?[=:]"?([^"\n]*)`)

// Heads signs heads of an audit log, and knows them again when somebody
// brings a line of the host's log back. Whoever can write to that log could
// otherwise put in a head that makes a good audit log look changed.
type Heads struct {
	Key Key
	Log string           // whose audit log it is
	Now func() time.Time // nil is time.Now
}

// signedHead is the payload.
type signedHead struct {
	Log    string `json:"iss"`
	Head   string `json:"head"` // NUMBER:HASH
	Signed int64  `json:"iat"`
}

// Sign returns what is to stand behind "audit head" in the host's log: the
// head, and the same as compact JWS.
func (h Heads) Sign(head string) (string, error) {
	now := time.Now
	if h.Now != nil {
		now = h.Now
	}
	jws, err := h.Key.Sign(headType, signedHead{h.Log, head, now().Unix()})
	return head + " " + jws, err
}

// Read returns the head in text, and whether a signature was there. text is a
// head alone, a JWS alone, both, or the whole line, of syslog or of the
// program's own log. A signature that is wrong, or of another head or log, is a
// conflict.
func (h Heads) Read(text string) (head string, signed bool, err error) {
	if strings.TrimSpace(text) == "" {
		return "", false, hpcsera.Errorf(hpcsera.InvalidField, "the head is empty, so nothing was compared.").At("head").
			Hint("Did what was to find it in the host's log find nothing?")
	}
	if own := ownLine.FindStringSubmatch(text); own != nil {
		text = own[1]
	} else if _, behind, ok := strings.Cut(text, headMark); ok {
		text = behind
	}
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return "", false, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a head of an audit log.", brief(text)).At("head").
			Hint("Give NUMBER:HASH, or the whole line as it stands in the host's log.")
	}
	last := fields[len(fields)-1]
	if strings.Count(last, ".") != 2 {
		if len(fields) == 2 {
			return "", false, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a signature of a head.", brief(last)).At("head").
				Hint("Was the line cut off? NUMBER:HASH alone is compared with the log only.")
		}
		return last, false, nil
	}
	var s signedHead
	if err := Open(last, headType, []jose.JSONWebKey{h.Key.Public()}, &s); err != nil {
		if other := claimedLog(last); other != "" && other != h.Log {
			return "", false, hpcsera.Errorf(hpcsera.Conflict, "this is a head of the audit log of %s, and the log here is that of %s.", brief(other), h.Log).At("head").
				Hint("Server and Auth app keep a log each, and log= names which. Compare a head with its own.")
		}
		return "", false, hpcsera.Errorf(hpcsera.Conflict, "the signature of the head is not this program's: %w", err).At("head").
			Hint("Unless the key was changed since, somebody else wrote that line. NUMBER:HASH alone is compared with the log only.")
	}
	if s.Log != h.Log || len(fields) == 2 && fields[0] != s.Head {
		return "", false, hpcsera.Errorf(hpcsera.Conflict, "the signature is of the head %s of %s.", brief(s.Head), brief(s.Log)).At("head").
			Hint("Somebody changed that line.")
	}
	return s.Head, true, nil
}

// claimedLog is whose log a signed head says that it is of. Nobody vouches for
// that: it is to tell a mix-up from a forgery, both of which are refused.
func claimedLog(jws string) string {
	parts := strings.Split(jws, ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var s signedHead
	if err != nil || json.Unmarshal(payload, &s) != nil {
		return ""
	}
	return s.Log
}
