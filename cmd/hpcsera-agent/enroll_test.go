package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/client"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/httpapi"
	"github.com/hpcsera/hpcsera/internal/oauth"
	"github.com/hpcsera/hpcsera/internal/server"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// site is an API server with alice, cfd and gwdg, and an Auth app in which
// alice says what a test says.
type site struct {
	t      *testing.T
	url    string
	access *access.Service
	grants *oauth.Service
	key    decision.Key
	says   bool
	asked  decision.Request
}

func newSite(t *testing.T) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s := &site{t: t}
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), log)
	s.must(err)
	t.Cleanup(func() { db.Close() })
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	s.url = "http://" + listener.Addr().String()
	secret := []byte(strings.Repeat("k", 32))
	who, err := auth.New(auth.Config{Store: db, PublicURL: s.url, Key: secret, Log: log})
	s.must(err)
	s.access = access.New(access.Config{Store: db, Sightings: auth.NewSightings(db, nil, log), Log: log})
	s.key, err = decision.NewKey()
	s.must(err)
	s.grants, err = oauth.New(oauth.Config{
		Store: db, Auth: who, Access: s.access, Inbox: s, Issuer: "https://auth.example.org", Deployment: "test", PublicURL: s.url, Key: secret,
		Interval: time.Second, Log: log,
	})
	s.must(err)
	edge, err := httpapi.New(httpapi.Config{Auth: who, Access: s.access, Grants: s.grants, RequestID: server.RequestID, Note: server.Note, Refused: func(hpcsera.AuditLine) {}, Log: log})
	s.must(err)
	mux := http.NewServeMux()
	mux.Handle("/", edge)
	mux.Handle("/oauth/", s.grants.Handler())
	web := &http.Server{Handler: mux}
	go web.Serve(listener) // ends with Close
	t.Cleanup(func() { web.Close() })
	by := auth.OperatorOnHost()
	_, err1 := s.access.CreateUser(t.Context(), by, access.NewUser{Name: "alice"})
	_, err2 := s.access.CreateProject(t.Context(), by, access.NewProject{Name: "cfd", Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Owner}})
	_, err3 := s.access.CreateSite(t.Context(), by, access.Named{Name: "gwdg"})
	s.must(errors.Join(err1, err2, err3))
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// Post implements oauth.Inbox: alice decides while she is asked.
func (s *site) Post(ctx context.Context, r decision.Request) error {
	s.asked = r
	now := time.Now()
	d := decision.Decision{ID: hpcsera.NewID("dc"), Issuer: "https://auth.example.org", Audience: "test", Request: r.ID, Kind: r.Kind, User: "alice",
		Granted: s.says, Decided: now, Expires: now.Add(time.Hour)}
	if s.says {
		d.Until = r.Until
	}
	text, err := d.Sign(s.key)
	if err == nil {
		_, err = s.grants.Apply(ctx, text)
	}
	return err
}

func (s *site) Cancel(context.Context, string) error { return nil }
func (s *site) RequestURL(id string) string          { return "https://auth.example.org/requests/" + id }
func (s *site) CodeURL() string                      { return "https://auth.example.org/code" }
func (s *site) Ack(context.Context, ...string) error { return nil }
func (s *site) Keys(context.Context) ([]jose.JSONWebKey, error) {
	return []jose.JSONWebKey{s.key.Public()}, nil
}
func (s *site) Decisions(ctx context.Context, _ time.Duration) ([]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// home is where one agent lives.
func (s *site) home() string {
	s.t.Helper()
	dir := s.t.TempDir()
	s.must(os.MkdirAll(filepath.Join(dir, ".hpcsera"), 0o700))
	text := "server: " + s.url + "\nuser: alice\nsite: gwdg\nprojects: [cfd]\n"
	s.must(os.WriteFile(filepath.Join(dir, ".hpcsera", "agent.yaml"), []byte(text), 0o600))
	return dir
}

// types runs the program.
func (s *site) types(home, stdin string, args ...string) (code int, printed string) {
	s.t.Helper()
	var out bytes.Buffer
	code = run(s.t.Context(), args, []string{"HOME=" + home}, strings.NewReader(stdin), &out, &out)
	return code, out.String()
}

func (s *site) credential(home string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(home, ".hpcsera", "credential"))
	s.must(err)
	return strings.TrimSpace(string(text))
}

