package records

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/hpcsera/hpcsera"
)

// AuditLine is one entry of the log. It must never hold a secret: it is kept
// for years and shown to whom it is about.
type AuditLine struct {
	Number   int64     `json:"number"` // 1, 2, 3 … without a gap
	At       time.Time `json:"at"`
	Actor    string    `json:"actor"`             // who did it: a user, a deployment, "operator", "" for somebody unknown
	Action   string    `json:"action"`            // what, from a short list: session.begin, factor.remove
	User     string    `json:"user,omitempty"`    // whom it is about
	About    string    `json:"about,omitempty"`   // the thing: an id or a name
	Refused  bool      `json:"refused,omitempty"` // it was tried, and not allowed
	Detail   string    `json:"detail,omitempty"`  // for people
	Previous string    `json:"previous"`          // hash of the line before, "" for the first
	Hash     string    `json:"hash"`              // over all the above
}

// Head names the end of a log. Whoever kept one can tell later whether
// anything up to there was changed or cut off.
type Head struct {
	Number int64
	Hash   string
}

// String writes a head for a log line or a command: NUMBER:HASH.
func (h Head) String() string { return strconv.FormatInt(h.Number, 10) + ":" + h.Hash }

// ParseHead reads what [Head.String] wrote.
func ParseHead(s string) (Head, error) {
	number, hash, ok := strings.Cut(s, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	sum, hexErr := hex.DecodeString(hash)
	if !ok || err != nil || n < 1 || hexErr != nil || len(sum) != sha256.Size {
		return Head{}, hpcsera.Errorf(hpcsera.InvalidField, "%q is not the head of an audit log.", s).At("head").
			Hint("Write NUMBER:HASH, as it stands in the syslog.")
	}
	return Head{n, hash}, nil
}

// Chain returns the line as it follows a head: numbered, linked and hashed.
// Bytes that are no text become U+FFFD, and times are cut to microseconds,
// because that is what all databases give back unchanged.
func (l AuditLine) Chain(after Head) (AuditLine, error) {
	for _, s := range []*string{&l.Actor, &l.Action, &l.User, &l.About, &l.Detail} {
		*s = strings.ReplaceAll(strings.ToValidUTF8(*s, "\uFFFD"), "\x00", "\uFFFD")
	}
	l.At = l.At.UTC().Truncate(time.Microsecond)
	l.Number, l.Previous = after.Number+1, after.Hash
	var err error
	l.Hash, err = l.sum()
	return l, err
}

// sum is the SHA-256 of the line's canonical JSON (RFC 8785) without the hash.
// The hash of the line before is in it, so no line can be changed, moved or
// left out without changing all that follow.
func (l AuditLine) sum() (string, error) {
	l.Hash = ""
	text, err := json.Marshal(l)
	if err == nil {
		text, err = jcs.Transform(text)
	}
	if err != nil {
		return "", fmt.Errorf("audit line %d: %w", l.Number, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Verify reads the whole log and returns its head. It fails at the first line
// that does not follow from the one before, and where a head that the caller
// kept from earlier is not on the way: only that shows a log which was cut off
// or written anew from the start.
func Verify(r Reader, known ...Head) (Head, error) {
	const page = 1000
	var head Head
	for {
		lines, err := r.Audit(head.Number, page)
		if err != nil {
			return head, fmt.Errorf("read the audit log: %w", err)
		}
		for _, l := range lines {
			if err := follows(l, head); err != nil {
				return head, err
			}
			head = Head{l.Number, l.Hash}
			if err := agrees(head, known); err != nil {
				return head, err
			}
		}
		if len(lines) < page {
			break
		}
	}
	for _, k := range known {
		if k.Number > head.Number {
			return head, broken("the log ends at line %d, but line %d was known.", head.Number, k.Number)
		}
	}
	return head, nil
}

func follows(l AuditLine, head Head) error {
	want, err := l.sum()
	switch {
	case err != nil:
		return err
	case l.Number != head.Number+1:
		return broken("line %d follows line %d.", l.Number, head.Number)
	case l.Previous != head.Hash:
		return broken("line %d does not belong to the line before it.", l.Number)
	case subtle.ConstantTimeCompare([]byte(l.Hash), []byte(want)) != 1:
		return broken("line %d was changed.", l.Number)
	}
	return nil
}

func agrees(head Head, known []Head) error {
	for _, k := range known {
		if k.Number == head.Number && k.Hash != head.Hash {
			return broken("line %d is not the one that was known.", k.Number)
		}
	}
	return nil
}

func broken(format string, args ...any) error {
	return hpcsera.Errorf(hpcsera.Conflict, "the audit log is broken: "+format, args...).
		Hint("Keep this database as evidence, and compare it with a backup.")
}
