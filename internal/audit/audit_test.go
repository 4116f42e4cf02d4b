package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	_ "modernc.org/sqlite" // to tamper with the file

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/audit"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

var operator = auth.OperatorOnHost()

type syslog struct{ lines []string }

func (s *syslog) Notice(line string) error { s.lines = append(s.lines, line); return nil }

// open opens a database whose file it returns.
func open(t *testing.T, file string) store.Store {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func fill(t *testing.T, db store.Store, n int) {
	t.Helper()
	err := db.Write(t.Context(), func(tx store.Tx) error {
		for i := range n {
			line := hpcsera.AuditLine{At: time.Unix(1e9, 0), Actor: "operator", Action: "token.create", User: "alice", About: fmt.Sprint(i)}
			if err := tx.Note(line); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newLog(db store.Store, sys audit.Syslog) *audit.Log {
	return audit.New(audit.Config{Store: db, Syslog: sys, Log: slog.New(slog.DiscardHandler)})
}

// tamper changes the closed database with plain SQL, as whoever has the file
// can.
func tamper(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	result, err := db.Exec(statement)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := result.RowsAffected(); n == 0 {
		t.Fatalf("%s changed nothing", statement)
	}
}

func TestALogThatWasTamperedWithIsFound(t *testing.T) {
	for name, c := range map[string]struct{ statement, say string }{
		"a changed line":   {`UPDATE audit SET doc = replace(doc, '"about":"700"', '"about":"701"') WHERE number = 701`, "line 701"},
		"a dropped line":   {`DELETE FROM audit WHERE number = 3`, "line 2 is followed by line 4"},
		"the first":        {`DELETE FROM audit WHERE number = 1`, "line 0 is followed by line 2"},
		"the last ones":    {`DELETE FROM audit WHERE number > 1190`, "ends at line 1190"},
		"the actor hidden": {`UPDATE audit SET doc = replace(doc, '"actor":"operator"', '"actor":"user:bob"') WHERE number = 1200`, "line 1200"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "hpcsera.db")
			db := open(t, file)
			fill(t, db, 1200)
			log := newLog(db, nil)
			good, err := log.Verify(t.Context(), operator, audit.Verification{})
			if err != nil || good.Lines != 1200 {
				t.Fatalf("before: got %+v, %v, want 1200 lines", good, err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			tamper(t, file, c.statement)
			log = newLog(open(t, file), nil)
			_, err = log.Verify(t.Context(), operator, audit.Verification{Head: good.Head})
			if hpcsera.CodeOf(err) != hpcsera.Conflict || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want a conflict that says %q", err, c.say)
			}
		})
	}
}

func TestALogMadeAnewDoesNotHoldTheHeadThatWasKept(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	fill(t, db, 30)
	kept, err := newLog(db, nil).Verify(t.Context(), operator, audit.Verification{})
	if err != nil {
		t.Fatal(err)
	}
	anew := open(t, filepath.Join(t.TempDir(), "b.db"))
	fill(t, anew, 1)
	if err := anew.Write(t.Context(), func(tx store.Tx) error { return tx.Note(hpcsera.AuditLine{At: time.Unix(1e9, 0), About: "harmless"}) }); err != nil {
		t.Fatal(err)
	}
	fill(t, anew, 50)
	log := newLog(anew, nil)
	if _, err := log.Verify(t.Context(), operator, audit.Verification{}); err != nil {
		t.Fatalf("the chain alone: got %v, want no error: that is why heads are kept elsewhere", err)
	}
	if _, err := log.Verify(t.Context(), operator, audit.Verification{Head: kept.Head}); hpcsera.CodeOf(err) != hpcsera.Conflict {
		t.Errorf("with the kept head: got %v, want conflict", err)
	}
	for _, head := range []string{"x", "3", "3:abc", "-"} {
		if _, err := log.Verify(t.Context(), operator, audit.Verification{Head: head}); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("head %q: got %v, want invalid_field", head, err)
		}
	}
}

func TestASignedHeadIsVerifiedAndAForgedOneRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "a.db"))
		fill(t, db, 3)
		heads := func() decision.Heads {
			key, err := decision.NewKey()
			if err != nil {
				t.Fatal(err)
			}
			return decision.Heads{Key: key, Log: "hpc"}
		}
		own, sys := heads(), &syslog{}
		log := audit.New(audit.Config{Store: db, Syslog: sys, Heads: own, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if err := log.Run(ctx); err != nil || len(sys.lines) == 0 {
			t.Fatalf("got the lines %q, %v", sys.lines, err)
		}
		line := sys.lines[len(sys.lines)-1]
		plain := strings.Fields(line)[3]
		forged, err := heads().Sign(plain)
		if err != nil {
			t.Fatal(err)
		}
		anew, err := own.Sign("2:" + strings.Repeat("0", 64))
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"another's signature": forged, "ours, of another log's line": anew} {
			if got, err := log.Verify(t.Context(), operator, audit.Verification{Head: text}); hpcsera.CodeOf(err) != hpcsera.Conflict {
				t.Errorf("%s: got %+v, %v, want a conflict", name, got, err)
			}
		}
		for text, signed := range map[string]bool{line: true, strings.Fields(line)[4]: true, plain: false} {
			if got, err := log.Verify(t.Context(), operator, audit.Verification{Head: text}); err != nil || got.Signed != signed {
				t.Errorf("%s: got %+v, %v, want signed %t", text, got, err, signed)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestOnlyOperatorsSeeEverything(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "a.db"))
	log := newLog(db, nil)
	alice := &auth.Principal{Person: &auth.Person{User: "alice", SteppedUp: true}}
	if _, err := log.Verify(t.Context(), alice, audit.Verification{}); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("verify: got %v, want forbidden", err)
	}
	if _, err := log.Export(t.Context(), alice, audit.Pages{}); hpcsera.CodeOf(err) != hpcsera.Forbidden {
		t.Errorf("export: got %v, want forbidden", err)
	}
}

func TestAFloodOfRefusalsCostsFewLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "a.db"))
		log := newLog(db, nil)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- log.Run(ctx) }()
		for i := range 100_000 {
			log.Refused(hpcsera.AuditLine{Actor: fmt.Sprintf("address:10.0.%d.%d", i/100%100, i%100), Action: "getJob", Refused: hpcsera.TokenInvalid})
		}
		time.Sleep(6 * time.Second)
		lines, err := log.Export(t.Context(), operator, audit.Pages{})
		if err != nil || len(lines) != 201 {
			t.Fatalf("got %d lines, %v, want 200 and one that says how many more", len(lines), err)
		}
		if last := lines[200]; last.Actor != "server" || !strings.Contains(last.Detail, "more refusals") {
			t.Errorf("the last line: got %+v", last)
		}
		for _, l := range lines[:200] {
			if !strings.Contains(l.Detail, "10 times") {
				t.Errorf("got %+v, want it to say 10 times", l)
				break
			}
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestTheHeadReachesSyslogAtTheStartEveryHourAndAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := open(t, filepath.Join(t.TempDir(), "a.db"))
		fill(t, db, 3)
		sys := &syslog{}
		log := newLog(db, sys)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- log.Run(ctx) }()
		synctest.Wait()
		fill(t, db, 2)
		time.Sleep(time.Hour + time.Second)
		fill(t, db, 1)
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		var want bytes.Buffer
		for _, n := range []int64{3, 5, 6} {
			lines, err := log.Export(t.Context(), operator, audit.Pages{After: n - 1})
			if err != nil || len(lines) == 0 {
				t.Fatalf("line %d: %v", n, err)
			}
			fmt.Fprintf(&want, "hpcsera audit head %d:%s\n", n, lines[0].Hash)
		}
		if got := strings.Join(sys.lines, "\n") + "\n"; got != want.String() {
			t.Errorf("syslog: got\n%s\nwant\n%s", got, want.String())
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}
