package auth

import (
	"context"
	"sync"

	"github.com/hpcsera/hpcsera/internal/store"
)

// memory remembers what the store said of tokens, so that a request of one
// that was just here asks nothing. It holds only what nobody can have changed:
// the store vouches for that with a number (see [store.Store.AccessVersion]),
// which is taken before the look-up and compared at every use.
//
// The end and the beginning of a token are judged at every use, not here, and
// what does not exist is never remembered.
type memory struct {
	mu      sync.RWMutex
	version int64
	rows    map[string]*store.Principal
}

// maxRemembered bounds the memory: some 5 MiB.
const maxRemembered = 10_000

// principal returns the row of a token, which must not be changed.
func (m *memory) principal(ctx context.Context, st store.Store, id string) (row *store.Principal, err error) {
	version, err := st.AccessVersion(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.RLock()
	known := m.rows[id]
	if m.version != version {
		known = nil
	}
	m.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	err = st.Read(ctx, func(r store.Reader) (err error) {
		row, err = r.Principal(id)
		return err
	})
	if err == nil {
		m.keep(version, id, row)
	}
	return row, err
}

// keep remembers a row that was read after version was taken.
func (m *memory) keep(version int64, id string, row *store.Principal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if version != m.version || len(m.rows) >= maxRemembered {
		m.version, m.rows = version, map[string]*store.Principal{}
	}
	m.rows[id] = row
}
