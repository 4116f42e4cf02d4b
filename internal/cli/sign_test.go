package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
)

// liar is a server that was taken over. It answers each question with what the
// attacker would like to see signed, and counts them.
type liar struct{ asked int }

func (l *liar) RoundTrip(*http.Request) (*http.Response, error) {
	l.asked++
	lie, _ := json.Marshal(map[string]any{
		"id": "t_00000000000000000001", "user": "mallory", "project": "evil", "client": "evil", "site": "hlrs", "scope": "project", "roles": []string{},
		"digest": "sha256:" + strings.Repeat("0", 64), "script": "evil", "sites": []string{"hlrs"}, "agents": []string{strings.Repeat("E", 43)}, "runs": 1_000_000,
	})
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(string(lie)))}, nil
}

func TestAStatementIsAboutTheLocalFilesWhateverTheServerSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(file, []byte("name: cavity\nscript: echo\nattributes: {duration: 1h}\nsite: gwdg\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{env: map[string]string{"HOME": t.TempDir()}}
	local, err := a.loadJob(file, addRunFlags(pflag.NewFlagSet("", pflag.ContinueOnError)))
	if err != nil {
		t.Fatal(err)
	}
	agents := []string{strings.Repeat("A", 43)}
	for _, c := range []struct {
		name          string
		profile       profile
		user, project string
		asked         int
	}{
		{"the user's own settings say who", profile{User: "alice", Project: "cfd", Agents: agents}, "alice", "cfd", 0},
		// Whom it takes at the server's word, an agent compares with its own.
		{"they do not", profile{Agents: agents}, "mallory", "evil", 1},
	} {
		server := &liar{}
		connection, err := client.New(client.Options{Server: "https://hpc.example.org", Transport: server})
		if err != nil {
			t.Fatal(err)
		}
		st, err := a.statement(t.Context(), &session{Client: connection, profile: c.profile}, local, &signFlags{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if st.User != c.user || st.Project != c.project || server.asked != c.asked {
			t.Errorf("%s: got user %s and project %s after %d questions, want %s, %s and %d", c.name, st.User, st.Project, server.asked, c.user, c.project, c.asked)
		}
		if st.Code != local.digest || st.Deployment != "https://hpc.example.org" || strings.Join(st.Sites, " ") != "gwdg" || strings.Join(st.Agents, " ") != agents[0] ||
			st.Limits.Duration != local.Spec.Attributes.Duration || st.Runs > 1000 || strings.Join(st.Submitters, " ") != c.user {
			t.Errorf("%s: got %+v, want what the local files and settings say", c.name, st)
		}
	}
	if want, err := (hpcsera.Manifest{Name: "cavity", Program: hpcsera.Program{Script: "echo"}}).Digest(); err != nil || local.digest != want {
		t.Errorf("the code's digest: got %s (%v), want %s", local.digest, err, want)
	}
}
