package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
	"github.com/hpcsera/hpcsera/internal/jobs"
)

// Config is what an API is made of.
type Config struct {
	Auth *auth.Service
	Jobs *jobs.Service
	Code *code.Service
	// Access is what users do in person; Grants asks them for what they wish.
	Access *access.Service
	Grants Grants
	// Ready says why the server cannot serve now; nil when it can.
	Ready func(context.Context) error
	// LastSeq returns the deployment's last seq: where a stream of what
	// happens next starts.
	LastSeq func(context.Context) (int64, error)
	// RequestID and Note are the chassis's (internal/server).
	RequestID func(context.Context) string
	Note      func(context.Context, ...slog.Attr)
	// Refused is told of every 401 and 403 of an operation, for the audit log.
	Refused func(hpcsera.AuditLine)
	Metrics *Metrics
	Log     *slog.Logger
}

// Grants turns a user's wish into a request that the user decides in the Auth
// app; internal/oauth does it.
type Grants interface {
	Ask(ctx context.Context, by *auth.Principal, t hpcsera.Token) (hpcsera.AskedToken, error)
}

// API serves the contract. It may be used by many goroutines.
type API struct {
	cfg        Config
	mux        *http.ServeMux
	operations map[string]*operation // by method and path, as in a ServeMux pattern
}

// New loads the contract and returns the API, or an error that says what does
// not fit.
func New(cfg Config) (*API, error) {
	operations, err := loadOperations()
	if err != nil {
		return nil, fmt.Errorf("load the contract: %w", err)
	}
	a := &API{cfg: cfg, mux: http.NewServeMux(), operations: operations}
	strict := gen.NewStrictHandlerWithOptions(handlers{a}, nil, gen.StrictHTTPServerOptions{
		RequestErrorHandlerFunc:  a.badBody,
		ResponseErrorHandlerFunc: a.fail,
	})
	gen.HandlerWithOptions(strict, gen.StdHTTPServerOptions{BaseRouter: router{a}, ErrorHandlerFunc: a.badParameter})
	if err := a.service(); err != nil {
		return nil, err
	}
	a.mux.HandleFunc("/", a.unknown)
	return a, nil
}

// Paths returns the patterns below which the API answers, for whoever serves
// other things on the same address.
func Paths() []string {
	return []string{"/api/", "/docs", "/docs/", "/healthz", "/readyz", "/openapi.yaml"}
}

// ServeHTTP answers one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// ServeMux would redirect an unclean path with a page.
	if clean := path.Clean(r.URL.Path); clean != r.URL.Path && clean+"/" != r.URL.Path {
		a.fail(w, r, noSuchPath(r))
		return
	}
	a.mux.ServeHTTP(w, r)
}

// router receives the routes of the generated glue and puts the layers around
// each.
type router struct{ *API }

// HandleFunc registers one operation. A path parameter that ends a path takes
// slashes where the contract's path is an artifact's.
func (m router) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	op, ok := m.operations[pattern]
	if !ok {
		panic("httpapi: no operation for " + pattern + ": the generated glue is older than the contract")
	}
	m.mux.HandleFunc(strings.Replace(pattern, "/artifacts/{path}", "/artifacts/{path...}", 1), m.layers(op, h))
}

// unknown answers what no operation has: 405 where the path has others.
func (a *API) unknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := a.mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		a.fail(w, r, noSuchPath(r))
		return
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	a.fail(w, r, errStatus{hpcsera.Errorf(hpcsera.MalformedRequest, "%s cannot be used here.", r.Method).
		Hint("Allowed: %s.", strings.Join(allowed, ", ")), http.StatusMethodNotAllowed})
}

func noSuchPath(r *http.Request) error {
	return hpcsera.Errorf(hpcsera.NotFound, "there is nothing at %s.", shorten(r.URL.Path)).
		Hint("The API's paths start with /api/v1; see /docs.")
}

// errStatus is an error whose status does not follow from its code: HTTP has
// a word for it that the API's codes do not need.
type errStatus struct {
	error
	status int
}

// Unwrap returns the error itself.
func (e errStatus) Unwrap() error { return e.error }

// badBody answers a body that the generated glue cannot decode although the
// contract's schema accepts it.
func (a *API) badBody(w http.ResponseWriter, r *http.Request, err error) {
	var told *hpcsera.Error
	if !errors.As(err, &told) {
		err = hpcsera.Errorf(hpcsera.MalformedRequest, "the body cannot be read: %w.", err)
	}
	a.fail(w, r, err)
}

func (a *API) badParameter(w http.ResponseWriter, r *http.Request, err error) {
	a.fail(w, r, hpcsera.Errorf(hpcsera.InvalidField, "a parameter cannot be read: %w.", err))
}

func shorten(s string) string { return hpcsera.Brief(s, 200) }
