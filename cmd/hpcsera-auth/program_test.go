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
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/cmd/internal/usage"
	"github.com/hpcsera/hpcsera/internal/authapp"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines is output that a test reads while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(p) }
func (l *lines) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// served is an Auth app that run started.
type served struct {
	t              *testing.T
	config         string
	url            string
	stdout, stderr *lines
	stop           func() error
}

// serve starts the program as a person would, in dir, and waits until it tells
// its address.
func serve(t *testing.T, dir string, environ ...string) *served {
	t.Helper()
	s := &served{t: t, config: filepath.Join(dir, "hpcsera-auth.yaml"), stdout: &lines{}, stderr: &lines{}}
	file := filepath.Join(t.TempDir(), "url")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"serve", "--config", s.config, "--address-file", file}, environ, s.stdout, s.stderr)
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
		s.t.Fatalf("hpcsera-auth %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// get asks the running program. Its name is localhost, which need not resolve
// here.
func (s *served) get(path string) (int, string) {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		_, port, _ := net.SplitHostPort(address)
		return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
	}}}
	defer client.CloseIdleConnections()
	res, err := client.Get(s.url + path)
	if err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func initialized(t *testing.T) string {
	t.Helper()
	// The path of a socket has a limit.
	dir, err := os.MkdirTemp("", "auth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := run(t.Context(), []string{"init", dir, "--listen", "127.0.0.1:0"}, nil, io.Discard, io.Discard); err != nil {
		t.Fatalf("init: %v", err)
	}
	return dir
}

var setupLink = regexp.MustCompile(`http://localhost:\d+(/setup\?code=\S+)`)

func TestFromInitToAnInvitationAndADeploymentAcrossARestart(t *testing.T) {
	dir := initialized(t)
	s := serve(t, dir)
	for _, path := range []string{"/healthz", "/readyz", "/.well-known/openid-configuration", "/oidc/keys", "/signin"} {
		if status, body := s.get(path); status != http.StatusOK {
			t.Errorf("%s: got status %d: %s", path, status, body)
		}
	}
	if _, body := s.get("/.well-known/openid-configuration"); !strings.Contains(body, `"issuer":"`+s.url+`"`) {
		t.Errorf("got %s, want the issuer %s", body, s.url)
	}
	found := setupLink.FindStringSubmatch(s.stdout.String())
	if found == nil {
		t.Fatalf("no link for the first operator: %s", s.stdout)
	}
	if status, body := s.get(found[1]); status != http.StatusOK || !strings.Contains(body, "operator") {
		t.Errorf("the link: got status %d: %s", status, body)
	}
	if strings.Contains(s.stderr.String(), "/setup?code=") {
		t.Error("the link stands in the log")
	}
	if out := s.must("user", "add", "alice", "--mail", "alice@example.org"); !setupLink.MatchString(out) {
		t.Errorf("got %s, want a link", out)
	}
	key, err := decision.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.Public().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hpc.jwk")
	if err := os.WriteFile(file, public, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := s.do("deployment", "add", "hpc", "--url", "https://hpc.example.org", "--key", filepath.Join(dir, "hpcsera-auth.yaml")); err == nil || !strings.Contains(err.Error(), "hpcserad auth key prints it") {
		t.Errorf("no key: got %q, %v, want where it comes from", out, err)
	}
	s.must("deployment", "add", "hpc", "--url", "https://hpc.example.org", "--key", file)
	pin := regexp.MustCompile(`hpcsera-auth-key \S+`)
	before := pin.FindString(s.stdout.String())
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = serve(t, dir)
	if out := s.must("deployment", "list"); !strings.Contains(out, "https://hpc.example.org") || !strings.Contains(out, key.ID()) {
		t.Errorf("after a restart: got %s", out)
	}
	if after := pin.FindString(s.stdout.String()); after != before || after == "" {
		t.Errorf("what agents pin: got %q after %q", after, before)
	}
	if out := s.must("audit", "verify"); !strings.Contains(out, "unchanged up to ") {
		t.Errorf("audit verify: got %s", out)
	}
	var actions []string
	for line := range strings.Lines(s.must("audit", "export")) {
		var l struct{ Action string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		actions = append(actions, l.Action)
	}
	if all := strings.Join(actions, " "); !strings.Contains(all, "deployment.add") || !strings.Contains(all, "key.new") {
		t.Errorf("audit export: got %s", all)
	}
	if out := s.must("audit", "export", "--after", "1"); strings.Count(out, "\n") != len(actions)-1 {
		t.Errorf("audit export --after 1: got %s, want all but the first line of %s", out, actions)
	}
	if out, err := s.do("audit", "verify", "--head", ""); !errors.As(err, new(usage.Error)) {
		t.Errorf("an empty head: got %q, %v, want a usage error", out, err)
	}
	out, err := s.do("doctor")
	if err == nil || !strings.Contains(out, "admin socket   ok") || !strings.Contains(out, "an operator    FAILED") {
		t.Errorf("doctor without an operator: got %v: %s", err, out)
	}
	s.must("deployment", "remove", "hpc")
	if out := s.must("user", "list", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("users: got %s, want none before they accept", out)
	}
}

func TestACommandThatCannotBeMeantSaysHow(t *testing.T) {
	for _, args := range [][]string{{"user", "ad", "alice"}, {"user", "add"}, {"serv"}, {"init", "a", "b"}, {"user", "list", "--output", "xml"}, {"deployment", "add", "hpc"}} {
		if err := run(t.Context(), args, nil, io.Discard, io.Discard); !errors.As(err, new(usage.Error)) {
			t.Errorf("%v: got %v, want a usage error", args, err)
		}
	}
	if err := run(t.Context(), []string{"deploymnet"}, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "Did you mean deployment?") {
		t.Errorf("deploymnet: got %v, want which was meant", err)
	}
	s := filepath.Join(initialized(t), "hpcsera-auth.yaml")
	err := run(t.Context(), []string{"user", "list", "--config", s}, nil, io.Discard, io.Discard)
	if hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("nobody listens: got %v, want %s", err, hpcsera.Unavailable)
	}
}

func TestServeRefusesAFolderThatInitDidNotMake(t *testing.T) {
	dir := initialized(t)
	for _, data := range []string{filepath.Join(dir, "dtaa"), t.TempDir()} {
		err := run(t.Context(), []string{"serve", "--config", filepath.Join(dir, "hpcsera-auth.yaml")}, []string{"HPCSERA_AUTH_DATA_DIR=" + data}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "hpcsera-auth init did not make") {
			t.Errorf("%s: got %v, want it refused", data, err)
		}
	}
}

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	for _, c := range []struct{ name, text, say string }{
		{"a misspelt key", "public_ulr: x\n", "hpcsera-auth.yaml:1"},
		{"half a certificate", "tls: {certificate: x.pem}\n", "key"},
		{"a URL with a password", "public_url: https://a:b@c\n", "public_url"},
		{"an address in the place of a name", "public_url: https://192.0.2.1\n", "passkeys"},
		{"no TLS", "public_url: http://auth.example.org\n", "TLS"},
		{"mail from nobody", "mail: {server: 'smtp:25'}\n", "mail"},
		{"mail by no port", "mail: {server: smtp, from: a@example.org}\n", "mail.server"},
		{"a password without its user", "mail: {server: 'smtp:25', from: a@example.org, password_file: x}\n", "mail"},
		{"an unknown level", "log: {level: loud}\n", "log.level"},
		{"another database", "database: mysql://a:geheim@b/c\n", "PostgreSQL"},
	} {
		path := filepath.Join(t.TempDir(), "hpcsera-auth.yaml")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (&program{config: path}).loadConfig(); err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: got %v, want an error that says %q", c.name, err, c.say)
		}
	}
}

