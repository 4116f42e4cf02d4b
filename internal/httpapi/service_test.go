package httpapi_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/api"
)

func TestTheServiceAnswersWithoutACredential(t *testing.T) {
	d := newDeployment(t)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ok\n"} {
		if a := d.call("", "GET", path, nil); a.status != 200 || string(a.body) != want {
			t.Errorf("%s: got %d %q, want %q", path, a.status, a.body, want)
		}
	}
	a := d.call("", "GET", "/openapi.yaml", nil)
	if a.status != 200 || !bytes.Equal(a.body, api.Contract()) || a.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("/openapi.yaml: got %d %s, %d bytes, want the contract", a.status, a.header.Get("Content-Type"), len(a.body))
	}
	// The client's transport asks for gzip by itself; this one does not.
	a = d.call("", "GET", "/openapi.yaml", nil, "Accept-Encoding", "identity")
	if a.header.Get("Content-Encoding") != "" || !bytes.Equal(a.body, api.Contract()) {
		t.Errorf("/openapi.yaml as it is: got %q, %d bytes", a.header.Get("Content-Encoding"), len(a.body))
	}
}

var loaded = regexp.MustCompile(`(?:src|href)="([^"]*)"`)

func TestThePageOfTheContractLoadsNothingFromElsewhere(t *testing.T) {
	d := newDeployment(t)
	page := d.call("", "GET", "/docs", nil)
	if page.status != 200 || !strings.HasPrefix(page.header.Get("Content-Type"), "text/html") {
		t.Fatalf("/docs: got %d %s", page.status, page.header.Get("Content-Type"))
	}
	policy := page.header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("policy: got %q, want %s", policy, want)
		}
	}
	if strings.Contains(policy, "http") || strings.Contains(policy, "*") || strings.Contains(policy, "script-src 'self' 'unsafe") {
		t.Errorf("policy: got %q, want nothing from elsewhere", policy)
	}
	found := loaded.FindAllStringSubmatch(string(page.body), -1)
	if len(found) < 3 {
		t.Fatalf("the page loads %v, want style and scripts", found)
	}
	for _, m := range found {
		a := d.call("", "GET", "/"+m[1], nil)
		if a.status != 200 || len(a.body) == 0 {
			t.Errorf("%s: got %d, %d bytes, want it from this server", m[1], a.status, len(a.body))
		}
	}
	start := d.call("", "GET", "/docs/start.js", nil)
	if !strings.Contains(string(start.body), "validatorUrl: null") {
		t.Error("the page asks a validator elsewhere about the contract")
	}
}
