package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// call is one request on its way through the layers.
type call struct {
	request   *http.Request
	operation string
	principal *auth.Principal
	body      []byte // of a JSON body
}

type callKey struct{}

// callOf returns the call that ctx belongs to. Every handler has one.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// bodySHA256 is what an idempotency key is kept with.
func (c *call) bodySHA256() string {
	sum := sha256.Sum256(c.body)
	return hex.EncodeToString(sum[:])
}

// layers puts authentication and validation before the generated handler of
// an operation.
func (a *API) layers(op *operation, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		out := &answer{ResponseWriter: w}
		defer func() { a.cfg.Metrics.answered(op.id, out.status, time.Since(began)) }()
		c := &call{operation: op.id}
		r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
		c.request = r
		if err := a.enter(op, c, out); err != nil {
			a.fail(out, r, err)
			return
		}
		h(out, r)
	}
}

// enter authenticates and validates.
func (a *API) enter(op *operation, c *call, out *answer) error {
	r := c.request
	p, err := a.cfg.Auth.Authenticate(r.Context(), auth.Request{
		Authorization: r.Header.Get("Authorization"), Proofs: r.Header["Dpop"], Method: r.Method, Path: r.URL.EscapedPath(),
	})
	if err != nil {
		return err
	}
	c.principal = p
	switch {
	case p.Agent != nil:
		out.nonce = a.cfg.Auth.Nonce
		a.cfg.Note(r.Context(), slog.String("user", p.Agent.User), slog.String("agent", p.Agent.ID))
	case p.Person != nil:
		out.nonce = a.cfg.Auth.Nonce
		a.cfg.Note(r.Context(), slog.String("user", p.Person.User), slog.String("session", p.Person.Session))
	default:
		a.cfg.Note(r.Context(), slog.String("user", p.Token.User), slog.String("project", p.Token.Project), slog.String("token", p.Token.ID))
	}
	// Nobody in person is a token or an agent, and neither of these a person: no
	// handler is to meet one that it is not for, whatever it does before it asks.
	if (p.Person != nil) != (op.role.kind == "person") {
		if err := auth.Allow(p, auth.Action(op.id), auth.Target{}); err != nil {
			return err
		}
		return hpcsera.Errorf(hpcsera.NotFound, "the operation is not for this credential.")
	}
	if err := op.checkParameters(r); err != nil {
		return err
	}
	if op.body != jsonBody && op.body != ownedBody {
		return nil
	}
	if c.body, err = readJSON(r); err != nil {
		return err
	}
	r.Body = &whole{rest: c.body}
	return op.checkBody(c.body)
}

// readJSON reads a body that must be JSON.
func readJSON(r *http.Request) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return nil, hpcsera.Errorf(hpcsera.MalformedRequest, "the body must be JSON, not %q.", shorten(r.Header.Get("Content-Type"))).
			At("Content-Type").Hint("Send Content-Type: application/json.")
	}
	if packed := r.Header.Get("Content-Encoding"); packed != "" && packed != "identity" {
		return nil, hpcsera.Errorf(hpcsera.MalformedRequest, "a body packed with %q cannot be read.", shorten(packed)).
			At("Content-Encoding").Hint("Send it as it is.")
	}
	size := max(r.ContentLength, 0)
	body := make([]byte, 0, min(size, 1<<20)+512)
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, nil
		}
		if err != nil {
			return nil, broken(err)
		}
	}
}

// whole is a body that was read before.
type whole struct{ rest []byte }

func (b *whole) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *whole) Close() error { return nil }

// answer knows the status for the metrics, and puts a fresh nonce into every
// answer to whoever proves a key: made when the answer begins, since a long poll may
// outlive a nonce.
type answer struct {
	http.ResponseWriter
	status int
	nonce  func() string // nil for bearers
}

// Unwrap lets http.ResponseController reach what is below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) WriteHeader(status int) {
	a.begin(status)
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	a.begin(http.StatusOK)
	return a.ResponseWriter.Write(b)
}

func (a *answer) begin(status int) {
	if a.status != 0 {
		return
	}
	a.status = status
	if a.nonce != nil {
		a.Header().Set("DPoP-Nonce", a.nonce())
	}
}
