package decision

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// Local returns a transport that calls h instead of a network, so that an Auth
// app in the same process gets the same messages as one on another host. An
// answer is whole when the handler returns; a handler that waits, as a long
// poll does, sees the end of the request's context and returns.
func Local(h http.Handler) http.RoundTripper { return local{h} }

type local struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (l local) RoundTrip(r *http.Request) (res *http.Response, err error) {
	in := r.Clone(r.Context())
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:0"
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	defer in.Body.Close()
	out := &answer{header: http.Header{}}
	defer func() {
		// A network would break the connection, and not the caller.
		if p := recover(); p != nil {
			res, err = nil, fmt.Errorf("the handler of %s broke off: %v", r.URL.Path, p)
		}
	}()
	l.handler.ServeHTTP(out, in)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	out.WriteHeader(http.StatusOK)
	return &http.Response{
		Status: http.StatusText(out.status), StatusCode: out.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: out.sent, Body: io.NopCloser(&out.body), ContentLength: int64(out.body.Len()), Request: r,
	}, nil
}

// answer keeps what a handler writes.
type answer struct {
	header, sent http.Header // sent is as it was when the answer began
	status       int
	body         bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status, a.sent = status, a.header.Clone()
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}
