package httpapi

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

//go:embed docs/index.html docs/start.js docs/swagger-ui.css docs/swagger-ui-bundle.js docs/LICENSE docs/NOTICE docs/swagger-ui-bundle.js.LICENSE.txt
var docs embed.FS

// docsPolicy lets the page load from this server only. Its pictures are data
// in its style sheet, and it sets styles on its elements.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// service registers what needs no credential. Each is in the contract.
func (a *API) service() error {
	a.open("GET /healthz", func(w http.ResponseWriter, _ *http.Request) error {
		return plain(w, "ok\n")
	})
	a.open("GET /readyz", func(w http.ResponseWriter, r *http.Request) error {
		if err := a.cfg.Ready(r.Context()); err != nil {
			return hpcsera.Errorf(hpcsera.Unavailable, "the server cannot serve now: %w.", err)
		}
		return plain(w, "ok\n")
	})
	contract := newStatic("application/yaml", api.Contract())
	a.open("GET /openapi.yaml", contract.serve)
	for name, kind := range map[string]string{
		"index.html": "text/html; charset=utf-8", "start.js": "text/javascript; charset=utf-8", "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
		"swagger-ui.css": "text/css; charset=utf-8", "LICENSE": "text/plain; charset=utf-8", "NOTICE": "text/plain; charset=utf-8",
		"swagger-ui-bundle.js.LICENSE.txt": "text/plain; charset=utf-8",
	} {
		data, err := docs.ReadFile("docs/" + name)
		if err != nil {
			return fmt.Errorf("read the page's %s: %w", name, err)
		}
		pattern := "GET /docs/" + name
		if name == "index.html" {
			pattern = "GET /docs"
		}
		a.open(pattern, newStatic(kind, data).serve)
	}
	return nil
}

// open registers a path that answers everybody.
func (a *API) open(pattern string, h func(http.ResponseWriter, *http.Request) error) {
	id := strings.TrimPrefix(pattern, "GET ")
	if op, ok := a.operations[pattern]; ok {
		id = op.id
	}
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		out := &answer{ResponseWriter: w}
		defer func() { a.cfg.Metrics.answered(id, out.status, time.Since(began)) }()
		if err := h(out, r); err != nil {
			a.fail(out, r, err)
		}
	})
}

func plain(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := w.Write([]byte(text))
	return err
}

// static is a file of ours. It is packed when it is first asked for.
type static struct {
	kind   string
	data   []byte
	packed func() []byte
}

func newStatic(kind string, data []byte) static {
	return static{kind: kind, data: data, packed: sync.OnceValue(func() []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(data) // to memory
		_ = z.Close()
		return b.Bytes()
	})}
}

func (s static) serve(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", s.kind)
	h.Set("Content-Security-Policy", docsPolicy)
	h.Set("Cache-Control", "no-cache")
	data := s.data
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		data = s.packed()
	}
	h.Set("Vary", "Accept-Encoding")
	_, err := w.Write(data)
	return err
}
