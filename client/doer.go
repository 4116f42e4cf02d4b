package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hpcsera/hpcsera"
)

// The pauses between tries: they double from first to longest and are
// shortened by a random part, so that clients that lost the server together
// do not come back together.
const (
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
)

// Trouble is what a caller may want to tell its user while a request is tried
// again.
type Trouble struct {
	Err   error         // why the last try failed
	Pause time.Duration // until the next one
	Left  time.Duration // how long it is still tried; 0 with a nil Err: it works again
}

// doer sends requests: it signs them, repeats them where that is safe, and
// tells of trouble. Two share one http.Client: one reads whole answers, so
// that an answer that breaks off is asked for again; one hands streams on.
type doer struct {
	http      *http.Client
	authorize func(*http.Request) error
	userAgent string
	patience  time.Duration
	notify    func(Trouble)
	whole     bool
}

// Do sends one request and, where it may be repeated, its repetitions. An
// error is an *hpcsera.Error with code Unavailable, or the context's.
func (d *doer) Do(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	var end time.Time
	for try := 0; ; try++ {
		if try > 0 && req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req.Body = body
		}
		if try > 0 {
			hurry(req)
		}
		res, err := d.once(req)
		if ctx.Err() != nil {
			closeBody(res)
			return nil, context.Cause(ctx)
		}
		if trouble := d.trouble(req, res, err); trouble != nil {
			if end.IsZero() {
				end = time.Now().Add(d.patience)
			}
			pause := max(backoff(try), retryAfter(res))
			left := time.Until(end)
			if d.patience > 0 && pause <= left && repeatable(req) {
				closeBody(res)
				d.tell(Trouble{Err: trouble, Pause: pause, Left: left})
				if err := sleep(ctx, pause); err != nil {
					return nil, err
				}
				continue
			}
		}
		if err != nil {
			return nil, unreachable(req, err)
		}
		if try > 0 {
			d.tell(Trouble{})
		}
		return res, nil
	}
}

// hurry takes the waiting out of a long poll that is repeated, so that its
// answer tells at once that the server is back.
func hurry(req *http.Request) {
	q := req.URL.Query()
	if q.Has("wait") {
		q.Del("wait")
		req.URL.RawQuery = q.Encode()
	}
}

func (d *doer) once(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", d.userAgent)
	if d.authorize != nil {
		if err := d.authorize(req); err != nil {
			return nil, err
		}
	}
	res, err := d.http.Do(req)
	if err != nil || !d.whole {
		return res, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

func (d *doer) tell(t Trouble) {
	if d.notify != nil {
		d.notify(t)
	}
}

// trouble returns the error of a try that may go better next time, and nil
// for everything that will not change by asking again.
func (d *doer) trouble(req *http.Request, res *http.Response, err error) error {
	if err != nil {
		if permanent(err) {
			return nil
		}
		return unreachable(req, err)
	}
	switch res.StatusCode {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusInsufficientStorage:
		return nil
	case http.StatusTooManyRequests:
		// Without a time to come back this is a quota, which waiting here does not lift.
		if res.Header.Get("Retry-After") == "" {
			return nil
		}
	case http.StatusRequestTimeout:
	default:
		if res.StatusCode < 500 {
			return nil
		}
	}
	return hpcsera.Errorf(hpcsera.Unavailable, "%s answers %s", where(res), res.Status)
}

// permanent reports whether a connection fails for a reason that trying again
// does not mend: a certificate, a name that does not exist, a bad proxy URL.
func permanent(err error) bool {
	var cert *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var name *net.DNSError
	var own *hpcsera.Error
	return errors.As(err, &cert) || errors.As(err, &unknown) || errors.As(err, &own) ||
		errors.As(err, &name) && name.IsNotFound
}

// repeatable reports whether sending req again does nothing twice and its
// body can be sent again.
func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return true
	}
	return req.Header.Get("Idempotency-Key") != "" || req.Context().Value(twiceIsOnce{}) != nil
}

// twiceIsOnce marks the context of a POST that does by its nature nothing
// more the second time, such as filing code under its digest.
type twiceIsOnce struct{}

func safely(ctx context.Context) context.Context { return context.WithValue(ctx, twiceIsOnce{}, true) }

func unreachable(req *http.Request, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err // without method and URL, which are said below
	}
	var own *hpcsera.Error
	if errors.As(err, &own) {
		return err // a transport of the program's own says itself what is wrong
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the connection was closed in the middle (%w)", err)
	}
	e := hpcsera.Errorf(hpcsera.Unavailable, "%s cannot be reached: %w", req.URL.Scheme+"://"+req.URL.Host, redactedError{err})
	var cert *tls.CertificateVerificationError
	var name *net.DNSError
	switch {
	case errors.As(err, &cert):
		return e.Hint("If the site has its own certificate authority, give its file with --ca.")
	case errors.As(err, &name):
		return e.Hint("Is the server's name spelt right? Behind a proxy, set HTTPS_PROXY.")
	}
	return e
}

// redactedError keeps a proxy's password, which net/http quotes when it cannot
// read a proxy URL, out of messages.
type redactedError struct{ error }

func (e redactedError) Error() string {
	return Redact(credentials.ReplaceAllString(e.error.Error(), "://"+redacted+"@"))
}
func (e redactedError) Unwrap() error { return e.error }

func backoff(try int) time.Duration {
	d := longestPause
	if try < 10 {
		d = min(d, firstPause<<try)
	}
	return d/2 + rand.N(d/2+1)
}

// retryAfter returns how long an answer asks to wait, as seconds or as a date.
func retryAfter(res *http.Response) time.Duration {
	if res == nil {
		return 0
	}
	text := res.Header.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil && n > 0 {
		return time.Duration(min(n, 86400)) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// sleep waits for d or returns the cause of ctx's end.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func closeBody(res *http.Response) {
	if res != nil {
		res.Body.Close()
	}
}
