package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/store"
)

// statuses is the one table from error codes to HTTP statuses. 400 is what
// cannot be understood, 422 what can be but is not possible, 409 what is not
// possible now.
var statuses = map[hpcsera.Code]int{
	hpcsera.MalformedRequest: http.StatusBadRequest,
	hpcsera.InvalidField:     http.StatusBadRequest,
	hpcsera.UnknownField:     http.StatusBadRequest,

	hpcsera.Unauthenticated: http.StatusUnauthorized,
	hpcsera.TokenInvalid:    http.StatusUnauthorized,
	hpcsera.DPoPRequired:    http.StatusUnauthorized,
	hpcsera.UseDPoPNonce:    http.StatusUnauthorized,
	hpcsera.Forbidden:       http.StatusForbidden,
	hpcsera.StepUpRequired:  http.StatusForbidden,
	hpcsera.NotFound:        http.StatusNotFound,

	hpcsera.WrongOffset:        http.StatusConflict,
	hpcsera.JobFinal:           http.StatusConflict,
	hpcsera.JobNotFinal:        http.StatusConflict,
	hpcsera.Conflict:           http.StatusConflict,
	hpcsera.AgentActive:        http.StatusConflict,
	hpcsera.StaleTerm:          http.StatusConflict,
	hpcsera.NotSupportedBySite: http.StatusConflict,

	hpcsera.BodyTooLarge: http.StatusRequestEntityTooLarge,

	hpcsera.NotSupportedYet:      http.StatusUnprocessableEntity,
	hpcsera.UnknownSite:          http.StatusUnprocessableEntity,
	hpcsera.UnknownCode:          http.StatusUnprocessableEntity,
	hpcsera.MissingBlobs:         http.StatusUnprocessableEntity,
	hpcsera.DigestMismatch:       http.StatusUnprocessableEntity,
	hpcsera.InvalidValue:         http.StatusUnprocessableEntity,
	hpcsera.LimitExceeded:        http.StatusUnprocessableEntity,
	hpcsera.ApprovalRefused:      http.StatusUnprocessableEntity,
	hpcsera.IdempotencyKeyReused: http.StatusUnprocessableEntity,

	hpcsera.QuotaExceeded: http.StatusTooManyRequests,
	hpcsera.Internal:      http.StatusInternalServerError,
	hpcsera.Unavailable:   http.StatusServiceUnavailable,
	hpcsera.StorageFull:   http.StatusInsufficientStorage,
}

// advice is what to do about an error that does not say it itself. The codes
// of what only happens to agents are here as well: people read agents' logs.
var advice = map[hpcsera.Code]string{
	hpcsera.MalformedRequest: "Send it as the contract says: GET /docs.",
	hpcsera.InvalidField:     "Correct the field; nothing was changed.",
	hpcsera.UnknownField:     "Check the spelling; nothing was changed.",

	hpcsera.Unauthenticated: "Send a token: Authorization: Bearer hpcsera_….",
	hpcsera.TokenInvalid:    "Ask for a new token.",
	hpcsera.DPoPRequired:    "Send a proof made with the agent's key, for this request.",
	hpcsera.UseDPoPNonce:    "Make the proof again with the nonce in DPoP-Nonce.",
	hpcsera.Forbidden:       "Ask an owner of the project for that right.",
	hpcsera.StepUpRequired:  "Show your second factor again, then repeat it.",
	hpcsera.NotFound:        "Check the name, and what the token is for: GET /tokens/self tells it.",

	hpcsera.WrongOffset:        "Go on at the byte that expected names.",
	hpcsera.JobFinal:           "Nothing is left to do; to run it again, submit it anew: hpcsera retry.",
	hpcsera.JobNotFinal:        "Cancel it and wait for its end.",
	hpcsera.Conflict:           "Look at its present state, and try again if that is still wanted.",
	hpcsera.AgentActive:        "Stop the other instance, or wait until it has been silent for 90 s.",
	hpcsera.StaleTerm:          "Another instance of this agent took over; leave the work to it.",
	hpcsera.NotSupportedBySite: "Leave it out, or use another site.",

	hpcsera.BodyTooLarge: "Send files as blobs, and many jobs in several requests.",

	hpcsera.NotSupportedYet:      "Leave it out; nothing was submitted.",
	hpcsera.UnknownSite:          "GET /sites lists them.",
	hpcsera.UnknownCode:          "GET /code lists what this token reaches.",
	hpcsera.MissingBlobs:         "Upload what missing names: PUT /blobs/{digest}.",
	hpcsera.DigestMismatch:       "Send the bytes again, from byte 0.",
	hpcsera.InvalidValue:         "Give a value that the code's parameters allow; nothing was submitted.",
	hpcsera.LimitExceeded:        "Ask for less, or have it approved again: what the job asks for then is signed, or what limits in the job file allow. A key may have limits of its own.",
	hpcsera.ApprovalRefused:      "Sign the code again: hpcsera approve.",
	hpcsera.IdempotencyKeyReused: "Use a new key for a new request.",

	hpcsera.QuotaExceeded: "Wait until earlier jobs have ended, and try again.",
	hpcsera.Internal:      "Tell the operator the request id.",
	hpcsera.Unavailable:   "Try again later.",
	hpcsera.StorageFull:   "Nothing was kept. Tell the operator, and try again later.",
}

