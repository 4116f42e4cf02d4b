package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// nonceLife is how long a nonce is good. Clocks of replicas may differ by as
// much as nonceSkew.
const (
	nonceLife = 60 * time.Second
	nonceSkew = 30 * time.Second
)

// nonces makes and checks DPoP nonces without remembering any: a nonce is the
// moment it was made and a MAC, so each replica accepts those of all others.
type nonces struct{ key []byte }

func newNonces(serverKey []byte) nonces {
	m := hmac.New(sha256.New, serverKey)
	m.Write([]byte("hpcsera dpop nonce"))
	return nonces{key: m.Sum(nil)}
}

func (n nonces) make(now time.Time) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(now.Unix()))
	return base64.RawURLEncoding.EncodeToString(append(b, n.mac(b)...))
}

func (n nonces) valid(nonce string, now time.Time) bool {
	b, err := base64.RawURLEncoding.DecodeString(nonce)
	if err != nil || len(b) != 24 || !hmac.Equal(b[8:], n.mac(b[:8])) {
		return false
	}
	age := now.Sub(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
	return age <= nonceLife && age >= -nonceSkew
}

func (n nonces) mac(b []byte) []byte {
	m := hmac.New(sha256.New, n.key)
	m.Write(b)
	return m.Sum(nil)[:16]
}
