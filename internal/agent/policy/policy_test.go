package policy_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

const thumb = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"

var now = time.Date(2026, 11, 22, 14, 5, 0, 0, time.UTC)

// plainKey is a key in a file; deviceKey is a FIDO security key in software,
// whose signatures are laid out as in OpenSSH's PROTOCOL.u2f.
func plainKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type deviceKey struct {
	private ed25519.PrivateKey
	flags   byte
}

func (d deviceKey) PublicKey() ssh.PublicKey {
	key, err := ssh.ParsePublicKey(ssh.Marshal(struct{ Type, Key, Application string }{
		ssh.KeyAlgoSKED25519, string(d.private.Public().(ed25519.PublicKey)), "ssh:"}))
	if err != nil {
		panic(err)
	}
	return key
}

func (d deviceKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	application, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	rest := []byte{d.flags, 0, 0, 0, 1}
	signed := append(append(application[:], rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(d.private, signed), Rest: rest}, nil
}

func device(t testing.TB, flags byte) deviceKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return deviceKey{private, flags}
}

// site is an agent's side: a trust file in a directory of its own.
type site struct {
	path string
	key  ssh.Signer
}

func newSite(t testing.TB, key ssh.Signer, entry func(*policy.Key)) site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := site{filepath.Join(dir, "trust.yaml"), key}
	s.change(t, func(f *policy.Trust) {
		k := policy.Key{Key: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))), Name: "laptop", Plain: !approval.IsSecurityKey(key.PublicKey())}
		if entry != nil {
			entry(&k)
		}
		f.Keys = append(f.Keys, k)
	})
	return s
}

func (s site) change(t testing.TB, f func(*policy.Trust)) {
	t.Helper()
	trust, err := policy.Load(s.path)
	if err != nil {
		t.Fatalf("Load: got %v, want no error", err)
	}
	f(trust)
	if err := trust.Save(); err != nil {
		t.Fatalf("Save: got %v, want no error", err)
	}
}

func manifest() hpcsera.Manifest {
	return hpcsera.Manifest{
		Name:    "cavity",
		Program: hpcsera.Program{Script: "icoFoam\n"},
		Parameters: map[string]json.RawMessage{
			"viscosity": json.RawMessage(`{"type":"number","minimum":0.001,"default":0.01}`),
			"label":     json.RawMessage(`{"type":"string","default":"x"}`),
		},
		Artifacts: []hpcsera.ArtifactPattern{{Path: "out.csv"}},
		Limits:    &hpcsera.Limits{NodeCount: 4, Duration: hpcsera.Duration(2 * time.Hour), Memory: 64 << 30, QueueNames: []string{"medium"}},
	}
}

func runPart() hpcsera.RunPart {
	return hpcsera.RunPart{
		Site:       "gwdg",
		Resources:  hpcsera.Resources{NodeCount: 2, Memory: 32 << 30},
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(time.Hour), QueueName: "medium"},
		Values:     hpcsera.Values{"viscosity": json.RawMessage("0.02")},
	}
}

// job is what a test changes before the agent sees it.
type job struct {
	statement approval.Statement
	order     hpcsera.OrderSpec
	in        policy.Context
}

// newJob is an order that the agent accepts.
func newJob(t testing.TB, key ssh.Signer) *job { return newJobOf(t, key, manifest()) }

func newJobOf(t testing.TB, key ssh.Signer, m hpcsera.Manifest) *job {
	t.Helper()
	r := runPart()
	s, err := approval.ForManifest(m, r, approval.Options{
		Deployment: "https://hpc.example.org/", User: "alice", Project: "cfd", Sites: []string{"gwdg"}, Agents: []string{thumb},
		Clients: []string{"gitlab"}, Submitters: []string{"alice", "bob"}, NotBefore: now.Add(-time.Hour), Runs: 3,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	j := &job{
		statement: s,
		order: hpcsera.OrderSpec{
			Name: "cavity", User: "alice", Project: "cfd", Client: "gitlab", Submitter: "bob", Site: "gwdg",
			Digest: s.Code, Manifest: text, Run: r, Created: now,
		},
		in: policy.Context{
			User: "alice", Site: "gwdg", Deployment: "https://HPC.example.org", Thumbprint: thumb, Now: now,
			Memory: &policy.Memory{},
		},
	}
	j.sign(t, key)
	return j
}

// sign puts the statement as it is now under the key.
func (j *job) sign(t testing.TB, key ssh.Signer) {
	t.Helper()
	var err error
	if j.order.Statement, err = j.statement.Canonical(); err != nil {
		t.Fatal(err)
	}
	if j.order.Signature, err = approval.SignSSH(key, j.statement); err != nil {
		t.Fatal(err)
	}
}

// verify sends the order through JSON, as it comes to an agent. What the agent
// remembers of earlier orders makes no difference.
func (j *job) verify(t testing.TB, s site) (*policy.Verdict, error) {
	t.Helper()
	text, err := json.Marshal(j.order)
	if err != nil {
		t.Fatal(err)
	}
	var received hpcsera.OrderSpec
	if err := json.Unmarshal(text, &received); err != nil {
		t.Fatal(err)
	}
	fresh := j.in
	fresh.Memory = nil
	want, wantErr := policy.Verify(s.path, received, fresh)
	v, err := policy.Verify(s.path, received, j.in)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) || !reflect.DeepEqual(v, want) {
		t.Errorf("with what was remembered got %+v, %v, want %+v, %v", v, err, want, wantErr)
	}
	return v, err
}

func wantRefusal(t testing.TB, v *policy.Verdict, err error, reason hpcsera.Reason, say string) {
	t.Helper()
	if policy.Reason(err) != reason || v != nil {
		t.Errorf("got %+v, %v (reason %q), want reason %q", v, err, policy.Reason(err), reason)
	}
	if err != nil && !strings.Contains(err.Error(), say) {
		t.Errorf("got the sentence %q, want it to contain %q", err, say)
	}
	if code := hpcsera.CodeOf(err); code == hpcsera.Internal || code == hpcsera.Unavailable {
		t.Errorf("got code %s, which would be tried again", code)
	}
}
