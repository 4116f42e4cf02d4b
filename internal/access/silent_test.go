package access_test

import (
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

// silence is a database with an agent of alice's, and what happens to it.
type silence struct {
	t     *testing.T
	now   time.Time
	db    store.Store
	mail  *post
	seen  *auth.Sightings
	s     *access.Service
	agent string
}

func newSilence(t *testing.T, facts *hpcsera.Facts) *silence {
	t.Helper()
	w := &silence{t: t, now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), mail: &post{}}
	db, err := sqlstore.Open(t.Context(), filepath.Join(t.TempDir(), "hpcsera.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	w.db, w.seen = db, auth.NewSightings(db, w.clock, slog.New(slog.DiscardHandler))
	w.s = w.replica()
	by := auth.OperatorOnHost()
	for _, step := range []func() error{
		func() error { return one(w.s.CreateUser(t.Context(), by, access.NewUser{Name: "alice"})) },
		func() error { return one(w.s.CreateProject(t.Context(), by, access.NewProject{Name: "cfd"})) },
		func() error {
			return one(w.s.SetMember(t.Context(), by, access.NewMember{Project: "cfd", User: "alice", Role: "owner"}))
		},
		func() error { return one(w.s.CreateSite(t.Context(), by, access.Named{Name: "gwdg"})) },
		func() error {
			a, err := w.s.CreateAgent(t.Context(), by, access.NewAgent{User: "alice", Site: "gwdg", Projects: []string{"cfd"}, Thumbprint: strings.Repeat("A", 43), Days: 90})
			w.agent = a.Agent.ID
			return err
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	err = db.Write(t.Context(), func(tx store.Tx) error {
		row, err := tx.Agent(w.agent)
		if err != nil {
			return err
		}
		row.Facts = facts
		return tx.UpdateAgent(*row)
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *silence) clock() time.Time { return w.now }

func (w *silence) replica() *access.Service {
	log := slog.New(slog.DiscardHandler)
	return access.New(access.Config{Store: w.db, Jobs: noJobs{}, Sightings: w.seen, Mailer: w.mail, Log: log, Now: w.clock})
}

// job files a job that the agent has.
func (w *silence) job(state hpcsera.State) {
	w.t.Helper()
	err := w.db.Write(w.t.Context(), func(tx store.Tx) error {
		seq, err := tx.NextSeq()
		if err != nil {
			return err
		}
		j := &store.Job{Token: "t_00000000000000000000", Delivered: seq, OrderSeq: seq}
		j.ID, j.Version, j.Name, j.Project, j.User, j.Client, j.Site = hpcsera.NewID("j"), seq, "cavity", "cfd", "alice", "cli", "gwdg"
		j.State, j.Attempt, j.Desired, j.Agent = state, 1, hpcsera.DesiredRun, w.agent
		j.Times.Created = w.now
		return tx.InsertJobs([]*store.Job{j})
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// want lets time pass, looks, and counts all mails so far.
func (w *silence) want(after time.Duration, mails int) {
	w.t.Helper()
	w.now = w.now.Add(after)
	if err := w.s.Remind(w.t.Context()); err != nil || len(w.mail.mails) != mails {
		w.t.Errorf("at %s: got the mails %q (%v), want %d", w.now, w.mail.mails, err, mails)
	}
}

func TestNobodyIsMailedAboutASilentAgentThatHasNoJobs(t *testing.T) {
	w := newSilence(t, nil)
	w.want(48*time.Hour, 0) // was never seen
	w.seen.Seen(w.agent)
	w.job(hpcsera.Succeeded)
	w.want(48*time.Hour, 0)
}

func TestAnOwnerIsMailedOnceWhenAnAgentWithJobsIsSilentForAnHour(t *testing.T) {
	w := newSilence(t, nil)
	w.job(hpcsera.Running)
	w.want(2*time.Hour, 0) // has not been here yet
	w.seen.Seen(w.agent)
	w.want(59*time.Minute, 0)
	w.mail.down = true
	w.now = w.now.Add(2 * time.Minute)
	if err := w.s.Remind(t.Context()); err == nil {
		t.Error("a mail that was not sent is no error")
	}
	w.mail.down = false
	w.want(0, 1)
	w.want(5*time.Hour, 1)
	if !strings.HasPrefix(w.mail.mails[0], "alice: ") || !strings.Contains(w.mail.mails[0], "gwdg") || !strings.Contains(w.mail.mails[0], "hpcsera-agent doctor") {
		t.Errorf("the mail says %q", w.mail.mails[0])
	}
	w.seen.Seen(w.agent) // it came back, and is silent anew
	w.want(30*time.Minute, 1)
	w.want(31*time.Minute, 2)
	w.s = w.replica()
	w.want(2*time.Hour, 2) // another replica knows
	w.now = w.now.Add(90 * 24 * time.Hour)
	w.seen.Seen(w.agent)
	w.want(2*time.Hour, 2) // after its end it reports nothing anyway
}

func TestAnAgentThatRunsFromCronMayPauseForADay(t *testing.T) {
	w := newSilence(t, &hpcsera.Facts{FromCron: true})
	w.job(hpcsera.Running)
	w.seen.Seen(w.agent)
	w.want(23*time.Hour, 0)
	w.want(2*time.Hour, 1)
}

func TestTheServersOwnAbsenceIsNoSilenceOfAgents(t *testing.T) {
	w := newSilence(t, nil)
	w.job(hpcsera.Running)
	w.seen.Seen(w.agent)
	w.now = w.now.Add(6 * time.Hour)
	w.s = w.replica() // it was down; agents come back within minutes
	w.want(0, 0)
	w.want(59*time.Minute, 0)
	w.want(2*time.Minute, 1)
}

func TestAnOwnerWithoutAnAddressIsTriedOnce(t *testing.T) {
	w := newSilence(t, nil)
	w.job(hpcsera.Running)
	w.seen.Seen(w.agent)
	w.mail.stranger = true
	w.want(2*time.Hour, 0)
	w.mail.stranger = false
	w.want(time.Hour, 0)
}
