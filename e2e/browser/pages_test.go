package browser

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"golang.org/x/crypto/ssh"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

var onHost = auth.OperatorOnHost()

func person(name string) *auth.Principal {
	return &auth.Principal{Person: &auth.Person{User: name, SteppedUp: true}}
}

// furnish makes a deployment that has been in use for a while. It returns the
// agent and the code of alice.
func (d *deployment) furnish() (agent hpcsera.Agent, digest string) {
	t := d.t
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"alice", "bob", "carla", "dietrich-von-und-zu-hohenstein"} {
		_, err := d.access.CreateUser(ctx, onHost, access.NewUser{Name: name})
		must(err)
	}
	_, err := d.access.CreateUser(ctx, onHost, access.NewUser{Name: "root", Operator: true})
	must(err)
	_, err = d.access.SetUser(ctx, onHost, access.Switch{Name: "carla", Disabled: true})
	must(err)
	for _, name := range []string{"gwdg", "hlrn", "uni-cluster"} {
		_, err = d.access.CreateSite(ctx, onHost, access.Named{Name: name})
		must(err)
	}
	_, err = d.access.SetSite(ctx, onHost, access.Switch{Name: "hlrn", Disabled: true})
	must(err)
	for _, name := range []string{"cfd", "turbulence-in-porous-media"} {
		_, err = d.access.CreateProject(ctx, person("alice"), access.NewProject{Name: name})
		must(err)
	}
	for user, role := range map[string]hpcsera.MemberRole{"bob": hpcsera.Member, "dietrich-von-und-zu-hohenstein": hpcsera.Viewer} {
		_, err = d.access.SetMember(ctx, person("alice"), access.NewMember{Project: "cfd", User: user, Role: role})
		must(err)
	}
	for owner, name := range map[string]string{"alice": "gitlab-group7", "bob": "workflow-engine", "": "cli"} {
		by := person(owner)
		if owner == "" {
			by = onHost
		}
		_, err = d.access.CreateClient(ctx, by, access.Named{Name: name})
		must(err)
	}
	_, err = d.access.Register(ctx, person("alice"), access.NewRegistration{Client: "gitlab-group7", Method: hpcsera.SecretClient, CIBA: hpcsera.Ping, Notify: "https://gitlab.example.org/hpcsera/ping"})
	must(err)
	_, err = d.access.EnableClient(ctx, person("alice"), access.Enabling{User: "alice", Client: "gitlab-group7", Enabled: true})
	must(err)
	tokens := []access.NewToken{
		{User: "alice", Project: "cfd", Client: "gitlab-group7", Preset: "ci", Days: 30},
		{User: "alice", Project: "turbulence-in-porous-media", Client: "gitlab-group7", Preset: "ci-code", Site: "gwdg", Days: 5},
		{User: "alice", Project: "cfd", Client: "workflow-engine", Roles: "1,2,4,5,6,7,8", Scope: hpcsera.ProjectScope, Days: 90},
		{User: "alice", Project: "cfd", Client: "cli", Preset: "viewer", Days: 30},
	}
	var last hpcsera.Token
	for _, r := range tokens {
		made, err := d.access.CreateToken(ctx, person("alice"), r)
		must(err)
		last = made.Token
	}
	_, err = d.access.RevokeToken(ctx, person("alice"), access.Revocation{ID: last.ID})
	must(err)
	for site, thumb := range map[string]string{"gwdg": "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "uni-cluster": strings.Repeat("Q", 43)} {
		made, err := d.access.CreateAgent(ctx, person("alice"), access.NewAgent{User: "alice", Site: site, Projects: []string{"cfd", "turbulence-in-porous-media"}, Thumbprint: thumb, Days: 10})
		must(err)
		if site == "gwdg" {
			agent = made.Agent
		}
	}
	return agent, d.fill(agent)
}

