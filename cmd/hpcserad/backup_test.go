package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/backup"
	"github.com/hpcsera/hpcsera/internal/records"
	"github.com/hpcsera/hpcsera/internal/settings"
	"github.com/hpcsera/hpcsera/internal/store"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// The documents that a restore drops, of each kind, and one that it keeps.
var (
	dropped     = []store.Kind{"login_session", "browser.session", "browser.form", "oauth_grant"}
	authDropped = []string{"session", "visit", "link", "request", "user-code", "decision", "grant", "login"}
)

// lived is a folder of a server that lived for a while and was stopped: with
// alice's token, her job that no agent has, and her agent.
type lived struct {
	t          *testing.T
	dir, token string
	agent      *store.Agent
	epoch, seq int64
}

func newLived(t *testing.T) *lived {
	t.Helper()
	l := &lived{t: t, dir: initialized(t)}
	s := serve(t, l.dir)
	s.must("user", "add", "alice")
	s.must("project", "add", "cfd", "--member", "alice=owner")
	s.must("client", "add", "cli")
	s.must("site", "add", "lab")
	s.must("agent", "create", "--user", "alice", "--site", "lab", "--project", "cfd", "--thumbprint", strings.Repeat("A", 43))
	l.token = secret(t, s.must("token", "create", "--user", "alice", "--project", "cfd", "--client", "cli", "--for", "ci-code"))
	if got := s.post("/api/v1/jobs", l.token, `{"name":"a","script":"true","site":"lab"}`); got != 201 {
		t.Fatalf("submit: got %d, want 201", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	l.main(func(db *sqlstore.Store) {
		err := db.Write(t.Context(), func(tx store.Tx) error {
			for _, kind := range append([]store.Kind{"client_enabled"}, dropped...) {
				if err := tx.PutDocument(store.Document{Kind: kind, Key: "k", Owner: "alice", Ends: time.Now().Add(time.Hour)}, map[string]string{}); err != nil {
					return err
				}
			}
			agents, err := tx.Agents("alice", "lab")
			l.agent = agents[0]
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	l.auth(func(db *authstore.Store) {
		err := db.Write(t.Context(), func(tx records.Tx) error {
			for _, kind := range append([]string{"account", "signed", "withdrawn"}, authDropped...) {
				if err := tx.Put(kind, "k", map[string]string{}, records.Options{}); err != nil {
					return err
				}
			}
			return tx.Put("status-list", "current", map[string]any{"number": 7, "issued": time.Now(), "text": "x"}, records.Options{})
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	l.epoch, l.seq = l.counter()
	return l
}

func (s *served) post(path, token, body string) int {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func (l *lived) path(name string) string { return filepath.Join(l.dir, "data", name) }

// main and auth open the databases, which no server has open.
func (l *lived) main(do func(*sqlstore.Store)) {
	l.t.Helper()
	db, err := sqlstore.Open(l.t.Context(), l.path("hpcsera.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	do(db)
}

func (l *lived) auth(do func(*authstore.Store)) {
	l.t.Helper()
	db, err := authstore.Open(l.t.Context(), l.path("auth.db"), time.Now)
	if err != nil {
		l.t.Fatal(err)
	}
	defer db.Close()
	do(db)
}

func (l *lived) counter() (epoch, seq int64) {
	l.t.Helper()
	l.main(func(db *sqlstore.Store) {
		err := db.Read(l.t.Context(), func(r store.Reader) (err error) {
			if epoch, err = r.Epoch(); err == nil {
				seq, err = r.LastSeq()
			}
			return err
		})
		if err != nil {
			l.t.Fatal(err)
		}
	})
	return epoch, seq
}

func (l *lived) do(args ...string) (string, error) {
	l.t.Helper()
	var out bytes.Buffer
	err := run(l.t.Context(), append(args, "--config", filepath.Join(l.dir, "hpcserad.yaml")), nil, &out, io.Discard)
	return out.String(), err
}

// saved makes a backup over the running server and stops it.
func (l *lived) saved() string {
	l.t.Helper()
	folder := filepath.Join(l.dir, "monday")
	s := serve(l.t, l.dir)
	s.must("backup", folder)
	if err := s.stop(); err != nil {
		l.t.Fatal(err)
	}
	return folder
}

func TestABackupIsRefusedWhereItCannotBeWhole(t *testing.T) {
	dir := initialized(t)
	if err := run(t.Context(), []string{"backup", filepath.Join(dir, "a"), "--config", filepath.Join(dir, "hpcserad.yaml")}, nil, io.Discard, io.Discard); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("without a server: got %v, want %s", err, hpcsera.Unavailable)
	}
	s := serve(t, dir)
	for name, folder := range map[string]string{"a folder that is there": dir, "a file": s.config, "a folder in nothing": filepath.Join(dir, "a", "b")} {
		if out, err := s.do("backup", folder); err == nil {
			t.Errorf("%s: got %q, want it refused", name, out)
		}
	}
	_, err := backup.Make(t.Context(), backup.Request{Folder: filepath.Join(dir, "pg")}, []backup.Database{
		database(mainCopy, "postgres://hpcsera:geheim@db.example.org/hpcsera?sslpassword=geheim", nil),
	})
	if err == nil || !strings.Contains(err.Error(), "pg_dump --format=custom --file=hpcsera.dump 'postgres://hpcsera@db.example.org/hpcsera") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("PostgreSQL: got %v, want the command without a password", err)
	}
	broken := backup.Database{Name: authCopy, Copy: func(context.Context, string) error { return io.ErrUnexpectedEOF }}
	whole := backup.Database{Name: mainCopy, Copy: func(_ context.Context, into string) error { return os.WriteFile(into, nil, 0o600) }}
	if _, err := backup.Make(t.Context(), backup.Request{Folder: filepath.Join(dir, "half")}, []backup.Database{whole, broken}); err == nil {
		t.Error("half a backup: got no error")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "half*")); err != nil || len(left) > 0 {
		t.Errorf("of half a backup there is left %v (%v)", left, err)
	}
}

func TestARestoreIsRefusedWhereItWouldDoHarm(t *testing.T) {
	l := newLived(t)
	folder := l.saved()
	copied := func(name string, files map[string]string) string {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for to, from := range files {
			text, err := os.ReadFile(filepath.Join(folder, from))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	cut := copied("cut", map[string]string{mainCopy: mainCopy, authCopy: authCopy})
	if err := os.Truncate(filepath.Join(cut, mainCopy), 40_000); err != nil {
		t.Fatal(err)
	}
	raw := copied("raw", map[string]string{mainCopy: mainCopy, authCopy: authCopy, mainCopy + "-wal": authCopy})
	for name, c := range map[string]struct {
		args []string
		say  string
	}{
		"no folder":                     {nil, "--in-place"},
		"a folder and in place":         {[]string{folder, "--in-place"}, "--in-place"},
		"a database that is there":      {[]string{folder}, "--force"},
		"a folder that is not there":    {[]string{folder + "x", "--force"}, "no such file"},
		"another program's database":    {[]string{copied("x", map[string]string{mainCopy: authCopy, authCopy: authCopy}), "--force"}, "no backup of the server's"},
		"the Auth app's is missing":     {[]string{copied("y", map[string]string{mainCopy: mainCopy}), "--force"}, "no backup of an Auth app's"},
		"a file that was cut off":       {[]string{cut, "--force"}, "no backup of the server's"},
		"the files of a running server": {[]string{raw, "--force"}, "-wal lies beside"},
	} {
		out, err := l.do(append([]string{"restore"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: got %q, %v, want an error that says %q", name, out, err, c.say)
		}
	}
	s := serve(t, l.dir)
	for _, args := range [][]string{{"restore", folder, "--force"}, {"restore", "--in-place"}} {
		if out, err := l.do(args...); hpcsera.CodeOf(err) != hpcsera.Conflict {
			t.Errorf("%v beside a server: got %q, %v, want %s", args, out, err, hpcsera.Conflict)
		}
	}
	// The socket may be another one; the database is not.
	err := run(t.Context(), []string{"restore", folder, "--force", "--config", s.config}, []string{"HPCSERAD_ADMIN_SOCKET=" + filepath.Join(l.dir, "o.sock")}, io.Discard, io.Discard)
	if hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("beside a server with another socket: got %v, want %s", err, hpcsera.Conflict)
	}
	if got := s.get("/api/v1/tokens/self", l.token); got != 200 {
		t.Errorf("the token after refusals: got %d, want 200", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(l.path("*.re*")); err != nil || len(left) > 0 {
		t.Errorf("refusals left %v (%v)", left, err)
	}
	err = run(t.Context(), []string{"restore", folder, "--config", s.config}, []string{"HPCSERAD_DATABASE=postgres://u:geheim@127.0.0.1:1/d"}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "restore --in-place") || strings.Contains(err.Error(), "geheim") {
		t.Errorf("PostgreSQL: got %v, want to be told how", err)
	}
}

// ended checks what a restore has to have ended and kept.
func (l *lived) ended() {
	l.t.Helper()
	t := l.t
	epoch, seq := l.counter()
	if epoch <= l.epoch || seq < l.seq+store.Lift {
		t.Errorf("got epoch %d and seq %d after %d and %d, want a new one and a lift", epoch, seq, l.epoch, l.seq)
	}
	l.main(func(db *sqlstore.Store) {
		err := db.Read(t.Context(), func(r store.Reader) error {
			for _, kind := range dropped {
				if r.Document(kind, "k", time.Now(), &struct{}{}) == nil {
					t.Errorf("a %s is still there", kind)
				}
			}
			if err := r.Document("client_enabled", "k", time.Now(), &struct{}{}); err != nil {
				t.Errorf("what a user enabled: got %v, want it kept", err)
			}
			agent, err := r.Agent(l.agent.ID)
			if err != nil || !bytes.Equal(agent.Hash, l.agent.Hash) || agent.Thumbprint != l.agent.Thumbprint || agent.Removed {
				t.Errorf("the agent: got %+v (%v), want its credential kept", agent, err)
			}
			jobs, err := r.Jobs(store.JobFilter{Limit: 2})
			if err != nil || len(jobs) != 1 || jobs[0].State != hpcsera.Held || jobs[0].Reason != hpcsera.TokenRevoked {
				t.Errorf("the job that no agent had: got %+v (%v), want it held", jobs, err)
			}
			line, err := r.AuditHead()
			if err != nil || line.Action != "backup.restore" || !strings.Contains(line.Detail, "1 tokens revoked") {
				t.Errorf("the audit log ends with %+v (%v)", line, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	l.auth(func(db *authstore.Store) {
		err := db.Read(t.Context(), func(r records.Reader) error {
			for _, kind := range authDropped {
				if r.Get(kind, "k", &struct{}{}) == nil {
					t.Errorf("in the Auth app a %s is still there", kind)
				}
			}
			for _, kind := range []string{"account", "signed", "withdrawn"} {
				if err := r.Get(kind, "k", &struct{}{}); err != nil {
					t.Errorf("in the Auth app a %s: got %v, want it kept", kind, err)
				}
			}
			var list struct{ Number int64 }
			if err := r.Get("status-list", "current", &list); err != nil || list.Number < 1_000_000 {
				t.Errorf("the status list's number: got %d (%v), want one far above 7", list.Number, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	s := serve(t, l.dir)
	if got := s.get("/api/v1/tokens/self", l.token); got != 401 {
		t.Errorf("the token: got %d, want 401", got)
	}
	if out := s.must("user", "list"); !strings.Contains(out, "alice") {
		t.Errorf("users: got %q, want alice", out)
	}
	s.must("audit", "verify")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestARestoredDatabaseHasNoTokenAndNoSessionThatWorks(t *testing.T) {
	l := newLived(t)
	folder := l.saved()
	for path, want := range map[string]os.FileMode{folder: 0o700, filepath.Join(folder, mainCopy): 0o600, filepath.Join(folder, authCopy): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: got %v (%v), want mode %o", path, info, err, want)
		}
	}
	s := serve(t, l.dir)
	s.must("user", "add", "bob") // since the backup
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	out, err := l.do("restore", folder, "--force")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"revoked  1 client tokens; 1 jobs", "1 sessions of hpcsera login", "hpcserad serve", "hpcsera login", ".replaced-"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q: %s", want, out)
		}
	}
	l.ended()
	kept, err := filepath.Glob(l.path("*.replaced-*Z"))
	if err != nil || len(kept) != 2 {
		t.Errorf("the replaced databases: got %v (%v), want both kept", kept, err)
	}
	if left, _ := filepath.Glob(l.path("*.restoring*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	// The backup itself is as it was, and can be restored to an empty folder.
	for _, name := range []string{"hpcsera.db", "auth.db"} {
		if err := os.Remove(l.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.do("restore", folder); err != nil {
		t.Fatalf("to an empty folder: %v", err)
	}
	l.ended()
}

func TestAFilePutBackByHandIsRenewedInPlace(t *testing.T) {
	l := newLived(t)
	if out, err := l.do("restore", "--in-place"); err != nil || !strings.Contains(out, "revoked  1 client tokens") {
		t.Fatalf("got %q, %v", out, err)
	}
	l.ended()
}

func TestABackupIsNotedAndTellsWhatIsNotInIt(t *testing.T) {
	dir := initialized(t)
	s := serve(t, dir)
	folder := filepath.Join(dir, "monday")
	out := s.must("backup", folder)
	for _, want := range []string{mainCopy, authCopy, "server.key", "auth.key", filepath.Join("data", "files"), "hpcserad restore " + folder} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q: %s", want, out)
		}
	}
	var noted bool
	for text := range strings.Lines(s.must("audit", "export")) {
		var line hpcsera.AuditLine
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		noted = noted || line.Action == "backup.make" && line.About == folder
	}
	if !noted {
		t.Error("the audit log does not tell of the backup")
	}
}

func TestTheSecretOfTheAuthAppInsideRotatesWithOverlap(t *testing.T) {
	dir := initialized(t)
	config := filepath.Join(dir, "hpcserad.yaml")
	s := serve(t, dir)
	if got := s.get("/auth/oidc/keys", ""); got != 200 {
		t.Fatalf("the Auth app's keys: got %d, want 200", got)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "next.key"), settings.NewKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	write := func(auth string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(string(text)+"\nauth: {secret_file: data/next.key, old_secret_files: ["+auth+"]}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, old := range []string{"data/nothing.key", "''"} {
		write(old)
		if err := run(t.Context(), []string{"serve", "--config", config}, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "old_secret_files") {
			t.Errorf("%s: got %v, want it refused", old, err)
		}
	}
	write("")
	without := serve(t, dir)
	if got := without.get("/auth/oidc/keys", ""); got == 200 {
		t.Error("what the old secret sealed was read without it")
	}
	if err := without.stop(); err != nil {
		t.Fatal(err)
	}
	write("data/auth.key")
	if got := serve(t, dir).get("/auth/oidc/keys", ""); got != 200 {
		t.Errorf("with the old secret: got %d, want 200", got)
	}
}
