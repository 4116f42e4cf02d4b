package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// replica starts another server on d's database, files and key, with an
// address of its own. Both have d's public URL, as behind one proxy.
func (d *deployment) replica(t *testing.T) *deployment {
	t.Helper()
	text, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	other := d.in(t)
	other.dir, other.addr = t.TempDir(), freeAddress(t)
	other.url, other.config = "http://"+other.addr, filepath.Join(other.dir, "hpcserad.yaml")
	changed := strings.Replace(string(text), "listen: "+d.addr, "listen: "+other.addr, 1)
	changed = strings.Replace(changed, filepath.Join(d.dir, "admin.sock"), filepath.Join(other.dir, "admin.sock"), 1)
	write(t, other.config, changed, 0o600)
	other.startServer("")
	return other
}

// enrolled is alice's agent at lab, which talks to one replica as to the
// public URL.
func (d *deployment) enrolled(t *testing.T, key *client.Key, credential string, at *deployment) *client.Agent {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at.addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	a, err := client.NewAgent(d.url, credential, key, transport)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// events opens a stream of events and returns a channel that is closed at its
// end.
func (d *deployment) events(t *testing.T, token string) <-chan struct{} {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.url+"/api/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Accept", "text/event-stream")
	res, err := http.DefaultClient.Do(r)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("open a stream at %s: %v, %v", d.url, res, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer res.Body.Close()
		for in := bufio.NewScanner(res.Body); in.Scan(); {
		}
	}()
	return ended
}

// TestRevocationHoldsOnEveryReplica revokes at one of two servers on one
// PostgreSQL. The password of the database is planted, and must not show.
func TestRevocationHoldsOnEveryReplica(t *testing.T) {
	t.Parallel()
	const password = "Planted-in-the-url-7"
	for name, end := range map[string]struct {
		token, agent bool // whose access ends
		by           func(token, agent string) []string
	}{
		"the token is revoked":   {true, false, func(token, _ string) []string { return []string{"token", "revoke", token} }},
		"the user is disabled":   {true, true, func(_, _ string) []string { return []string{"user", "disable", "alice"} }},
		"the client is disabled": {true, false, func(_, _ string) []string { return []string{"client", "disable", "ci"} }},
		"the member is removed":  {true, false, func(_, _ string) []string { return []string{"project", "member", "cfd", "alice", "none"} }},
		"the agent is removed":   {false, true, func(_, agent string) []string { return []string{"agent", "remove", agent} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database, err := url.Parse(postgres(t))
			if err != nil {
				t.Fatal(err)
			}
			database.User = url.UserPassword(database.User.Username(), password)
			first := newDeployment(t, database.String(), "")
			servers := []*deployment{first, first.replica(t)}
			key, err := client.LoadKey(filepath.Join(first.dir, "agent.key"))
			if err != nil {
				t.Fatal(err)
			}
			credential := secretIn(t, first.admin("agent", "create", "--user", "alice", "--site", "lab", "--project", "cfd", "--thumbprint", key.Thumbprint()))
			var agents []*client.Agent
			var streams []<-chan struct{}
			for _, s := range servers {
				agents = append(agents, first.enrolled(t, key, credential, s))
				streams = append(streams, s.events(t, first.token))
			}
			check := func(when string, token, agent hpcsera.Code) {
				t.Helper()
				for i, s := range servers {
					want := http.StatusOK
					if token != "" {
						want = http.StatusUnauthorized
					}
					if res, _, err := s.try("GET", "/jobs", nil, nil); err != nil || res.StatusCode != want {
						t.Errorf("%s: the token at replica %d: got %v (%v), want %d", when, i, res, err, want)
					}
					_, err := agents[i].Work(t.Context(), hpcsera.WorkRequest{Instance: "i_00000000000000000001"})
					if got := hpcsera.CodeOf(err); got != agent {
						t.Errorf("%s: the agent at replica %d: got %q (%v), want %q", when, i, got, err, agent)
					}
				}
			}
			check("before", "", "")
			id, _, _ := hpcsera.ParseSecret(first.token)
			first.admin(end.by(id, agents[0].ID())...)
			revoked := time.Now()
			codes := map[bool]hpcsera.Code{true: hpcsera.TokenInvalid}
			check("after", codes[end.token], codes[end.agent])
			for i, stream := range streams {
				if !end.token {
					continue
				}
				select {
				case <-stream:
				case <-time.After(time.Until(revoked.Add(5 * time.Second))):
					t.Errorf("the stream at replica %d is open five seconds after the revocation", i)
				}
			}
			for i, s := range servers {
				for what, secret := range map[string]string{"password": password, "token": first.token, "credential": credential} {
					command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.server.cmd.Process.Pid))
					if err != nil || strings.Contains(string(command), secret) || strings.Contains(s.server.log.String(), secret) {
						t.Errorf("replica %d shows the %s in its log or in the list of processes (%v)", i, what, err)
					}
				}
			}
		})
	}
}
