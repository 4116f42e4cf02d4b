package jobs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// cursors makes the cursors of orders. An agent gives back the last one that
// it has wholly journalled; epoch and seq in it carry a MAC, so what an
// authentic cursor says was once true of this deployment, even if a restored
// database has forgotten it.
type cursors struct{ key []byte }

func (c cursors) make(agent string, epoch, seq int64) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(epoch))
	b = binary.BigEndian.AppendUint64(b, uint64(seq))
	return base64.RawURLEncoding.EncodeToString(append(b, c.mac(agent, b)...))
}

// read takes a cursor apart. ok is false for anything that make did not make
// for this agent.
func (c cursors) read(agent, cursor string) (epoch, seq int64, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) != 32 || !hmac.Equal(b[16:], c.mac(agent, b[:16])) {
		return 0, 0, false
	}
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])), true
}

func (c cursors) mac(agent string, b []byte) []byte {
	m := hmac.New(sha256.New, c.key)
	m.Write(b)
	m.Write([]byte(agent))
	return m.Sum(nil)[:16]
}
