package settings_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/settings"
)

type config struct {
	Listen   string        `json:"listen"`
	Proxy    bool          `json:"behind_proxy"`
	Size     hpcsera.Bytes `json:"size"`
	Days     int           `json:"days"`
	Database string        `json:"database"`
	Friends  []friend      `json:"friends"`
	Log      settings.Log  `json:"log"`

	internal string
}

type friend struct {
	Name string `json:"name"`
}

func load(t *testing.T, text string, environ ...string) (config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config{Listen: "a:1", Log: settings.Log{Format: "text", Level: "info"}, internal: "kept"}
	_, err := settings.Source{Prefix: "X_", Environ: environ, File: path}.Load(&c)
	return c, err
}

func TestWhatIsNoSettingIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		environ []string
		say     string
	}{
		"a misspelt key":                {"listne: b:1\n", nil, "x.yaml:1"},
		"a key twice":                   {"listen: b:1\nlisten: c:1\n", nil, "x.yaml:2"},
		"a wrong type":                  {"behind_proxy: 1\n", nil, "true or false"},
		"a misspelt key in a list":      {"friends:\n  - nmae: x\n", nil, "x.yaml:2"},
		"a misspelt variable":           {"", []string{"X_LISTNE=b:1"}, "X_LISTNE"},
		"a list as a variable":          {"", []string{"X_FRIENDS=x"}, "X_FRIENDS"},
		"a variable of a wrong type":    {"", []string{"X_BEHIND_PROXY=perhaps"}, "X_BEHIND_PROXY"},
		"a variable that is no number":  {"", []string{"X_DAYS=many"}, "X_DAYS"},
		"a variable without its unit":   {"", []string{"X_SIZE=12"}, "X_SIZE"},
		"a variable that is no setting": {"", []string{"X_INTERNAL=x"}, "X_INTERNAL"},
	} {
		if got, err := load(t, c.text, c.environ...); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: got %+v, %v, want an error that says %q", name, got, err, c.say)
		}
	}
	if _, err := (settings.Source{Prefix: "X_", Usual: []string{filepath.Join(t.TempDir(), "none")}}).Load(&config{}); err == nil || !strings.Contains(err.Error(), "init") {
		t.Errorf("no configuration at all: got %v, want what to do", err)
	}
}

func TestVariablesWinOverTheFileAndTheFileOverDefaults(t *testing.T) {
	c, err := load(t, "listen: b:1\nsize: 1MiB\nfriends:\n  - name: bob\n", "X_LISTEN=c:1", "X_LOG_FORMAT=json", "X_DAYS=7", "HOME=/x", "X_CONFIG=elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "c:1" || c.Size != 1<<20 || c.Days != 7 || c.Log.Format != "json" || c.Log.Level != "info" || len(c.Friends) != 1 || c.internal != "kept" {
		t.Errorf("got %+v", c)
	}
	if got := settings.Keys(c); strings.Join(got, " ") != "listen behind_proxy size days database friends log.format log.level" {
		t.Errorf("got the keys %v", got)
	}
}

func TestNoPasswordIsPrinted(t *testing.T) {
	for _, database := range []string{"postgres://auth:geheim@db.example.org/auth", "postgres://db.example.org/auth?user=auth&password=geheim&sslpassword=geheim"} {
		var out bytes.Buffer
		settings.Log{Format: "text", Level: "info"}.New(&out).Info("settings", settings.Attrs(config{Listen: "a:1", Database: database})...)
		if strings.Contains(out.String(), "geheim") || !strings.Contains(out.String(), "db.example.org") || !strings.Contains(out.String(), "listen=a:1") {
			t.Errorf("got %s", out.String())
		}
	}
	for _, database := range []string{"mysql://a:geheim@b/c", "host=db password=geheim", "postgres://a:gehe@im@db/x", "postgres://a@db/x@y"} {
		if err := settings.CheckDatabase(database); err == nil || strings.Contains(err.Error(), "gehe") {
			t.Errorf("%s: got %v, want a refusal without the password", database, err)
		}
	}
	for _, database := range []string{"auth.db", "postgres://a:x@db/auth"} {
		if err := settings.CheckDatabase(database); err != nil {
			t.Errorf("%s: got %v, want no error", database, err)
		}
	}
	if err := (settings.Log{Format: "xml", Level: "info"}).Check(); err == nil {
		t.Error("a format that is none: got no error")
	}
	if err := (settings.Log{Format: "json", Level: "loud"}).Check(); err == nil {
		t.Error("a level that is none: got no error")
	}
}

func TestAKeyIsPrivateAndStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := settings.LoadKey(path, false); err == nil {
		t.Error("a key that was given and is not there: got no error")
	}
	first, err := settings.LoadKey(path, true)
	if err != nil {
		t.Fatal(err)
	}
	again, err := settings.LoadKey(path, true)
	if err != nil || !bytes.Equal(first, again) || len(first) != 32 {
		t.Errorf("again: got %d bytes, %v, want the same", len(again), err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := settings.LoadKey(path, true); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("one that others can read: got %v, want what to do", err)
	}
}
