package sqlstore

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// Append adds an event, which has its seq.
func (t *tx) Append(c store.Change) error {
	if c.Seq <= t.start || c.Seq > t.last {
		return fmt.Errorf("append event of job %s: seq %d was not taken in this transaction", c.Job, c.Seq)
	}
	doc, err := json.Marshal(&c)
	if err != nil {
		return fmt.Errorf("append event of job %s: %w", c.Job, err)
	}
	t.changes = append(t.changes, c)
	t.events = append(t.events, []any{c.Seq, c.Job, c.Project, c.User, c.Client, string(doc)})
	return nil
}

// Events returns the events that a filter selects, by seq.
func (r *reader) Events(f store.EventFilter) ([]store.Change, error) {
	w := &where{order: "seq"}
	w.is("seq >", f.After)
	w.in("project", f.Projects)
	for _, c := range []struct{ condition, value string }{{"job =", f.Job}, {`"user" =`, f.User}, {"client =", f.Client}} {
		if c.value != "" {
			w.is(c.condition, c.value)
		}
	}
	query := "SELECT doc FROM events" + w.String() + w.limit(limited(f.Limit, maxEvents))
	rows, err := r.db.QueryContext(r.ctx, query, w.args...)
	if err != nil {
		return nil, r.failed(err, "events")
	}
	defer rows.Close()
	var events []store.Change
	for rows.Next() {
		var doc string
		if err := rows.Scan(&doc); err != nil {
			return nil, r.failed(err, "events")
		}
		var c store.Change
		if err := json.Unmarshal([]byte(doc), &c); err != nil {
			return nil, fmt.Errorf("events: %w", err)
		}
		events = append(events, c)
	}
	if err := rows.Err(); err != nil {
		return nil, r.failed(err, "events")
	}
	return events, nil
}

// KeepAnswer keeps the answer to a request.
func (t *tx) KeepAnswer(scope, key string, a store.Answer) error {
	t.answers = append(t.answers, keptAnswer{scope, key, a})
	return nil
}

// Idempotent returns the answer kept under a key.
func (r *reader) Idempotent(scope, key string) (*store.Answer, error) {
	row, err := r.q.Answer(r.ctx, gen.AnswerParams{Scope: scope, Key: key})
	if err != nil {
		return nil, r.failed(err, "answer to %s", key)
	}
	a := &store.Answer{User: row.User, BodySHA256: row.BodySha256, Status: int(row.Status), Created: moment(row.Created)}
	if len(row.Body) > 0 { // the engines differ about an empty one
		a.Body = row.Body
	}
	return a, nil
}

// DropAnswers forgets old answers.
func (t *tx) DropAnswers(before time.Time) error {
	if err := t.touch(); err != nil {
		return err
	}
	if err := t.flushAnswers(); err != nil {
		return err
	}
	if err := t.q.DropAnswers(t.ctx, micros(before)); err != nil {
		return t.failed(err, "drop answers")
	}
	return nil
}
