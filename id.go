package hpcsera

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
)

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewID returns prefix, an underscore and 100 random bits in lower-case base
// 32. Prefixes in use: j job, ap approval, ag agent, t token, ls login
// session, rq request to decide, i agent instance, s submission.
func NewID(prefix string) string {
	b := make([]byte, 13)
	rand.Read(b)
	return prefix + "_" + idEncoding.EncodeToString(b)[:20]
}

// DerivedJobID returns the id of the job at index of a request with an
// Idempotency-Key. The same request always names the same job, so a retried
// request meets the job that its first try made, even after the server lost
// its own memory of it.
func DerivedJobID(project, client, path, key string, index int) string {
	h := sha256.New()
	for _, s := range []string{"hpcsera job id", project, client, path, key, strconv.Itoa(index)} {
		h.Write([]byte(strconv.Itoa(len(s))))
		h.Write([]byte{':'})
		h.Write([]byte(s))
	}
	return "j_" + idEncoding.EncodeToString(h.Sum(nil))[:20]
}

// ValidID reports whether id has the given prefix and the form NewID gives.
// Ids become file names on the site, so nothing else is ever accepted.
func ValidID(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix+"_")
	if !ok || len(rest) != 20 {
		return false
	}
	for _, c := range rest {
		if !strings.ContainsRune("0123456789abcdefghjkmnpqrstvwxyz", c) {
			return false
		}
	}
	return true
}