func TestAnAgentIsEnrolledByItsUserInTheBrowser(t *testing.T) {
	s := newSite(t)
	home := s.home()
	if code, printed := s.types(home, "", "enroll"); code != 1 || !strings.Contains(printed, "not granted") {
		t.Errorf("a no: got %d %s", code, printed)
	}
	if _, err := os.Stat(filepath.Join(home, ".hpcsera", "credential")); err == nil {
		t.Error("a no leaves a credential behind")
	}
	s.says = true
	code, printed := s.types(home, "", "enroll")
	if code != 0 || !strings.Contains(printed, s.asked.Thumbprint) || !strings.Contains(printed, "https://auth.example.org/code") ||
		!regexp.MustCompile(`\b[B-Z]{4}-[B-Z]{4}\b`).MatchString(printed) {
		t.Fatalf("a yes: got %d %s", code, printed)
	}
	first := s.credential(home)
	if strings.Contains(printed, first) {
		t.Error("the credential is printed")
	}
	if info, err := os.Stat(filepath.Join(home, ".hpcsera", "credential")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v (%v), want 0600", info.Mode(), err)
	}
	other := s.home()
	id, _, _ := hpcsera.ParseSecret(first)
	if code, printed := s.types(other, "", "enroll"); code != 1 || !strings.Contains(printed, id) {
		t.Errorf("a second agent: got %d %s, want it refused and the first one named", code, printed)
	}
	if code, printed := s.types(other, "", "enroll", "--replace"); code != 0 {
		t.Fatalf("--replace: got %d %s", code, printed)
	}
	if now, _, _ := hpcsera.ParseSecret(s.credential(other)); now != id {
		t.Errorf("--replace: got the agent %s, want %s, whose jobs it takes over", now, id)
	}
	if s.asked.Words == "" {
		t.Error("the page does not say that an agent is replaced")
	}
}

func TestAnEnrolmentThatCannotBeIsRefusedWithItsReason(t *testing.T) {
	s := newSite(t)
	s.says = true
	home := s.home()
	settings := func(old, new string) {
		file := filepath.Join(home, ".hpcsera", "agent.yaml")
		text, err := os.ReadFile(file)
		s.must(err)
		s.must(os.WriteFile(file, []byte(strings.Replace(string(text), old, new, 1)), 0o600))
	}
	settings("site: gwdg", "site: gwgd")
	if code, printed := s.types(home, "", "enroll"); code != 1 || !strings.Contains(printed, "there is no site gwgd") || s.asked.ID != "" {
		t.Errorf("another site: got %d %s, want it refused before anybody is asked", code, printed)
	}
	settings("site: gwgd", "site: gwdg")
	settings("user: alice", "user: alcie")
	if code, printed := s.types(home, "", "enroll"); code != 1 || !strings.Contains(printed, "alice decided, and the agent's settings say user: alcie") {
		t.Errorf("another user: got %d %s, want both named", code, printed)
	}
	if !strings.Contains(s.asked.Words, "agent of alcie") || !strings.Contains(s.asked.Host, "@") {
		t.Errorf("the page shows %q at %q, want the user of the settings and the account", s.asked.Words, s.asked.Host)
	}
	settings("user: alcie", "user: alice")
	code, printed := s.types(home, "", "enroll")
	if code != 0 || !strings.Contains(printed, "hpcsera-agent trust add KEY.pub") {
		t.Errorf("got %d %s, want the next step", code, printed)
	}
	enrolled, err := os.ReadFile(filepath.Join(home, ".hpcsera", "enrolled.json"))
	if err != nil || !strings.Contains(string(enrolled), `"user":"alice","site":"gwdg","projects":["cfd"]`) {
		t.Errorf("what was granted is kept as %s, %v", enrolled, err)
	}
}

func TestTheFirstSettingsComeFromTheCommandLine(t *testing.T) {
	s := newSite(t)
	s.says = true
	line := []string{"enroll", "--server", s.url + "/", "--user", "alice", "--site", "gwdg", "--project", "cfd"}
	with := func(flag, value string) []string { return append(line[:len(line):len(line)], flag, value) }
	home := t.TempDir()
	file := filepath.Join(home, ".hpcsera", "agent.yaml")
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"no project":      {line[:7], "--project"},
		"no user":         {[]string{"enroll", "--server", s.url, "--site", "gwdg", "--project", "cfd"}, "user"},
		"no server":       {with("--server", ""), "server"},
		"a server's name": {with("--server", "hpc.example.org"), "not a server's URL"},
		"no TLS":          {with("--server", "http://hpc.example.org"), "read on its way"},
		"another line":    {with("--site", "gwdg\nscheduler: local"), "not a name"},
	} {
		s.asked = decision.Request{}
		if code, printed := s.types(home, "", c.args...); code != 1 || !strings.Contains(printed, c.says) || s.asked.ID != "" {
			t.Errorf("%s: got %d %s, want it refused before anybody is asked, with %q", name, code, printed, c.says)
		}
		if text, err := os.ReadFile(file); err == nil {
			t.Errorf("%s: left %s", name, text)
		}
	}
	if code, printed := s.types(home, "", line...); code != 0 {
		t.Fatalf("got %d %s", code, printed)
	}
	text, err := os.ReadFile(file)
	if want := "server: \"" + s.url + "\"\nuser: \"alice\"\nsite: \"gwdg\"\nprojects: [\"cfd\"]\n"; err != nil || string(text) != want {
		t.Errorf("agent.yaml is %q, %v, want %q", text, err, want)
	}
	if code, printed := s.types(home, "", "status"); code != 0 || !strings.Contains(printed, "gwdg") {
		t.Errorf("later: got %d %s", code, printed)
	}
	if code, printed := s.types(home, "", append(line, "--replace")...); code != 0 {
		t.Errorf("the same line again: got %d %s", code, printed)
	}
	for name, args := range map[string][]string{
		"another server": with("--server", "https://evil.example.org"), "another user": with("--user", "bob"),
		"another site": with("--site", "hlrn"), "another project": with("--project", "melt"),
	} {
		s.asked = decision.Request{}
		if code, printed := s.types(home, "", args...); code != 1 || !strings.Contains(printed, "settings say") || s.asked.ID != "" {
			t.Errorf("%s: got %d %s, want it refused", name, code, printed)
		}
	}
	if again, err := os.ReadFile(file); err != nil || string(again) != string(text) {
		t.Errorf("agent.yaml became %q, %v", again, err)
	}
	s.must(os.WriteFile(file, []byte("server: "+s.url+"\nuser: alice\nsite: gwdg\n"), 0o600))
	if code, printed := s.types(home, "", line...); code != 1 || !strings.Contains(printed, `Add the line there: projects: ["cfd"]`) {
		t.Errorf("a file that says nothing of it: got %d %s", code, printed)
	}
}

