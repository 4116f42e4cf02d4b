package web

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/access"
	"github.com/hpcsera/hpcsera/internal/signin"
)

// sessions lists where the visitor is signed in: browsers, and hpcsera login.
func (s *Site) sessions(v *visit) error {
	browsers, err := s.cfg.Sessions.Sessions(v.Context(), v.by, v.user())
	if err != nil {
		return err
	}
	logins, err := s.cfg.Access.Sessions(v.Context(), v.by, access.Filter{User: v.user()})
	if err != nil {
		return err
	}
	return s.show(v, "sessions", struct {
		User     string
		Operator bool
		This     string
		Browsers []signin.Session
		Logins   []*hpcsera.Session
		Auth     string
		Server   string
	}{v.user(), v.operator(), v.session.ID, browsers, logins, s.cfg.AuthURL, s.cfg.URL})
}

func (s *Site) endSession(v *visit) error {
	if err := s.end(v, v.text("session")); err != nil {
		return err
	}
	return s.done(v, "session-ended", "/sessions")
}

// end ends a session of either kind; the id tells which.
func (s *Site) end(v *visit, id string) error {
	if hpcsera.ValidID("bs", id) {
		return s.cfg.Sessions.End(v.Context(), v.by, id)
	}
	return s.cfg.Access.EndSession(v.Context(), v.by, access.Named{Name: id})
}

// endOthers ends all but this one, as far as it can.
func (s *Site) endOthers(v *visit) error {
	browsers, err := s.cfg.Sessions.Sessions(v.Context(), v.by, v.user())
	if err != nil {
		return err
	}
	logins, err := s.cfg.Access.Sessions(v.Context(), v.by, access.Filter{User: v.user()})
	if err != nil {
		return err
	}
	var failed error
	for _, b := range browsers {
		if b.ID != v.session.ID {
			failed = errors.Join(failed, s.end(v, b.ID))
		}
	}
	for _, l := range logins {
		failed = errors.Join(failed, s.end(v, l.ID))
	}
	if failed != nil {
		return failed
	}
	return s.done(v, "sessions-ended", "/sessions")
}

// requests leads to the Auth app, where requests are decided.
func (s *Site) requests(v *visit) error {
	rows, err := s.clientRows(v)
	if err != nil {
		return err
	}
	var asking []string
	for _, c := range rows {
		if c.MayAsk {
			asking = append(asking, c.Name)
		}
	}
	return s.show(v, "requests", struct {
		Auth   string
		Asking []string
	}{s.cfg.AuthURL, asking})
}

// auditPage is how many lines a page of the audit log has.
const auditPage = 50

// auditRow is a line of the audit log.
type auditRow struct {
	hpcsera.AuditLine
	By string // who did it, "" for the visitor
	Of string // whom it concerns, where that is neither
}

// auditDay is what happened on one day, in UTC.
type auditDay struct {
	Day   time.Time
	Lines []auditRow
}

// audit shows what was done that concerns the visitor.
func (s *Site) audit(v *visit) error {
	before, _ := strconv.ParseInt(v.text("before"), 10, 64) // what is no number begins at the newest line
	q := access.TrailQuery{All: v.text("all") == "yes", Before: before, Limit: auditPage}
	lines, err := s.cfg.Access.Trail(v.Context(), v.by, q)
	if err != nil {
		return err
	}
	data := struct {
		Days     []auditDay
		All      bool
		Operator bool
		Older    int64 // where the next page begins, 0 for none
		First    bool
	}{All: q.All, Operator: v.operator(), First: before == 0}
	for _, line := range lines {
		day := line.At.UTC().Truncate(24 * time.Hour)
		if n := len(data.Days); n == 0 || !data.Days[n-1].Day.Equal(day) {
			data.Days = append(data.Days, auditDay{Day: day})
		}
		last := &data.Days[len(data.Days)-1]
		last.Lines = append(last.Lines, auditRowOf(line, v.user()))
	}
	if n := len(lines); n == auditPage {
		data.Older = lines[n-1].Number
	}
	return s.show(v, "audit", data)
}

func auditRowOf(line hpcsera.AuditLine, visitor string) auditRow {
	row := auditRow{AuditLine: line}
	actor := strings.TrimPrefix(line.Actor, "user:")
	if actor != visitor {
		row.By = actor
	}
	if line.User != actor && line.User != line.About {
		row.Of = line.User
	}
	if line.About == line.Project {
		row.About = ""
	}
	return row
}
