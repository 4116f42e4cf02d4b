package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
)

// Memory remembers what was worked out from bytes, since a thousand like jobs
// come with the same ones: files are read and orders are judged each time, so
// that what was just withdrawn counts, but equal bytes are not parsed, nor the
// same signature checked, once more. The zero value and nil are ready. It may
// be used concurrently.
type Memory struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]any
}

// mostKnown bounds a Memory. Whatever an order brings goes into it only after
// it was found to be right.
const mostKnown = 256

// remembered returns what work makes of parts, which must depend on nothing
// else. what tells the works apart. Errors are not remembered. The result is
// shared: nobody may change what it points to.
func remembered[T any](m *Memory, what string, work func() (T, error), parts ...[]byte) (T, error) {
	if m == nil {
		return work()
	}
	hash := sha256.New()
	for _, part := range append(parts, []byte(what)) {
		_ = binary.Write(hash, binary.BigEndian, int64(len(part))) // so that no two lists of parts are one text
		hash.Write(part)
	}
	key := [sha256.Size]byte(hash.Sum(nil))
	m.mu.Lock()
	found, ok := m.known[key]
	m.mu.Unlock()
	if ok {
		return found.(T), nil
	}
	made, err := work()
	if err != nil {
		return made, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= mostKnown {
		m.known = map[[sha256.Size]byte]any{}
	}
	m.known[key] = made
	return made, nil
}
