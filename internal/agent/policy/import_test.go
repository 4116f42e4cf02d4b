package policy_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// change is a trust statement that adds a key, in a file with its signature.
type change struct {
	t    *testing.T
	next ssh.Signer
	s    approval.TrustStatement
	text []byte // "" is the statement's own
}

func newChange(t *testing.T) *change {
	t.Helper()
	c := &change{t: t, next: device(t, 0x05)}
	c.s = approval.TrustStatement{
		ID: hpcsera.NewID("tr"), Deployment: "https://hpc.example.org", User: "alice", Sites: []string{"gwdg"}, Agents: []string{thumb},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
	}
	c.entry(policy.Key{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c.next.PublicKey()))), Name: "new"})
	return c
}

func (c *change) entry(k policy.Key) {
	text, err := json.Marshal(k)
	if err != nil {
		c.t.Fatal(err)
	}
	c.s.Add = []json.RawMessage{text}
}

// file signs and writes the change.
func (c *change) file(key ssh.Signer) string {
	c.t.Helper()
	text, err := c.s.Canonical()
	if err != nil {
		c.t.Fatal(err)
	}
	armored, err := approval.SignTrust(key, c.s)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.text != nil {
		text = c.text
	}
	return c.write(text, armored)
}

func (c *change) write(text []byte, armored string) string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "trust.json")
	for name, b := range map[string][]byte{path: text, path + ".sig": []byte(armored)} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return path
}

func TestATrustStatementIsFollowedOnlyAsItSays(t *testing.T) {
	past := now.Add(time.Hour)
	for _, c := range []struct {
		name   string
		change func(*change)
		entry  func(*policy.Key)
		say    string
	}{
		{"another server", func(c *change) { c.s.Deployment = "https://other.example.org" }, nil, "is for agents of https://other"},
		{"another user", func(c *change) { c.s.User = "bob" }, nil, "is for agents of bob"},
		{"another site", func(c *change) { c.s.Sites = []string{"hlrs"} }, nil, "is for hlrs"},
		{"another agent", func(c *change) { c.s.Agents = []string{strings.Repeat("A", 43)} }, nil, "for the agents AAAA"},
		{"later", func(c *change) { c.s.NotBefore = now.Add(6 * time.Minute) }, nil, "holds from"},
		{"too late", func(c *change) { c.s.NotAfter = now }, nil, "ended at"},
		{"other bytes", func(c *change) { c.text = []byte(`{"add":[]}`) }, nil, "does not belong"},
		{"a key for one project", nil, func(k *policy.Key) { k.Projects = []string{"cfd"} }, "cannot say whom else to trust"},
		{"a key with limits", nil, func(k *policy.Key) { k.Limits = &policy.Caps{NodeCount: 1} }, "cannot say whom else to trust"},
		{"a key with few runs", nil, func(k *policy.Key) { k.Runs = 5 }, "cannot say whom else to trust"},
		{"a key that ends", nil, func(k *policy.Key) { k.NotAfter = &past }, "cannot say whom else to trust"},
		{"a plain key not marked", nil, func(k *policy.Key) { k.Plain = false }, "does not say plain"},
		{"an entry with an unknown word", func(c *change) {
			c.s.Add[0] = json.RawMessage(strings.Replace(string(c.s.Add[0]), `"name"`, `"expires":1,"name"`, 1))
		}, nil, "expires"},
		{"a plain key by the way", func(c *change) {
			c.entry(policy.Key{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(plainKey(c.t).PublicKey()))), Name: "new"})
		}, nil, "plain key"},
		{"a key with options", func(c *change) { c.entry(policy.Key{Key: "no-pty ssh-ed25519 AAAA", Name: "new"}) }, nil, "add[0]"},
		{"a name that is taken", func(c *change) {
			c.entry(policy.Key{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(c.next.PublicKey()))), Name: "laptop"})
		}, nil, "another key is called"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := plainKey(t)
			s, ch := newSite(t, key, c.entry), newChange(t)
			if c.change != nil {
				c.change(ch)
			}
			before, _ := os.ReadFile(s.path)
			d := &desk{path: s.path}
			if err := d.typing("").Import(ch.file(key), newJob(t, key).in); err == nil || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want an error with %q", err, c.say)
			}
			if after, _ := os.ReadFile(s.path); string(after) != string(before) {
				t.Errorf("the trust file changed: %s", after)
			}
		})
	}
	t.Run("a stranger's", func(t *testing.T) {
		s := newSite(t, plainKey(t), nil)
		d := &desk{path: s.path}
		if err := d.typing("").Import(newChange(t).file(plainKey(t)), newJob(t, s.key).in); policy.Reason(err) != hpcsera.ApprovalInvalid {
			t.Errorf("got %v, want it refused", err)
		}
	})
	t.Run("signed as code", func(t *testing.T) {
		key := plainKey(t)
		s, j, ch := newSite(t, key, nil), newJob(t, key), newChange(t)
		d := &desk{path: s.path}
		if err := d.typing("").Import(ch.write(j.order.Statement, j.order.Signature), j.in); err == nil || !strings.Contains(err.Error(), "hpcsera-code") {
			t.Errorf("got %v, want the namespace refused", err)
		}
	})
}

