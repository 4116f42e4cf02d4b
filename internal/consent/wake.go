package consent

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// wake tells long polls of this process that there may be something for their
// deployment. Those of other processes look every lookAgain.
type wake struct {
	mu      sync.Mutex
	waiting map[string]chan struct{} // by deployment; closed and forgotten when something comes
	pushes  chan struct{}            // one element at most: there is something to push
}

const (
	longestWait = 30 * time.Second
	lookAgain   = 2 * time.Second
)

func newWake() *wake {
	return &wake{waiting: map[string]chan struct{}{}, pushes: make(chan struct{}, 1)}
}

// up returns a channel that is closed by the next ring for the deployment.
func (w *wake) up(deployment string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, ok := w.waiting[deployment]
	if !ok {
		c = make(chan struct{})
		w.waiting[deployment] = c
	}
	return c
}

// ring wakes whoever waits for the deployment. Call it after the commit.
func (w *wake) ring(deployment string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c, ok := w.waiting[deployment]; ok {
		close(c)
		delete(w.waiting, deployment)
	}
}

// all wakes everybody who waits: the status list is every deployment's.
func (w *wake) all() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for deployment, c := range w.waiting {
		close(c)
		delete(w.waiting, deployment)
	}
}

// push asks Run to push.
func (w *wake) push() {
	select {
	case w.pushes <- struct{}{}:
	default:
	}
}

// poll calls look until it finds something, the request's wait is over, or
// nobody waits any more.
func (s *Service) poll(r *http.Request, deployment string, look func(context.Context) (found bool, err error)) error {
	seconds, _ := strconv.Atoi(r.URL.Query().Get("wait"))
	wait := min(max(0, time.Duration(seconds)*time.Second), longestWait)
	over := time.NewTimer(wait)
	defer over.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		ring := s.wake.up(deployment) // before looking, or something could come in between
		found, err := look(r.Context())
		if err != nil || found || wait == 0 {
			return err
		}
		select {
		case <-ring:
		case <-again.C:
		case <-over.C:
			return nil
		case <-s.cfg.Stopping:
			return nil
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
}
