package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/hpcsera/hpcsera/internal/store"
)

var feedTests = map[string]func(*testing.T, Database){
	"every change arrives once and in order, on every replica": testFeedOrder,
	"a change has arrived when its Write returns":              testFeedBeforeAnswer,
	"what a failed closure appended never arrives":             testFeedFailed,
	"a subscription starts with what comes after it":           testFeedStart,
	"only what the subscription accepts arrives":               testFeedFilter,
	"a store opened later does not repeat history":             testFeedReopened,
	"a replica's waiter wakes for another's commit":            testFeedReplica,
}

func testFeedOrder(t *testing.T, d Database) {
	stores := []store.Store{d.Open(t)}
	if d.Replicas {
		stores = append(stores, d.Open(t), d.Open(t))
	}
	var subs []*store.Subscription
	for _, s := range stores {
		sub := s.Feed().Subscribe(all)
		defer sub.Close()
		subs = append(subs, sub)
	}
	const writers, writes = 9, 20
	var wg sync.WaitGroup
	for n := range writers {
		s := stores[n%len(stores)]
		wg.Go(func() {
			for i := range writes {
				err := s.Write(t.Context(), func(tx store.Tx) error {
					if _, err := file(tx); err != nil {
						return err
					}
					if i%5 == 4 {
						return errOwn
					}
					_, err := file(tx)
					return err
				})
				if err != nil && !errors.Is(err, errOwn) {
					t.Errorf("Write: %v", err)
				}
			}
		})
	}
	wg.Wait()
	want := seqs(events(t, stores[0]))
	if len(want) != writers*writes*4/5*2 {
		t.Fatalf("got %d events, want %d", len(want), writers*writes*4/5*2)
	}
	for i, sub := range subs {
		if got := seqs(collect(t, sub, len(want))); !slices.Equal(got, want) {
			t.Errorf("replica %d: the feed has %v, the table %v", i, got, want)
		}
	}
}

func testFeedBeforeAnswer(t *testing.T, d Database) {
	s := d.Open(t)
	sub := s.Feed().Subscribe(all)
	defer sub.Close()
	for range 10 {
		j := insert(t, s)
		if got := collect(t, sub, 1); got[0].Job != j.ID || got[0].User != "alice" || got[0].Site != "gwdg" {
			t.Fatalf("the feed has %+v after job %s was filed", got, j.ID)
		}
	}
}

func testFeedFailed(t *testing.T, d Database) {
	s := d.Open(t)
	sub := s.Feed().Subscribe(all)
	defer sub.Close()
	bad := func(tx store.Tx) error {
		if _, err := file(tx); err != nil {
			return err
		}
		return errOwn
	}
	good := func(tx store.Tx) error {
		_, err := file(tx, func(j *store.Job) { j.Name = "good" })
		return err
	}
	inOneTransaction(t, s, bad, good, bad, good)
	got := collect(t, sub, 2)
	want := events(t, s)
	if len(want) != 2 || !slices.Equal(seqs(got), seqs(want)) {
		t.Errorf("the feed has %v, the table %v, want the same two", seqs(got), seqs(want))
	}
}

func testFeedStart(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s)
	sub := s.Feed().Subscribe(all)
	defer sub.Close()
	j := insert(t, s)
	if got := collect(t, sub, 1); got[0].Job != j.ID {
		t.Errorf("the first change is %+v, want that of %s", got[0], j.ID)
	}
}

func testFeedFilter(t *testing.T, d Database) {
	s := d.Open(t)
	sub := s.Feed().Subscribe(func(c *store.Change) bool { return c.Project == "bio" })
	defer sub.Close()
	insert(t, s)
	j := insert(t, s, func(j *store.Job) { j.Project = "bio" })
	insert(t, s)
	if got := collect(t, sub, 1); len(got) != 1 || got[0].Job != j.ID {
		t.Errorf("got %+v, want the change of %s", got, j.ID)
	}
}

func testFeedReopened(t *testing.T, d Database) {
	s := d.Open(t)
	insert(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	s = d.Open(t)
	sub := s.Feed().Subscribe(all)
	defer sub.Close()
	j := insert(t, s)
	if got := collect(t, sub, 1); got[0].Job != j.ID {
		t.Errorf("the first change after opening is %+v, want that of %s", got[0], j.ID)
	}
}

func testFeedReplica(t *testing.T, d Database) {
	if !d.Replicas {
		testOneProcess(t, d)
		return
	}
	a, b := d.Open(t), d.Open(t)
	sub := b.Feed().Subscribe(all)
	defer sub.Close()
	for range 3 {
		j := insert(t, a)
		if got := collect(t, sub, 1); got[0].Job != j.ID {
			t.Fatalf("the other replica has %+v, want the change of %s", got, j.ID)
		}
		// Its own commit right after comes after it, not instead of it.
		x, y := insert(t, a), insert(t, b)
		if got := seqs(collect(t, sub, 2)); !slices.Equal(got, []int64{x.Version, y.Version}) {
			t.Fatalf("the other replica has %v, want %v", got, []int64{x.Version, y.Version})
		}
	}
}
