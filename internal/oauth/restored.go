package oauth

import "github.com/hpcsera/hpcsera/internal/store"

// Restored drops all grants in a database that was put back from a backup,
// decided or not: in the lost hours they may have been denied, or collected
// already. It returns their number.
func Restored(tx store.Tx) (int, error) { return store.DropDocuments(tx, grants) }