func TestATrustStatementIsFollowedOnce(t *testing.T) {
	key := plainKey(t)
	s, ch := newSite(t, key, nil), newChange(t)
	d := &desk{path: s.path}
	file, in := ch.file(key), newJob(t, key).in
	if err := d.typing("").Import(file, in); err != nil || !strings.Contains(d.out.String(), "Added new SHA256:") {
		t.Fatalf("got %v: %s, want it followed", err, d.out.String())
	}
	if _, err := newJob(t, ch.next).verify(t, s); err != nil {
		t.Errorf("a job signed by the new key: got %v, want no error", err)
	}
	if err := d.typing("").Remove("new"); err != nil {
		t.Fatal(err)
	}
	if err := d.typing("").Import(file, in); err == nil || !strings.Contains(err.Error(), "followed before") {
		t.Errorf("again: got %v, want it refused", err)
	}
	t.Run("removing the old key", func(t *testing.T) {
		swap := newChange(t)
		swap.s.Remove = []string{ssh.FingerprintSHA256(key.PublicKey()), ssh.FingerprintSHA256(plainKey(t).PublicKey())}
		if err := d.typing("").Import(swap.file(key), in); err != nil || !strings.Contains(d.out.String(), "Removed laptop") || !strings.Contains(d.out.String(), "Not here anyway") {
			t.Fatalf("got %v: %s", err, d.out.String())
		}
		v, err := newJob(t, key).verify(t, s)
		wantRefusal(t, v, err, hpcsera.ApprovalInvalid, "not in this agent's trust file")
		if _, err := newJob(t, swap.next).verify(t, s); err != nil {
			t.Errorf("the new key: got %v, want no error", err)
		}
	})
}

func TestAuthorizedKeysAreTakenOneByOne(t *testing.T) {
	first, second, sk, restricted := plainKey(t), plainKey(t), device(t, 0x05), plainKey(t)
	line := func(k ssh.Signer, comment string) string {
		return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.PublicKey()))) + " " + comment
	}
	file := filepath.Join(t.TempDir(), "authorized_keys")
	text := "# mine\n\n" + line(first, "laptop") + "\n" + line(second, "old") + "\n" +
		`from="10.0.0.1",command="rsync" ` + line(restricted, "backup") + "\nssh-dss AAAA x\n" + line(sk, "laptop") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	if err := d.typing("yes\nyes\nyes\n").AddAuthorized(file); err == nil || !strings.Contains(err.Error(), "at a terminal") {
		t.Errorf("without a terminal: got %v, want it refused", err)
	}
	at := d.typing("yes\ny\nyes\n")
	at.Terminal = true
	if err := at.AddAuthorized(file); err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	for _, want := range []string{"Left out line 4: you did not say yes", "Left out line 5: key: the key has options", "Left out line 6:", "Added 2 of the keys", "whoever copies its file"} {
		if !strings.Contains(d.out.String(), want) {
			t.Errorf("got %s, want it to say %q", d.out.String(), want)
		}
	}
	s := site{d.path, first}
	for name, c := range map[string]struct {
		key ssh.Signer
		ok  bool
	}{"yes": {first, true}, "a security key": {sk, true}, "no yes": {second, false}, "with options": {restricted, false}} {
		if _, err := newJob(t, c.key).verify(t, s); (err == nil) != c.ok {
			t.Errorf("%s: got %v, want accepted=%t", name, err, c.ok)
		}
	}
	at = d.typing("")
	at.Terminal = true
	if err := at.AddAuthorized(file); err != nil || !strings.Contains(d.out.String(), "trusted already") || !strings.Contains(d.out.String(), "nobody answered") {
		t.Errorf("again, and nobody there: got %v: %s", err, d.out.String())
	}
}
