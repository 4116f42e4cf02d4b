package httpapi_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/hpcsera/hpcsera/internal/blob/fs"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// inBubble runs a test on two replicas whose time passes as fast as they
// allow: all is real but the network, for which no bubble can wait. They share
// what replicas share, the database, the files and the server's key. d speaks
// to the first one; at makes it speak to another.
func inBubble(t *testing.T, test func(d *deployment, replicas [2]replica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &deployment{t: t, dir: t.TempDir(), url: "http://hpc.example.org", log: &lines{}, refused: &refusals{}, wishes: &wishes{}, key: bytes.Repeat([]byte{7}, 32)}
		db, err := sqlstore.Open(context.Background(), filepath.Join(d.dir, "hpcsera.db"), slog.New(slog.NewJSONHandler(d.log, nil)))
		must(t, err)
		files, err := fs.Open(filepath.Join(d.dir, "files"))
		must(t, err)
		defer func() { must(t, errors.Join(db.Close(), files.Close())) }()
		d.db = db
		stopping := make(chan struct{})
		var replicas [2]replica
		for i := range replicas {
			replicas[i] = d.stack(db, files, stopping, func(context.Context) string { return onlyRequest })
		}
		d = d.at(t, replicas[0])
		d.populate()
		test(d, replicas)
	})
}

// onlyRequest is the id of every request in a bubble.
const onlyRequest = "5f2d"

// at is the deployment as one of its replicas shows it.
func (d *deployment) at(t *testing.T, r replica) *deployment {
	other := *d
	other.t, other.replica = t, r
	other.web = &http.Client{Transport: inProcess{r.edge}}
	return &other
}

// inProcess calls a handler where a client would use the network. The answer
// comes as it is written.
type inProcess struct{ edge http.Handler }

// RoundTrip implements http.RoundTripper.
func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	if r.Body == nil {
		r.Body = http.NoBody
	}
	body, out := io.Pipe()
	w := &wire{out: out, header: http.Header{"X-Request-Id": {onlyRequest}}, began: make(chan int, 1)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			switch p := recover(); p {
			case nil:
				w.WriteHeader(http.StatusOK)
				_ = out.Close()
			case http.ErrAbortHandler:
				_ = out.CloseWithError(io.ErrUnexpectedEOF)
			default:
				panic(p)
			}
		}()
		p.edge.ServeHTTP(w, r.WithContext(ctx))
	}()
	select {
	case status := <-w.began:
		return &http.Response{StatusCode: status, Header: w.sent, Body: gone{body, cancel}, Request: r}, nil
	case <-ended:
		defer cancel()
		select {
		case status := <-w.began:
			return &http.Response{StatusCode: status, Header: w.sent, Body: gone{body, cancel}, Request: r}, nil
		default:
			return nil, errors.New("the connection was cut before an answer")
		}
	}
}

// wire is the server's side of an answer.
type wire struct {
	out          *io.PipeWriter
	header, sent http.Header
	began        chan int
}

// Header implements http.ResponseWriter.
func (w *wire) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *wire) WriteHeader(status int) {
	if w.sent == nil {
		w.sent = w.header.Clone()
		w.began <- status
	}
}

// Write implements http.ResponseWriter.
func (w *wire) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.out.Write(b)
}

// Flush implements http.Flusher.
func (w *wire) Flush() { w.WriteHeader(http.StatusOK) }

// gone is a body whose reader can go away, which ends the request.
type gone struct {
	io.ReadCloser
	cancel context.CancelFunc
}

// Close ends the request.
func (g gone) Close() error {
	g.cancel()
	return g.ReadCloser.Close()
}
