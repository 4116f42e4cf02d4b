package httpapi_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
)

func TestNobodyGetsInWithoutAValidToken(t *testing.T) {
	d := newDeployment(t)
	valid := d.token(everyone)
	revoked := d.token(everyone)
	made, err := d.access.Tokens(t.Context(), auth.OperatorOnHost(), access.Filter{})
	must(t, err)
	for _, token := range made {
		if strings.Contains(revoked, strings.TrimPrefix(token.ID, "t_")) {
			must(t, one(d.access.RevokeToken(t.Context(), auth.OperatorOnHost(), access.Revocation{ID: token.ID})))
		}
	}
	other, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	for _, c := range []struct {
		name, authorization string
		code                hpcsera.Code
	}{
		{"no header", "", hpcsera.Unauthenticated},
		{"another scheme", "Basic YWxpY2U6eA==", hpcsera.Unauthenticated},
		{"no token", "Bearer ", hpcsera.Unauthenticated},
		{"a token cut short", "Bearer " + valid[:len(valid)-1], hpcsera.Unauthenticated},
		{"a token with another letter", "Bearer " + strings.Replace(valid, "hpcsera_t", "hpcsera_u", 1), hpcsera.Unauthenticated},
		{"two tokens", "Bearer " + valid + " " + valid, hpcsera.Unauthenticated},
		{"a token as an agent's", "DPoP " + valid, hpcsera.Unauthenticated},
		{"a token that was never made", "Bearer " + other, hpcsera.TokenInvalid},
		{"a revoked token", "Bearer " + revoked, hpcsera.TokenInvalid},
	} {
		for _, request := range []string{"GET /api/v1/jobs", "POST /api/v1/jobs", "GET /api/v1/jobs?limit=0", "PUT /api/v1/blobs/" + hpcsera.DigestOf(nil)} {
			method, path, _ := strings.Cut(request, " ")
			var header []string
			if c.authorization != "" {
				header = []string{"Authorization", c.authorization}
			}
			a := d.call("", method, path, "{not read}", header...)
			a.refused(t, 401, c.code, "")
			if got := a.header.Get("WWW-Authenticate"); got == "" {
				t.Errorf("%s, %s: no WWW-Authenticate", c.name, request)
			}
		}
	}
	if strings.Contains(d.log.String(), valid) || strings.Contains(d.log.String(), revoked) {
		t.Error("a token stands in the log")
	}
}

func TestAnExpiredTokenIsRefused(t *testing.T) {
	d := newDeployment(t)
	token := d.tokenOf(access.NewToken{User: "alice", Project: "cfd", Client: "cli", Roles: "1", Days: 1})
	d.stop()
	d.clock = func() time.Time { return time.Now().Add(25 * time.Hour) }
	d.start()
	d.call(token, "GET", "/api/v1/jobs", nil).refused(t, 401, hpcsera.TokenInvalid, "")
}

func TestWhatCannotBeReachedDoesNotExistAndAMissingRoleIsNamed(t *testing.T) {
	d := newDeployment(t)
	job := d.submitted(d.token(everyone))
	bob := d.tokenOf(access.NewToken{User: "bob", Project: "bio", Client: "cli", Roles: everyone})
	otherClient := d.tokenOf(access.NewToken{User: "alice", Project: "cfd", Client: "ci", Roles: everyone})
	for _, request := range []string{
		"GET ", "PATCH ", "DELETE ", "POST /retry", "GET /events", "GET /logs/stdout", "GET /logs/stdout?follow=true", "GET /artifacts", "GET /artifacts/a/b", "PUT /status",
	} {
		method, rest, _ := strings.Cut(request, " ")
		var body any
		switch method {
		case "PATCH":
			body = `{"hold":true}`
		case "PUT":
			body = `{"message":"x"}`
		}
		for name, token := range map[string]string{"another project": bob, "another client": otherClient} {
			if a := d.call(token, method, jobPath(job, rest), body); a.status != 404 || a.problem.Code != hpcsera.NotFound {
				t.Errorf("%s, %s: got %d %s, want 404 not_found", name, request, a.status, a.body)
			}
		}
		header := []string{"Accept", "text/event-stream"}
		if a := d.call(bob, method, jobPath(job, rest), body, header...); a.status != 404 {
			t.Errorf("a stream of another project's job, %s: got %d, want 404", request, a.status)
		}
	}
	viewer := d.token("1")
	for request, role := range map[string]string{
		"POST /api/v1/jobs": "POST_Job", "DELETE " + jobPath(job, ""): "DELETE_Job", "GET /api/v1/code": "GET_Code",
		"POST " + jobPath(job, "/retry"): "POST_Job",
	} {
		method, path, _ := strings.Cut(request, " ")
		var body any
		if path == "/api/v1/jobs" {
			body = script("hello")
		}
		a := d.call(viewer, method, path, body)
		a.refused(t, 403, hpcsera.Forbidden, "")
		if !strings.Contains(a.problem.Detail+value(a.problem.Hint), role) {
			t.Errorf("%s: got %s, want it to name %s", request, a.body, role)
		}
	}
	// New code needs role 4 beside role 6.
	d.call(d.token("1,6"), "POST", "/api/v1/jobs", script("hello")).refused(t, 403, hpcsera.Forbidden, "")
	if a := d.call(d.token("1"), "GET", jobPath(job, ""), nil); a.status != 200 {
		t.Errorf("the job after all that: got %d, want 200", a.status)
	}
}

