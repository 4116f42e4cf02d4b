package sqlstore

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// AuditHead returns the last line of the audit log.
func (r *reader) AuditHead() (line hpcsera.AuditLine, err error) {
	doc, err := r.q.AuditHead(r.ctx)
	if err == nil {
		err = json.Unmarshal([]byte(doc), &line)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return line, nil
	}
	if err != nil {
		return line, r.failed(err, "head of the audit log")
	}
	return line, nil
}

// Audit returns lines of the audit log.
func (r *reader) Audit(f store.AuditFilter) ([]hpcsera.AuditLine, error) {
	w := &where{order: "number"}
	if f.Newest {
		w.order = "number DESC"
	}
	w.is("number >", f.After)
	if f.Before > 0 {
		w.is("number <", f.Before)
	}
	if f.User != "" || len(f.Projects) > 0 {
		either := `("user" = ` + w.arg(f.User)
		for _, p := range f.Projects {
			either += " OR project = " + w.arg(p)
		}
		w.conditions = append(w.conditions, either+")")
	}
	query := "SELECT doc FROM audit" + w.String() + w.limit(limited(f.Limit, maxAudit))
	rows, err := r.db.QueryContext(r.ctx, query, w.args...)
	if err != nil {
		return nil, r.failed(err, "audit log")
	}
	defer rows.Close()
	lines := []hpcsera.AuditLine{}
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return nil, r.failed(err, "audit log")
		}
		var line hpcsera.AuditLine
		if err := json.Unmarshal([]byte(doc), &line); err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		lines = append(lines, line)
	}
	if err := rows.Err(); err != nil {
		return nil, r.failed(err, "audit log")
	}
	return lines, nil
}

// maxAudit is how many lines of the audit log are read at once.
const maxAudit = 1000

// Note appends a line. Writing transactions follow one another on both
// engines, so the head stays the head until the commit.
func (t *tx) Note(line hpcsera.AuditLine) error {
	head, err := t.AuditHead()
	if err != nil {
		return err
	}
	if line, err = store.Link(head, line); err != nil {
		return err
	}
	doc, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("write audit line: %w", err)
	}
	if err := t.touch(); err != nil {
		return err
	}
	if err := t.q.InsertAudit(t.ctx, gen.InsertAuditParams{Number: line.Number, User: line.User, Project: line.Project, Doc: string(doc)}); err != nil {
		return t.failed(err, "append to the audit log")
	}
	return nil
}
