package sqlstore

import (
	"context"
	"runtime"

	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// version is the answer to AccessVersion.
type version struct {
	number int64
	err    error
}

// AccessVersion counts our own changes on SQLite, which is ours alone: its lock
// keeps other servers out. On PostgreSQL it is a number in the database.
func (s *Store) AccessVersion(ctx context.Context) (int64, error) {
	if !s.dialect.lockFirst {
		return s.changes.Load(), nil
	}
	answer := make(chan version, 1) // the store never waits for who asked
	select {
	case s.asked <- answer:
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-s.closing:
		return 0, errClosed()
	}
	select {
	case v := <-answer:
		return v.number, v.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// answerVersions asks the database until the store closes, one query for all
// who wait by then. Who comes while it runs waits for the next one, since this
// one's answer may be older than his question.
func (s *Store) answerVersions() {
	for {
		var waiting []chan<- version
		select {
		case first := <-s.asked:
			waiting = append(waiting, first)
		case <-s.closing:
			return
		}
		runtime.Gosched() // whoever is about to ask
		for more := true; more; {
			select {
			case next := <-s.asked:
				waiting = append(waiting, next)
			default:
				more = false
			}
		}
		v := s.askVersion()
		for _, w := range waiting {
			w <- v
		}
	}
}

func (s *Store) askVersion() (v version) {
	ctx, cancel := context.WithTimeout(context.Background(), s.dialect.timeout)
	defer cancel()
	for try := 0; ; try++ {
		db, err := s.readers.get(ctx)
		if err != nil {
			return version{err: s.outage(err)}
		}
		v.number, err = gen.New(db).AccessVersion(ctx)
		s.readers.put(db, err != nil)
		if err == nil {
			return v
		}
		// Sessions that died with a database that is back by now are replaced.
		if try == cap(s.readers.free) || ctx.Err() != nil {
			return version{err: s.outage(err)}
		}
	}
}
