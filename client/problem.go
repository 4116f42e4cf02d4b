package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

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

// decode reads a 2xx answer as T and everything else as an error.
func decode[T any](res *http.Response, err error) (T, error) {
	var v T
	if err != nil {
		return v, err
	}
	defer res.Body.Close()
	if err := check(res); err != nil {
		return v, err
	}
	if res.StatusCode == http.StatusNoContent {
		return v, nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&v); err != nil {
		return v, hpcsera.Errorf(hpcsera.Unavailable, "the answer of %s is not what an HPCSerA server says: %w", where(res), err).
			Hint("Is this URL an HPCSerA server? hpcsera doctor looks closer.")
	}
	return v, nil
}

// done is decode for answers without a body of interest.
func done(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := check(res); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer)) // so that the connection is used again
	return nil
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
		e.Advice = strings.TrimSpace(e.Advice + " Tell the operator the request id " + p.Request + ".")
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
