package policy_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func TestAnAgentThatWouldRefuseEverythingIsTold(t *testing.T) {
	past := now.Add(-time.Hour)
	for _, c := range []struct {
		name  string
		key   ssh.Signer
		entry func(*policy.Key)
		rules string // of the site
		say   string // "" is well
	}{
		{"a plain key marked so", plainKey(t), nil, "", ""},
		{"a security key", device(t, 5), nil, "trust: [sk]\n", ""},
		{"a plain key not marked", plainKey(t), func(k *policy.Key) { k.Plain = false }, "", "does not say plain"},
		{"an ended one", plainKey(t), func(k *policy.Key) { k.NotAfter = &past }, "", "was trusted until 2026-11-22"},
		{"one for another project", plainKey(t), func(k *policy.Key) { k.Projects = []string{"melt"} }, "", "for other projects (melt)"},
		{"a kind that the site forbids", plainKey(t), nil, "trust: [sk, passkey]\n", "is a plain key, and the site's policy"},
		{"a kind that the site allows", plainKey(t), nil, "trust: [sk, plain]\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.key, c.entry)
			in := policy.Context{Projects: []string{"cfd"}, Now: now, Files: policy.SiteFiles{Dir: t.TempDir(), Owner: os.Geteuid()}}
			if err := os.WriteFile(filepath.Join(in.Files.Dir, "policy.yaml"), []byte(c.rules), 0o644); err != nil {
				t.Fatal(err)
			}
			told, err := policy.Outlook(s.path, in)
			if c.say == "" && (err != nil || len(told) != 1 || told[0] != "laptop") {
				t.Errorf("got %v, %v, want the key", told, err)
			}
			if c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say) || !strings.Contains(err.Error(), "trust add")) {
				t.Errorf("got %v, %v, want %q", told, err, c.say)
			}
		})
	}
	t.Run("no key", func(t *testing.T) {
		s := newSite(t, plainKey(t), nil)
		s.change(t, func(f *policy.Trust) { f.Keys = nil })
		if _, err := policy.Outlook(s.path, policy.Context{Now: now}); err == nil || !strings.Contains(err.Error(), "no key is trusted") {
			t.Errorf("got %v, want it said", err)
		}
		if told, err := policy.Outlook(s.path, policy.Context{Now: now, Unsigned: true}); err != nil || len(told) != 1 {
			t.Errorf("where nobody signs: got %v, %v, want it well", told, err)
		}
	})
}
