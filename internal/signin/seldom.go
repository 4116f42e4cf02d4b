package signin

import (
	"errors"
	"net/http"
	"sync"
	"time"
)

// seldomly lets one request through in a while and refuses the others.
type seldomly struct {
	next  http.RoundTripper // nil is http.DefaultTransport
	every time.Duration
	now   func() time.Time

	mu   sync.Mutex
	last time.Time
}

var errSeldom = errors.New("asked a moment ago")

// RoundTrip implements http.RoundTripper.
func (t *seldomly) RoundTrip(r *http.Request) (*http.Response, error) {
	now := t.now()
	t.mu.Lock()
	early := now.Sub(t.last) < t.every
	if !early {
		t.last = now
	}
	t.mu.Unlock()
	if early {
		return nil, errSeldom
	}
	if t.next == nil {
		return http.DefaultTransport.RoundTrip(r)
	}
	return t.next.RoundTrip(r)
}
