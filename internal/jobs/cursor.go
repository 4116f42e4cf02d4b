package jobs

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// cursors makes the cursors of orders. An agent gives back the last one that
// it has wholly journalled. What a cursor says carries a MAC, so what an
// authentic one says was once true of this deployment, even if its database
// has been put back since.
type cursors struct{ key []byte }

// position is a place in a deployment's life, as a cursor tells it.
type position struct {
	epoch int64
	seq   int64 // every order up to here is in the answer, or acknowledged
	last  int64 // the newest number of the deployment's one sequence
	term  int64 // the agent's
}

// beyond says that a position is not in the past of a database: the database is
// an older one.
func (p position) beyond(epoch, last, term int64) bool {
	return p.epoch > epoch || p.epoch == epoch && (p.last > last || p.term > term)
}

const macLength = 16

func (c cursors) make(agent string, p position) string {
	var b []byte
	for _, n := range []int64{p.epoch, p.seq, p.last, p.term} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return base64.RawURLEncoding.EncodeToString(append(b, c.mac(agent, b)...))
}

// read takes a cursor apart. ok is false for anything that make did not make
// for this agent.
func (c cursors) read(agent, cursor string) (p position, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(b) != 4*8+macLength || !hmac.Equal(b[4*8:], c.mac(agent, b[:4*8])) {
		return position{}, false
	}
	for i, n := range []*int64{&p.epoch, &p.seq, &p.last, &p.term} {
		*n = int64(binary.BigEndian.Uint64(b[8*i:]))
	}
	return p, true
}

func (c cursors) mac(agent string, b []byte) []byte {
	m := hmac.New(sha256.New, c.key)
	m.Write(b)
	m.Write([]byte(agent))
	return m.Sum(nil)[:macLength]
}

// acked returns the position up to which the agent has journalled its orders.
// A cursor that is not ours counts as none: the agent then gets again what it
// has, and knows it by the revision.
func (s *Service) acked(agent, cursor string) position {
	if cursor == "" {
		return position{}
	}
	p, ok := s.cursors.read(agent, cursor)
	if !ok {
		s.cfg.Log.Warn("an agent sent a cursor that is not ours; its orders are repeated", "agent", agent)
	}
	return p
}
