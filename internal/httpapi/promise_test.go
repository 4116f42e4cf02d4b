package httpapi_test

import (
	"encoding/json"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/hpcsera/hpcsera/api"
)

// promised finds what the contract says about an answer.
type promised struct {
	paths []promisedPath // those without placeholders first, as a ServeMux takes them
}

type promisedPath struct {
	path    string
	pattern *regexp.Regexp
	item    *openapi3.PathItem
}

var placeholder = regexp.MustCompile(`\\\{[a-z]+\\\}`)

// contract is loaded once for all tests: it does not change.
var contract = sync.OnceValues(func() (*promised, error) {
	doc, err := openapi3.NewLoader().LoadFromData(api.Contract())
	if err != nil {
		return nil, err
	}
	p := &promised{}
	for path, item := range doc.Paths.Map() {
		pattern := placeholder.ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
		if strings.HasSuffix(path, "/artifacts/{path}") {
			pattern = strings.TrimSuffix(pattern, `[^/]+`) + `.+`
		}
		p.paths = append(p.paths, promisedPath{path, regexp.MustCompile("^" + pattern + "$"), item})
	}
	slices.SortFunc(p.paths, func(a, b promisedPath) int { return strings.Count(a.path, "{") - strings.Count(b.path, "{") })
	return p, nil
})

// kept checks every answer of the tests against the contract: a documented
// status, a documented type, and JSON that fits its schema.
func kept(t testing.TB, method, target string, a answer) {
	t.Helper()
	p, err := contract()
	must(t, err)
	u, err := url.Parse(target)
	must(t, err)
	for _, at := range p.paths {
		op := at.item.GetOperation(method)
		if !at.pattern.MatchString(u.EscapedPath()) || op == nil {
			continue
		}
		response := op.Responses.Status(a.status)
		if response == nil {
			t.Errorf("%s %s answers %d, which the contract does not say: %s", method, target, a.status, shortened(a.body))
			return
		}
		if method == "HEAD" || len(response.Value.Content) == 0 {
			return
		}
		kind, _, err := mime.ParseMediaType(a.header.Get("Content-Type"))
		must(t, err)
		media := response.Value.Content[kind]
		if media == nil {
			t.Errorf("%s %s answers %d with %s, which the contract does not say", method, target, a.status, kind)
			return
		}
		if !strings.HasSuffix(kind, "json") {
			return
		}
		var v any
		must(t, json.Unmarshal(a.body, &v))
		if err := media.Schema.Value.VisitJSON(v); err != nil {
			t.Errorf("%s %s, answer %d: %v", method, target, a.status, err)
		}
		return
	}
}
