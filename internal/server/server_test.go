package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hpcsera/hpcsera/internal/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server under test with its log.
type running struct {
	*server.Server
	stop  context.CancelFunc
	ended chan error
	log   *lines
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func start(t *testing.T, cfg server.Config, h http.HandlerFunc) *running {
	t.Helper()
	log := &lines{}
	cfg.Listen, cfg.Log = "127.0.0.1:0", slog.New(slog.NewJSONHandler(log, nil))
	s, err := server.Listen(cfg)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Server: s, stop: stop, ended: make(chan error, 1), log: log}
	go func() { r.ended <- s.Serve(ctx, h) }()
	t.Cleanup(func() {
		stop()
		<-r.ended
		http.DefaultClient.CloseIdleConnections()
	})
	return r
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatalf("GET %s: %v", url, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("GET %s: read: %v", url, err)
	}
	return res, string(body)
}

func TestPlainHTTPStaysOnLoopback(t *testing.T) {
	s, err := server.Listen(server.Config{Listen: "0.0.0.0:0"})
	if err == nil {
		s.Close()
		t.Fatal("listening without TLS on all addresses: got no error")
	}
	if !strings.Contains(err.Error(), "TLS") {
		t.Errorf("got %q, want it to name TLS", err)
	}
	s, err = server.Listen(server.Config{Listen: "0.0.0.0:0", Plain: true})
	if err != nil {
		t.Fatalf("behind a proxy: got %v, want no error", err)
	}
	s.Close()
}

func TestAStopLetsRequestsInFlightFinish(t *testing.T) {
	began, stopping := make(chan struct{}), make(chan (<-chan struct{}), 1)
	r := start(t, server.Config{}, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-<-stopping // a long poll: it waits until it is told to come back
		fmt.Fprint(w, "come back")
	})
	stopping <- r.Stopping()
	answer := make(chan string, 1)
	go func() {
		res, err := http.Get(r.URL())
		if err != nil {
			answer <- err.Error()
			return
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		answer <- string(body)
	}()
	<-began
	r.stop()
	if got, want := <-answer, "come back"; got != want {
		t.Errorf("the request in flight: got %q, want %q", got, want)
	}
	err := <-r.ended
	r.ended <- nil
	if err != nil {
		t.Errorf("Serve: got %v, want nil after a stop in time", err)
	}
	if _, err := net.Dial("tcp", r.Addr().String()); err == nil {
		t.Error("a new connection was taken after the stop")
	}
}

func TestAStopDoesNotWaitForConnectionsWithoutARequest(t *testing.T) {
	r := start(t, server.Config{Grace: 4 * time.Second}, func(http.ResponseWriter, *http.Request) {})
	conn, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	get(t, r.URL()) // accepted behind conn, so conn is known by now
	r.stop()
	err = <-r.ended
	r.ended <- nil
	if err != nil {
		t.Errorf("Serve: got %v, want nil: nobody asked for anything", err)
	}
}

func TestAStopCutsWhatIsLeftAfterTheGrace(t *testing.T) {
	began := make(chan struct{})
	r := start(t, server.Config{Grace: 50 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	})
	go func() {
		if res, err := http.Get(r.URL()); err == nil {
			res.Body.Close()
		}
	}()
	<-began
	r.stop()
	err := <-r.ended
	r.ended <- nil
	if err == nil || !strings.Contains(err.Error(), "cut") {
		t.Errorf("Serve: got %v, want an error that says requests were cut", err)
	}
}

func TestAPanicIsAProblemAndLeadsToTheLog(t *testing.T) {
	r := start(t, server.Config{}, func(http.ResponseWriter, *http.Request) { panic("boom") })
	res, body := get(t, r.URL())
	var problem struct{ Code, Request string }
	if err := json.Unmarshal([]byte(body), &problem); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if res.StatusCode != 500 || problem.Code != "internal" || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s %s, want 500 with a problem", res.StatusCode, res.Header.Get("Content-Type"), body)
	}
	if log := r.log.String(); !strings.Contains(log, problem.Request) || !strings.Contains(log, "boom") {
		t.Errorf("log: got %q, want request id %s and the panic", log, problem.Request)
	}
	if strings.Contains(body, "boom") {
		t.Errorf("the panic's text left the process: %q", body)
	}
}