func value(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func TestRequestsThatCannotBeUnderstoodAreRefusedAndNothingIsMade(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	many := strings.TrimSuffix(strings.Repeat(`{"code":"x","site":"lab"},`, 10_001), ",")
	for _, c := range []struct {
		name, body string
		status     int
		code       hpcsera.Code
		field      string
	}{
		{"not JSON", `{`, 400, hpcsera.MalformedRequest, ""},
		{"nothing", ``, 400, hpcsera.MalformedRequest, ""},
		{"a list", `[]`, 400, hpcsera.InvalidField, ""},
		{"an unknown field", `{"name":"a","script":"x","site":"lab","colour":"red"}`, 400, hpcsera.UnknownField, "colour"},
		{"a field of a later version", `{"name":"a","script":"x","site":"lab","gather":{"script_file":"x"}}`, 422, hpcsera.NotSupportedYet, "gather"},
		{"a wrong type", `{"name":"a","script":"x","site":"lab","resources":{"node_count":"two"}}`, 400, hpcsera.InvalidField, "resources.node_count"},
		{"a field twice", `{"name":"a","script":"x","site":"lab","site":"hlrs"}`, 400, hpcsera.InvalidField, "site"},
		{"an unknown site", `{"name":"a","script":"x","site":"nowhere"}`, 422, hpcsera.UnknownSite, "site"},
		{"unknown code", `{"code":"nothing","site":"lab"}`, 422, hpcsera.UnknownCode, "code"},
		{"a path that leaves", `{"name":"a","script_file":"../x","site":"lab","files":[{"path":"../x","mode":"0644","size":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`, 400, hpcsera.InvalidField, "files[0].path"},
		{"an absolute path", `{"name":"a","script_file":"/x","site":"lab","files":[{"path":"/x","mode":"0644","size":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`, 400, hpcsera.InvalidField, "files[0].path"},
		{"a path twice", `{"name":"a","script":"x","site":"lab","files":[{"path":"x","mode":"0644","size":1,"sha256":"` + strings.Repeat("0", 64) + `"},{"path":"x","mode":"0644","size":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`, 400, hpcsera.InvalidField, "files[1].path"},
		{"a link", `{"name":"a","script":"x","site":"lab","files":[{"path":"x","mode":"0120777","size":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`, 400, hpcsera.InvalidField, "files[0].mode"},
		{"a digest that is none", `{"name":"a","script":"x","site":"lab","files":[{"path":"x","mode":"0644","size":1,"sha256":"` + strings.Repeat("G", 64) + `"}]}`, 400, hpcsera.InvalidField, "files[0].sha256"},
		{"files whose bytes are not here", `{"name":"a","script_file":"x","site":"lab","files":[{"path":"x","mode":"0644","size":1,"sha256":"` + strings.Repeat("0", 64) + `"}]}`, 422, hpcsera.MissingBlobs, "files"},
		{"a value that breaks its schema", `{"name":"a","script":"x","site":"lab","parameters":{"n":{"type":"number"}},"values":{"n":"$(rm -rf ~)"}}`, 422, hpcsera.InvalidValue, "values.n"},
		{"a value with NUL", `{"name":"a","script":"x","site":"lab","parameters":{"s":{"type":"string"}},"values":{"s":"a\u0000b"}}`, 422, hpcsera.InvalidValue, "values.s"},
		{"a variable that programs obey as value", `{"name":"a","script":"x","site":"lab","values":{"LD_PRELOAD":"x.so"}}`, 422, hpcsera.InvalidValue, "values.LD_PRELOAD"},
		{"a second job that cannot be", `{"jobs":[{"name":"a","script":"x","site":"lab"},{"name":"b","script":"x","site":"nowhere"}]}`, 422, hpcsera.UnknownSite, "jobs[1].site"},
		{"no jobs", `{"jobs":[]}`, 400, hpcsera.InvalidField, "jobs"},
		{"too many jobs", `{"jobs":[` + many + `]}`, 400, hpcsera.InvalidField, "jobs"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.call(token, "POST", "/api/v1/jobs", c.body).refused(t, c.status, c.code, c.field)
		})
	}
	list := as[hpcsera.JobList](t, d.call(token, "GET", "/api/v1/jobs", nil), 200)
	if len(list.Jobs) != 0 {
		t.Errorf("%d jobs were made by refused requests", len(list.Jobs))
	}
	if code := as[hpcsera.CodeList](t, d.call(token, "GET", "/api/v1/code", nil), 200); len(code.Code) != 0 {
		t.Errorf("%d code parts were filed by refused requests", len(code.Code))
	}
}

