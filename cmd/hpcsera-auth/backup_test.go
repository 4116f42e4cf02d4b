package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
	authstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/auth"
)

// document is what the tests need of a document.
type document struct{ Number int64 }

// inside opens the database that no program has open.
func inside(t *testing.T, dir string, do func(records.Tx) error) {
	t.Helper()
	db, err := authstore.Open(t.Context(), filepath.Join(dir, "data", "auth.db"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Write(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

func TestABackupOfTheAuthAppIsRestoredWithoutItsSessions(t *testing.T) {
	dir := initialized(t)
	config, folder := filepath.Join(dir, "hpcsera-auth.yaml"), filepath.Join(dir, "monday")
	offline := func(args ...string) error {
		return run(t.Context(), append(args, "--config", config), nil, io.Discard, io.Discard)
	}
	if err := offline("backup", folder); hpcsera.CodeOf(err) != hpcsera.Unavailable {
		t.Errorf("a backup without the program: got %v, want %s", err, hpcsera.Unavailable)
	}
	first := serve(t, dir)
	pin := first.stdout.String()
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	var number int64
	inside(t, dir, func(tx records.Tx) error {
		for _, kind := range []string{"session", "link", "request", "account", "withdrawn"} {
			if err := tx.Put(kind, "k", document{}, records.Options{}); err != nil {
				return err
			}
		}
		var list document
		err := tx.Get("status-list", "current", &list)
		number = list.Number
		return err
	})
	s := serve(t, dir)
	if _, err := s.do("backup", dir); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("a backup into a folder that is there: got %v, want %s", err, hpcsera.Conflict)
	}
	if out := s.must("backup", folder); !strings.Contains(out, "auth.key") {
		t.Errorf("got %q, want to be told of the key file", out)
	}
	if out := s.must("audit", "export"); strings.Count(out, `"backup.make"`) != 1 {
		t.Errorf("the audit log: got %s, want the one backup that was made", out)
	}
	for _, args := range [][]string{{"restore", folder, "--force"}, {"restore", "--in-place"}} {
		if err := offline(args...); hpcsera.CodeOf(err) != hpcsera.Conflict {
			t.Errorf("%v beside the program: got %v, want %s", args, err, hpcsera.Conflict)
		}
	}
	elsewhere := []string{"HPCSERA_AUTH_ADMIN_SOCKET=" + filepath.Join(dir, "o.sock")}
	if err := run(t.Context(), []string{"restore", folder, "--force", "--config", config}, elsewhere, io.Discard, io.Discard); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("beside the program with another socket: got %v, want %s", err, hpcsera.Conflict)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	empty := t.TempDir()
	for name, args := range map[string][]string{
		"a database that is there": {folder}, "no backup": {empty, "--force"}, "nothing": nil, "both": {folder, "--in-place"},
	} {
		if err := offline(append([]string{"restore"}, args...)...); err == nil {
			t.Errorf("restore with %s: got no error", name)
		}
	}
	if out, err := s.do("restore", folder, "--force"); err != nil || !strings.Contains(out, "1 sessions, ") || !strings.Contains(out, ".replaced-") {
		t.Fatalf("got %q, %v", out, err)
	}
	inside(t, dir, func(tx records.Tx) error {
		for kind, kept := range map[string]bool{"session": false, "link": false, "request": false, "account": true, "withdrawn": true} {
			if err := tx.Get(kind, "k", &document{}); (err == nil) != kept {
				t.Errorf("a %s: got %v, want it kept: %v", kind, err, kept)
			}
		}
		// They are none that a program could show or sign.
		return errors.Join(tx.Delete("account", "k"), tx.Delete("withdrawn", "k"))
	})
	s = serve(t, dir)
	if !strings.Contains(pin, "Agents pin:") || !strings.Contains(s.stdout.String(), agentsPin(pin)) {
		t.Errorf("got %q after %q, want agents to pin the same", s.stdout, pin)
	}
	if out := s.must("audit", "export"); !strings.Contains(out, `"backup.restore"`) {
		t.Errorf("the audit log: got %s", out)
	}
	s.must("audit", "verify")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	// Agents saw higher numbers than the backup's, and refuse lower ones.
	inside(t, dir, func(tx records.Tx) error {
		var list document
		if err := tx.Get("status-list", "current", &list); err != nil || list.Number < number+1_000_000 {
			t.Errorf("the status list's number: got %d (%v) after %d, want it far above", list.Number, err, number)
		}
		return nil
	})
	if err := os.Remove(filepath.Join(dir, "data", "auth.db")); err != nil {
		t.Fatal(err)
	}
	if err := offline("restore", "--in-place"); hpcsera.CodeOf(err) != hpcsera.NotFound {
		t.Errorf("in place without a database: got %v, want %s", err, hpcsera.NotFound)
	}
	if err := offline("restore", folder); err != nil {
		t.Errorf("to an empty folder: %v", err)
	}
}

// agentsPin is the line about what agents pin, in what serve prints.
func agentsPin(out string) string {
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "Agents pin:") {
			return line
		}
	}
	return "nothing"
}

func TestTheKeyFileRotatesWithOverlap(t *testing.T) {
	dir := initialized(t)
	config := filepath.Join(dir, "hpcsera-auth.yaml")
	s := serve(t, dir)
	present, next := s.must("key"), s.must("key", filepath.Join(dir, "data", "next.key"))
	if present == next || !strings.Contains(s.stdout.String(), strings.Fields(present)[0]) {
		t.Errorf("got the keys %q and %q, want two, and the first announced", present, next)
	}
	_, published := s.get("/oidc/keys")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	rotated := string(text) + "\nkey_file: data/next.key\n"
	write := func(more string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(rotated+more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, more := range map[string]string{"a file that is not there": "old_key_files: [data/nothing.key]\n", "no name": "old_key_files: ['']\n"} {
		write(more)
		if err := run(t.Context(), []string{"serve", "--config", config}, nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "old_key_files") {
			t.Errorf("%s: got %v, want it refused", name, err)
		}
	}
	write("old_key_files: [data/auth.key]\n")
	s = serve(t, dir)
	if !strings.Contains(s.stdout.String(), strings.Fields(next)[0]) {
		t.Errorf("got %s, want agents to pin %s", s.stdout, next)
	}
	if status, again := s.get("/oidc/keys"); status != 200 || again != published {
		t.Errorf("got status %d and the keys %s, want %s to be readable", status, again, published)
	}
}
