package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// The Auth app inside the server is the real one, so what is posted is what it
// takes.
func TestAJobThatWaitsForItsApprovalIsAskedAboutInTheAuthApp(t *testing.T) {
	s := serve(t, initialized(t))
	s.must("user", "add", "alice")
	s.must("project", "add", "cfd", "--member", "alice=owner")
	s.must("client", "add", "cli")
	s.must("site", "add", "lab")
	s.must("agent", "create", "--user", "alice", "--site", "lab", "--project", "cfd", "--thumbprint", strings.Repeat("A", 43))
	token := secret(t, s.must("token", "create", "--user", "alice", "--project", "cfd", "--client", "cli", "--for", "ci-code"))
	var job hpcsera.Job
	s.call(http.MethodPost, "/api/v1/jobs", token, `{"name": "hello", "script": "echo hello\n", "site": "lab"}`, &job)
	if job.Reason != hpcsera.WaitingForApproval {
		t.Fatalf("got %s (%s), want waiting_for_approval", job.State, job.Reason)
	}
	// Passkeys belong to a name, so the Auth app is at localhost.
	want := "alice was asked in the Auth app: " + strings.Replace(s.url, "127.0.0.1", "localhost", 1) + "/auth/requests/"
	limit, tick := time.After(20*time.Second), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !strings.HasPrefix(job.Message, want) {
		select {
		case <-limit:
			t.Fatalf("got %q, want %q\n%s", job.Message, want, s.stderr)
		case <-tick.C:
		}
		s.call(http.MethodGet, "/api/v1/jobs/"+job.ID, token, "", &job)
	}
	// The address is a page: who is not signed in is asked to do so.
	_, url, _ := strings.Cut(job.Message, ": ")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK || !strings.Contains(res.Request.URL.Path, "/auth/signin") {
		t.Errorf("%s led to %s with %d, want the page to sign in", url, res.Request.URL, res.StatusCode)
	}
}

// call makes a request that succeeds and reads its answer.
func (s *served) call(method, path, token, body string, into any) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil || res.StatusCode/100 != 2 {
		s.t.Fatalf("%s %s: got %d %s, %v", method, path, res.StatusCode, text.String(), err)
	}
	if err := json.Unmarshal(text.Bytes(), into); err != nil {
		s.t.Fatal(err)
	}
}