func TestTheBodyMustBeJSONThatSaysSo(t *testing.T) {
	d := newDeployment(t)
	for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "application/jsonp", ";;", "application/yaml"} {
		d.call(d.token(everyone), "POST", "/api/v1/jobs", script("hello"), "Content-Type", kind).refused(t, 400, hpcsera.MalformedRequest, "Content-Type")
	}
	d.call(d.token(everyone), "POST", "/api/v1/jobs", script("hello"), "Content-Encoding", "gzip").refused(t, 400, hpcsera.MalformedRequest, "Content-Encoding")
	a := d.call(d.token(everyone), "POST", "/api/v1/jobs", script("hello"), "Content-Type", "application/json; charset=utf-8")
	if a.status != 201 {
		t.Errorf("with a charset: got %d %s, want 201", a.status, a.body)
	}
}

// endless is a body of two GiB that is made while it is sent.
type endless struct{ left int64 }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.left)
	for i := range p[:n] {
		p[i] = ' '
	}
	e.left -= n
	return int(n), nil
}

func TestABodyOfTwoGibibytesIsRefusedBeforeItIsRead(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	for _, announced := range []bool{true, false} {
		t.Run(fmt.Sprintf("announced=%v", announced), func(t *testing.T) {
			body := &endless{left: 2 << 30}
			r, err := http.NewRequestWithContext(t.Context(), "POST", d.url+"/api/v1/jobs", body)
			must(t, err)
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Expect", "100-continue")
			if announced {
				r.ContentLength = 2 << 30
			}
			transport := d.web.Transport.(*http.Transport).Clone()
			transport.ExpectContinueTimeout = time.Minute
			defer transport.CloseIdleConnections()
			res, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatalf("the refusal was lost: %v", err)
			}
			defer res.Body.Close()
			text, _ := io.ReadAll(res.Body)
			if res.StatusCode != 413 || !strings.Contains(string(text), "body_too_large") {
				t.Errorf("got %d %s, want 413 body_too_large", res.StatusCode, text)
			}
			if sent := 2<<30 - body.left; sent > 64<<20 {
				t.Errorf("%d bytes were taken before the refusal", sent)
			}
		})
	}
}

func TestUnknownPathsMethodsAndParametersAreProblems(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	d.call(token, "GET", "/", nil).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "GET", "/api/v1/job", nil).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "GET", "/api/v1//jobs", nil).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "GET", "/api/v1/jobs/../jobs", nil).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "GET", "/api/v1/jobs/j_nothing", nil).refused(t, 404, hpcsera.NotFound, "")
	d.call(token, "GET", "/api/v1/jobs?sweep=x", nil).refused(t, 400, hpcsera.UnknownField, "sweep")
	d.call(token, "GET", "/api/v1/blobs/sha256:abc", nil).refused(t, 400, hpcsera.InvalidField, "digest")
	a := d.call(token, "PUT", "/api/v1/jobs", "{}")
	a.refused(t, 405, hpcsera.MalformedRequest, "")
	if got, want := a.header.Get("Allow"), "GET, HEAD, POST"; got != want {
		t.Errorf("Allow: got %q, want %q", got, want)
	}
}

func TestAKeyMakesARequestSafeToRepeatAlsoAcrossARestart(t *testing.T) {
	d := newDeployment(t)
	token := d.token(everyone)
	body := `{"name":"a","script":"echo a\n","site":"lab"}`
	first := d.call(token, "POST", "/api/v1/jobs", body, "Idempotency-Key", "ci-1")
	job := as[hpcsera.Job](t, first, 201)
	if got, want := first.header.Get("Location"), "/api/v1/jobs/"+job.ID; got != want {
		t.Errorf("Location: got %q, want %q", got, want)
	}
	d.call(token, "POST", "/api/v1/jobs", body+" ", "Idempotency-Key", "ci-1").refused(t, 422, hpcsera.IdempotencyKeyReused, "Idempotency-Key")
	d.stop()
	d.start()
	again := d.call(token, "POST", "/api/v1/jobs", body, "Idempotency-Key", "ci-1")
	if again.status != 201 || string(again.body) != string(first.body) || again.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("again: got %d %s, want the first answer: %s", again.status, again.body, first.body)
	}
	if list := as[hpcsera.JobList](t, d.call(token, "GET", "/api/v1/jobs", nil), 200); len(list.Jobs) != 1 {
		t.Errorf("%d jobs, want 1", len(list.Jobs))
	}
	if got := as[hpcsera.Job](t, d.call(token, "GET", jobPath(job, ""), nil), 200); got.ID != job.ID || got.Version != job.Version {
		t.Errorf("the job after a restart: got %+v, want %+v", got, job)
	}
}
