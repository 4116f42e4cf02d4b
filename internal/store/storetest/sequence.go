package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

var sequenceTests = map[string]func(*testing.T, Database){
	"numbers are taken in commit order by many writers": func(t *testing.T, d Database) {
		s := d.Open(t)
		testOrder(t, s, s, s)
	},
	"numbers are taken in commit order by two replicas": func(t *testing.T, d Database) {
		if !d.Replicas {
			testOneProcess(t, d)
			return
		}
		testOrder(t, d.Open(t), d.Open(t), d.Open(t))
	},
	"a closure sees everything that has a lower number":     testSeesLower,
	"a number without an event leaves no trouble":           testNumberWithoutEvent,
	"an event needs a number taken in its own transaction":  testForeignNumber,
	"a failed closure's numbers do not disturb those after": testFailedNumbers,
	"a new database has an epoch and no numbers":            testEpoch,
	"a new epoch lifts the numbers, or nothing happens":     testNewEpoch,
}

// testOneProcess is the promise of engines without replicas: a second opening
// is refused, so that no changes bypass the feed.
func testOneProcess(t *testing.T, d Database) {
	s := d.Open(t)
	cmd := d.Writer(t)
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Errorf("a second process opened the database: %s", out)
	}
	insert(t, s)
}

// testOrder writes to two stores and watches a third: once a reader has seen a
// number, nothing below it appears any more.
func testOrder(t *testing.T, a, b, watched store.Store) {
	const writers, writes = 8, 25
	var wg sync.WaitGroup
	for n := range 2 * writers {
		s := []store.Store{a, b}[n%2]
		wg.Go(func() {
			for i := range writes {
				err := s.Write(t.Context(), func(tx store.Tx) error {
					for range 1 + (n+i)%3 {
						if _, err := file(tx); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Errorf("Write: %v", err)
				}
			}
		})
	}
	stop, watch := make(chan struct{}), make(chan error, 1)
	go func() { watch <- watchOrder(t, watched, stop) }()
	wg.Wait()
	close(stop)
	if err := <-watch; err != nil {
		t.Error(err)
	}
	all := events(t, watched)
	for i, c := range all {
		if c.Seq != int64(i+1) {
			t.Fatalf("event %d has the number %d: there is a gap or a double", i+1, c.Seq)
		}
	}
}

// watchOrder reads until stop and returns an error if an event appears below
// the last number of an earlier snapshot.
func watchOrder(t *testing.T, s store.Store, stop <-chan struct{}) error {
	var known int64 // everything up to here was seen
	count := 0
	for ended := false; ; {
		select {
		case <-stop:
			ended = true // one last look
		default:
		}
		err := s.Read(t.Context(), func(r store.Reader) error {
			all, err := r.Events(store.EventFilter{})
			if err != nil {
				return err
			}
			last, err := r.LastSeq()
			if err != nil {
				return err
			}
			below := 0
			for _, c := range all {
				if c.Seq <= known {
					below++
				}
				if c.Seq > last {
					return fmt.Errorf("event %d is beyond the last number %d of the same snapshot", c.Seq, last)
				}
			}
			if below != count {
				return fmt.Errorf("%d events up to %d, but an earlier snapshot had %d", below, known, count)
			}
			known, count = last, len(all)
			return nil
		})
		if err != nil || ended {
			return err
		}
	}
}

func testSeesLower(t *testing.T, d Database) {
	stores := []store.Store{d.Open(t)}
	if d.Replicas {
		stores = append(stores, d.Open(t))
	}
	type sight struct {
		seq  int64
		seen []int64
	}
	var mu sync.Mutex
	var sights []sight
	var wg sync.WaitGroup
	for n := range 8 {
		s := stores[n%len(stores)]
		wg.Go(func() {
			for range 8 {
				var now sight
				err := s.Write(t.Context(), func(tx store.Tx) error {
					before, err := tx.Events(store.EventFilter{})
					if err != nil {
						return err
					}
					j, err := file(tx)
					if err != nil {
						return err
					}
					now = sight{j.Version, seqs(before)}
					return nil
				})
				if err != nil {
					t.Errorf("Write: %v", err)
				}
				mu.Lock()
				sights = append(sights, now)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, s := range sights {
		if int64(len(s.seen)) != s.seq-1 {
			t.Errorf("the closure that took %d saw the events %v", s.seq, s.seen)
		}
	}
}

func testNumberWithoutEvent(t *testing.T, d Database) {
	s := d.Open(t)
	sub := s.Feed().Subscribe(all)
	defer sub.Close()
	write(t, s, func(tx store.Tx) error {
		_, err := tx.NextSeq()
		return err
	})
	j := insert(t, s)
	if j.Version != 2 {
		t.Errorf("the second number is %d, want 2", j.Version)
	}
	if got := seqs(collect(t, sub, 1)); !slices.Equal(got, []int64{2}) {
		t.Errorf("the feed has %v, want [2]", got)
	}
	if got := get(t, s, func(r store.Reader) (int64, error) { return r.LastSeq() }); got != 2 {
		t.Errorf("LastSeq is %d, want 2", got)
	}
}

func testForeignNumber(t *testing.T, d Database) {
	s := d.Open(t)
	j := insert(t, s)
	for what, seq := range map[string]int64{"taken before": j.Version, "not taken": j.Version + 7, "zero": 0} {
		err := s.Write(t.Context(), func(tx store.Tx) error {
			if _, err := tx.NextSeq(); err != nil {
				return err
			}
			c := eventOf(j)
			c.Seq = seq
			return tx.Append(c)
		})
		if err == nil {
			t.Errorf("an event with a number that was %s: got no error", what)
		}
		err = s.Write(t.Context(), func(tx store.Tx) error {
			if _, err := tx.NextSeq(); err != nil {
				return err
			}
			return tx.InsertJobs([]*store.Job{newJob(seq)})
		})
		if err == nil {
			t.Errorf("a job with a number that was %s: got no error", what)
		}
	}
}

func testFailedNumbers(t *testing.T, d Database) {
	s := d.Open(t)
	good := func(tx store.Tx) error {
		_, err := file(tx)
		return err
	}
	bad := func(tx store.Tx) error {
		if err := good(tx); err != nil {
			return err
		}
		return errOwn
	}
	inOneTransaction(t, s, good, bad, good, bad, bad, good)
	all := events(t, s)
	if len(all) != 3 {
		t.Fatalf("got %d events, want 3", len(all))
	}
	if last := get(t, s, func(r store.Reader) (int64, error) { return r.LastSeq() }); last < all[2].Seq {
		t.Errorf("LastSeq is %d below the last event %d", last, all[2].Seq)
	}
}

func testEpoch(t *testing.T, d Database) {
	s := d.Open(t)
	epoch := get(t, s, func(r store.Reader) (int64, error) { return r.Epoch() })
	if epoch <= 0 {
		t.Errorf("the epoch is %d, want more than 0, which agents say before they know it", epoch)
	}
	write(t, s, func(tx store.Tx) error {
		if got, err := tx.Epoch(); err != nil || got != epoch {
			t.Errorf("the epoch in a transaction is %d (%v), want %d", got, err, epoch)
		}
		for want := int64(0); want < 3; want++ {
			if got, err := tx.LastSeq(); err != nil || got != want {
				t.Errorf("LastSeq in the transaction is %d (%v), want %d", got, err, want)
			}
			if got, err := tx.NextSeq(); err != nil || got != want+1 {
				t.Errorf("NextSeq is %d (%v), want %d", got, err, want+1)
			}
		}
		return nil
	})
}

func testNewEpoch(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s)
	epoch := func() int64 {
		return get(t, s, func(r store.Reader) (int64, error) { return r.Epoch() })
	}
	last := func() int64 {
		return get(t, s, func(r store.Reader) (int64, error) { return r.LastSeq() })
	}
	first, before := epoch(), last()
	failed := errors.New("not now")
	err := s.Write(t.Context(), func(tx store.Tx) error {
		_, err := tx.NewEpoch(time.Now())
		return errors.Join(err, failed)
	})
	if !errors.Is(err, failed) || epoch() != first || last() != before {
		t.Fatalf("a closure that failed: got %v, epoch %d and seq %d, want %d and %d", err, epoch(), last(), first, before)
	}
	var minted int64
	// A clock that was set back mints a higher epoch all the same.
	write(t, s, func(tx store.Tx) (err error) {
		minted, err = tx.NewEpoch(time.Unix(1, 0))
		return err
	})
	if minted <= first || epoch() != minted {
		t.Errorf("got epoch %d, kept as %d, want one above %d", minted, epoch(), first)
	}
	if got := last(); got != before+store.Lift {
		t.Errorf("got seq %d after %d, want it lifted by %d", got, before, store.Lift)
	}
	insert(t, s)
	all := events(t, s)
	if got := all[len(all)-1].Seq; got <= before+store.Lift {
		t.Errorf("the next event has seq %d, want it above %d", got, before+store.Lift)
	}
}
