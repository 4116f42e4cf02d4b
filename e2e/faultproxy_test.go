package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestTheFaultProxyDoesWhatItSays: what the weather does to a request, seen
// from both sides.
func TestTheFaultProxyDoesWhatItSays(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		fmt.Fprint(w, "a whole answer")
	}))
	t.Cleanup(server.Close)
	for _, c := range []struct {
		name    string
		weather weather
		answers int // whole ones, of two requests
		served  int64
	}{
		{"fair", weather{}, 2, 2},
		{"request lost", weather{lostRequest: 100}, 0, 0},
		{"answer lost", weather{lostAnswer: 100}, 0, 2},
		{"truncated", weather{truncated: 100}, 0, 2},
		{"doubled", weather{doubled: 100}, 2, 4},
		{"failed but applied, once", weather{applied: true}, 1, 2},
		{"cut", weather{cut: true}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newFaultProxy(t, 1)
			p.front("127.0.0.1:1") // where nobody listens: the next replica answers
			p.front(strings.TrimPrefix(server.URL, "http://"))
			p.change(func(w *weather) { *w = c.weather })
			served.Store(0)
			answers := 0
			for range 2 {
				res, err := http.Post(p.url+"/jobs", "text/plain", strings.NewReader("the same"))
				if err != nil {
					continue
				}
				if text, err := io.ReadAll(res.Body); err == nil && string(text) == "a whole answer" {
					answers++
				}
				res.Body.Close()
			}
			eventually(t, time.Minute, fmt.Sprintf("%d requests at the server", c.served), func() bool { return served.Load() >= c.served })
			if got := served.Load(); answers != c.answers || got != c.served {
				t.Errorf("got %d whole answers and %d requests at the server, want %d and %d", answers, got, c.answers, c.served)
			}
		})
	}
}
