package access

import (
	"context"
	"encoding/json"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Sessions lists a user's key-bound sessions that have not ended.
func (s *Service) Sessions(ctx context.Context, by *auth.Principal, f Filter) ([]*hpcsera.Session, error) {
	return list(ctx, s, by, auth.ListSessions, auth.Target{User: f.User}, func(r store.Reader) (all []*hpcsera.Session, err error) {
		err = r.Documents(auth.LoginSessions, f.User, s.now(), func(_ string, doc []byte) error {
			var row auth.LoginSession
			if err := json.Unmarshal(doc, &row); err != nil {
				return err
			}
			all = append(all, &row.Session)
			return nil
		})
		return all, err
	})
}

// EndSession ends a key-bound session from the next request on.
func (s *Service) EndSession(ctx context.Context, by *auth.Principal, r Named) error {
	var row auth.LoginSession
	err := s.cfg.Store.Read(ctx, func(rd store.Reader) error { return rd.Document(auth.LoginSessions, r.Name, s.now(), &row) })
	if err != nil {
		return s.failed(err, "session", r.Name)
	}
	target := auth.Target{User: row.User}
	if err := s.hidden(by, auth.EndSession, target, "session", r.Name); err != nil {
		return err
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if err := tx.DeleteDocument(auth.LoginSessions, r.Name); err != nil {
			return err
		}
		return s.note(tx, by, auth.EndSession, target, r.Name, "")
	})
	return store.Failed("end session "+r.Name, err)
}

// AuditLimit is how many lines a page has when nobody says.
const AuditLimit = 100

// AuditPage asks for lines of the audit log, the newest first.
type AuditPage struct {
	User   string `json:"user,omitempty"`   // whom the lines concern; "" is everybody, for operators
	Before int64  `json:"before,omitempty"` // only lines with a lower number
	Limit  int    `json:"limit,omitempty"`  // 0 is AuditLimit
}

// Audit returns lines that concern a user.
func (s *Service) Audit(ctx context.Context, by *auth.Principal, r AuditPage) ([]*hpcsera.AuditLine, error) {
	if r.Limit <= 0 || r.Limit > 1000 {
		r.Limit = AuditLimit
	}
	return list(ctx, s, by, auth.ReadAudit, auth.Target{User: r.User}, func(rd store.Reader) ([]*hpcsera.AuditLine, error) {
		rows, err := rd.Audit(store.AuditFilter{User: r.User, Before: r.Before, Newest: true, Limit: r.Limit})
		lines := make([]*hpcsera.AuditLine, len(rows))
		for i := range rows {
			lines[i] = &rows[i]
		}
		return lines, err
	})
}
