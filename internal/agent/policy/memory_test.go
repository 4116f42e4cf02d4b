package policy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// TestWhatWasAcceptedBeforeIsJudgedAnew: an order that was accepted a moment
// ago is refused once something speaks against it, whatever is remembered.
func TestWhatWasAcceptedBeforeIsJudgedAnew(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*testing.T, site, *job)
		reason hpcsera.Reason
	}{
		"the approval was withdrawn": {func(t *testing.T, s site, j *job) {
			s.change(t, func(f *policy.Trust) { f.Withdrawn.Approvals = []string{j.statement.ID} })
		}, hpcsera.ApprovalWithdrawn},
		"the key is trusted no more": {func(t *testing.T, s site, _ *job) {
			s.change(t, func(f *policy.Trust) { f.Keys = nil })
		}, hpcsera.ApprovalInvalid},
		"the site forbids it": {func(t *testing.T, _ site, j *job) {
			if err := os.WriteFile(filepath.Join(j.in.Files.Dir, "policy.yaml"), []byte("trust: []\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, hpcsera.RejectedByPolicy},
		"the manifest is another": {func(_ *testing.T, _ site, j *job) {
			j.order.Manifest = bytes.Replace(j.order.Manifest, []byte("cavity"), []byte("cavitx"), 1)
		}, hpcsera.ApprovalInvalid},
		"the signature is another": {func(t *testing.T, _ site, j *job) {
			other := newJob(t, plainKey(t))
			j.order.Signature = other.order.Signature
		}, hpcsera.ApprovalInvalid},
		"the statement is another": {func(_ *testing.T, _ site, j *job) {
			j.statement.Runs++
			j.order.Statement, _ = j.statement.Canonical()
		}, hpcsera.ApprovalInvalid},
		"the approval has ended": {func(_ *testing.T, _ site, j *job) { j.in.Now = j.statement.NotAfter }, hpcsera.ApprovalExpired},
	} {
		t.Run(name, func(t *testing.T) {
			key := plainKey(t)
			s, j := newSite(t, key, nil), newJob(t, key)
			j.in.Files = sitePolicy(t, "queues: [medium]\n")
			if _, err := j.verify(t, s); err != nil {
				t.Fatalf("got %v, want it accepted", err)
			}
			c.change(t, s, j)
			if _, err := j.verify(t, s); policy.Reason(err) != c.reason {
				t.Errorf("got %v (reason %q), want reason %q", err, policy.Reason(err), c.reason)
			}
		})
	}
}
