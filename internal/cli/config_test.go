package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

func TestContextsAreKeptForTheirOwnerAlone(t *testing.T) {
	env := map[string]string{"XDG_CONFIG_HOME": t.TempDir()}
	c, err := loadConfig(env)
	if err != nil {
		t.Fatalf("loadConfig: %v", err)
	}
	c.Current = "prod"
	c.Contexts["prod"] = profile{Server: "https://hpcsera.example.org", Agents: []string{"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"}, Token: inFile}
	if err := c.save(); err != nil {
		t.Fatalf("save: %v", err)
	}
	info, err := os.Stat(c.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode is %v, %v; want 0600", info.Mode(), err)
	}
	back, err := loadConfig(env)
	if err != nil {
		t.Fatalf("loadConfig: %v", err)
	}
	if diff := cmp.Diff(c, back, cmpopts.IgnoreUnexported(config{})); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestAMisspeltKeyIsRefusedWithItsPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hpcsera", "config.yaml")
	if err := writePrivate(path, []byte("current: prod\ncontexts:\n  prod:\n    sever: https://x\n")); err != nil {
		t.Fatal(err)
	}
	_, err := loadConfig(map[string]string{"XDG_CONFIG_HOME": dir})
	if err == nil || !strings.Contains(err.Error(), "sever") || !strings.Contains(err.Error(), "4") {
		t.Errorf("got %v, want the key and its line", err)
	}
}

func TestATokenFileThatOthersCanReadIsRefused(t *testing.T) {
	store, err := tokenStore(map[string]string{"XDG_CONFIG_HOME": t.TempDir()})
	if err != nil {
		t.Fatalf("tokenStore: %v", err)
	}
	text, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	where, err := store.put("prod", client.NewSecret(text))
	if err != nil || where != inFile {
		t.Fatalf("put: %s, %v; want %s, without a session bus", where, err, inFile)
	}
	if info, err := os.Stat(store.file("prod")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v; want 0600", info.Mode(), err)
	}
	got, err := store.get("prod", where)
	if err != nil || got.Reveal() != text {
		t.Errorf("get: %v; want the token back", err)
	}
	if err := os.Chmod(store.file("prod"), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := store.get("prod", where); hpcsera.CodeOf(err) != hpcsera.Unauthenticated || strings.Contains(err.Error(), text[20:40]) {
		t.Errorf("got %v, want it refused without being shown", err)
	}
	if err := store.drop("prod", where); err != nil {
		t.Fatalf("drop: %v", err)
	}
	if _, err := os.Stat(store.file("prod")); err == nil {
		t.Errorf("the token is still there after drop")
	}
}

func TestOnlyAClientsTokenIsTaken(t *testing.T) {
	token, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	agent, _ := hpcsera.NewSecret(hpcsera.NewID("ag"))
	for name, tt := range map[string]struct {
		text string
		ok   bool
	}{
		"token": {token, true}, "agent's": {agent, false}, "cut short": {token[:len(token)-1], false},
		"mistyped": {strings.Replace(token, token[30:31], "~", 1), false}, "empty": {"", false}, "other": {"glpat-123", false},
	} {
		err := checkToken(client.NewSecret(tt.text), "HPCSERA_TOKEN")
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", name, err, tt.ok)
		}
		if err != nil && len(tt.text) > 30 && strings.Contains(err.Error(), tt.text[10:30]) {
			t.Errorf("%s: the message shows it: %v", name, err)
		}
	}
}

func TestAServerOfTheEnvironmentIsNotMixedWithAnothersContext(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{"XDG_CONFIG_HOME": dir}
	c, err := loadConfig(env)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	store, err := tokenStore(env)
	if err != nil {
		t.Fatal(err)
	}
	where, err := store.put("prod", client.NewSecret(text))
	if err != nil {
		t.Fatal(err)
	}
	c.Current, c.Contexts["prod"] = "prod", profile{Server: "https://prod.example.org", Project: "cfd", User: "alice", Site: "gwdg", Token: where}
	if err := c.save(); err != nil {
		t.Fatal(err)
	}
	other, _ := hpcsera.NewSecret(hpcsera.NewID("t"))
	for _, tt := range []struct {
		name    string
		env     map[string]string
		context string
		token   string
		project string
		site    string
	}{
		{"context alone", nil, "prod", text, "cfd", "gwdg"},
		{"same server in the environment", map[string]string{"HPCSERA_SERVER": "https://prod.example.org/"}, "prod", text, "cfd", "gwdg"},
		{"another server", map[string]string{"HPCSERA_SERVER": "https://evil.example.org"}, "", "", "", ""},
		{"another token", map[string]string{"HPCSERA_TOKEN": other}, "prod", other, "", "gwdg"},
		{"another site", map[string]string{"HPCSERA_SITE": "hlrs"}, "prod", text, "cfd", "hlrs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := map[string]string{"XDG_CONFIG_HOME": dir}
			for k, v := range tt.env {
				full[k] = v
			}
			s, err := (&app{env: full}).settings()
			if err != nil {
				t.Fatalf("settings: %v", err)
			}
			if s.name != tt.context || s.token.Reveal() != tt.token || s.profile.Project != tt.project || s.profile.Site != tt.site {
				t.Errorf("got context %q, project %q, site %q, right token %v; want %q, %q, %q, true",
					s.name, s.profile.Project, s.profile.Site, s.token.Reveal() == tt.token, tt.context, tt.project, tt.site)
			}
		})
	}
}
