package session

import "github.com/hpcsera/hpcsera/internal/records"

// Restored ends, in a database that was put back from a backup, what may have
// ended in the lost hours: all sessions, visits and one-time links. Accounts and
// their factors stay. It returns the number of sessions and of links.
func Restored(tx records.Tx) (sessions, links int, err error) {
	if _, err := records.Drop(tx, visitKind); err != nil {
		return 0, 0, err
	}
	if sessions, err = records.Drop(tx, sessionKind); err != nil {
		return 0, 0, err
	}
	links, err = records.Drop(tx, linkKind)
	return sessions, links, err
}