func TestSecretsAreFilesThatOnlyTheProgramReads(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hpcsera-auth.yaml")
	text := "mail: {server: 'smtp:25', from: a@example.org, user: a, password_file: mail.secret}\n" +
		"institutions:\n  - {name: uni, title: Uni, issuer: 'https://login.example.edu', client_id: x, client_secret_file: uni.secret}\n"
	for name, content := range map[string]string{"hpcsera-auth.yaml": text, "mail.secret": "geheim\n", "uni.secret": "geheimer\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := (&program{config: path}).loadConfig()
	if err != nil {
		t.Fatal(err)
	}
	list, err := authapp.Institutions("institutions", c.Institutions)
	if err != nil || len(list) != 1 || list[0].ClientSecret != "geheimer" {
		t.Errorf("got %+v, %v", list, err)
	}
	if m, err := c.Mail.Mailer("mail"); err != nil || m == nil {
		t.Errorf("got %v, %v", m, err)
	}
	var out bytes.Buffer
	c.Log.New(&out).Info("settings", settings.Attrs(c)...)
	if strings.Contains(out.String(), "geheim") || !strings.Contains(out.String(), "login.example.edu") {
		t.Errorf("printed: %s", out.String())
	}
	if err := os.Chmod(filepath.Join(dir, "uni.secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := authapp.Institutions("institutions", c.Institutions); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a secret that others can read: got %v, want what to do", err)
	}
}

// Only lines that are keys lose their mark, at any depth of the examples.
var commented = regexp.MustCompile(`(?m)^# ?((?:  )?(?:  )?(?:- )?[a-z_]+:( .*)?)$`)

func TestTheConfigurationThatInitWritesShowsEverySettingWithItsDefault(t *testing.T) {
	doc, err := strictyaml.Parse("template", []byte(template))
	if err != nil {
		t.Fatal(err)
	}
	got := defaults()
	if err := doc.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if want := defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("as written: got %+v, want the defaults %+v", got, want)
	}
	all := commented.ReplaceAllString(template, "$1")
	if doc, err = strictyaml.Parse("template", []byte(all)); err != nil {
		t.Fatalf("%v in\n%s", err, all)
	}
	var full config
	if err := doc.Decode(&full); err != nil {
		t.Fatalf("%v in\n%s", err, all)
	}
	if full.Limits != defaults().Limits || full.Log != defaults().Log || full.Product != defaults().Product {
		t.Errorf("shown as defaults: got %+v, want %+v", full, defaults())
	}
	for _, key := range settings.Keys(full) {
		if name := key[strings.LastIndexByte(key, '.')+1:]; !strings.Contains(template, name+":") {
			t.Errorf("the file does not show %s", key)
		}
	}
	if len(full.Institutions) != 1 || len(full.Institutions[0].Require) != 1 {
		t.Errorf("the example of an institution: got %+v", full.Institutions)
	}
}
