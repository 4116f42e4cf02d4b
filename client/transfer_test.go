package client

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// shaky is a server for bytes whose connections break: every answer is cut
// after cut bytes, every upload's connection after take bytes, whether or not
// its answer was on the way.
type shaky struct {
	mu       sync.Mutex
	content  []byte // what can be read
	stored   []byte // what was uploaded
	cut      int
	take     int
	loseNext bool // apply the next upload and lose its answer
	lost     int
	requests int
	received int // bytes of uploads
	final    bool
	plain    bool // ignore ranges
}

func (s *shaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	switch {
	case strings.Contains(r.URL.Path, "/blobs/"):
		s.upload(w, r)
	case strings.HasSuffix(r.URL.Path, "/jobs/j_1"):
		state := hpcsera.Running
		if s.final {
			state = hpcsera.Succeeded
		}
		_ = json.NewEncoder(w).Encode(hpcsera.Job{ID: "j_1", State: state, Attempt: 1})
	default:
		s.download(w, r)
	}
}

func (s *shaky) download(w http.ResponseWriter, r *http.Request) {
	offset := 0
	if text, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && !s.plain {
		offset, _ = strconv.Atoi(strings.TrimSuffix(text, "-"))
		if offset >= len(s.content) {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		w.WriteHeader(http.StatusPartialContent)
	}
	rest := s.content[offset:]
	if s.cut == 0 || len(rest) <= s.cut {
		_, _ = w.Write(rest)
		return
	}
	_, _ = w.Write(rest[:s.cut])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func (s *shaky) upload(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w.Header().Set("Upload-Offset", strconv.Itoa(len(s.stored)))
		w.WriteHeader(http.StatusNotFound)
		return
	}
	var first, last, total int
	if n, _ := fmt.Sscanf(r.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &total); n != 3 {
		total = int(r.ContentLength)
	}
	if first != len(s.stored) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, `{"code":"wrong_offset","detail":"wrong.","expected":%d}`, len(s.stored))
		return
	}
	body := io.Reader(r.Body)
	if s.take > 0 {
		body = io.LimitReader(r.Body, int64(s.take))
	}
	got, _ := io.ReadAll(body)
	s.stored, s.received = append(s.stored, got...), s.received+len(got)
	if len(got) < int(r.ContentLength) || s.loseNext {
		s.loseNext = false
		s.lost++
		panic(http.ErrAbortHandler)
	}
	if len(s.stored) == total {
		w.WriteHeader(http.StatusCreated)
	} else {
		w.WriteHeader(http.StatusAccepted)
	}
	fmt.Fprintf(w, `{"size":%d,"complete":%v}`, len(s.stored), len(s.stored) == total)
}

func serve(t *testing.T, s *shaky) *Client {
	t.Helper()
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(server.Close)
	c, err := New(Options{Server: server.URL, Patience: time.Minute})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	return c
}

