package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNoLogHoldsASecret lets server and agent go through their troubles, in
// their most talkative mood.
func TestNoLogHoldsASecret(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm", "log_level: debug")
	l.startAgent(t, "")
	id := l.submit(t, l.approve(t, manifest("secret", marking("echo fine"))))
	d.await(id, time.Minute)
	servers := d.server.log.String()
	d.stopServer()
	servers += d.server.log.String()
	eventually(t, time.Minute, "the agent's word about the dead server", func() bool { return strings.Contains(l.agent.log.String(), "no work from the server") })
	d.startServer("")
	credential := strings.TrimSpace(read(t, filepath.Join(l.home, "credential")))
	d.admin("agent", "remove", secretID(t, credential))
	eventually(t, 2*time.Minute, "the agent's word that it is not accepted", func() bool { return strings.Contains(l.agent.log.String(), "Enrol the agent again") })
	servers += d.server.log.String()
	for name, log := range map[string]string{"agent": l.agent.log.String(), "server": servers} {
		if !strings.Contains(log, secretID(t, credential)) {
			t.Errorf("the %s's log does not speak of the agent:\n%s", name, log)
		}
		for what, secret := range map[string]string{"credential": credential, "token": d.token} {
			if strings.Contains(log, strings.SplitN(secret, "_", 3)[2]) {
				t.Errorf("the %s's log holds the %s", name, what)
			}
		}
		if strings.Contains(log, "BEGIN PRIVATE KEY") || strings.Contains(log, "DPoP ey") {
			t.Errorf("the %s's log holds a key or a proof", name)
		}
	}
}
