package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

func TestAKeyIsTrustedWithinTheLimitsOfTheCommandLine(t *testing.T) {
	s := newSite(t)
	home := s.home()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	s.must(err)
	key, err := ssh.NewPublicKey(public)
	s.must(err)
	file := filepath.Join(home, "ci.pub")
	s.must(os.WriteFile(file, ssh.MarshalAuthorizedKey(key), 0o600))
	add := []string{"trust", "add", file, "--plain", "--name", "ci", "--fingerprint", ssh.FingerprintSHA256(key)}
	with := func(more ...string) []string { return append(add[:len(add):len(add)], more...) }
	trusted := filepath.Join(home, ".hpcsera", "trust.yaml")
	for name, args := range map[string][]string{
		"no nodes": with("--nodes", "0"), "fewer than none": with("--nodes", "-1"), "no duration": with("--duration", ""), "a duration without unit": with("--duration", "30"),
		"no memory": with("--memory", "0"), "memory of words": with("--memory", "much"), "no queue": with("--queue", ""), "no account": with("--account", ""),
		"no runs": with("--runs", "0"), "limits on many keys": {"trust", "add", "--from-authorized-keys", file, "--nodes", "1"},
		"a project for many keys": {"trust", "add", "--from-authorized-keys", file, "--project", "cfd"},
	} {
		if code, printed := s.types(home, "", args...); code == 0 {
			t.Errorf("%s: got %s, want it refused", name, printed)
		}
		if text, err := os.ReadFile(trusted); err == nil && strings.Contains(string(text), "ssh-ed25519") {
			t.Fatalf("%s: the key is trusted: %s", name, text)
		}
	}
	if code, printed := s.types(home, "", with("--nodes", "2", "--duration", "1h30m", "--memory", "32GiB", "--queue", "test,medium", "--account", "a1", "--account", "a2")...); code != 0 {
		t.Fatalf("got %d %s", code, printed)
	}
	got, err := policy.Load(trusted)
	s.must(err)
	l := got.Keys[0].Limits
	if l == nil || l.NodeCount != 2 || l.Duration != hpcsera.Duration(90*time.Minute) || l.Memory != 32<<30 || strings.Join(l.QueueNames, ",") != "test,medium" || strings.Join(l.Accounts, ",") != "a1,a2" {
		t.Errorf("got the limits %+v", l)
	}
	if _, printed := s.types(home, "", "trust", "list"); !strings.Contains(printed, "at most 2 nodes, at most 1h30m, at most 32GiB of memory, only queue test, medium, only account a1, a2") {
		t.Errorf("the list does not tell the limits: %s", printed)
	}
	if code, printed := s.types(home, "", "trust", "remove", "ci"); code != 0 {
		t.Fatalf("remove: %s", printed)
	}
	if code, printed := s.types(home, "", add...); code != 0 {
		t.Fatalf("without limits: got %d %s", code, printed)
	}
	if got, err = policy.Load(trusted); err != nil || got.Keys[0].Limits != nil {
		t.Errorf("without limits: got %+v, %v", got.Keys[0].Limits, err)
	}
}