func bytesOf(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// serveAgent is serve for an agent. It sends one artifact and tries again when
// that fails, as the agent's loops do.
func serveAgent(t *testing.T, s *shaky) func(content []byte) error {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	key, err := LoadKey(filepath.Join(t.TempDir(), "key.pem"))
	if err != nil {
		t.Fatalf("LoadKey: %v", err)
	}
	credential, _ := hpcsera.NewSecret(hpcsera.NewID("ag"))
	a, err := NewAgent(server.URL, credential, key, http.DefaultTransport)
	if err != nil {
		t.Fatalf("NewAgent: %v", err)
	}
	return func(content []byte) (err error) {
		for range 5 {
			if err = a.PutBlob(t.Context(), "j_1", hpcsera.DigestOf(content), int64(len(content)), bytes.NewReader(content)); !IsUnreachable(err) {
				return err
			}
		}
		return err
	}
}

func TestAnUploadGoesOnWhereItBroke(t *testing.T) {
	for who, sender := range map[string]func(*testing.T, *shaky) func([]byte) error{
		"client": func(t *testing.T, s *shaky) func([]byte) error {
			c := serve(t, s)
			return func(content []byte) error {
				return c.Upload(t.Context(), hpcsera.DigestOf(content), bytes.NewReader(content), int64(len(content)), nil)
			}
		},
		"agent": serveAgent,
	} {
		for _, tt := range []struct {
			name     string
			size     int
			take     int
			loseNext bool
			lost     int
		}{
			{"empty", 0, 0, false, 0},
			{"small", 1000, 0, false, 0},
			{"small, applied but the answer lost", 1000, 0, true, 1},
			{"parts", 2*partSize + 77, 0, false, 0},
			{"connection breaks in every part", partSize + 1, partSize / 2, false, 1},
			{"applied but the answer lost", 2*partSize + 77, 0, true, 1},
		} {
			t.Run(who+"/"+tt.name, func(t *testing.T) {
				s, want := &shaky{take: tt.take, loseNext: tt.loseNext}, bytesOf(tt.size)
				if err := sender(t, s)(want); err != nil {
					t.Fatalf("Upload: %v", err)
				}
				if !bytes.Equal(s.stored, want) {
					t.Errorf("the server has %d bytes that differ from the %d sent", len(s.stored), len(want))
				}
				if s.lost < tt.lost {
					t.Errorf("the test lost %d answers, want at least %d", s.lost, tt.lost)
				}
			})
		}
	}
}

func TestALargeUploadStartsBehindWhatTheServerHas(t *testing.T) {
	want := bytesOf(3 * partSize)
	s := &shaky{stored: append([]byte(nil), want[:2*partSize]...)}
	var first int64 = -1
	err := serve(t, s).Upload(t.Context(), hpcsera.DigestOf(want), bytes.NewReader(want), int64(len(want)), func(n int64) {
		if first < 0 {
			first = n
		}
	})
	if err != nil || !bytes.Equal(s.stored, want) {
		t.Fatalf("Upload: %v, %d bytes stored, want %d", err, len(s.stored), len(want))
	}
	if first != 2*partSize {
		t.Errorf("progress starts at %d, want %d", first, 2*partSize)
	}
}

func TestAnAgentSendsNothingTwiceOfALargeArtifact(t *testing.T) {
	want := bytesOf(3*partSize + 5)
	s := &shaky{stored: append([]byte(nil), want[:2*partSize]...)}
	if err := serveAgent(t, s)(want); err != nil || !bytes.Equal(s.stored, want) {
		t.Fatalf("PutBlob: %v, %d bytes stored, want %d", err, len(s.stored), len(want))
	}
	if s.received != partSize+5 || s.requests != 3 {
		t.Errorf("%d bytes came in %d requests, want %d in one question and two parts", s.received, s.requests, partSize+5)
	}
}

func TestAnArtifactIsWholeOrAnError(t *testing.T) {
	content := bytesOf(300_000)
	right := hpcsera.Artifact{Path: "out/a b.nc", Size: int64(len(content)), Digest: hpcsera.DigestOf(content)}
	wrong := right
	wrong.Digest = hpcsera.DigestOf([]byte("something else"))
	for _, tt := range []struct {
		name     string
		server   *shaky
		artifact hpcsera.Artifact
		code     hpcsera.Code
	}{
		{"at once", &shaky{}, right, ""},
		{"over a connection that breaks", &shaky{cut: 100_000}, right, ""},
		{"the server ignores ranges", &shaky{plain: true}, right, ""},
		{"other bytes than the digest says", &shaky{}, wrong, hpcsera.DigestMismatch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tt.server
			s.content = content
			var got bytes.Buffer
			err := serve(t, s).FetchArtifact(t.Context(), "j_1", tt.artifact, &got)
			if hpcsera.CodeOf(err) != tt.code {
				t.Fatalf("got %v, want code %q", err, tt.code)
			}
			if tt.code == "" && !bytes.Equal(got.Bytes(), content) {
				t.Errorf("got %d bytes that differ from the %d there are", got.Len(), len(content))
			}
		})
	}
}

func TestAFollowedLogHasEveryByteOnce(t *testing.T) {
	content := bytesOf(250_000)
	s := &shaky{content: content, cut: 60_000}
	c := serve(t, s)
	var got growing
	got.on = func(n int) {
		if n == len(content) {
			s.mu.Lock()
			s.final = true
			s.mu.Unlock()
		}
	}
	n, err := c.FollowLog(t.Context(), LogRef{Job: "j_1", Stream: "stdout", Attempt: 1}, 0, &got)
	if err != nil || n != int64(len(content)) {
		t.Fatalf("FollowLog: %d, %v; want %d", n, err, len(content))
	}
	if !bytes.Equal(got.b, content) {
		t.Errorf("got %d bytes that differ from the %d there are", len(got.b), len(content))
	}
}

// growing tells how much was written.
type growing struct {
	b  []byte
	on func(int)
}

func (g *growing) Write(p []byte) (int, error) {
	g.b = append(g.b, p...)
	go g.on(len(g.b))
	return len(p), nil
}

func TestAStreamOfEventsMissesNothing(t *testing.T) {
	var requests int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests++
		last, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, ": hello\n\n")
		for seq := last + 1; seq <= last+2 && seq <= 5; seq++ {
			state := hpcsera.Running
			if seq == 5 {
				state = hpcsera.Succeeded
			}
			fmt.Fprintf(w, "id: %d\nevent: job.state\ndata: {\"seq\":%d,\"state\":%q}\n\n", seq, seq, state)
		}
		_ = http.NewResponseController(w).Flush()
		if last < 3 {
			fmt.Fprint(w, "id: 9\ndata: {\"se") // broken off in the middle of an event
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	c, err := New(Options{Server: server.URL, Patience: time.Minute})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	var got []int64
	err = c.StreamEvents(t.Context(), "j_1", 0, func(e hpcsera.Event) error {
		got = append(got, e.Seq)
		return nil
	})
	if err != nil || fmt.Sprint(got) != "[1 2 3 4 5]" || requests < 3 {
		t.Errorf("got events %v, %v after %d requests; want 1 to 5 once each after 3", got, err, requests)
	}
}
