package session

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/hpcsera/hpcsera"
)

// Hashing is the cost of one password (argon2id).
type Hashing struct {
	Passes  uint32
	Memory  uint32 // KiB
	Threads uint8
}

// hashers bounds how many passwords are hashed at once, and so the memory that
// strangers can make us use.
const hashers = 4

// hasher hashes passwords.
type hasher struct {
	Hashing
	slots chan struct{}
	// decoy is a hash that no password has: what is checked where there is
	// nothing to check, so that it takes as long. Its sum is drawn, since
	// computing one would be most of a server's start.
	decoy string
}

func newHasher(cost Hashing) *hasher {
	if cost == (Hashing{}) {
		cost = Hashing{Passes: 3, Memory: 64 << 10, Threads: 4}
	}
	h := &hasher{Hashing: cost, slots: make(chan struct{}, hashers)}
	h.decoy = h.text(random(16), random(32))
	return h
}

// The lengths of passwords, in characters. The upper one keeps megabytes out.
const (
	shortest = 12
	longest  = 256
)

// checkPassword refuses what is guessed first. It asks for length and for
// nothing that makes people write passwords down.
func checkPassword(name, password string) error {
	n := utf8.RuneCountInString(password)
	switch {
	case n < shortest:
		return hpcsera.Errorf(hpcsera.InvalidField, "The password needs at least %d characters.", shortest).At("password").
			Hint("Several words in a row are easy to remember.")
	case n > longest:
		return hpcsera.Errorf(hpcsera.InvalidField, "The password may have at most %d characters.", longest).At("password")
	case name != "" && strings.Contains(strings.ToLower(password), strings.ToLower(name)):
		return hpcsera.Errorf(hpcsera.InvalidField, "The password contains your name.").At("password").Hint("It would be guessed first.")
	case len(distinct(password)) < 5:
		return hpcsera.Errorf(hpcsera.InvalidField, "The password repeats a few characters.").At("password").
			Hint("Several words in a row are easy to remember.")
	}
	return nil
}

func distinct(s string) map[rune]bool {
	seen := map[rune]bool{}
	for _, c := range s {
		seen[c] = true
	}
	return seen
}

// hash returns a password's hash with salt and cost, in the usual form.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	salt := random(16)
	sum, err := h.sum(ctx, password, salt, h.Hashing)
	if err != nil {
		return "", err
	}
	return h.text(salt, sum), nil
}

func (h *hasher) text(salt, sum []byte) string {
	e := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.Memory, h.Passes, h.Threads, e.EncodeToString(salt), e.EncodeToString(sum))
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// verify checks a password against a hash, or does the same work for "".
func (h *hasher) verify(ctx context.Context, hash, password string) (bool, error) {
	real := hash != ""
	if !real {
		hash = h.decoy
	}
	parts := strings.Split(hash, "$")
	var cost Hashing
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, hpcsera.Errorf(hpcsera.Internal, "a password's hash has an unknown form")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &cost.Memory, &cost.Passes, &cost.Threads); err != nil {
		return false, hpcsera.Errorf(hpcsera.Internal, "a password's hash has an unknown cost: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, hpcsera.Errorf(hpcsera.Internal, "a password's hash has no salt: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false, hpcsera.Errorf(hpcsera.Internal, "a password's hash cannot be read: %w", err)
	}
	if utf8.RuneCountInString(password) > longest {
		password = "" // nobody's; the work is the same
		real = false
	}
	got, err := h.sum(ctx, password, salt, cost)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1 && real, nil
}

func (h *hasher) sum(ctx context.Context, password string, salt []byte, cost Hashing) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	// The same characters can come as different bytes from different keyboards.
	return argon2.IDKey(norm.NFKC.Bytes([]byte(password)), salt, cost.Passes, cost.Memory, cost.Threads, 32), nil
}
