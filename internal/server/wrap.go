package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// request is what the chassis knows of one request; handlers reach it through
// the context.
type request struct {
	id    string
	mu    sync.Mutex
	notes []slog.Attr
}

type requestKey struct{}

// RequestID returns the id of the request that ctx belongs to, or "".
func RequestID(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r.id
	}
	return ""
}

// Note adds to the access log's line of the request that ctx belongs to, such
// as who made it. Never note a secret.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.mu.Lock()
		r.notes = append(r.notes, attrs...)
		r.mu.Unlock()
	}
}

// wrap puts around h what every request gets.
func (s *Server) wrap(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := make([]byte, 8)
		rand.Read(id)
		own := &request{id: hex.EncodeToString(id)}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, own))
		out := &answer{ResponseWriter: w, control: http.NewResponseController(w)}
		s.headers(out.Header(), own.id)
		defer s.log(out, r, own, began)
		defer s.recovered(out, r, own)
		limit := s.cfg.MaxBody
		if s.cfg.Unlimited != nil && s.cfg.Unlimited(r) {
			limit = 0
		}
		if limit > 0 && r.ContentLength > limit {
			out.Header().Set("Connection", "close")
			problem(out, http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("The body has %d bytes; this server takes %d.", r.ContentLength, limit),
				"Send files as blobs, and many jobs in several requests.", own.id)
			return
		}
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = limited(out, r.Body, limit)
		}
		h.ServeHTTP(out, r)
		out.extend() // for what net/http still has to flush
	})
}

// headers are on every answer; handlers may set others in their place.
func (s *Server) headers(h http.Header, id string) {
	h["X-Request-Id"] = []string{id}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Referrer-Policy"] = []string{"no-referrer"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Security-Policy"] = []string{"default-src 'none'; frame-ancestors 'none'"}
	if s.cfg.TLS != nil {
		h["Strict-Transport-Security"] = []string{"max-age=31536000"}
	}
}

func (s *Server) log(out *answer, r *http.Request, own *request, began time.Time) {
	level := slog.LevelInfo
	if out.status >= 500 {
		level = slog.LevelWarn
	}
	if !s.cfg.Log.Enabled(r.Context(), level) {
		return
	}
	own.mu.Lock()
	defer own.mu.Unlock()
	attrs := append([]slog.Attr{
		slog.String("request", own.id), slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.Int("status", out.status), slog.Int64("bytes", out.bytes),
		slog.Duration("took", time.Since(began)), slog.String("from", r.RemoteAddr),
	}, own.notes...)
	s.cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// recovered turns a panic into an answer, or cuts the connection where an
// answer has begun, so that nobody takes half of one for whole.
func (s *Server) recovered(out *answer, r *http.Request, own *request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p)
	}
	s.cfg.Log.LogAttrs(r.Context(), slog.LevelError, "panic",
		slog.String("request", own.id), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	if out.status != 0 {
		panic(http.ErrAbortHandler)
	}
	problem(out, http.StatusInternalServerError, "internal", "Something went wrong in the server.", "Tell the operator the request id.", own.id)
}

// problem writes an error that the chassis itself finds. text, hint and id hold
// no characters that JSON would escape.
func problem(w http.ResponseWriter, status int, code, text, hint, id string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"about:blank","title":%q,"status":%d,"code":%q,"detail":%q,"hint":%q,"request":%q}`+"\n",
		http.StatusText(status), status, code, text, hint, id)
}

// answer counts, and moves the write deadline with the progress.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	status  int
	bytes   int64
	until   time.Time // the write deadline
}

// Unwrap lets http.ResponseController reach what is below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.extend()
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.extend()
	n, err := a.ResponseWriter.Write(b)
	a.bytes += int64(n)
	return n, err
}

// extend gives the peer time to take what comes next. A deadline that still
// has half of it left is good enough.
func (a *answer) extend() {
	now := time.Now()
	if a.until.Sub(now) < stallTime/2 {
		a.until = now.Add(stallTime)
		_ = a.control.SetWriteDeadline(a.until)
	}
}

// limited bounds a body in size and time. A body without a size limit may take
// as long as it makes progress.
func limited(out *answer, body io.ReadCloser, limit int64) io.ReadCloser {
	b := &inbound{ReadCloser: body, control: out.control}
	if limit > 0 {
		b.ReadCloser = http.MaxBytesReader(out.ResponseWriter, body, limit)
		b.end = time.Now().Add(bodyTime)
	}
	// A body that the handler refuses unread is read by net/http, which would
	// wait for ever for a sender that stands still.
	b.extend()
	return b
}

// inbound is a request's body.
type inbound struct {
	io.ReadCloser
	control *http.ResponseController
	end     time.Time // of a limited body; zero while others make progress
	until   time.Time
}

func (b *inbound) extend() {
	if now := time.Now(); b.until.Sub(now) < stallTime/2 {
		b.until = now.Add(stallTime)
		if !b.end.IsZero() {
			b.until = b.end
		}
		_ = b.control.SetReadDeadline(b.until)
	}
}

func (b *inbound) Read(p []byte) (int, error) {
	b.extend()
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		// The connection is read on behind the body, to notice when the peer
		// goes away: a deadline left behind would look like that.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
