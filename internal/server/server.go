package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Config is what a Server is made of.
type Config struct {
	// Listen is HOST:PORT, where port 0 lets the system choose, or unix:PATH
	// for a socket that only its owner can open.
	Listen string
	TLS    *tls.Config // nil serves plain HTTP
	// Plain allows plain HTTP on an address that other hosts reach: a proxy in
	// front of it does TLS.
	Plain bool
	// MaxBody is the largest request body in bytes; 0 is no limit.
	MaxBody int64
	// Unlimited exempts requests from MaxBody: uploads, which are limited by
	// what they are stored in. nil exempts none.
	Unlimited func(*http.Request) bool
	// Grace is how long requests in flight may take after a stop began; 0 is
	// 30 seconds.
	Grace time.Duration
	Log   *slog.Logger
}

// The limits of time. None of them bounds a whole answer.
const (
	headerTime = 10 * time.Second // to send the headers of a request
	bodyTime   = 2 * time.Minute  // to send a limited body
	stallTime  = time.Minute      // in which a peer must take or send something
	idleTime   = 2 * time.Minute  // between two requests of a connection
	silentTime = time.Second / 2  // for a connection without a request, once a stop began
	headerSize = 64 << 10
)

// Server listens from its creation on and serves when told to.
type Server struct {
	cfg      Config
	listener net.Listener
	stopping chan struct{}
}

// Listen opens the listener, so that its address is known before anything is
// served.
func Listen(cfg Config) (*Server, error) {
	listener, err := listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	if cfg.TLS == nil && !cfg.Plain && !loopback(listener.Addr()) {
		_ = listener.Close()
		return nil, fmt.Errorf("listen on %s: without TLS tokens could be read on the way; only a loopback address can do without", cfg.Listen)
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	return &Server{cfg: cfg, listener: listener, stopping: make(chan struct{})}, nil
}

func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func listen(address string) (net.Listener, error) {
	// Opening a local listener never waits, so there is nothing to end early.
	ctx, open := context.Background(), net.ListenConfig{}
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return open.Listen(ctx, "tcp", address)
	}
	// A socket that a killed server left behind is in the way; one that
	// answers is another server's.
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, errors.New("another server answers there")
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// The socket is made with its final mode: between making and changing it
	// somebody else could connect.
	before := syscall.Umask(0o177)
	defer syscall.Umask(before)
	return open.Listen(ctx, "unix", path)
}

// Addr returns the address that is listened on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Everywhere reports whether the server listens on every address of its host,
// so that [Server.URL] names none that others could use.
func (s *Server) Everywhere() bool {
	tcp, ok := s.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsUnspecified()
}

// URL returns the address as a URL without a trailing slash.
func (s *Server) URL() string {
	if s.cfg.TLS != nil {
		return "https://" + s.Addr().String()
	}
	return "http://" + s.Addr().String()
}

// Stopping is closed when a stop begins: long polls and streams end then.
func (s *Server) Stopping() <-chan struct{} { return s.stopping }

// Close gives up a server that was never told to Serve.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers requests with h until ctx ends, then stops as the package
// comment says. It returns nil after a stop in time. It can be called once.
func (s *Server) Serve(ctx context.Context, h http.Handler) error {
	// Requests keep their values of ctx and outlive its end.
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var silent silent
	web := &http.Server{
		ConnState:         silent.note,
		Handler:           s.wrap(h),
		TLSConfig:         s.cfg.TLS,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    headerSize,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	listener := s.listener
	if s.cfg.TLS != nil {
		// ServeTLS would do the same, and needs the certificate's files.
		web.TLSConfig = s.cfg.TLS.Clone()
		web.TLSConfig.NextProtos = []string{"h2", "http/1.1"}
		listener = tls.NewListener(listener, web.TLSConfig)
	}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	close(s.stopping)
	grace, done := context.WithTimeout(base, s.cfg.Grace)
	defer done()
	closing := time.AfterFunc(silentTime, silent.close)
	defer closing.Stop()
	err := web.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		cut()
		_ = web.Close()
		err = fmt.Errorf("stop: some requests took longer than %v and were cut", s.cfg.Grace)
	}
	if served := <-ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// silent knows the connections that have not brought a request yet. Clients
// open some in advance; a stop would wait seconds for each.
type silent struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func (s *silent) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.conns, c)
		return
	}
	if s.conns == nil {
		s.conns = map[net.Conn]struct{}{}
	}
	s.conns[c] = struct{}{}
}

func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}
