package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func decoded(t *testing.T, body []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	return v
}

func TestParametersAreHeldAgainstTheContract(t *testing.T) {
	operations, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	digest := hpcsera.DigestOf(nil)
	for _, c := range []struct {
		operation, query string
		path             map[string]string
		header           map[string]string
		code             hpcsera.Code
		field, say       string
	}{
		{operation: "GET /api/v1/jobs", query: "limit=0", code: hpcsera.InvalidField, field: "limit", say: "1 to 1000"},
		{operation: "GET /api/v1/jobs", query: "limit=many", code: hpcsera.InvalidField, field: "limit", say: "a whole number"},
		{operation: "GET /api/v1/jobs", query: "limit=1.5", code: hpcsera.InvalidField, field: "limit", say: "a whole number"},
		{operation: "GET /api/v1/jobs", query: "limit=99999999999999999999", code: hpcsera.InvalidField, field: "limit"},
		{operation: "GET /api/v1/jobs", query: "limit=1&limit=2", code: hpcsera.InvalidField, field: "limit", say: "once"},
		{operation: "GET /api/v1/jobs", query: "stat=running", code: hpcsera.UnknownField, field: "stat", say: "state"},
		{operation: "GET /api/v1/jobs", query: "state=runing", code: hpcsera.InvalidField, field: "state", say: "running"},
		{operation: "GET /api/v1/jobs", query: "label=paper", code: hpcsera.InvalidField, field: "label", say: "right form"},
		{operation: "GET /api/v1/jobs", query: "after=yesterday", code: hpcsera.InvalidField, field: "after", say: "right form"},
		{operation: "GET /api/v1/jobs/{id}", path: map[string]string{"id": "j_x"}, query: "wait=61", code: hpcsera.InvalidField, field: "wait", say: "0 to 60"},
		{operation: "GET /api/v1/jobs/{id}", path: map[string]string{"id": "j_x"}, query: "wait=-1", code: hpcsera.InvalidField, field: "wait"},
		{operation: "DELETE /api/v1/jobs/{id}", path: map[string]string{"id": "j_x"}, query: "purge=maybe", code: hpcsera.InvalidField, field: "purge", say: "true or false"},
		{operation: "GET /api/v1/jobs/{id}/logs/{stream}", path: map[string]string{"id": "j_x", "stream": "stdin"}, code: hpcsera.InvalidField, field: "stream", say: "stdout, stderr"},
		{operation: "PUT /api/v1/jobs/{id}/logs/{stream}", path: map[string]string{"id": "j_x", "stream": "stdout"}, query: "attempt=1", code: hpcsera.InvalidField, field: "offset", say: "missing"},
		{operation: "GET /api/v1/blobs/{digest}", path: map[string]string{"digest": "sha256:ABC"}, code: hpcsera.InvalidField, field: "digest", say: "64 hexadecimal digits"},
		{operation: "GET /api/v1/code/{digest}", path: map[string]string{"digest": "../../etc/passwd"}, code: hpcsera.InvalidField, field: "digest"},
		{operation: "POST /api/v1/jobs", header: map[string]string{"Idempotency-Key": strings.Repeat("x", 201)}, code: hpcsera.InvalidField, field: "Idempotency-Key"},
		{operation: "POST /api/v1/jobs", header: map[string]string{"Idempotency-Key": "two words"}, code: hpcsera.InvalidField, field: "Idempotency-Key"},
		{operation: "GET /api/v1/events", header: map[string]string{"Last-Event-ID": "last"}, code: hpcsera.InvalidField, field: "Last-Event-ID", say: "a whole number"},
		{operation: "GET /api/v1/tokens/self", query: "verbose=1", code: hpcsera.UnknownField, field: "verbose", say: "none"},
		{operation: "GET /api/v1/jobs", query: "limit=1000&state=running&label=a%3Db%3Dc&after=2026-11-22T00:00:00Z"},
		{operation: "GET /api/v1/blobs/{digest}", path: map[string]string{"digest": digest}, query: "job=j_x"},
		{operation: "GET /api/v1/jobs/{id}/artifacts/{path}", path: map[string]string{"id": "j_x", "path": "a/b c.csv"}},
	} {
		t.Run(c.operation+"?"+c.query, func(t *testing.T) {
			method, path, _ := strings.Cut(c.operation, " ")
			r, err := http.NewRequest(method, path+"?"+c.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range c.path {
				r.SetPathValue(name, value)
			}
			for name, value := range c.header {
				r.Header.Set(name, value)
			}
			expect(t, operations[c.operation].checkParameters(r), c.code, c.field, c.say)
		})
	}
}

func expect(t *testing.T, err error, code hpcsera.Code, field, say string) {
	t.Helper()
	if got := hpcsera.CodeOf(err); got != code {
		t.Fatalf("code: got %q (%v), want %q", got, err, code)
	}
	var e *hpcsera.Error
	if errors.As(err, &e) {
		if e.Field != field {
			t.Errorf("field: got %q (%v), want %q", e.Field, err, field)
		}
		if !strings.Contains(e.Error(), say) {
			t.Errorf("sentence: got %q, want %q in it", e.Error(), say)
		}
	}
}

func TestBodiesAreHeldAgainstTheContract(t *testing.T) {
	operations, err := loadOperations()
	if err != nil {
		t.Fatal(err)
	}
	const report = `{"job_id":"j_x","step":0,"attempt":1,"seq":1,"revision":0,"state":"queued","at":"2026-11-22T00:00:00Z"}`
	for _, c := range []struct {
		operation, body string
		code            hpcsera.Code
		field, say      string
	}{
		{"PATCH /api/v1/jobs/{id}", `{}`, hpcsera.InvalidField, "", "at least 1"},
		{"PATCH /api/v1/jobs/{id}", `{"hold":"yes"}`, hpcsera.InvalidField, "hold", "true or false"},
		{"PATCH /api/v1/jobs/{id}", `{"hodl":true}`, hpcsera.UnknownField, "hodl", `"hold"`},
		{"PATCH /api/v1/jobs/{id}", `{"hold":true,"hold":false}`, hpcsera.InvalidField, "hold", "twice"},
		{"PATCH /api/v1/jobs/{id}", `{"resources":{"node_count":-1}}`, hpcsera.InvalidField, "resources.node_count", "0 to"},
		{"PATCH /api/v1/jobs/{id}", `{"labels":{"a":1}}`, hpcsera.InvalidField, "labels.a", "text"},
		{"PUT /api/v1/jobs/{id}/status", `{"progress":1.5}`, hpcsera.InvalidField, "progress", "0 to 1"},
		{"PUT /api/v1/jobs/{id}/status", `[]`, hpcsera.InvalidField, "", "a mapping"},
		{"PUT /api/v1/jobs/{id}/status", ``, hpcsera.MalformedRequest, "", "JSON"},
		{"POST /api/v1/code", `{"name":"a","script":"x","gather":{}}`, hpcsera.NotSupportedYet, "gather", "not supported"},
		{"POST /api/v1/code", `{"name":"a","steps":[{"name":"b","type":"transfer"}]}`, hpcsera.NotSupportedYet, "steps[0].type", "transfer"},
		{"POST /api/v1/code", `{"name":"a","steps":[{"name":"b","type":"bach"}]}`, hpcsera.InvalidField, "steps[0].type", "login, batch"},
		{"POST /api/v1/code", `{"script":"x"}`, hpcsera.InvalidField, "name", "missing"},
		{"POST /api/v1/code", `{"name":"a","files":[{"path":"a","mode":"0777","size":1,"sha256":"x"}]}`, hpcsera.InvalidField, "files[0].mode", "0644"},
		{"POST /api/v1/approvals", `{"statement":"%%%","signature":"x"}`, hpcsera.InvalidField, "statement", ""},
		{"POST /api/v1/approvals", `{"statement":"e30="}`, hpcsera.InvalidField, "signature", "missing"},
		{"POST /api/v1/agents/{id}/work", `{"instance":"i_x","term":0,"epoch":0,"acked":"","free":1,"wait":61}`, hpcsera.InvalidField, "wait", "0 to 60"},
		{"POST /api/v1/agents/{id}/work", `{"instance":"i_x","term":"0","epoch":0,"acked":"","free":1,"wait":1}`, hpcsera.InvalidField, "term", "a whole number"},
		{"POST /api/v1/agents/{id}/work", `{"instance":"i_x","term":0,"epoch":0,"acked":"","free":1,"wait":1,"more":1}`, hpcsera.UnknownField, "more", "more"},
		{"POST /api/v1/agents/{id}/work", `{"instance":"i_x"} {}`, hpcsera.MalformedRequest, "", "behind"},
		{"POST /api/v1/agents/{id}/reports", `{"instance":"i_x","term":1,"epoch":1,"acked":"","reports":[` + report + `,` + strings.Replace(report, "queued", "lost", 1) + `]}`,
			hpcsera.InvalidField, "reports[1].state", "running"},
		{"POST /api/v1/agents/{id}/reports", `{"instance":"i_x","term":1,"epoch":1,"acked":"","reports":[` + strings.Replace(report, `"attempt":1`, `"attempt":0`, 1) + `]}`,
			hpcsera.InvalidField, "reports[0].attempt", "out of range"},
		{"POST /api/v1/agents/{id}/reports", `{"instance":"i_x","term":1,"epoch":1,"acked":"","reports":[` + report + `]}`, "", "", ""},
		{"PATCH /api/v1/jobs/{id}", `{"hold":false,"labels":{},"resources":{"memory":"1GiB"},"values":{"x":null}}`, "", "", ""},
	} {
		t.Run(c.operation+" "+c.body, func(t *testing.T) {
			expect(t, operations[c.operation].checkBody([]byte(c.body)), c.code, c.field, c.say)
		})
	}
}

func TestSpecsAreReadStrictlyAndErrorsNameTheirJob(t *testing.T) {
	for _, c := range []struct {
		name, body string
		bulk       bool
		code       hpcsera.Code
		field, say string
		index      int
	}{
		{"unknown", `{"code":"a","sit":"x"}`, false, hpcsera.UnknownField, "sit", `"site"`, -1},
		{"of a later version", `{"name":"a","script":"x","gather":{}}`, false, hpcsera.NotSupportedYet, "gather", "not supported", -1},
		{"wrong type", `{"code":"a","resources":{"node_count":"4"}}`, false, hpcsera.InvalidField, "resources.node_count", "a whole number", -1},
		{"unknown in one of many", `{"jobs":[{"code":"a"},{"code":"a","sit":"x"}]}`, true, hpcsera.UnknownField, "jobs[1].sit", `"site"`, 1},
		{"unknown beside many", `{"jobs":[{"code":"a"}],"site":"x"}`, true, hpcsera.UnknownField, "site", "site", -1},
		{"a list", `[{"code":"a"}]`, false, hpcsera.InvalidField, "", "a mapping", -1},
		{"not JSON", `{"code":`, false, hpcsera.MalformedRequest, "", "JSON", -1},
		{"nothing", ``, false, hpcsera.MalformedRequest, "", "JSON", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, bulk, err := readSpecs([]byte(c.body))
			expect(t, err, c.code, c.field, c.say)
			var e *hpcsera.Error
			if errors.As(err, &e) && e.Index != c.index {
				t.Errorf("index: got %d, want %d", e.Index, c.index)
			}
			if bulk != c.bulk {
				t.Errorf("bulk: got %v, want %v", bulk, c.bulk)
			}
		})
	}
	specs, bulk, err := readSpecs([]byte(`{"jobs":[{"code":"a","site":"x"},{"name":"b","script":"y"}]}`))
	if err != nil || !bulk || len(specs) != 2 || specs[0].Site != "x" || specs[1].Script != "y" {
		t.Errorf("two jobs: got %+v, %v, %v", specs, bulk, err)
	}
}
