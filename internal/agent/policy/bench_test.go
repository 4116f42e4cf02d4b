package policy_test

import (
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// BenchmarkVerifyApprovedJob is what an agent does before each start: trust
// file, site policy, status list and signature included. It has to stay under
// 2 ms.
func BenchmarkVerifyApprovedJob(b *testing.B) {
	for name, setup := range map[string]func(testing.TB) (site, *job){
		"ssh": func(t testing.TB) (site, *job) {
			key := plainKey(t)
			return newSite(t, key, nil), newJob(t, key)
		},
		"sk": func(t testing.TB) (site, *job) {
			key := device(t, 0x05)
			return newSite(t, key, nil), newJob(t, key)
		},
		"passkey": func(t testing.TB) (site, *job) { return withPhone(t, newPhone(t)) },
		"ssh, with policy and a status list of 1000": func(t testing.TB) (site, *job) {
			key, app := plainKey(t), newAuthApp(t)
			s, j := pinned(t, key, app), newJob(t, key)
			j.in.Files = sitePolicy(t, "servers: [{url: 'https://hpc.example.org'}]\nqueues: [medium]\ncaps: {node_count: 100}\n")
			withdrawn := func(l *approval.StatusList) {
				for range 1000 {
					l.Approvals = append(l.Approvals, hpcsera.NewID("ap"))
				}
				l.Keys = []string{ssh.FingerprintSHA256(plainKey(t).PublicKey())}
			}
			if err := policy.TakeStatus(s.path, app.list(t, 1, withdrawn)); err != nil {
				t.Fatal(err)
			}
			return s, j
		},
	} {
		for like, memory := range map[string]*policy.Memory{"alone": nil, "one of many": {}} {
			b.Run(name+"/"+like, func(b *testing.B) {
				s, j := setup(b)
				j.in.Memory = memory
				for b.Loop() {
					if _, err := policy.Verify(s.path, j.order, j.in); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
