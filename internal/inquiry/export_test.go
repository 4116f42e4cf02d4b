package inquiry

import (
	"context"

	"github.com/hpcsera/hpcsera/internal/store"
)

// Look is one look of Run; waits are jobs that began to wait before it.
func (s *Service) Look(ctx context.Context, waits ...store.Change) (more bool, err error) {
	return s.look(ctx, waits)
}

// The bounds that tests reach.
const (
	OpenFor     = openFor
	RefusedFor  = refusedFor
	ShownBytes  = shownBytes
	MostAwaited = mostAwaited
)
