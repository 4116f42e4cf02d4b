package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestACredentialIsBoundToItsHost(t *testing.T) {
	const secret = "correct-horse-battery"
	good := "lake: {host: lake.example, username: alice, password: x}\nregistry: {host: 'registry.example:5000', username: alice, password: " + secret + "}\n"
	for name, c := range map[string]struct {
		text, ask, host string
		mode            os.FileMode
		say             string // "" where it is given
	}{
		"its host":         {good, "registry", "registry.example:5000", 0o600, ""},
		"another host":     {good, "registry", "evil.example", 0o600, "is for registry.example:5000, not for evil.example"},
		"another port":     {good, "registry", "registry.example", 0o600, "is for registry.example:5000"},
		"an unknown name":  {good, "hub", "registry.example:5000", 0o600, "no credential hub; it has lake, registry"},
		"readable by all":  {good, "registry", "registry.example:5000", 0o644, "can be read by others (mode 0644)"},
		"no file":          {"", "registry", "registry.example:5000", 0, "no credential registry"},
		"no password":      {"registry: {host: h.example, username: " + secret + "}\n", "registry", "h.example", 0o600, "lacks username or password"},
		"a misspelt key":   {"registry: {host: h.example, passwd: " + secret + "}\n", "registry", "h.example", 0o600, "credentials.yaml:1 cannot be read"},
		"a secret as key":  {"registry: {host: h.example, " + secret + ": x}\n", "registry", "h.example", 0o600, "credentials.yaml:1 cannot be read"},
		"no YAML":          {"registry: {host: h.example, password: " + secret + "\n", "registry", "h.example", 0o600, "cannot be read"},
		"a secret as list": {"registry: [" + secret + "]\n", "registry", "h.example", 0o600, "cannot be read"},
		"a secret as name": {"registry: " + secret + "\n", "registry", "h.example", 0o600, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &Agent{config: Config{StateDir: t.TempDir()}}
			if c.mode != 0 {
				if err := os.WriteFile(filepath.Join(a.config.StateDir, credentialsFile), []byte(c.text), c.mode); err != nil {
					t.Fatal(err)
				}
			}
			got, err := a.credential("container.credential", c.ask, c.host)
			if c.say == "" {
				if err != nil || got.Username != "alice" || got.Password != secret {
					t.Errorf("got %v, %v, want it", got.Username, err)
				}
				return
			}
			if hpcsera.CodeOf(err) != hpcsera.NotSupportedBySite || !strings.HasPrefix(err.Error(), "container.credential: ") || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %q at container.credential", err, c.say)
			}
			if strings.Contains(err.Error(), secret) || got.Password != "" {
				t.Errorf("it tells the secret: %v", err)
			}
		})
	}
}
