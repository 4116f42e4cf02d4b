package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// The audit log is a chain: each line holds the hash of the one before, so
// whoever changes or drops a line has to change all that follow, and the heads
// that went to syslog meanwhile tell. It says who did what to whose thing, and
// what was refused; it never holds a secret or a byte of code or output.

// Audited writes and reads the audit log.
type Audited interface {
	// Audit returns the lines that a filter selects.
	Audit(AuditFilter) ([]hpcsera.AuditLine, error)
	// AuditHead returns the last line; its Number is 0 where there is none.
	AuditHead() (hpcsera.AuditLine, error)
}

// AuditFilter selects lines. With neither User nor Projects it selects all,
// otherwise those that concern the user or one of the projects.
type AuditFilter struct {
	User     string
	Projects []string
	After    int64 // only lines with a higher number
	Before   int64 // only lines with a lower number; 0 is no bound
	Newest   bool  // newest first
	Limit    int   // at most 1000
}

// Auditor appends to the audit log.
type Auditor interface {
	// Note appends a line. Its number, its link to the line before and its hash
	// are the store's to fill in.
	Note(hpcsera.AuditLine) error
}

// Link gives a line its place after the head: number, link and hash.
func Link(head, line hpcsera.AuditLine) (hpcsera.AuditLine, error) {
	line.Number, line.Previous, line.Hash = head.Number+1, head.Hash, ""
	line.At = line.At.UTC().Truncate(time.Microsecond)
	text, err := json.Marshal(line)
	if err != nil {
		return line, fmt.Errorf("write audit line: %w", err)
	}
	sum := sha256.Sum256(text)
	line.Hash = hex.EncodeToString(sum[:])
	return line, nil
}

// VerifyChain checks that lines follow head one after the other and that none
// was changed. It returns the last one.
func VerifyChain(head hpcsera.AuditLine, lines []hpcsera.AuditLine) (hpcsera.AuditLine, error) {
	for _, line := range lines {
		want, err := Link(head, line)
		if err != nil {
			return head, err
		}
		switch {
		case line.Number != want.Number:
			return head, hpcsera.Errorf(hpcsera.Conflict, "line %d is followed by line %d: lines are missing.", head.Number, line.Number)
		case line.Previous != head.Hash:
			return head, hpcsera.Errorf(hpcsera.Conflict, "line %d does not continue line %d: one of them was changed.", line.Number, head.Number)
		case line.Hash != want.Hash:
			return head, hpcsera.Errorf(hpcsera.Conflict, "line %d was changed after it was written.", line.Number)
		}
		head = line
	}
	return head, nil
}

// HeadText is how a line's place is written down elsewhere: NUMBER:HASH.
func HeadText(line hpcsera.AuditLine) string { return fmt.Sprintf("%d:%s", line.Number, line.Hash) }

// ParseHead reads what HeadText wrote.
func ParseHead(text string) (line hpcsera.AuditLine, err error) {
	number, hash, ok := strings.Cut(strings.TrimSpace(text), ":")
	if _, err := fmt.Sscanf(number, "%d", &line.Number); err != nil || !ok || len(hash) != 64 {
		return line, hpcsera.Errorf(hpcsera.InvalidField, "%q is not a head of the audit log.", text).At("head").
			Hint("It is written as NUMBER:HASH, as hpcserad writes it to syslog.")
	}
	line.Hash = hash
	return line, nil
}
