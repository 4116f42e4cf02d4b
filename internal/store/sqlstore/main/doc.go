// Package sqlstore is the server's database: [store.Store] on SQLite and on
// PostgreSQL, with one schema and one set of queries for both. cmd/hpcserad
// opens it; everything else sees the seam only.
//
// # Writes
//
// Many callers, one writer goroutine per Store:
//
//	Write ─┐            ┌ BEGIN, lock the counter
//	Write ─┼─► writer ──┤ turn of each caller, as long as somebody waits
//	Write ─┘            └ events, answers, counter; COMMIT ─► feed ─► callers
//
// The writer owns the transaction and lends it to one caller at a time, who
// runs his closure in his own goroutine: a panic stays his. A closure that
// fails is undone to its savepoint, which is set at its first change. Whoever
// comes while a commit runs goes into the next one, so the busier the server,
// the fewer commits per request.
//
// When a transaction fails as a whole before its commit, its closures run
// again. When that cannot help (the disk is full), each runs alone, so that
// one that cannot succeed does not take the others with it. When the answer to
// a COMMIT is lost, nobody knows, and all get an error with the code
// unavailable.
//
// # Sequence
//
// On PostgreSQL every writing transaction begins by locking the counter's row.
// So writing transactions follow one another, whatever replica they come from:
// commit order is seq order, what a closure reads stays true until its commit,
// and there are no deadlocks. SQLite has one writer anyway; a lock file keeps a
// second process from opening the database.
//
// # Text and times
//
// Text is UTF-8 without NUL on both engines: other bytes become U+FFFD, as they
// do in JSON. Times keep at least microseconds and come back in UTC.
package sqlstore
