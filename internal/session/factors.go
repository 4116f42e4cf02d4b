package session

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"image/png"
	"slices"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/hpcsera/hpcsera"
)

// appFactor is an authenticator app (TOTP, RFC 6238).
type appFactor struct {
	Secret string // base 32, sealed
	Step   int64  // the last one used: a code that was seen over a shoulder is worth nothing
	Added  time.Time
	Used   time.Time
}

// period is how long a code of an app is shown, in seconds.
const period = 30

// newApp makes a secret for the app of an account, and returns it sealed.
func (s *Service) newApp(name string) string {
	raw := make([]byte, 20)
	rand.Read(raw)
	return s.vault.seal(base32Secret.EncodeToString(raw), name)
}

// app returns the key that an app reads, of a secret that newApp made.
func (s *Service) app(name, sealed string) (*otp.Key, error) {
	secret, err := s.vault.open(sealed, name)
	if err != nil {
		return nil, err
	}
	raw, err := base32Secret.DecodeString(secret)
	if err != nil {
		return nil, fmt.Errorf("secret of an app: %w", err)
	}
	return totp.Generate(totp.GenerateOpts{Issuer: s.cfg.Product, AccountName: name + "@" + s.host, Secret: raw, Period: period})
}

// picture returns a key as a picture for the app's camera, as a data URL.
func picture(key *otp.Key) (string, error) {
	img, err := key.Image(400, 400)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		return "", err
	}
	return "data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

var errCode = hpcsera.Errorf(hpcsera.Unauthenticated, "The code is wrong or was used before.").
	Hint("Wait for the next one. If none works, check the clock of your phone.")

// useApp takes a code of the account's app; it works once.
func (s *Service) useApp(a *account, code string) error {
	if a.App == nil {
		return errCode
	}
	secret, err := s.vault.open(a.App.Secret, a.Name)
	if err != nil {
		return err
	}
	if !a.App.use(secret, code, s.cfg.Now()) {
		return errCode
	}
	a.App.Secret = s.vault.seal(secret, a.Name) // by the present key, so that an old one can go
	return nil
}

// use reports whether a code is right and new. One step before and after now
// is taken as well, because phones' clocks differ.
func (f *appFactor) use(secret, code string, now time.Time) bool {
	code = strings.Join(strings.Fields(code), "")
	found := int64(-1)
	for step := now.Unix()/period - 1; step <= now.Unix()/period+1; step++ {
		want, err := hotp.GenerateCode(secret, uint64(max(0, step)))
		if err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && step > f.Step {
			found = step
		}
	}
	if found < 0 {
		return false
	}
	f.Step, f.Used = found, now
	return true
}

// recoveryCodes is how many codes a person gets to write down.
const recoveryCodes = 10

// newRecovery gives the account new recovery codes and returns their text, to
// be shown once. 80 random bits each need no slow hash.
func (a *account) newRecovery() []string {
	a.Recovery = nil
	var texts []string
	for range recoveryCodes {
		b := make([]byte, 10)
		rand.Read(b)
		text := codeEncoding.EncodeToString(b)
		a.Recovery = append(a.Recovery, a.recoveryHash(text))
		texts = append(texts, text[:4]+"-"+text[4:8]+"-"+text[8:12]+"-"+text[12:])
	}
	return texts
}

// useRecovery takes a recovery code; it works once.
func (a *account) useRecovery(code string) bool {
	code = strings.NewReplacer("-", "", " ", "", "o", "0", "i", "1", "l", "1").Replace(strings.ToLower(code))
	i := slices.Index(a.Recovery, a.recoveryHash(code))
	if i < 0 {
		return false
	}
	a.Recovery = slices.Delete(a.Recovery, i, i+1)
	return true
}

func (a *account) recoveryHash(code string) string {
	sum := sha256.Sum256(slices.Concat(a.Handle, []byte(code)))
	return hex.EncodeToString(sum[:])
}

// base32Secret is how authenticator apps write secrets.
var base32Secret = base32.StdEncoding.WithPadding(base32.NoPadding)

// codeEncoding writes codes for people: no letters that look like digits.
var codeEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)
