package access_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
	sqlstore "github.com/hpcsera/hpcsera/internal/store/sqlstore/main"
)

// post is a mail server.
type post struct {
	down     bool
	stranger bool // has no address
	mails    []string
}

// Mail implements access.Mailer.
func (p *post) Mail(_ context.Context, user, subject, text string) error {
	if p.down {
		return errors.New("the mail server is down")
	}
	if p.stranger {
		return hpcsera.Errorf(hpcsera.NotFound, "there is no account %s.", user)
	}
	p.mails = append(p.mails, user+": "+subject+"\n"+text)
	return nil
}

// noJobs is jobs of which there are none.
type noJobs struct{}

// RevokeToken implements access.Jobs.
func (noJobs) RevokeToken(context.Context, string, bool, string) error { return nil }

// Abandon implements access.Jobs.
func (noJobs) Abandon(store.Tx, *store.Ledger, string) error { return nil }

func TestAnAgentsOwnerIsMailedOnceTwoWeeksBeforeItsEnd(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	clock, mail := func() time.Time { return now }, &post{}
	replica := func() *access.Service {
		return access.New(access.Config{Store: db, Jobs: noJobs{}, Sightings: auth.NewSightings(db, clock, log), Mailer: mail, Log: log, Now: clock})
	}
	s, by := replica(), auth.OperatorOnHost()
	for _, err := range []error{
		one(s.CreateUser(t.Context(), by, access.NewUser{Name: "alice"})), one(s.CreateProject(t.Context(), by, access.NewProject{Name: "cfd"})),
		one(s.SetMember(t.Context(), by, access.NewMember{Project: "cfd", User: "alice", Role: "owner"})), one(s.CreateSite(t.Context(), by, access.Named{Name: "gwdg"})),
		one(s.CreateAgent(t.Context(), by, access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43), Days: 30})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	remind := func(s *access.Service, want int) {
		t.Helper()
		if err := s.Remind(t.Context()); err != nil || len(mail.mails) != want {
			t.Errorf("at %s: got %d mails (%v), want %d", now, len(mail.mails), err, want)
		}
	}
	remind(s, 0)
	now = now.Add(15 * 24 * time.Hour)
	remind(s, 0)
	now = now.Add(24 * time.Hour)
	mail.down = true
	if err := s.Remind(t.Context()); err == nil {
		t.Error("a mail that was not sent is no error")
	}
	mail.down = false
	remind(s, 1)
	remind(s, 1)
	remind(replica(), 1)
	if !strings.HasPrefix(mail.mails[0], "alice: ") || !strings.Contains(mail.mails[0], "hpcsera-agent enroll --replace") {
		t.Errorf("the mail says %q", mail.mails[0])
	}
	now = now.Add(20 * 24 * time.Hour)
	remind(s, 1)
}

func one[T any](_ T, err error) error { return err }