func TestAServersOwnAuthorityIsNamedInTheSettings(t *testing.T) {
	s := newSite(t)
	asked := 0
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		http.Error(w, "none", http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	line := []string{"enroll", "--server", server.URL, "--user", "alice", "--site", "gwdg", "--project", "cfd"}
	if code, printed := s.types(t.TempDir(), "", line...); code != 1 || !strings.Contains(printed, "ca_file: ") || strings.Contains(printed, "--ca.") || asked != 0 {
		t.Errorf("without it: got %d %s, want the setting named", code, printed)
	}
	home := t.TempDir()
	file := filepath.Join(home, "ca.pem")
	s.must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	t.Chdir(home)
	if code, printed := s.types(home, "", append(line, "--ca", "ca.pem")...); code != 1 || asked == 0 {
		t.Errorf("with --ca: got %d %s, want the server asked", code, printed)
	}
	text, err := os.ReadFile(filepath.Join(home, ".hpcsera", "agent.yaml"))
	if err != nil || !strings.Contains(string(text), "ca_file: \""+file+"\"\n") {
		t.Errorf("agent.yaml is %q, %v, want the file named in it", text, err)
	}
}

func TestACredentialThatAnOperatorMadeIsPasted(t *testing.T) {
	s := newSite(t)
	home := s.home()
	if code, printed := s.types(home, "hpcsera_t_x\n", "enroll", "--credential", "-"); code != 1 {
		t.Errorf("no credential: got %d %s", code, printed)
	}
	key, err := client.LoadKey(filepath.Join(home, ".hpcsera", "key.pem"))
	s.must(err)
	made, err := s.access.CreateAgent(t.Context(), auth.OperatorOnHost(), access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: key.Thumbprint()})
	s.must(err)
	if code, printed := s.types(home, made.Credential+"\n", "enroll", "--credential", "-"); code != 0 || s.credential(home) != made.Credential {
		t.Errorf("got %d %s", code, printed)
	}
}

func TestAnOldCredentialIsRenewedAndAYoungOneIsLeftAlone(t *testing.T) {
	s := newSite(t)
	s.says = true
	home := s.home()
	if code, printed := s.types(home, "", "enroll"); code != 0 {
		t.Fatalf("enroll: got %d %s", code, printed)
	}
	c := agent.Config{Server: s.url, StateDir: filepath.Join(home, ".hpcsera")}
	key, err := client.LoadKey(filepath.Join(c.StateDir, "key.pem"))
	s.must(err)
	first := s.credential(home)
	s.must(renewDue(t.Context(), c, key, http.DefaultTransport, time.Now()))
	if s.credential(home) != first {
		t.Error("a credential of today is renewed")
	}
	s.must(renewDue(t.Context(), c, key, http.DefaultTransport, time.Now().Add(8*24*time.Hour)))
	second := s.credential(home)
	if second == first {
		t.Fatal("a credential of last week is not renewed")
	}
	use := func(credential string) error {
		a, err := client.NewAgent(s.url, credential, key, http.DefaultTransport)
		s.must(err)
		_, err = a.Renew(t.Context())
		return err
	}
	s.must(use(second))
	if err := use(first); hpcsera.CodeOf(err) != hpcsera.TokenInvalid {
		t.Errorf("the old one, after the new one was used: got %v", err)
	}
}