// fill stores what programs bring: facts, code with an approval, sessions.
func (d *deployment) fill(agent hpcsera.Agent) (digest string) {
	t, now := d.t, d.now().UTC().Truncate(time.Second)
	t.Helper()
	m := hpcsera.Manifest{
		Name: "cavity", Program: hpcsera.Program{ScriptFile: "run.sh"}, Modules: []string{"gcc/14", "openmpi/5"},
		Container: &hpcsera.Container{Image: "docker://registry.gitlab.example.org/lab/openfoam@sha256:" + strings.Repeat("9f", 32), Mounts: []string{"/scratch/data:/data:ro"}, Credential: "registry"},
		Files: []hpcsera.File{
			{Path: "run.sh", Mode: "0755", Size: 512, SHA256: strings.Repeat("ab", 32)},
			{Path: "system/controlDict", Mode: "0644", Size: 1843, SHA256: strings.Repeat("cd", 32)},
		},
		Parameters: map[string]json.RawMessage{"viscosity": json.RawMessage(`{"type":"number","minimum":0.001,"maximum":1}`)},
		Limits:     &hpcsera.Limits{NodeCount: 4, Duration: hpcsera.Duration(2 * time.Hour), QueueNames: []string{"medium", "large"}},
		Sites:      map[string]hpcsera.SiteCode{"hlrn": {Modules: []string{"gcc/13", "mpt"}, Environment: map[string]string{"MPI_DSM_DISTRIBUTE": "1"}}},
	}
	digest, err := m.Digest()
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	st, err := approval.ForManifest(m, hpcsera.RunPart{}, approval.Options{Deployment: d.url, User: "alice", Project: "cfd", Sites: []string{"gwdg"}, Agents: []string{agent.Thumbprint}, NotBefore: now})
	if err != nil {
		t.Fatal(err)
	}
	text, err := st.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	signature, err := approval.SignSSH(signer, st)
	if err != nil {
		t.Fatal(err)
	}
	other := hpcsera.Manifest{Name: "mesh", Program: hpcsera.Program{Script: "#!/bin/sh\nblockMesh\n"}}
	second, err := other.Digest()
	if err != nil {
		t.Fatal(err)
	}
	d.write(func(tx store.Tx) error {
		row, err := tx.Agent(agent.ID)
		if err != nil {
			return err
		}
		row.Facts = siteFacts()
		if err := tx.UpdateAgent(*row); err != nil {
			return err
		}
		if err := tx.SeenAgents(map[string]time.Time{agent.ID: now}); err != nil {
			return err
		}
		for client, c := range map[string]store.Code{
			"gitlab-group7":   {CodeEntry: hpcsera.CodeEntry{Digest: digest, Name: m.Name, Project: "cfd", Manifest: m, Created: now.Add(-26 * time.Hour)}, User: "alice"},
			"workflow-engine": {CodeEntry: hpcsera.CodeEntry{Digest: second, Name: "mesh", Project: "cfd", Manifest: other, Created: now.Add(-time.Hour)}, User: "bob"},
		} {
			c.Client = client
			if err := tx.PutCode(c); err != nil {
				return err
			}
		}
		if err := tx.PutApproval(store.Approval{Approval: hpcsera.Approval{
			ID: st.ID, User: "alice", Project: "cfd", Digest: digest, Name: m.Name, NotBefore: st.NotBefore, NotAfter: st.NotAfter, Statement: text, Signature: signature, Filed: now,
		}}); err != nil {
			return err
		}
		login := auth.LoginSession{Session: hpcsera.Session{ID: hpcsera.NewID("ls"), User: "alice", Thumbprint: agent.Thumbprint, Host: "laptop.example.org", Created: now, Expires: now.Add(12 * time.Hour)}}
		return tx.PutDocument(store.Document{Kind: auth.LoginSessions, Key: login.ID, Owner: "alice", Ends: login.Expires}, login)
	})
	return digest
}

// siteFacts are what an agent at a large site tells.
func siteFacts() *hpcsera.Facts {
	idle, none := 9, 0
	return &hpcsera.Facts{
		Version: "1.4.0", Host: "glogin9.hpc.gwdg.de", System: "slurm", SystemVersion: "22.05.8", Cluster: "emmy", LargestArray: 1001,
		Nodes: &hpcsera.Nodes{Total: 640, Up: 636, Idle: 12}, Jobs: &hpcsera.Load{Queued: 1810, Running: 2204},
		Queues: []hpcsera.Queue{
			{Name: "medium", Default: true, State: "up", Nodes: 512, Idle: &idle, MaxNodes: 128, CoresPerNode: 96, MemoryPerNode: 384 << 30,
				MaxDuration: hpcsera.Duration(48 * time.Hour), DefaultDuration: hpcsera.Duration(time.Hour)},
			{Name: "large", State: "up", Nodes: 512, Idle: &idle, MaxNodes: 512, CoresPerNode: 96, MemoryPerNode: 384 << 30, MaxDuration: hpcsera.Duration(12 * time.Hour)},
			{Name: "grete-shared-with-the-whole-institute", State: "drain", Closed: true, Restricted: true, Nodes: 36, Idle: &none, CoresPerNode: 128, MemoryPerNode: 2 << 40, GPUsPerNode: 4},
			{Name: "other", State: "up"},
		},
	}
}

