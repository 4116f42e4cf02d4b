package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
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
