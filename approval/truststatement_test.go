package approval_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

func trustStatement() approval.TrustStatement {
	from := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	return approval.TrustStatement{
		ID: "tr_" + strings.Repeat("0", 20), Deployment: "https://hpc.example.org", User: "alice", Sites: []string{"gwdg"},
		Agents: []string{strings.Repeat("A", 43)}, Add: []json.RawMessage{json.RawMessage(`{"key":"ssh-ed25519 AAAA","name":"phone"}`)},
		Remove: []string{"SHA256:" + strings.Repeat("A", 43)}, NotBefore: from, NotAfter: from.Add(time.Hour),
	}
}

func TestATrustStatementHasOneForm(t *testing.T) {
	text, err := trustStatement().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	again, err := approval.ParseTrust(text)
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	if round, err := again.Canonical(); err != nil || string(round) != string(text) {
		t.Errorf("got %s, %v, want the same bytes", round, err)
	}
	for name, change := range map[string][2]string{
		"another type":             {`hpcsera-trust/v1`, `hpcsera-code-approval/v1`},
		"a missing member":         {`"user":"alice"`, `"user":""`},
		"no list":                  {`"sites":["gwdg"]`, `"sites":[]`},
		"a member twice":           {`"user":"alice"`, `"user":"alice","user":"bob"`},
		"a member twice, far down": {`"name":"phone"`, `"name":"phone","name":"x"`},
		"an unknown member":        {`"user":"alice"`, `"user":"alice","users":[]`},
		"another order":            {`{"add":`, `{ "add":`},
		"no thumbprint":            {strings.Repeat("A", 43) + `"],"dep`, `x"],"dep`},
		"no fingerprint":           {`SHA256:A`, `SHA1:A`},
		"a long validity":          {`2026-11-22T15`, `2027-11-22T15`},
	} {
		changed := strings.Replace(string(text), change[0], change[1], 1)
		if changed == string(text) {
			t.Fatalf("%s: nothing replaced in %s", name, text)
		}
		if got, err := approval.ParseTrust([]byte(changed)); hpcsera.CodeOf(err) != hpcsera.ApprovalRefused {
			t.Errorf("%s: got %+v, %v, want it refused", name, got, err)
		}
	}
	nothing := trustStatement()
	nothing.Add, nothing.Remove = nil, nil
	if _, err := nothing.Canonical(); err == nil {
		t.Error("nothing to add or to remove: got no error")
	}
}

func TestConsentToCodeChangesNoTrustAndTheOtherWayRound(t *testing.T) {
	key := ed25519Signer(t)
	text, err := trustStatement().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	trust, err := approval.SignTrust(key, trustStatement())
	if err != nil {
		t.Fatal(err)
	}
	code, err := approval.SignSSH(key, statement())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := approval.VerifyTrust(canonical(t, statement()), code); err == nil {
		t.Error("a signature under code, as one under trust: got no error")
	}
	if _, err := approval.Verify(text, trust); err == nil {
		t.Error("a signature under trust, as one under code: got no error")
	}
	if _, err := approval.VerifyTrust(text, es256(t).assert(approval.Challenge(text)).String()); err == nil {
		t.Error("a passkey under trust: got no error")
	}
	if got, err := approval.VerifyTrust(text, trust); err != nil || got.Kind != approval.SSH {
		t.Errorf("got %+v, %v, want the signature accepted", got, err)
	}
}

func TestOpenSSHSignsTrustStatements(t *testing.T) {
	path, fingerprint := keyFile(t, "ed25519", "")
	text, err := trustStatement().Canonical()
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, filepath.Join(t.TempDir(), "trust.json"), text)
	if out, err := keygen(t, nil, "-q", "-Y", "sign", "-f", path, "-n", "hpcsera-trust", file); err != nil {
		t.Fatalf("ssh-keygen -Y sign: %v: %s", err, out)
	}
	armored, err := os.ReadFile(file + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	got, err := approval.VerifyTrust(text, string(armored))
	if err != nil || got.Fingerprint != fingerprint {
		t.Errorf("got %+v, %v, want a signature by %s", got, err, fingerprint)
	}
}
