package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
)

// Import follows a trust statement: file holds its bytes, file.sig the armored
// signature, as ssh-keygen -Y sign -n hpcsera-trust leaves it beside. The key
// that signed must be in the trust file already, and unrestricted: a key that
// may do less than its owner would otherwise add one that may do all.
func (c Commands) Import(file string, in Context) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "the statement cannot be read: %w.", err).At("file")
	}
	armored, err := os.ReadFile(file + ".sig")
	if err != nil {
		return hpcsera.Errorf(hpcsera.InvalidField, "its signature cannot be read: %w.", err).At("file").
			Hint("Sign it with: ssh-keygen -Y sign -n %s -f KEY %s", approval.TrustNamespace, file)
	}
	t, err := Load(c.Path)
	if err != nil {
		return err
	}
	s, by, err := t.acceptStatement(text, string(armored), in)
	if err != nil {
		return err
	}
	lines, err := t.follow(s)
	if err != nil {
		return err
	}
	if err := t.Save(); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "Followed statement %s, signed by %s.\n", s.ID, by)
	for _, line := range lines {
		fmt.Fprintln(c.Out, line)
	}
	return nil
}

// acceptStatement says who signed a statement, or why it does not count here.
func (t *Trust) acceptStatement(text []byte, armored string, in Context) (s approval.TrustStatement, by string, err error) {
	signature, err := approval.VerifyTrust(text, armored)
	if err != nil {
		return s, "", err
	}
	key, err := t.accept(signature, in.Now)
	if err != nil {
		return s, "", err
	}
	if _, err := key.counts(signature, in); err != nil {
		return s, "", err
	}
	deny := func(format string, args ...any) *hpcsera.Error {
		return hpcsera.Errorf(hpcsera.ApprovalRefused, format, args...)
	}
	if key.restricted() {
		return s, "", deny("the key %q is trusted %s, so it cannot say whom else to trust.", key.Name, key.scope())
	}
	if s, err = approval.ParseTrust(text); err != nil {
		return s, "", err
	}
	deployment, err := approval.Deployment(in.Deployment)
	switch {
	case err != nil:
		return s, "", err
	case s.Deployment != deployment:
		return s, "", deny("the statement is for agents of %s; this one works for %s.", s.Deployment, deployment)
	case s.User != in.User:
		return s, "", deny("the statement is for agents of %s; this one is of %s.", s.User, in.User)
	case !slices.Contains(s.Sites, in.Site):
		return s, "", deny("the statement is for %s; this is %s.", strings.Join(s.Sites, ", "), in.Site)
	case !slices.Contains(s.Agents, in.Thumbprint):
		return s, "", deny("the statement is for the agents %s; this one is %s.", strings.Join(s.Agents, ", "), in.Thumbprint)
	case in.Now.Add(clockTolerance).Before(s.NotBefore):
		return s, "", deny("the statement holds from %s on.", s.NotBefore.Format(time.RFC3339))
	case !in.Now.Before(s.NotAfter):
		return s, "", deny("the statement ended at %s.", s.NotAfter.Format(time.RFC3339))
	case slices.Contains(t.Imported, s.ID):
		return s, "", deny("the statement %s was followed before.", s.ID).Hint("What it added may have been removed since; build a new one.")
	}
	return s, key.Name, nil
}

// follow changes t as the statement says, and tells what it did.
func (t *Trust) follow(s approval.TrustStatement) (lines []string, err error) {
	for _, fingerprint := range s.Remove {
		i := slices.IndexFunc(t.Keys, func(k Key) bool { return k.fingerprint() == fingerprint })
		if i < 0 {
			lines = append(lines, "Not here anyway: "+fingerprint)
			continue
		}
		lines = append(lines, "Removed "+t.Keys[i].Name+" "+fingerprint)
		t.Keys = slices.Delete(t.Keys, i, i+1)
	}
	for i, raw := range s.Add {
		k, err := readEntry(raw)
		if err != nil {
			return nil, hpcsera.Errorf(hpcsera.ApprovalRefused, "%w", err).At(fmt.Sprintf("add[%d]", i))
		}
		key, err := parseCredential([]byte(k.Key))
		if err == nil {
			err = t.mayAdd(key, AddOptions{Name: k.Name, Plain: k.Plain})
		}
		if err != nil {
			return nil, hpcsera.Errorf(hpcsera.ApprovalRefused, "%w", err).At(fmt.Sprintf("add[%d]", i))
		}
		t.Keys = append(t.Keys, k)
		lines = append(lines, fmt.Sprintf("Added %s %s, %s", k.Name, key.fingerprint, k.scope()))
	}
	t.Imported = append(t.Imported, s.ID)
	return lines, nil
}

// readEntry reads an entry of which every word was signed, and none dropped.
func readEntry(raw json.RawMessage) (Key, error) {
	var k Key
	if err := hpcsera.Decode(bytes.TrimSpace(raw), &k); err != nil {
		return k, err
	}
	return k, nil
}
