package policy_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// sitePolicy writes a policy as the site's administrators would, if they were
// whoever runs the tests.
func sitePolicy(t testing.TB, text string) policy.SiteFiles {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hpcsera")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "policy.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return policy.SiteFiles{Dir: dir, Owner: os.Geteuid()}
}

func TestTheSiteSaysNoAboveTheUser(t *testing.T) {
	rejected, held := hpcsera.RejectedByPolicy, hpcsera.HeldBySite
	for _, c := range []struct {
		name, policy string
		reason       hpcsera.Reason
		waits        bool
		say          string
	}{
		{"drain", "mode: drain\nmessage: Cooling works until Friday.\n", hpcsera.SiteMaintenance, true, "Cooling works"},
		{"cancel", "mode: cancel\n", hpcsera.SiteMaintenance, true, "mode cancel"},
		{"another server", "servers: [{url: 'https://other.example.org'}]\n", held, true, "does not allow the server"},
		{"no server", "servers: []\n", held, true, "does not allow the server"},
		{"another account", "users: [bob]\n", held, true, "account alice01"},
		{"an older agent", "min_agent_version: 1.10.0\n", held, true, "1.10.0 at least"},
		{"no plain keys", "trust: [sk, passkey]\n", rejected, false, "approved by a plain key"},
		{"no batch steps", "step_types: [login]\n", rejected, false, "steps of type batch"},
		{"another queue", "queues: [test, long]\n", rejected, false, "name one of: test, long"},
		{"no account named", "accounts: [cfd1]\n", rejected, false, "not an allowed account"},
		{"fewer nodes", "caps: {node_count: 1}\n", rejected, false, "2 nodes exceed 1"},
		{"less memory", "caps: {memory: 16GiB}\n", rejected, false, "32GiB of memory"},
		{"less time", "caps: {duration: 30m}\n", rejected, false, "duration"},
		{"a shorter approval", "caps: {validity: 7d}\n", rejected, false, "valid for 720h"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			j.in.Account, j.in.Version, j.in.Files = "alice01", "v1.9.3-4-gabcdef", sitePolicy(t, c.policy)
			v, err := j.verify(t, s)
			if c.waits {
				wantWaiting(t, v, err, c.reason, c.say)
			} else {
				wantRefusal(t, v, err, c.reason, c.say)
			}
			// Above the server's word as well, and never in place of the signature.
			j.order.Signature = ""
			v, err = j.verify(t, s)
			wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "no signed approval")
		})
	}
}

func TestTheSiteOnlyTightens(t *testing.T) {
	all := "servers: [{url: 'https://hpc.example.org/'}]\nauth_apps: ['https://auth.example.org']\nusers: [alice01]\ntrust: [plain]\n" +
		"step_types: [batch]\nhosts: []\nqueues: [medium]\nmin_agent_version: 1.9.0\ncaps: {runs: 2, validity: 30d, node_count: 2, duration: 1h, memory: 32GiB}\n"
	for name, text := range map[string]string{"nothing said": "", "all allowed": all} {
		key := plainKey(t)
		s, j := newSite(t, key, nil), newJob(t, key)
		j.in.Account, j.in.Version, j.in.Files = "alice01", "1.9.3", sitePolicy(t, text)
		v, err := j.verify(t, s)
		if err != nil {
			t.Errorf("%s: got %v, want no error", name, err)
		} else if want := map[bool]int{true: 2, false: 3}[text == all]; v.Runs != want {
			t.Errorf("%s: got %d runs, want %d", name, v.Runs, want)
		}
	}
	t.Run("more than was signed", func(t *testing.T) {
		key := plainKey(t)
		s, j := newSite(t, key, nil), newJob(t, key)
		j.in.Files = sitePolicy(t, "caps: {runs: 100, node_count: 1000}\n")
		if v, err := j.verify(t, s); err != nil || v.Runs != 3 {
			t.Errorf("got %+v, %v, want the signed 3 runs", v, err)
		}
		j.order.Run.Resources.NodeCount = 5
		v, err := j.verify(t, s)
		wantRefusal(t, v, err, hpcsera.RejectedByPolicy, "signed limit of 4")
	})
}

