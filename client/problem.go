package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/hpcsera/hpcsera"
)

// maxAnswer bounds what is read of one JSON answer, so that nothing that
// answers in the server's place can exhaust the caller's memory.
const maxAnswer = 256 << 20

// problem is an application/problem+json body (RFC 9457) with the members
// this API adds.
type problem struct {
	Title    string       `json:"title"`
	Detail   string       `json:"detail"`
	Code     hpcsera.Code `json:"code"`
	Field    string       `json:"field"`
	Hint     string       `json:"hint"`
	Index    *int         `json:"index"`
	Expected int64        `json:"expected"`
	Missing  []string     `json:"missing"`
	Request  string       `json:"request"`
}

// reply is the body of a 2xx answer.
type reply struct {
	body []byte
	from string // where it came from, for messages
}

// read takes an answer to its end and closes it. What is not 2xx becomes an
// error.
func read(res *http.Response, err error) (reply, error) {
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	if err := check(res); err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return reply{body, where(res)}, err
}

// decode reads a reply as T.
func decode[T any](r reply, err error) (T, error) {
	var v T
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		return v, hpcsera.Errorf(hpcsera.Unavailable, "the answer of %s is not what an HPCSerA server says: %w", r.from, err).
			Hint("Is this URL an HPCSerA server? hpcsera doctor looks closer.")
	}
	return v, nil
}

// check returns nil for a 2xx answer and the error it tells of otherwise.
func check(res *http.Response) error {
	if res.StatusCode/100 == 2 {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	var p problem
	if kind == "application/problem+json" && json.Unmarshal(body, &p) == nil && p.Code != "" {
		return p.err()
	}
	return foreign(res, body)
}

// err turns a problem into the error it was made of.
func (p problem) err() *hpcsera.Error {
	e := &hpcsera.Error{
		Code: p.Code, Message: p.Detail, Field: p.Field, Advice: p.Hint,
		Index: -1, Expected: p.Expected, Missing: p.Missing,
	}
	if e.Message == "" {
		e.Message = p.Title
	}
	if p.Index != nil {
		e.Index = *p.Index
	}
	if p.Code == hpcsera.Internal && p.Request != "" {
		e.Advice = "Tell the operator the request id " + p.Request + "."
	}
	return e
}

// foreign is the error for an answer that no HPCSerA server wrote: a proxy's
// page, a redirect, a web site.
func foreign(res *http.Response, body []byte) *hpcsera.Error {
	status := res.Status
	switch {
	case res.StatusCode/100 == 3:
		return hpcsera.Errorf(hpcsera.Unavailable, "%s redirects to %s, and a token is never sent along.",
			where(res), Redact(res.Header.Get("Location"))).Hint("Set that URL as the server if it is yours.")
	case res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests:
		return hpcsera.Errorf(hpcsera.Unavailable, "%s answers %s.", where(res), status).Hint("Try again later.")
	case res.StatusCode == http.StatusProxyAuthRequired:
		return hpcsera.Errorf(hpcsera.Unavailable, "the proxy asks for a password (%s).", status).Hint("See HTTPS_PROXY.")
	}
	line, _, _ := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	if len(line) > 200 {
		line = line[:200]
	}
	return hpcsera.Errorf(hpcsera.Unavailable, "%s answers %s, not as an HPCSerA server does: %q.", where(res), status, Redact(string(line))).
		Hint("Is this URL an HPCSerA server? hpcsera doctor looks closer.")
}

// where names the server that answered: scheme and host, nothing that could
// hold a secret.
func where(res *http.Response) string {
	if res.Request == nil || res.Request.URL == nil {
		return "the server"
	}
	return res.Request.URL.Scheme + "://" + res.Request.URL.Host
}

// IsUnreachable reports whether err says that the server cannot be reached or
// cannot serve, so that nothing is known of what was asked.
func IsUnreachable(err error) bool {
	var e *hpcsera.Error
	return errors.As(err, &e) && e.Code == hpcsera.Unavailable
}