func TestAPanicAfterTheAnswerBeganBreaksTheConnection(t *testing.T) {
	r := start(t, server.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "half")
		http.NewResponseController(w).Flush()
		panic("boom")
	})
	res, err := http.Get(r.URL())
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("half an answer was taken for a whole one")
	}
}

func TestABodyAboveTheLimitIsRefused(t *testing.T) {
	refused := make(chan error, 1)
	r := start(t, server.Config{MaxBody: 10, Unlimited: func(r *http.Request) bool { return r.URL.Path == "/upload" }},
		func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			refused <- err
			fmt.Fprint(w, n)
		})
	post := func(path string, body io.Reader) (int, string) {
		res, err := http.Post(r.URL()+path, "text/plain", body)
		if err != nil {
			t.Fatalf("post: %v", err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	if status, body := post("/", strings.NewReader("eleven char")); status != 413 || !strings.Contains(body, "body_too_large") || !strings.Contains(body, `"hint":"Send files as blobs`) {
		t.Errorf("announced: got %d %q, want 413 body_too_large before the handler, and what to do", status, body)
	}
	// io.MultiReader hides the length: the limit is met while reading.
	post("/", io.MultiReader(strings.NewReader("eleven char")))
	var limit *http.MaxBytesError
	if err := <-refused; !errors.As(err, &limit) || limit.Limit != 10 {
		t.Errorf("not announced: got %v, want http.MaxBytesError of 10", err)
	}
	if status, body := post("/upload", strings.NewReader("eleven char")); status != 200 || body != "11" {
		t.Errorf("an upload: got %d %q, want 200 and 11 bytes", status, body)
	}
	<-refused
}

func TestEveryAnswerHasItsHeadersAndItsLineInTheLog(t *testing.T) {
	r := start(t, server.Config{}, func(w http.ResponseWriter, r *http.Request) {
		server.Note(r.Context(), slog.String("user", "alice"))
		fmt.Fprint(w, server.RequestID(r.Context()))
	})
	res, body := get(t, r.URL()+"/some/path?token=secret")
	if got := res.Header.Get("X-Request-Id"); got == "" || got != body {
		t.Errorf("request id: header %q, context %q, want the same", got, body)
	}
	for _, name := range []string{"X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cache-Control"} {
		if res.Header.Get(name) == "" {
			t.Errorf("header %s is missing", name)
		}
	}
	r.stop()
	<-r.ended
	r.ended <- nil
	log := r.log.String()
	for _, want := range []string{body, `"path":"/some/path"`, `"status":200`, `"user":"alice"`} {
		if !strings.Contains(log, want) {
			t.Errorf("log: got %q, want %s in it", log, want)
		}
	}
	if strings.Contains(log, "secret") {
		t.Errorf("the query stands in the log: %q", log)
	}
}

func TestAStreamReachesItsReaderWhileItGoesOn(t *testing.T) {
	next := make(chan string)
	r := start(t, server.Config{}, func(w http.ResponseWriter, _ *http.Request) {
		for line := range next {
			fmt.Fprintln(w, line)
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Errorf("flush: %v", err)
			}
		}
	})
	go func() { next <- "one" }()
	res, err := http.Get(r.URL())
	if err != nil {
		t.Fatalf("get: %v", err)
	}
	defer res.Body.Close()
	in := bufio.NewScanner(res.Body)
	for _, want := range []string{"one", "two"} {
		if !in.Scan() || in.Text() != want {
			t.Fatalf("got %q, want %q before the stream's end", in.Text(), want)
		}
		if want == "one" {
			next <- "two"
		}
	}
	close(next)
}

func TestASocketIsItsOwnersAndOutlivesACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	cfg := server.Config{Listen: "unix:" + path}
	first, err := server.Listen(cfg)
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, %v, want 0600", info.Mode().Perm(), err)
	}
	if _, err := server.Listen(cfg); err == nil {
		t.Error("a second server took the socket of one that lives")
	}
	first.Close()
	// What a killed server leaves behind: the file without a listener.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	second, err := server.Listen(cfg)
	if err != nil {
		t.Fatalf("after a crash: got %v, want no error", err)
	}
	second.Close()
}
