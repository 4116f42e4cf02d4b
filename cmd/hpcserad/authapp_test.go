package main

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/server"
)

func TestTheKeyForTheAuthAppIsMadeOnceAndItsPublicHalfPrinted(t *testing.T) {
	dir := t.TempDir()
	if err := run(t.Context(), []string{"init", filepath.Join(dir, "x")}, nil, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, config: filepath.Join(dir, "x", "hpcserad.yaml")}
	first, second := s.must("auth", "key"), s.must("auth", "key")
	if first != second {
		t.Errorf("got %s and then %s, want the same key", first, second)
	}
	if strings.Contains(first, `"d"`) {
		t.Error("the private key is printed")
	}
	if _, err := decision.ParsePublicKey([]byte(first)); err != nil {
		t.Errorf("got %s: %v", first, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "x", "data", "deployment.key"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %v (%v), want the key's file", files, err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v (%v), want 0600", info.Mode(), err)
	}
}

// The whole way to a mail server is e2e's.
func TestTheAuthAppInsideMailsOnlyWhereItIsToldHow(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	for text, sends := range map[string]bool{"": false, "auth: {mail: {server: 'smtp.example.org:25', from: a@example.org}}\n": true} {
		cfg, _, err := load(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
			t.Fatal(err)
		}
		cfg.PublicURL = "http://127.0.0.1:1"
		front, err := server.Listen(server.Config{Listen: "127.0.0.1:0", Log: log})
		if err != nil {
			t.Fatal(err)
		}
		who, err := findPeople(t.Context(), cfg, front, log)
		if err != nil {
			t.Fatal(err)
		}
		if got := who.mailer(cfg) != nil; got != sends {
			t.Errorf("%q: mails: %t, want %t", text, got, sends)
		}
		if err := who.inbox.Mail(t.Context(), "nobody", "s", "t"); hpcsera.CodeOf(err) != hpcsera.NotFound {
			t.Errorf("to nobody: got %v, want not_found", err)
		}
		front.Close()
		if err := who.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheServerServesItsOAuthEndpoints(t *testing.T) {
	dir := t.TempDir()
	if err := run(t.Context(), []string{"init", filepath.Join(dir, "x")}, nil, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	s := serve(t, filepath.Join(dir, "x"), "HPCSERAD_LISTEN=127.0.0.1:0", "HPCSERAD_AUTH_URL=http://127.0.0.1:9")
	res, err := http.Get(s.url + "/.well-known/oauth-authorization-server")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var metadata map[string]any
	if err := json.NewDecoder(res.Body).Decode(&metadata); err != nil || metadata["issuer"] != s.url {
		t.Errorf("got %v (%v), want the issuer %s", metadata, err, s.url)
	}
	post := func(path, form string, want int) {
		t.Helper()
		answer, err := http.Post(s.url+path, "application/x-www-form-urlencoded", strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		if body, _ := io.ReadAll(answer.Body); answer.StatusCode != want {
			t.Errorf("%s: got %d %s, want %d", path, answer.StatusCode, body, want)
		}
	}
	post("/oauth/token", "client_id=cli", 400)
	post("/oauth/device_authorization", "client_id=nobody", 401)
	// The Auth app is away: nothing waits for a decision that cannot come.
	post("/oauth/device_authorization", "client_id=cli&dpop_jkt="+strings.Repeat("A", 43)+`&authorization_details=[{"type":"hpcsera_session"}]`, 503)
}

// line finds the line of the server's log that holds a head of a log.
func (s *served) line(log string) string {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(s.stderr.String()) {
			if strings.Contains(line, `msg="audit head" log=`+log+" ") && strings.HasSuffix(line, "\n") {
				return line
			}
		}
	}
	s.t.Fatalf("the log has no head of %s:\n%s", log, s.stderr)
	return ""
}

func TestBothAuditLogsAreVerifiedByTheLinesOfTheServersOwnLog(t *testing.T) {
	dir := initialized(t)
	s := serve(t, dir, "HPCSERAD_SYSLOG=none")
	s.must("user", "add", "alice")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = serve(t, dir, "HPCSERAD_SYSLOG=none")
	for _, c := range []struct {
		log  string
		more []string
	}{{"server", nil}, {"auth", []string{"--auth"}}} {
		out := s.must(append([]string{"audit", "verify", "--head", s.line(c.log)}, c.more...)...)
		if !strings.Contains(out, "as it was written") || !strings.Contains(out, "signature") {
			t.Errorf("%s: got %q, want it verified with its signature", c.log, out)
		}
	}
	for _, args := range [][]string{{"--head", s.line("auth")}, {"--auth", "--head", s.line("server")}} {
		if out, err := s.do(append([]string{"audit", "verify"}, args...)...); err == nil || !strings.Contains(err.Error(), "this is a head of the audit log of") {
			t.Errorf("a head of the other log: got %q, %v, want it to say so", out, err)
		}
	}
	for _, args := range [][]string{{"--head", ""}, {"--auth", "--head", " "}} {
		if out, err := s.do(append([]string{"audit", "verify"}, args...)...); !errors.As(err, new(usage.Error)) {
			t.Errorf("%q: got %q, %v, want a usage error", args, out, err)
		}
	}
	if out := s.must("audit", "export", "--auth"); !strings.Contains(out, `"deployment.add"`) {
		t.Errorf("export --auth: got %s, want the Auth app's lines", out)
	}
	if out := s.must("audit", "export"); !strings.Contains(out, `"user.create"`) {
		t.Errorf("export: got %s, want the server's lines", out)
	}
	elsewhere := &program{config: s.config, environ: []string{"HPCSERAD_AUTH_URL=https://auth.example.org"}, stdout: io.Discard}
	if err := elsewhere.verifyInside(nil, ""); err == nil || !strings.Contains(err.Error(), "hpcsera-auth audit") {
		t.Errorf("with an Auth app of its own: got %v, want where its log is", err)
	}
}
