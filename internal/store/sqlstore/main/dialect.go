package sqlstore

import (
	"errors"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/hpcsera/hpcsera/internal/store"
)

// fault is what an error of the database means for the transaction.
type fault int

const (
	ordinary  fault = iota // the statement's own: a broken constraint, a mistake of ours
	full                   // no space; the transaction may be gone already
	transient              // the engine undid the transaction; another try may succeed
	lost                   // the connection or the file failed; of a COMMIT nobody knows
)

// dialect is all in which the two engines differ.
type dialect struct {
	goose      goose.Dialect
	beginWrite string
	beginRead  string
	// savepoint sets the savepoint again that guards one closure.
	savepoint []string
	// anonymous says that statements with hundreds of placeholders leave them
	// unnumbered: SQLite searches a list for the name of each.
	anonymous bool
	// lockFirst says that other processes may write as well, so that every
	// writing transaction begins by locking the counter.
	lockFirst bool
	// timeout bounds a writing transaction's statements; 0 where statements
	// cannot hang. Contexts that can end cost a goroutine per statement.
	timeout time.Duration
	readers int // connections for Read
	// commit returns the statement that commits changes and tells other
	// replicas who made them.
	commit func(changes []store.Change, self string) string
	blame  func(error) fault
}

// fault says what an error means for the transaction it came up in. That an id
// is taken is our own finding, not the database's.
func (d *dialect) fault(err error) fault {
	if errors.Is(err, store.ErrExists) {
		return ordinary
	}
	return d.blame(err)
}
