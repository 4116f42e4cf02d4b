package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is output that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// served is a server that run started.
type served struct {
	t      *testing.T
	config string
	url    string
	stderr *lines
	stop   func() error
}

// serve starts the program as a person would, in dir, and waits until it
// tells its address.
func serve(t *testing.T, dir string, environ ...string) *served {
	t.Helper()
	s := &served{t: t, config: filepath.Join(dir, "hpcserad.yaml"), stderr: &lines{}}
	file := filepath.Join(t.TempDir(), "url")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--config", s.config, "--address-file", file}, environ, io.Discard, s.stderr)
	}()
	s.stop = sync.OnceValue(func() error {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); ; {
		if text, err := os.ReadFile(file); err == nil {
			s.url = strings.TrimSpace(string(text))
			return s
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("serve ended: %v\n%s", err, s.stderr)
		case <-limit:
			t.Fatalf("serve did not tell its address:\n%s", s.stderr)
		case <-tick.C:
		}
	}
}

// do runs an operator's command.
func (s *served) do(args ...string) (string, error) {
	s.t.Helper()
	var out bytes.Buffer
	err := run(s.t.Context(), append(args, "--config", s.config), nil, &out, io.Discard)
	return out.String(), err
}

func (s *served) must(args ...string) string {
	s.t.Helper()
	out, err := s.do(args...)
	if err != nil {
		s.t.Fatalf("hpcserad %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func (s *served) get(path, token string) int {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func initialized(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "srv")
	if err := run(t.Context(), []string{"init", dir, "--listen", "127.0.0.1:0"}, nil, io.Discard, io.Discard); err != nil {
		t.Fatalf("init: %v", err)
	}
	return dir
}

// secret finds the token in what a command printed.
func secret(t *testing.T, out string) string {
	t.Helper()
	for _, word := range strings.Fields(out) {
		if _, _, ok := hpcsera.ParseSecret(word); ok {
			return word
		}
	}
	t.Fatalf("no token in %q", out)
	return ""
}

func TestFromInitToATokenThatWorksAcrossARestart(t *testing.T) {
	dir := initialized(t)
	s := serve(t, dir)
	if got := s.get("/readyz", ""); got != 200 {
		t.Errorf("/readyz: got %d, want 200", got)
	}
	s.must("user", "add", "alice")
	s.must("project", "add", "cfd", "--member", "alice=owner")
	s.must("client", "add", "cli")
	s.must("site", "add", "lab")
	token := secret(t, s.must("token", "create", "--user", "alice", "--project", "cfd", "--client", "cli", "--for", "ci-code"))
	if got := s.get("/api/v1/tokens/self", token); got != 200 {
		t.Errorf("the token: got %d, want 200", got)
	}
	if err := s.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	if strings.Contains(s.stderr.String(), token) {
		t.Error("the token stands in the log")
	}
	s = serve(t, dir)
	if got := s.get("/api/v1/tokens/self", token); got != 200 {
		t.Errorf("the token after a restart: got %d, want 200", got)
	}
	id, _, _ := hpcsera.ParseSecret(token)
	for _, c := range []struct {
		do     []string
		before int
	}{
		{[]string{"user", "disable", "alice"}, 401}, {[]string{"user", "enable", "alice"}, 200},
		{[]string{"client", "disable", "cli"}, 401}, {[]string{"client", "enable", "cli"}, 200},
		{[]string{"project", "member", "cfd", "alice", "none"}, 401}, {[]string{"project", "member", "cfd", "alice", "member"}, 200},
		{[]string{"token", "revoke", id}, 401},
	} {
		s.must(c.do...)
		if got := s.get("/api/v1/tokens/self", token); got != c.before {
			t.Errorf("after %v: got %d, want %d from the next request on", c.do, got, c.before)
		}
	}
}

// job submits a job, or looks after one: it makes a request and returns the
// job of the answer.
func (s *served) job(method, path, token, body string) (j hpcsera.Job) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/api/v1/jobs"+path, strings.NewReader(body))
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
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode/100 != 2 || json.Unmarshal(text, &j) != nil {
		s.t.Fatalf("%s /jobs%s: got %s, %v: %s", method, path, res.Status, err, text)
	}
	return j
}

func TestTokensOfAUserAreRevokedTogetherWithTheirJobs(t *testing.T) {
	s := serve(t, initialized(t))
	s.must("user", "add", "alice")
	s.must("user", "add", "bob")
	s.must("project", "add", "cfd", "--member", "alice=owner", "--member", "bob=member")
	s.must("site", "add", "lab")
	for _, client := range []string{"gitlab", "lake", "cli"} {
		s.must("client", "add", client)
	}
	token := func(user, client string, more ...string) string {
		return secret(t, s.must(append([]string{"token", "create", "--user", user, "--project", "cfd", "--client", client}, more...)...))
	}
	gitlab, lake, bobs := token("alice", "gitlab", "--for", "ci-code"), token("alice", "lake", "--for", "ci-code"), token("bob", "gitlab", "--for", "ci-code")
	eye := token("bob", "cli", "--for", "viewer", "--scope", "project")
	jobs := map[string]string{}
	for name, text := range map[string]string{"gitlab": gitlab, "lake": lake, "bob": bobs} {
		jobs[name] = s.job(http.MethodPost, "", text, `{"name":"a","script":"#!/bin/sh\ntrue\n","site":"lab"}`).ID
	}
	for _, args := range [][]string{{}, {"--client", "gitlab"}, {"t_8f2k4m6p8r0t2v4x6z8a", "--user", "alice"}, {"--user", "alice", "--stop", "x"}} {
		var usage usage.Error
		if out, err := s.do(append([]string{"token", "revoke"}, args...)...); !errors.As(err, &usage) {
			t.Errorf("token revoke %v: got %q, %v, want a usage error", args, out, err)
		}
	}
	state := func(name string) hpcsera.State { return s.job(http.MethodGet, "/"+jobs[name], eye, "").State }
	if out := s.must("token", "revoke", "--user", "alice", "--client", "gitlab", "--stop"); !strings.Contains(out, "1") {
		t.Errorf("got %q, want one revoked", out)
	}
	if s.get("/api/v1/tokens/self", gitlab) != 401 || s.get("/api/v1/tokens/self", lake) != 200 || s.get("/api/v1/tokens/self", bobs) != 200 {
		t.Error("other tokens were revoked than alice's of gitlab")
	}
	if got := state("gitlab"); got != hpcsera.Cancelled {
		t.Errorf("with --stop its job is %s, want cancelled", got)
	}
	if out := s.must("token", "revoke", "--user", "alice"); !strings.Contains(out, "1") || s.get("/api/v1/tokens/self", lake) != 401 {
		t.Errorf("got %q, want the rest of alice's revoked", out)
	}
	if got := state("lake"); got != hpcsera.Held {
		t.Errorf("without --stop the job that waits is %s, want held", got)
	}
	if got := state("bob"); got != hpcsera.Pending || s.get("/api/v1/tokens/self", bobs) != 200 {
		t.Errorf("bob's job is %s, and his token must work", got)
	}
	if out := s.must("token", "revoke", "--user", "alice"); !strings.Contains(out, "0") {
		t.Errorf("again: got %q, want none", out)
	}
}

func TestAClientIsRegisteredForTokensOnDemandOnTheHost(t *testing.T) {
	dir := initialized(t)
	s := serve(t, dir)
	for _, args := range [][]string{
		{"nobody"}, {"gitlab", "--method", "magic"}, {"gitlab", "--ciba", "poll"}, {"gitlab", "--method", "secret", "--ciba", "ping"},
		{"gitlab", "--method", "private_key_jwt"}, {"gitlab", "--jwks", filepath.Join(dir, "none.jwks")},
	} {
		if args[0] == "gitlab" {
			_, _ = s.do("client", "add", "gitlab") // it may be there already
		}
		if out, err := s.do(append([]string{"client", "register"}, args...)...); err == nil {
			t.Errorf("client register %v: got %q, want it refused", args, out)
		}
	}
	if out := s.must("client", "register", "gitlab"); !strings.Contains(out, "none") {
		t.Errorf("without a method: got %q, want none", out)
	}
	one := regexp.MustCompile(`hpcsera_cs\S+`)
	shown := one.FindString(s.must("client", "register", "gitlab", "--method", "secret", "--ciba", "poll"))
	if shown == "" {
		t.Error("no secret is shown")
	}
	if out := s.must("client", "register", "gitlab", "--method", "secret"); strings.Contains(out, "hpcsera_") {
		t.Errorf("again: got %q, want the secret from before", out)
	}
	if again := one.FindString(s.must("client", "register", "gitlab", "--method", "secret", "--renew")); again == shown || again == "" {
		t.Errorf("renewed: got %q after %q, want another secret", again, shown)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.stderr.String(), shown) {
		t.Error("the secret stands in the log")
	}
}

func TestEveryListIsATableOrJSON(t *testing.T) {
	s := serve(t, initialized(t))
	s.must("user", "add", "root", "--operator")
	s.must("project", "add", "cfd", "--member", "root=viewer")
	s.must("client", "add", "cli")
	s.must("site", "add", "lab")
	s.must("site", "undrain", "lab")
	if out := s.must("site", "list"); !strings.Contains(out, "open") {
		t.Errorf("an open site: got %q", out)
	}
	s.must("site", "drain", "lab")
	s.must("token", "create", "--user", "root", "--project", "cfd", "--client", "cli", "--roles", "1", "--scope", "project", "--days", "2")
	thumbprint := strings.Repeat("A", 43)
	s.must("agent", "create", "--user", "root", "--site", "lab", "--project", "cfd", "--thumbprint", thumbprint)
	for kind, want := range map[string]string{
		"user": "operator", "project": "root=viewer", "client": "enabled", "site": "drained", "agent": "never", "token": "GET_JobStatus",
	} {
		if out := s.must(kind, "list"); !strings.Contains(out, want) {
			t.Errorf("%s list: got %q, want %q in it", kind, out, want)
		}
		var list []map[string]any
		if out := s.must(kind, "list", "--output", "json"); json.Unmarshal([]byte(out), &list) != nil || len(list) != 1 {
			t.Errorf("%s list as JSON: got %q, want one entry", kind, out)
		}
	}
	var agents []hpcsera.Agent
	if err := json.Unmarshal([]byte(s.must("agent", "list", "-o", "json")), &agents); err != nil {
		t.Fatal(err)
	}
	s.must("agent", "remove", agents[0].ID)
	if out := s.must("agent", "list"); strings.Contains(out, agents[0].ID) {
		t.Errorf("a removed agent is listed: %q", out)
	}
}

func TestMistakesOnTheCommandLineAreUsageErrorsAndOthersAreNot(t *testing.T) {
	s := serve(t, initialized(t))
	for _, args := range [][]string{
		{"nonsense"}, {"user", "nonsense"}, {"user", "add"}, {"user", "add", "a", "b"}, {"user", "list", "--all"},
		{"serv"}, {"init", "a", "b"}, {"restore", "a", "b"}, {"token", "create", "--user", "alice"}, {"user", "list", "--output", "xml"}, {"project", "add", "p", "--member", "alice"}, {"site", "disable", "lab"}, {"site", "drain"},
	} {
		if _, err := s.do(args...); !errors.As(err, new(usage.Error)) {
			t.Errorf("hpcserad %v: got %v, want a usage error", args, err)
		}
	}
	for _, args := range [][]string{{"user", "add", "Alice"}, {"user", "disable", "nobody"}, {"site", "drain", "nowhere"}, {"agent", "create", "--user", "a", "--site", "b", "--project", "c", "--thumbprint", "d"}} {
		if _, err := s.do(args...); err == nil || errors.As(err, new(usage.Error)) {
			t.Errorf("hpcserad %v: got %v, want the server's refusal", args, err)
		}
	}
}

func TestAMistypedCommandIsToldWhichWasMeant(t *testing.T) {
	for word, want := range map[string]string{"serv": "serve", "aduit": "audit"} {
		err := run(t.Context(), []string{word}, nil, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "Did you mean "+want) {
			t.Errorf("%s: got %v, want it to ask for %s", word, err, want)
		}
	}
	err := run(t.Context(), []string{"user", "lsit"}, nil, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "hpcserad user has no command \"lsit\". Did you mean list?") {
		t.Errorf("user lsit: got %v", err)
	}
}

func TestErrorsNameTheFlagsThatWereTyped(t *testing.T) {
	s := serve(t, initialized(t))
	s.must("user", "add", "alice")
	s.must("project", "add", "cfd", "--member", "alice=owner")
	s.must("client", "add", "cli")
	token := []string{"token", "create", "--user", "alice", "--project", "cfd", "--client", "cli"}
	for say, args := range map[string][]string{
		`--for: "cicode"`:                              append(token[:8:8], "--for", "cicode"),
		`--roles: unknown role "9". Roles are`:         append(token[:8:8], "--roles", "9"),
		"--days: a token lives":                        append(token[:8:8], "--for", "ci", "--days", "999"),
		"--not-before takes a time like 2026":          append(token[:8:8], "--for", "ci", "--not-before", "tomorrow"),
		"before it begins. Give it more days (--days)": append(token[:8:8], "--for", "ci", "--not-before", "2199-01-01T00:00:00Z"),
		"--user: there is no user":                     {"token", "create", "--user", "nobody", "--project", "cfd", "--client", "cli", "--for", "ci"},
		"--jwks is missing":                            {"client", "register", "cli", "--method", "private_key_jwt"},
	} {
		if out, err := s.do(args...); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("hpcserad %v: got %q, %v, want it to say %q", args, out, err, say)
		}
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.do("user", "list"); err == nil || !strings.Contains(err.Error(), ". Start it with the command serve") {
		t.Errorf("nobody listens: got %v, want two sentences", err)
	}
	err := run(t.Context(), []string{"serve", "--config", s.config}, []string{"HPCSERAD_PUBLIC_URL=http://hpc.example.org"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "public_url: ") {
		t.Errorf("a public URL without TLS: got %v, want the setting named", err)
	}
}

func TestCommandsSayWhenNoServerAnswers(t *testing.T) {
	dir := initialized(t)
	err := run(t.Context(), []string{"user", "list", "--config", filepath.Join(dir, "hpcserad.yaml")}, nil, io.Discard, io.Discard)
	if hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}

func TestASecondServerOnTheSameFolderIsRefusedAndTheFirstGoesOn(t *testing.T) {
	dir := initialized(t)
	s := serve(t, dir)
	if err := run(t.Context(), []string{"serve", "--config", s.config}, nil, io.Discard, io.Discard); err == nil {
		t.Error("a second server started")
	}
	if got := s.get("/readyz", ""); got != 200 {
		t.Errorf("the first one: got %d, want 200", got)
	}
}

func TestServeRefusesWhatWouldGiveTokensAway(t *testing.T) {
	dir := initialized(t)
	config := filepath.Join(dir, "hpcserad.yaml")
	for _, c := range []struct {
		name    string
		environ []string
		say     string
	}{
		{"plain HTTP for everybody", []string{"HPCSERAD_LISTEN=0.0.0.0:0"}, "TLS"},
		{"behind a proxy without a name", []string{"HPCSERAD_LISTEN=0.0.0.0:0", "HPCSERAD_BEHIND_PROXY=true"}, "public_url"},
		{"a certificate that is not there", []string{"HPCSERAD_TLS_CERTIFICATE=/nowhere.pem", "HPCSERAD_TLS_KEY=/nowhere.key"}, "certificate"},
		{"a data folder that is not there", []string{"HPCSERAD_DATA_DIR=" + filepath.Join(dir, "dtaa")}, "hpcserad init did not make"},
		{"an empty data folder", []string{"HPCSERAD_DATA_DIR=" + t.TempDir()}, "hpcserad init did not make"},
		{"a mistyped one beside a key of its own place", []string{"HPCSERAD_DATA_DIR=" + filepath.Join(dir, "dtaa"), "HPCSERAD_KEY_FILE=" + filepath.Join(dir, "data", "server.key")}, "data_dir"},
		{"a key that others can read", nil, "chmod 600"},
		{"a key that was promised", []string{"HPCSERAD_KEY_FILE=/nowhere/server.key"}, "server key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.say == "chmod 600" {
				if err := os.Chmod(filepath.Join(dir, "data", "server.key"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			err := run(t.Context(), []string{"serve", "--config", config}, c.environ, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want an error that says %q", err, c.say)
			}
			if _, err := os.Stat(filepath.Join(dir, "dtaa")); err == nil {
				t.Error("the folder was made")
			}
		})
	}
}

func TestInitTwiceKeepsWhatThereIs(t *testing.T) {
	dir := initialized(t)
	key, err := os.ReadFile(filepath.Join(dir, "data", "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"init", dir, "--listen", "127.0.0.1:9"}, nil, &out, io.Discard); err != nil {
		t.Fatalf("init again: %v", err)
	}
	again, err := os.ReadFile(filepath.Join(dir, "data", "server.key"))
	if err != nil || !bytes.Equal(key, again) {
		t.Errorf("the key changed (%v)", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "hpcserad.yaml"))
	if err != nil || strings.Contains(string(text), "127.0.0.1:9\n") || !strings.Contains(out.String(), "kept") {
		t.Errorf("the configuration changed (%v): %s", err, out.String())
	}
}

func TestMetricsCountRequestsAndCommits(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	s := serve(t, initialized(t), "HPCSERAD_METRICS="+address)
	s.must("user", "add", "alice")
	s.must("project", "add", "cfd", "--member", "alice=owner")
	s.must("client", "add", "cli")
	s.must("site", "add", "lab")
	s.get("/api/v1/tokens/self", "x")
	token := secret(t, s.must("token", "create", "--user", "alice", "--project", "cfd", "--client", "cli", "--for", "ci-code"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/v1/jobs", strings.NewReader(`{"name":"a","script":"true","site":"lab"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	made, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	made.Body.Close()
	read := func() string {
		res, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// Events are counted beside the requests, so perhaps a moment after them.
	const counted = `hpcsera_job_events_total{state="pending",type="job.state"} 1`
	text := read()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(text, counted) && time.Now().Before(deadline); text = read() {
		time.Sleep(5 * time.Millisecond)
	}
	for _, want := range []string{
		`hpcsera_requests_total{operation="getTokenSelf",status="401"} 1`,
		`hpcsera_requests_total{operation="submitJobs",status="201"} 1`, counted, "hpcsera_db_commits_total", "go_goroutines",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if got := s.get("/metrics", ""); got != 404 {
		t.Errorf("/metrics on the API's listener: got %d, want 404", got)
	}
}
