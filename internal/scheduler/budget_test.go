package scheduler

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Submissions leave room: however many wait, a query comes through.
func TestTheBudgetHoldsAndLeavesRoomForQueries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(60)
		began := time.Now()
		var submits, queries []time.Duration
		var mu sync.Mutex
		var wg sync.WaitGroup
		note := func(list *[]time.Duration, k kind) {
			if err := b.wait(t.Context(), k); err != nil {
				t.Error(err)
			}
			mu.Lock()
			*list = append(*list, time.Since(began))
			mu.Unlock()
		}
		for range 100 {
			wg.Go(func() { note(&submits, submitKind) })
		}
		wg.Go(func() {
			for range 10 {
				time.Sleep(5 * time.Second)
				asked := time.Now()
				note(&queries, queueKind)
				if waited := time.Since(asked); waited > 2*time.Second {
					t.Errorf("a query waited %v", waited)
				}
			}
		})
		wg.Wait()
		within := 0
		for _, at := range append(submits, queries...) {
			if at < time.Minute {
				within++
			}
		}
		if within > 60+10 || within < 50 {
			t.Errorf("%d commands in the first minute, want at most 60 and a burst of 10", within)
		}
	})
}
