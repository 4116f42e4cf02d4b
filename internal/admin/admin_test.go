package admin_test

import (
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/admin"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/operator"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

var thumb = strings.Repeat("A", 43)

// desk speaks to a server's admin.sock.
type desk struct {
	t      *testing.T
	socket string
	store  store.Store
	auth   *auth.Service
	log    *strings.Builder
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	o := &desk{t: t, log: &strings.Builder{}}
	quiet := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	key := []byte(strings.Repeat("k", 32))
	sightings := auth.NewSightings(db, nil, quiet)
	if o.auth, err = auth.New(auth.Config{Store: db, PublicURL: "https://hpc.example.org", Key: key, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	life, err := jobs.New(jobs.Config{
		Store: db, Code: code.New(code.Config{Store: db, Deployment: "https://hpc.example.org", Log: quiet}),
		Sightings: sightings, Key: key, Log: quiet,
	})
	if err != nil {
		t.Fatal(err)
	}
	service := access.New(access.Config{Store: db, Jobs: life, Sightings: sightings, Log: slog.New(slog.NewTextHandler(o.log, nil))})
	o.store, o.socket = db, serve(t, admin.New(service, audit.New(audit.Config{Store: db, Log: quiet}), slog.New(slog.NewTextHandler(o.log, nil))))
	return o
}

// serve listens on a socket in a folder with a short name: the path of a
// socket has about 100 bytes at most.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	go server.Serve(l) // ends with Close
	t.Cleanup(func() { server.Close() })
	return socket
}

func ask[Ans any](o *desk, op string, request any) Ans {
	o.t.Helper()
	answer, err := operator.Call[Ans](o.t.Context(), o.socket, op, request)
	if err != nil {
		o.t.Fatalf("%s %+v: %v", op, request, err)
	}
	return answer
}

func (o *desk) refuse(name string, op string, request any, want hpcsera.Code) error {
	o.t.Helper()
	_, err := operator.Call[any](o.t.Context(), o.socket, op, request)
	if got := hpcsera.CodeOf(err); got != want {
		o.t.Errorf("%s: got %q (%v), want %q", name, got, err, want)
	}
	return err
}

// populate makes alice a member of cfd, with a client and a site.
func (o *desk) populate() {
	o.t.Helper()
	ask[hpcsera.User](o, admin.OpCreateUser, access.NewUser{Name: "alice"})
	ask[hpcsera.User](o, admin.OpCreateUser, access.NewUser{Name: "bob"})
	ask[hpcsera.Project](o, admin.OpCreateProject, access.NewProject{Name: "cfd", Members: map[string]hpcsera.MemberRole{"alice": hpcsera.Member}})
	ask[hpcsera.Client](o, admin.OpCreateClient, access.Named{Name: "gitlab"})
	ask[hpcsera.Site](o, admin.OpCreateSite, access.Named{Name: "gwdg"})
}

func newToken() access.NewToken {
	return access.NewToken{User: "alice", Project: "cfd", Client: "gitlab", Preset: "ci"}
}

func (o *desk) bearer(secret string) error {
	_, err := o.auth.Authenticate(o.t.Context(), auth.Request{Authorization: "Bearer " + secret, Method: "GET", Path: "/"})
	return err
}

func TestNothingIsMadeOfNamesThatDoNotFit(t *testing.T) {
	o := newDesk(t)
	o.populate()
	for _, name := range []string{"", "A", "a b", "../x", strings.Repeat("a", 64), "a/b", "ä"} {
		o.refuse("user "+name, admin.OpCreateUser, access.NewUser{Name: name}, hpcsera.InvalidField)
		o.refuse("project "+name, admin.OpCreateProject, access.NewProject{Name: name}, hpcsera.InvalidField)
		o.refuse("client "+name, admin.OpCreateClient, access.Named{Name: name}, hpcsera.InvalidField)
		o.refuse("site "+name, admin.OpCreateSite, access.Named{Name: name}, hpcsera.InvalidField)
	}
	o.refuse("a user twice", admin.OpCreateUser, access.NewUser{Name: "alice"}, hpcsera.Conflict)
	o.refuse("a project twice", admin.OpCreateProject, access.NewProject{Name: "cfd"}, hpcsera.Conflict)
	o.refuse("a project of strangers", admin.OpCreateProject, access.NewProject{Name: "melt", Members: map[string]hpcsera.MemberRole{"eve": hpcsera.Owner}}, hpcsera.NotFound)
	o.refuse("a role that does not exist", admin.OpSetMember, access.NewMember{Project: "cfd", User: "alice", Role: "king"}, hpcsera.InvalidField)
	o.refuse("an unknown user", admin.OpSetUser, access.Switch{Name: "eve", Disabled: true}, hpcsera.NotFound)
	o.refuse("an unknown field", admin.OpSetUser, map[string]any{"name": "alice", "disable": true}, hpcsera.UnknownField)
	if got := ask[[]hpcsera.Project](o, admin.OpProjects, access.Filter{}); len(got) != 1 {
		t.Errorf("projects: got %+v, want cfd alone; a refused one leaves nothing", got)
	}
}

func TestATokenIsMadeOnlyForWhoMayHaveIt(t *testing.T) {
	o := newDesk(t)
	o.populate()
	for name, c := range map[string]struct {
		edit func(*access.NewToken)
		want hpcsera.Code
	}{
		"an unknown user":            {func(r *access.NewToken) { r.User = "eve" }, hpcsera.NotFound},
		"no member":                  {func(r *access.NewToken) { r.User = "bob" }, hpcsera.Conflict},
		"an unknown project":         {func(r *access.NewToken) { r.Project = "melt" }, hpcsera.NotFound},
		"an unknown client":          {func(r *access.NewToken) { r.Client = "flowable" }, hpcsera.NotFound},
		"an unknown site":            {func(r *access.NewToken) { r.Site = "mars" }, hpcsera.NotFound},
		"no roles":                   {func(r *access.NewToken) { r.Preset = "" }, hpcsera.InvalidField},
		"roles and a preset":         {func(r *access.NewToken) { r.Roles = "1" }, hpcsera.InvalidField},
		"an unknown preset":          {func(r *access.NewToken) { r.Preset = "root" }, hpcsera.InvalidField},
		"an unknown role":            {func(r *access.NewToken) { r.Preset, r.Roles = "", "9" }, hpcsera.InvalidField},
		"an unknown scope":           {func(r *access.NewToken) { r.Scope = "world" }, hpcsera.InvalidField},
		"longer than 90 days":        {func(r *access.NewToken) { r.Days = 91 }, hpcsera.LimitExceeded},
		"for no time at all":         {func(r *access.NewToken) { r.Days = -1 }, hpcsera.LimitExceeded},
		"that ends before it begins": {func(r *access.NewToken) { r.NotBefore = time.Now().AddDate(0, 0, 31) }, hpcsera.InvalidField},
	} {
		r := newToken()
		c.edit(&r)
		o.refuse(name, admin.OpCreateToken, r, c.want)
	}
	made := ask[access.TokenMade](o, admin.OpCreateToken, newToken())
	if made.Token.Roles != hpcsera.RolesOf(1, 6, 8) || made.Token.Scope != hpcsera.ClientScope || made.Token.Expires.Sub(made.Token.Created) != 30*24*time.Hour {
		t.Errorf("got %+v, want roles 1, 6, 8, client scope, 30 days", made.Token)
	}
	if err := o.bearer(made.Secret); err != nil {
		t.Errorf("the token: %v", err)
	}
	if got := ask[[]hpcsera.Token](o, admin.OpTokens, access.Filter{User: "alice"}); len(got) != 1 || got[0].ID != made.Token.ID {
		t.Errorf("list: got %+v", got)
	}
	later := newToken()
	later.NotBefore = time.Now().Add(time.Hour)
	if err := o.bearer(ask[access.TokenMade](o, admin.OpCreateToken, later).Secret); hpcsera.CodeOf(err) != hpcsera.TokenInvalid {
		t.Errorf("a token for later: got %v, want token_invalid", err)
	}
	if strings.Contains(o.log.String(), made.Secret) {
		t.Error("the log holds the token")
	}
	if !strings.Contains(o.log.String(), "token-create") {
		t.Errorf("the log does not tell of the token: %s", o.log)
	}
	err := o.store.Read(t.Context(), func(r store.Reader) error {
		lines, err := r.Audit(store.AuditFilter{User: "alice"})
		if !slices.ContainsFunc(lines, func(l hpcsera.AuditLine) bool {
			return l.Actor == "operator" && l.Action == "createToken" && l.About == made.Token.ID
		}) {
			t.Errorf("the audit log does not tell of the token: %+v", lines)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestEverySwitchWorksFromTheNextRequest(t *testing.T) {
	o := newDesk(t)
	o.populate()
	made := ask[access.TokenMade](o, admin.OpCreateToken, newToken())
	for name, c := range map[string]struct {
		off, on func()
	}{
		"user": {
			func() { ask[hpcsera.User](o, admin.OpSetUser, access.Switch{Name: "alice", Disabled: true}) },
			func() { ask[hpcsera.User](o, admin.OpSetUser, access.Switch{Name: "alice"}) },
		},
		"client": {
			func() { ask[hpcsera.Client](o, admin.OpSetClient, access.Switch{Name: "gitlab", Disabled: true}) },
			func() { ask[hpcsera.Client](o, admin.OpSetClient, access.Switch{Name: "gitlab"}) },
		},
		"membership": {
			func() { ask[hpcsera.Project](o, admin.OpSetMember, access.NewMember{Project: "cfd", User: "alice"}) },
			func() {
				ask[hpcsera.Project](o, admin.OpSetMember, access.NewMember{Project: "cfd", User: "alice", Role: hpcsera.Viewer})
			},
		},
	} {
		c.off()
		if got := hpcsera.CodeOf(o.bearer(made.Secret)); got != hpcsera.TokenInvalid {
			t.Errorf("%s off: got %q, want token_invalid", name, got)
		}
		if c.on(); o.bearer(made.Secret) != nil {
			t.Errorf("%s on again: the token is refused", name)
		}
	}
	if got := ask[hpcsera.Site](o, admin.OpSetSite, access.Switch{Name: "gwdg", Disabled: true}); !got.Disabled {
		t.Errorf("site: got %+v, want disabled", got)
	}
	got := ask[hpcsera.Token](o, admin.OpRevokeToken, access.Revocation{ID: made.Token.ID})
	if code := hpcsera.CodeOf(o.bearer(made.Secret)); code != hpcsera.TokenInvalid || got.Revoked == nil {
		t.Errorf("revoked: got %q, %+v", code, got)
	}
	o.refuse("a token that does not exist", admin.OpRevokeToken, access.Revocation{ID: hpcsera.NewID("t")}, hpcsera.NotFound)
	o.refuse("a token for a disabled user", admin.OpCreateToken, func() access.NewToken {
		ask[hpcsera.User](o, admin.OpSetUser, access.Switch{Name: "alice", Disabled: true})
		return newToken()
	}(), hpcsera.Conflict)
}

func TestAUserHasOneAgentAtASite(t *testing.T) {
	o := newDesk(t)
	o.populate()
	good := access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: thumb}
	for name, c := range map[string]struct {
		edit func(*access.NewAgent)
		want hpcsera.Code
	}{
		"an unknown user":    {func(r *access.NewAgent) { r.User = "eve" }, hpcsera.NotFound},
		"no member":          {func(r *access.NewAgent) { r.User = "bob" }, hpcsera.Conflict},
		"an unknown site":    {func(r *access.NewAgent) { r.Site = "mars" }, hpcsera.NotFound},
		"an unknown project": {func(r *access.NewAgent) { r.Projects = []string{"melt"} }, hpcsera.NotFound},
		"no project":         {func(r *access.NewAgent) { r.Projects = nil }, hpcsera.InvalidField},
		"no thumbprint":      {func(r *access.NewAgent) { r.Thumbprint = "" }, hpcsera.InvalidField},
		"a cut thumbprint":   {func(r *access.NewAgent) { r.Thumbprint = thumb[1:] }, hpcsera.InvalidField},
		"longer than a year": {func(r *access.NewAgent) { r.Days = 400 }, hpcsera.LimitExceeded},
	} {
		r := good
		c.edit(&r)
		o.refuse(name, admin.OpCreateAgent, r, c.want)
	}
	made := ask[access.AgentMade](o, admin.OpCreateAgent, good)
	if id, _, ok := hpcsera.ParseSecret(made.Credential); !ok || id != made.Agent.ID {
		t.Errorf("credential: got one of %q, want %s", id, made.Agent.ID)
	}
	seen := time.Date(2026, 11, 22, 14, 0, 0, 0, time.UTC)
	o.edit(func(tx store.Tx) error {
		row, err := tx.Agent(made.Agent.ID)
		if err != nil {
			return err
		}
		row.Facts = &hpcsera.Facts{Host: "login7"}
		if err := tx.UpdateAgent(*row); err != nil {
			return err
		}
		return tx.SeenAgents(map[string]time.Time{row.ID: seen})
	})
	err := o.refuse("a second one", admin.OpCreateAgent, good, hpcsera.Conflict)
	if err == nil || !strings.Contains(err.Error(), "login7") || !strings.Contains(err.Error(), "2026-11-22T14:00:00Z") {
		t.Errorf("a second one: got %v, want host and last sighting of the first", err)
	}
	job := store.Job{Job: hpcsera.Job{
		ID: hpcsera.NewID("j"), Name: "a", Project: "cfd", User: "alice", Client: "gitlab", Site: "gwdg", State: hpcsera.Running,
		Agent: made.Agent.ID, Attempt: 1,
	}, Delivered: 1, OrderSeq: 1}
	o.edit(func(tx store.Tx) error {
		l, err := store.NewLedger(tx, seen)
		if err != nil {
			return err
		}
		return l.Insert([]*store.Job{&job})
	})
	o.refuse("removed while it has a job", admin.OpRemoveAgent, access.Removal{ID: made.Agent.ID}, hpcsera.Conflict)
	ask[hpcsera.Agent](o, admin.OpRemoveAgent, access.Removal{ID: made.Agent.ID, Abandon: true})
	o.edit(func(tx store.Tx) error {
		got, err := tx.Job(job.ID)
		if err == nil && (got.State != hpcsera.Failed || got.Reason != hpcsera.AgentRemoved) {
			t.Errorf("its job: got %s (%s), want failed (agent_removed)", got.State, got.Reason)
		}
		return err
	})
	if got := ask[[]hpcsera.Agent](o, admin.OpAgents, access.Filter{User: "alice"}); len(got) != 0 {
		t.Errorf("agents: got %+v, want none", got)
	}
	ask[access.AgentMade](o, admin.OpCreateAgent, good)
	o.refuse("an agent that does not exist", admin.OpRemoveAgent, access.Removal{ID: hpcsera.NewID("ag")}, hpcsera.NotFound)
}

func (o *desk) edit(fn func(store.Tx) error) {
	o.t.Helper()
	if err := o.store.Write(o.t.Context(), fn); err != nil {
		o.t.Fatal(err)
	}
}
