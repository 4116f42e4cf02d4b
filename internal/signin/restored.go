package signin

import "github.com/hpcsera/hpcsera/internal/store"

// Restored ends all browser sessions in a database that was put back from a
// backup, and forgets what their users were about to do: some were ended in the
// lost hours. It returns the number of sessions.
func Restored(tx store.Tx) (int, error) {
	if _, err := store.DropDocuments(tx, keptForms); err != nil {
		return 0, err
	}
	return store.DropDocuments(tx, sessions)
}