func TestEveryPageIsGoodToReadOnPhoneAndDesk(t *testing.T) {
	d := newDeployment(t)
	agent, digest := d.furnish()
	tokens, err := d.access.Tokens(t.Context(), onHost, access.Filter{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	working := ""
	for _, token := range tokens {
		if token.Revoked == nil {
			working = token.ID
		}
	}
	b := d.signedIn("alice")
	for _, p := range []struct{ name, path, says string }{
		{"home", "/", "What you have"},
		{"tokens", "/tokens", "Revoke all 3 tokens"},
		{"token-new", "/tokens/new", "How far it reaches"},
		{"token-revoke", "/tokens/revoke?token=" + working, "Revoke this token?"},
		{"tokens-revoke", "/tokens/revoke", "Revoke all tokens?"},
		{"projects", "/projects", "turbulence-in-porous-media"},
		{"project", "/projects/cfd", "dietrich-von-und-zu-hohenstein"},
		{"clients", "/clients", "workflow-engine"},
		{"client", "/clients/gitlab-group7", "may ask you"},
		{"client-other", "/clients/workflow-engine", "asks nobody for tokens"},
		{"agents", "/agents", "glogin9.hpc.gwdg.de"},
		{"agent-remove", "/agents/" + agent.ID + "/remove", "Remove the agent at gwdg?"},
		{"code", "/code", "not approved"},
		{"code-part", "/code/cfd/" + digest, "system/controlDict"},
		{"requests", "/requests", "Your inbox"},
		{"sessions", "/sessions", "laptop.example.org"},
		{"audit", "/audit", "Token made"},
		{"sites", "/sites", "drained"},
		{"site", "/sites/gwdg", "2204 running"},
		{"site-without-agent", "/sites/hlrn", "You have no agent here"}, {"site-untold", "/sites/uni-cluster", "has not told yet"},
	} {
		b.open(d.url + p.path)
		b.reads(p.says)
		b.screenshot(p.name)
	}
	b.open(d.url + "/tokens/new")
	b.choose("Something else")
	b.screenshot("token-new-roles")
	b.expect("404")
	b.open(d.url + "/nothing")
	b.screenshot("not-found")
	op := d.signedIn("root")
	for _, p := range []struct{ name, path, says string }{
		{"operator-home", "/", "What you have"}, {"operator-users", "/users", "disabled"}, {"operator-sites", "/sites", "Register a site"},
		{"operator-audit", "/audit?all=yes", "Only mine"}, {"operator-client", "/clients/workflow-engine", "Disable the client"},
		{"operator-tokens", "/tokens?user=alice", "Tokens of alice"},
	} {
		op.open(d.url + p.path)
		op.reads(p.says)
		op.screenshot(p.name)
	}
}

func TestEveryEmptyPageIsGoodToRead(t *testing.T) {
	d := newDeployment(t)
	b := newBrowser(t, d.origins()...)
	b.open(d.url + "/")
	b.screenshot("welcome")
	b = d.signedIn("alice")
	for name, path := range map[string]string{
		"home": "/", "tokens": "/tokens", "token-new": "/tokens/new", "projects": "/projects", "clients": "/clients", "agents": "/agents",
		"code": "/code", "requests": "/requests", "sessions": "/sessions", "audit": "/audit?before=1", "sites": "/sites",
	} {
		b.open(d.url + path)
		b.screenshot("empty-" + name)
	}
}

func TestAUserMakesATokenAndTakesItBack(t *testing.T) {
	for name, scripts := range map[string]bool{"with scripts": true, "without": false} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) { makeAToken(t, scripts) })
	}
}

func makeAToken(t *testing.T, scripts bool) {
	d := newDeployment(t)
	b := d.signedIn("alice")
	run(b, command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts}))
	b.press("Make a project")
	b.fill("Name", "cfd")
	b.press("Make the project")
	b.reads("you own it", "You are owner")
	b.open(d.url + "/clients")
	b.fill("Name", "gitlab")
	b.press("Register")
	b.reads("The client is registered")
	b.press("Make a token")

	// By now the second factor is old: the form waits for a new one.
	d.late.Store(int64(20 * time.Minute))
	b.choose("Start jobs from code")
	b.press("Make the token")
	b.reads("Nothing has been done yet", "make a token", "gitlab")
	b.screenshot("confirm")
	b.press("Yes, make a token")
	b.reads("Copy it now")
	if !strings.Contains(b.field("secret"), "hpcsera_t") {
		t.Fatal("no token is shown")
	}
	if b.has("Copy") != scripts {
		t.Errorf("there is a button to copy: %v, scripts run: %v", b.has("Copy"), scripts)
	}
	b.screenshot("token-made")
	b.press("I have stored it")
	b.reads("gitlab", "Last used never")
	b.press("Revoke the token " + d.onlyToken() + " of gitlab for cfd")
	b.choose("Also cancel")
	b.press("Revoke")
	b.reads("refused from now on", "No token works now")
	b.screenshot("tokens-gone")
	b.press("Make a token")
	b.reads("Make a token")
}

func (d *deployment) onlyToken() string {
	d.t.Helper()
	tokens, err := d.access.Tokens(d.t.Context(), onHost, access.Filter{User: "alice"})
	if err != nil || len(tokens) != 1 {
		d.t.Fatalf("got %v, %v, want one token", tokens, err)
	}
	return tokens[0].ID
}
