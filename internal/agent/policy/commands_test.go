package policy_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// desk is a user at a terminal on the site.
type desk struct {
	path string
	out  bytes.Buffer
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return &desk{path: filepath.Join(dir, "trust.yaml")}
}

func (d *desk) typing(answers string) policy.Commands {
	d.out.Reset()
	return policy.Commands{Path: d.path, In: strings.NewReader(answers), Out: &d.out}
}

func publicFile(t testing.TB, key ssh.Signer, comment string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "id.pub")
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))) + " " + comment + "\n"
	if err := os.WriteFile(path, []byte(line), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAddTrustsAKeyWhoseFingerprintWasTyped(t *testing.T) {
	key := device(t, 0x05)
	fingerprint := ssh.FingerprintSHA256(key.PublicKey())
	file := publicFile(t, key, "alice@laptop")
	end := fingerprint[len(fingerprint)-12:]

	t.Run("the end of it", func(t *testing.T) {
		d := newDesk(t)
		if err := d.typing(end + "\n").Add(policy.AddOptions{File: file}); err != nil {
			t.Fatalf("got %v, want no error", err)
		}
		shown, _, _ := strings.Cut(d.out.String(), "Added")
		if strings.Contains(shown, end) {
			t.Errorf("the answer was shown before it was typed: %s", shown)
		}
		if err := d.typing("").List(); err != nil || !strings.Contains(d.out.String(), "alice@laptop") || !strings.Contains(d.out.String(), fingerprint) {
			t.Errorf("List: got %v: %s", err, d.out.String())
		}
		if _, err := newJob(t, key).verify(t, site{d.path, key}); err != nil {
			t.Errorf("a job signed by it: got %v, want no error", err)
		}
	})
	for name, answer := range map[string]string{"something else": "AAAAAAAAAAAA\n", "an empty line": "\n", "nothing": "", "the beginning": fingerprint[:19] + "\n"} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			if err := d.typing(answer).Add(policy.AddOptions{File: file}); err == nil || !strings.Contains(err.Error(), "nothing was added") {
				t.Errorf("got %v, want an error that says nothing was added", err)
			}
			if _, err := os.Stat(d.path); err == nil {
				t.Error("a trust file was written")
			}
		})
	}
	t.Run("without a terminal", func(t *testing.T) {
		d := newDesk(t)
		commands := policy.Commands{Path: d.path, Out: &d.out}
		if err := commands.Add(policy.AddOptions{File: file}); err == nil || !strings.Contains(err.Error(), "--fingerprint") {
			t.Errorf("got %v, want advice to give --fingerprint", err)
		}
		if err := commands.Add(policy.AddOptions{File: file, Fingerprint: "SHA256:" + strings.Repeat("A", 43)}); err == nil {
			t.Error("another fingerprint: got no error")
		}
		if err := commands.Add(policy.AddOptions{File: file, Fingerprint: fingerprint}); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
	t.Run("from standard input", func(t *testing.T) {
		d := newDesk(t)
		line, _ := os.ReadFile(file)
		if err := d.typing(string(line) + end + "\n").Add(policy.AddOptions{File: "-"}); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
}

func TestAPlainKeyMustBeAskedFor(t *testing.T) {
	key := plainKey(t)
	d := newDesk(t)
	o := policy.AddOptions{File: publicFile(t, key, "ci"), Fingerprint: ssh.FingerprintSHA256(key.PublicKey())}
	err := d.typing("").Add(o)
	if err == nil || !strings.Contains(err.Error(), "whoever copies its file") || !strings.Contains(err.Error(), "--plain") {
		t.Errorf("got %v, want an error that says why and how", err)
	}
	o.Plain, o.Projects, o.Runs = true, []string{"cfd"}, 5
	o.Limits = &policy.Caps{NodeCount: 2}
	if err := d.typing("").Add(o); err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	for _, want := range []string{"for project cfd", "at most 2 nodes", "5 times"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("got %q, want it to say %q", d.out.String(), want)
		}
	}
}

func TestAddRefusesWhatIsNoPublicKeyOfAPerson(t *testing.T) {
	key := plainKey(t)
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey())))
	for _, c := range []struct{ name, text, say string }{
		{"options", `command="id",no-pty ` + line, "options"},
		{"two keys", line + "\n" + line + "\n", "more than one"},
		{"a private key", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "private key"},
		{"words", "hello\n", "not a public SSH key"},
		{"nothing", "", "not a public SSH key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "x.pub")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			err := newDesk(t).typing("").Add(policy.AddOptions{File: file, Plain: true, Fingerprint: ssh.FingerprintSHA256(key.PublicKey())})
			if err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want an error with %q", err, c.say)
			}
		})
	}
}

func TestKeysAndNamesStandOnce(t *testing.T) {
	d := newDesk(t)
	first, second := plainKey(t), plainKey(t)
	add := func(key ssh.Signer, name, comment string) error {
		return d.typing("").Add(policy.AddOptions{File: publicFile(t, key, comment), Name: name, Plain: true, Fingerprint: ssh.FingerprintSHA256(key.PublicKey())})
	}
	if err := add(first, "", "a\x1b[2J"); err != nil {
		t.Fatalf("a comment with control characters: got %v, want the file's name instead", err)
	}
	if err := d.typing("").List(); err != nil || strings.Contains(d.out.String(), "\x1b") || !strings.Contains(d.out.String(), "id ") {
		t.Errorf("got %v: %q, want the file's name and no control characters", err, d.out.String())
	}
	if err := add(first, "other", ""); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("the same key: got %v, want %s", err, hpcsera.Conflict)
	}
	if err := add(second, "id", ""); hpcsera.CodeOf(err) != hpcsera.Conflict || !strings.Contains(err.Error(), "--name") {
		t.Errorf("the same name: got %v, want %s", err, hpcsera.Conflict)
	}
	if err := add(second, "SHA256:x", ""); hpcsera.CodeOf(err) != hpcsera.InvalidField {
		t.Errorf("a name like a fingerprint: got %v, want %s", err, hpcsera.InvalidField)
	}
}

