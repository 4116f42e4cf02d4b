package decision

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// userCodeLetters have no vowels, so that no code is a word, and no two that
// look alike (RFC 8628, section 6.1). 20^8 codes are 34 bits: enough beside a
// limit on wrong tries and an end after minutes.
const (
	userCodeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength  = 8
)

// NewUserCode returns a code for a terminal to show and a person to type, such
// as WDJB-MJHT.
func NewUserCode() string {
	var b strings.Builder
	for b.Len() < userCodeLength {
		var one [1]byte
		rand.Read(one[:])
		// 240 is a multiple of 20: every letter is as likely as another.
		if one[0] < 240 {
			b.WriteByte(userCodeLetters[int(one[0])%len(userCodeLetters)])
		}
	}
	return b.String()[:4] + "-" + b.String()[4:]
}

// HashUserCode returns what stands for a typed code in requests and databases:
// whoever reads those cannot type it soon enough. Letter case, spaces and
// hyphens do not matter. ok is false for what NewUserCode never returns.
func HashUserCode(typed string) (hash string, ok bool) {
	plain := strings.Map(func(r rune) rune {
		if r == '-' || r == ' ' {
			return -1
		}
		return r
	}, strings.ToUpper(strings.TrimSpace(typed)))
	if len(plain) != userCodeLength || strings.Trim(plain, userCodeLetters) != "" {
		return "", false
	}
	return hpcsera.DigestOf([]byte("hpcsera user code\n" + plain)), true
}

// field names an element of a list.
func field(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// brief cuts others' text for a message.
func brief(s string) string { return hpcsera.Brief(s, 80) }
