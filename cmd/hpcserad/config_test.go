package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/strictyaml"
)

// load reads a configuration with the given text and environment.
func load(t *testing.T, text string, environ ...string) (config, string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hpcserad.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &program{environ: environ, config: path}
	c, err := p.loadConfig()
	return c, filepath.Dir(path), err
}

func TestAConfigurationThatCannotBeMeantIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, text string
		environ    []string
		say        string
	}{
		{"a misspelt key", "listen: 127.0.0.1:0\npublic_ulr: x\n", nil, "hpcserad.yaml:2"},
		{"a key of another place", "certificate: x\n", nil, "hpcserad.yaml:1"},
		{"a key twice", "listen: a:1\nlisten: b:1\n", nil, "hpcserad.yaml:2"},
		{"a wrong type", "behind_proxy: 1\n", nil, "true or false"},
		{"a size without unit", "limits: {body: 1000}\n", nil, "unit"},
		{"a size that no job fits in", "limits: {body: 1KiB}\n", nil, "64KiB"},
		{"half a certificate", "tls: {certificate: x.pem}\n", nil, "key"},
		{"a URL with a password", "public_url: https://a:b@c\n", nil, "public_url"},
		{"a URL that is none", "public_url: hpc.example.org\n", nil, "public_url"},
		{"an unknown level", "log: {level: loud}\n", nil, "log.level"},
		{"an unknown format", "log: {format: xml}\n", nil, "log.format"},
		{"mail from nobody", "auth: {mail: {server: 'smtp:25'}}\n", nil, "auth.mail"},
		{"mail that another program sends", "auth: {url: 'https://auth.example.org', mail: {server: 'smtp:25', from: a@example.org}}\n", nil, "auth.mail"},
		{"institutions of another program", "auth: {url: 'https://auth.example.org', institutions: [{name: uni}]}\n", nil, "auth.institutions"},
		{"institutions that are never asked", "limits: {institution_check: 46m}\n", nil, "limits.institution_check"},
		{"tokens without a life", "tokens: {days: 0}\n", nil, "tokens.days"},
		{"tokens that live longer than they may", "tokens: {days: 31, max_days: 30}\n", nil, "tokens.days"},
		{"tokens for more than a year", "tokens: {max_days: 367}\n", nil, "tokens.max_days"},
		{"a misspelt variable", "", []string{"HPCSERAD_LISTN=127.0.0.1:1"}, "HPCSERAD_LISTN"},
		{"a variable of a wrong type", "", []string{"HPCSERAD_BEHIND_PROXY=perhaps"}, "HPCSERAD_BEHIND_PROXY"},
		{"a variable with a duration that is none", "", []string{"HPCSERAD_LIMITS_GRACE=30"}, "HPCSERAD_LIMITS_GRACE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := load(t, c.text, c.environ...)
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want an error that says %q", err, c.say)
			}
		})
	}
}

func TestEnvironmentWinsOverFileAndFileOverDefault(t *testing.T) {
	c, dir, err := load(t, "listen: 127.0.0.1:1\ntokens: {days: 7}\ntls: {certificate: c.pem, key: /k.pem}\n",
		"HPCSERAD_LISTEN=127.0.0.1:2", "HPCSERAD_LOG_FORMAT=json", "HPCSERAD_LIMITS_BODY=1MiB", "HPCSERAD_TOKENS_MAX_DAYS=14", "HOME=/x")
	if err != nil {
		t.Fatal(err)
	}
	if c.Tokens != (tokens{Days: 7, MaxDays: 14}) {
		t.Errorf("tokens: got %+v", c.Tokens)
	}
	for name, pair := range map[string][2]string{
		"listen": {c.Listen, "127.0.0.1:2"}, "log.format": {c.Log.Format, "json"}, "log.level": {c.Log.Level, "info"},
		"limits.body": {c.Limits.Body.String(), "1MiB"}, "tls.certificate": {c.TLS.Certificate, filepath.Join(dir, "c.pem")}, "tls.key": {c.TLS.Key, "/k.pem"},
		"data_dir": {c.DataDir, filepath.Join(dir, "data")}, "database": {c.Database, filepath.Join(dir, "data", "hpcsera.db")},
		"admin_socket": {c.AdminSocket, filepath.Join(dir, "data", "admin.sock")},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: got %q, want %q", name, pair[0], pair[1])
		}
	}
}

func TestSettingsArePrintedWithoutSecrets(t *testing.T) {
	c, _, err := load(t, "database: postgres://hpcsera:geheim@db.example.org/hpcsera\n")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("settings", settings.Attrs(c)...)
	if strings.Contains(out.String(), "geheim") {
		t.Errorf("the password is printed: %s", out.String())
	}
	for _, want := range []string{"db.example.org", "listen=", "limits.body=64MiB", "tls.certificate="} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s, want %s in it", out.String(), want)
		}
	}
}

func TestSecretsOfTheAuthAppInsideAreFilesThatOnlyTheProgramReads(t *testing.T) {
	text := "auth:\n  mail: {server: 'smtp:25', from: a@example.org, user: a, password_file: mail.secret}\n" +
		"  institutions:\n    - {name: uni, title: Uni, issuer: 'https://login.example.edu', client_id: x, client_secret_file: uni.secret}\n"
	c, dir, err := load(t, text)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mail.secret", "uni.secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("geheim\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"auth.mail.password_file", "auth.institutions.uni.client_secret_file"} {
		if _, err := outside(c); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a secret that others can read: got %v, want %s and what to do", err, want)
		}
		if err := os.Chmod(filepath.Join(dir, map[bool]string{true: "mail.secret", false: "uni.secret"}[want == "auth.mail.password_file"]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := outside(c)
	if err != nil || got.Mailer == nil || len(got.Institutions) != 1 || got.Institutions[0].ClientSecret != "geheim" || got.CheckEvery != 30*time.Minute {
		t.Errorf("got %+v, %v", got, err)
	}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("settings", settings.Attrs(c)...)
	if strings.Contains(out.String(), "geheim") || !strings.Contains(out.String(), "login.example.edu") {
		t.Errorf("printed: %s", out.String())
	}
}

// Only lines that are keys lose their mark, at any depth of the examples.
var commented = regexp.MustCompile(`(?m)^# ?((?:  )*(?:- )?[a-z_]+:( .*)?)$`)

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
	for _, key := range settings.Keys(full) {
		if name := key[strings.LastIndexByte(key, '.')+1:]; !strings.Contains(template, name+":") {
			t.Errorf("the file does not show %s", key)
		}
	}
	if len(full.Auth.Institutions) != 1 || len(full.Auth.Institutions[0].Require) != 1 || full.Auth.Mail.From == "" {
		t.Errorf("the examples of mail and an institution: got %+v", full.Auth)
	}
	if full.Limits != defaults().Limits || full.Log != defaults().Log || full.Tokens != defaults().Tokens {
		t.Errorf("shown as defaults: got %+v %+v, want %+v %+v", full.Limits, full.Log, defaults().Limits, defaults().Log)
	}
}