// fail answers with an error.
func (a *API) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		// Nobody listens any more; an answer would go to a closed connection.
		panic(http.ErrAbortHandler)
	}
	e := a.told(r.Context(), err)
	if c, ok := r.Context().Value(callKey{}).(*call); ok && e.Code == hpcsera.NotFound && e.Advice == "" && c.principal != nil && c.principal.Person != nil {
		copied := *e // nobody in person has a token that could be for something else
		e = copied.Hint("Check the name: hpcsera project list, client list, agent list and token list show what there is.")
	}
	status := statuses[e.Code]
	var other errStatus
	if errors.As(err, &other) {
		status = other.status
	}
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		a.refused(r, e.Code)
	}
	a.challenge(w, r, e.Code, status)
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	body := describe(e, status, a.cfg.RequestID(r.Context()))
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Del("Content-Disposition")
	h.Del("ETag")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// refused tells the audit log who was not let in, or not let do something. An
// agent's first proof without a nonce is how DPoP begins, and no refusal.
func (a *API) refused(r *http.Request, code hpcsera.Code) {
	c, ok := r.Context().Value(callKey{}).(*call)
	if !ok || code == hpcsera.UseDPoPNonce {
		return
	}
	line := hpcsera.AuditLine{Action: c.operation, Refused: code}
	if p := c.principal; p != nil {
		line.Actor, line.User = p.Actor(), p.User()
		if p.Token != nil {
			line.Project = p.Token.Project
		}
	} else {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		line.Actor = "address:" + host
	}
	a.cfg.Refused(line)
}

// told returns err as the API tells it. What is no Error of ours is logged
// and told without details: they are nobody's business but the operator's.
func (a *API) told(ctx context.Context, err error) *hpcsera.Error {
	var (
		e      *hpcsera.Error
		limit  *http.MaxBytesError
		offset *blob.OffsetError
	)
	switch {
	case errors.As(err, &e) && e.Code != hpcsera.Internal && statuses[e.Code] != 0:
		if e.Code == hpcsera.Unavailable || e.Code == hpcsera.StorageFull {
			a.logError(ctx, err)
		}
		return e
	case errors.As(err, &limit):
		return hpcsera.Errorf(hpcsera.BodyTooLarge, "the body is larger than %d bytes.", limit.Limit).
			Hint("Send files as blobs, and many jobs in several requests.")
	case errors.As(err, &offset):
		e := hpcsera.Errorf(hpcsera.WrongOffset, "the bytes do not start where the stored ones end, at %d.", offset.Expected)
		e.Expected = offset.Expected
		return e
	case errors.Is(err, blob.ErrFull), errors.Is(err, store.ErrFull):
		a.logError(ctx, err)
		return hpcsera.Errorf(hpcsera.StorageFull, "the server's storage is full.").Hint("Nothing was kept. Tell the operator, and try again later.")
	case errors.Is(err, context.DeadlineExceeded):
		a.logError(ctx, err)
		return hpcsera.Errorf(hpcsera.Unavailable, "the server was too slow.").Hint("Try again later.")
	}
	a.logError(ctx, err)
	return hpcsera.Errorf(hpcsera.Internal, "something went wrong in the server.").Hint("Tell the operator the request id.")
}

func (a *API) logError(ctx context.Context, err error) {
	a.cfg.Log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("request", a.cfg.RequestID(ctx)), slog.String("error", err.Error()))
}

// challenge tells with a 401 what would be accepted.
func (a *API) challenge(w http.ResponseWriter, r *http.Request, code hpcsera.Code, status int) {
	if status != http.StatusUnauthorized {
		return
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "DPoP") {
		text := `Bearer realm="hpcsera"`
		if code == hpcsera.TokenInvalid {
			text += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", text)
		return
	}
	text := `DPoP algs="EdDSA ES256"`
	switch code {
	case hpcsera.UseDPoPNonce:
		text += `, error="use_dpop_nonce"`
	case hpcsera.DPoPRequired:
		text += `, error="invalid_dpop_proof"`
	case hpcsera.TokenInvalid:
		text += `, error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", text)
	w.Header().Set("DPoP-Nonce", a.cfg.Auth.Nonce())
}

// describe returns the problem as JSON. Errors repeat what they refuse, which
// may be a token in the wrong place; who sent it writes the answer into a log.
func describe(e *hpcsera.Error, status int, request string) []byte {
	hint := e.Advice
	if hint == "" {
		hint = advice[e.Code]
	}
	p := api.Problem{
		Type: "about:blank", Title: http.StatusText(status), Status: status, Code: e.Code,
		Detail: hpcsera.HideSecrets(e.Message), Field: given(hpcsera.HideSecrets(e.Field)), Hint: given(hpcsera.HideSecrets(hint)), Request: request,
	}
	if e.Index >= 0 {
		p.Index = &e.Index
		if !strings.HasPrefix(e.Field, "jobs[") {
			p.Field = given(strings.TrimSuffix(fmt.Sprintf("jobs[%d].%s", e.Index, e.Field), "."))
		}
	}
	if e.Code == hpcsera.WrongOffset {
		p.Expected = &e.Expected
	}
	if len(e.Missing) > 0 {
		p.Missing = &e.Missing
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(p) // strings and numbers only: it cannot fail
	return b.Bytes()
}

func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