func TestRemoveAndWithdraw(t *testing.T) {
	key := plainKey(t)
	fingerprint := ssh.FingerprintSHA256(key.PublicKey())
	s := newSite(t, key, nil)
	d := &desk{path: s.path}
	o := policy.AddOptions{File: publicFile(t, key, "laptop"), Plain: true, Fingerprint: fingerprint}

	if err := d.typing("").Remove("phone"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("an unknown key: got %v, want %s", err, hpcsera.NotFound)
	}
	if err := d.typing("").Remove("laptop"); err != nil {
		t.Fatalf("Remove: got %v, want no error", err)
	}
	if _, err := newJob(t, key).verify(t, s); policy.Reason(err) != hpcsera.ApprovalInvalid {
		t.Errorf("after Remove: got %v, want it refused", err)
	}
	if err := d.typing("").Add(o); err != nil {
		t.Fatalf("adding it again: got %v, want no error", err)
	}

	j := newJob(t, key)
	for range 2 { // repeating it changes nothing
		if err := d.typing("").Withdraw(j.statement.ID); err != nil {
			t.Fatalf("Withdraw: got %v, want no error", err)
		}
	}
	if _, err := j.verify(t, s); policy.Reason(err) != hpcsera.ApprovalWithdrawn {
		t.Errorf("a withdrawn approval: got %v", err)
	}
	if err := d.typing("").Withdraw("laptop"); err != nil {
		t.Fatalf("withdrawing the key: got %v, want no error", err)
	}
	if _, err := newJob(t, key).verify(t, s); policy.Reason(err) != hpcsera.ApprovalWithdrawn {
		t.Errorf("a withdrawn key: got %v", err)
	}
	if err := d.typing("").Add(o); err == nil || !strings.Contains(err.Error(), "withdrawn") {
		t.Errorf("adding a withdrawn key: got %v, want it refused", err)
	}
	if err := d.typing("").Withdraw("ap_x"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("no id: got %v, want %s", err, hpcsera.NotFound)
	}
	if err := d.typing("").List(); err != nil || !strings.Contains(d.out.String(), "withdrawn: "+fingerprint) {
		t.Errorf("List: got %v: %s", err, d.out.String())
	}
	stranger := ssh.FingerprintSHA256(plainKey(t).PublicKey())
	if err := d.typing("").Withdraw(stranger); err != nil {
		t.Errorf("a key that was never added: got %v, want no error", err)
	}
}

func TestTheTrustFileKeepsEveryWordThroughItsYAML(t *testing.T) {
	s := newSite(t, plainKey(t), nil)
	for _, name := range []string{"no", "null", "5", "0755", "a: b", "- x", "#x", "'", `"`, "é", "*a", "&a", "!a", "%a", "@a", "2026-01-01", "1e3", "{}", "a #b", "~", "?", "|", "yes", "x:"} {
		s.change(t, func(f *policy.Trust) { f.Keys[0].Name, f.Keys[0].Projects = name, []string{name} })
		f, err := policy.Load(s.path)
		if err != nil || f.Keys[0].Name != name || f.Keys[0].Projects[0] != name {
			t.Errorf("%q: got %+v, %v", name, f, err)
		}
	}
}

func TestSaveKeepsWhatAnotherWroteMeanwhile(t *testing.T) {
	s := newSite(t, plainKey(t), nil)
	mine, err := policy.Load(s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.change(t, func(f *policy.Trust) { f.Withdrawn.Approvals = []string{hpcsera.NewID("ap")} })
	if err := mine.Save(); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("got %v, want %s", err, hpcsera.Conflict)
	}
	f, err := policy.Load(s.path)
	if err != nil || len(f.Withdrawn.Approvals) != 1 {
		t.Errorf("got %+v, %v, want the withdrawal kept", f, err)
	}
}

func TestAFailedSaveLeavesTheOldFile(t *testing.T) {
	s := newSite(t, plainKey(t), nil)
	before, _ := os.ReadFile(s.path)
	f, err := policy.Load(s.path)
	if err != nil {
		t.Fatal(err)
	}
	f.Keys = append(f.Keys, policy.Key{Key: "nonsense", Name: "x"})
	if err := f.Save(); err == nil {
		t.Error("a key that cannot be read: got no error")
	}
	after, _ := os.ReadFile(s.path)
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.path), ".trust-*"))
	if !bytes.Equal(before, after) || len(left) > 0 {
		t.Errorf("got %s and %v, want the old file and nothing beside it", after, left)
	}
}

func ExampleCommands_List() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	_ = policy.Commands{Path: filepath.Join(dir, "trust.yaml"), Out: os.Stdout}.List()
	fmt.Println(approval.Namespace)
	// Output:
	// No key is trusted, so nothing runs here. Add one: hpcsera-agent trust add FILE.pub
	// hpcsera-code
}