func TestAPolicyThatCannotBeTrustedStopsEverything(t *testing.T) {
	for name, change := range map[string]func(*policy.SiteFiles){
		"not the owner's":             func(f *policy.SiteFiles) { f.Owner++ },
		"writable by the group":       func(f *policy.SiteFiles) { _ = os.Chmod(filepath.Join(f.Dir, "policy.yaml"), 0o664) },
		"writable by others":          func(f *policy.SiteFiles) { _ = os.Chmod(filepath.Join(f.Dir, "policy.yaml"), 0o646) },
		"in a directory of others":    func(f *policy.SiteFiles) { _ = os.Chmod(f.Dir, 0o777) },
		"a directory":                 func(f *policy.SiteFiles) { rename(t, f, "x"); _ = os.Mkdir(filepath.Join(f.Dir, "policy.yaml"), 0o755) },
		"not YAML":                    func(f *policy.SiteFiles) { overwrite(t, f, "mode: [") },
		"an unknown key":              func(f *policy.SiteFiles) { overwrite(t, f, "drain: true\n") },
		"a key twice":                 func(f *policy.SiteFiles) { overwrite(t, f, "mode: drain\nmode: cancel\n") },
		"an unknown mode":             func(f *policy.SiteFiles) { overwrite(t, f, "mode: Drain\n") },
		"an unknown kind of trust":    func(f *policy.SiteFiles) { overwrite(t, f, "trust: [ssh]\n") },
		"an unknown type of step":     func(f *policy.SiteFiles) { overwrite(t, f, "step_types: [shell]\n") },
		"a pin that is none":          func(f *policy.SiteFiles) { overwrite(t, f, "servers: [{url: 'https://x.example', tls_pins: [abc]}]\n") },
		"a version that is none":      func(f *policy.SiteFiles) { overwrite(t, f, "min_agent_version: new\n") },
		"an Auth app in another form": func(f *policy.SiteFiles) { overwrite(t, f, "auth_apps: ['https://AUTH.example.org']\n") },
	} {
		t.Run(name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			j.in.Files = sitePolicy(t, "")
			if _, err := j.verify(t, s); err != nil {
				t.Fatalf("before: got %v, want no error", err)
			}
			change(&j.in.Files)
			v, err := j.verify(t, s)
			wantWaiting(t, v, err, hpcsera.HeldBySite, "site's policy cannot be used")
		})
	}
	t.Run("no such directory", func(t *testing.T) {
		key := plainKey(t)
		s, j := newSite(t, key, nil), newJob(t, key)
		j.in.Files = policy.SiteFiles{Dir: filepath.Join(t.TempDir(), "none")}
		if _, err := j.verify(t, s); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
}

func overwrite(t *testing.T, f *policy.SiteFiles, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(f.Dir, "policy.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func rename(t *testing.T, f *policy.SiteFiles, name string) {
	t.Helper()
	if err := os.Rename(filepath.Join(f.Dir, "policy.yaml"), filepath.Join(f.Dir, name)); err != nil {
		t.Fatal(err)
	}
}

func TestTheSiteChoosesAuthApps(t *testing.T) {
	p := newPhone(t)
	s, j := withPhone(t, p)
	j.in.Files = sitePolicy(t, "auth_apps: ['https://login.example.org']\n")
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.RejectedByPolicy, "passkeys of https://auth.example.org")
	key, app := plainKey(t), newAuthApp(t)
	s, j = pinned(t, key, app), newJob(t, key)
	j.in.Files = sitePolicy(t, "auth_apps: ['https://login.example.org']\n")
	v, err = j.verify(t, s)
	wantWaiting(t, v, err, hpcsera.HeldBySite, "does not allow the Auth app")
}

func TestCodeAtTheServersWordRunsOnlyWhereUserAndSiteSaySo(t *testing.T) {
	key := plainKey(t)
	s, j := newSite(t, key, nil), newJob(t, key)
	j.order.Statement, j.order.Signature = nil, ""
	v, err := j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "no signed approval")
	j.in.Unsigned = true
	if v, err := j.verify(t, s); err != nil || v.Kind != policy.ServersWord || v.Manifest.Script != "icoFoam\n" {
		t.Errorf("got %+v, %v, want it accepted", v, err)
	}
	j.in.Files = sitePolicy(t, "trust: [plain, sk]\n")
	v, err = j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.RejectedByPolicy, "nobody but the server")
	j.in.Files = policy.SiteFiles{}
	j.order.Run.Resources.NodeCount = 5
	v, err = j.verify(t, s)
	wantRefusal(t, v, err, hpcsera.RejectedByPolicy, "limit of 4")
	t.Run("but a signature that is there must be right", func(t *testing.T) {
		j := newJob(t, plainKey(t))
		j.in.Unsigned = true
		v, err := j.verify(t, s)
		wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "not in this agent's trust file")
	})
}

func TestTheSitePinsTheServersKey(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	leaf := server.Certificate()
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
	check := func(pin string) error {
		files := sitePolicy(t, "servers: [{url: 'https://hpc.example.org', tls_pins: ['"+pin+"']}]\n")
		return files.VerifyConnection("https://HPC.example.org/")(state)
	}
	other := sha256.Sum256(nil)
	if err := check(base64.StdEncoding.EncodeToString(other[:])); err == nil || !strings.Contains(err.Error(), "does not pin") {
		t.Errorf("another key: got %v, want it refused", err)
	}
	if err := check(base64.StdEncoding.EncodeToString(sum[:])); err != nil {
		t.Errorf("the pinned key: got %v, want no error", err)
	}
	if err := (policy.SiteFiles{}).VerifyConnection("https://hpc.example.org")(state); err != nil {
		t.Errorf("no policy: got %v, want no error", err)
	}
	state.VerifiedChains = nil
	if err := check(base64.StdEncoding.EncodeToString(sum[:])); err == nil {
		t.Error("the pinned certificate beside the verified ones: got no error")
	}
}

func TestTheDocumentedPolicyIsUnderstood(t *testing.T) {
	page, err := os.ReadFile("../../../doc/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\nmode: drain")
	text, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the page shows no policy any more")
	}
	s, err := sitePolicy(t, "mode: drain"+text).Policy()
	if err != nil || s.Mode != policy.Drain || len(s.Servers) != 1 || s.Caps.NodeCount != 64 {
		t.Errorf("got %+v, %v, want the policy of the page", s, err)
	}
}
