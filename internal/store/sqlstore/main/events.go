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
	t.changes = append(t.changes, c)
	return nil
}

// flushChanges writes the events that wait in memory.
func (t *tx) flushChanges() error {
	waiting := t.changes[t.written.changes:]
	if len(waiting) == 0 {
		return nil
	}
	rows := make([][]any, len(waiting))
	for i := range waiting {
		c := &waiting[i]
		doc, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("append event %d: %w", c.Seq, err)
		}
		rows[i] = []any{c.Seq, c.Job, c.Project, c.User, c.Client, string(doc)}
	}
	if _, err := t.insert("events", `seq, job, project, "user", client, doc`, "", rows); err != nil {
		return t.failed(err, "append %d events", len(waiting))
	}
	t.written.changes = len(t.changes)
	return nil
}

// Events returns the events that a filter selects, by seq.
func (t *tx) Events(f store.EventFilter) ([]store.Change, error) {
	if t.written.changes < len(t.changes) {
		if err := t.touch(); err != nil {
			return nil, err
		}
		if err := t.flushChanges(); err != nil {
			return nil, err
		}
	}
	return t.reader.Events(f)
}

// Events returns the events that a filter selects, by seq.
func (r *reader) Events(f store.EventFilter) ([]store.Change, error) {
	w := &where{}
	w.is("seq >", f.After)
	w.in("project", f.Projects)
	for _, c := range []struct{ condition, value string }{{"job =", f.Job}, {`"user" =`, f.User}, {"client =", f.Client}} {
		if c.value != "" {
			w.is(c.condition, c.value)
		}
	}
	query := "SELECT doc FROM events" + w.String() + " ORDER BY seq LIMIT " + w.arg(limited(f.Limit, maxEvents))
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

// keptAnswer is an answer on its way into the table.
type keptAnswer struct {
	scope, key string
	store.Answer
}

// KeepAnswer keeps the answer to a request.
func (t *tx) KeepAnswer(scope, key string, a store.Answer) error {
	t.answers = append(t.answers, keptAnswer{scope, key, a})
	return nil
}

// Idempotent returns the answer kept under a key.
func (t *tx) Idempotent(scope, key string) (*store.Answer, error) {
	for i := len(t.answers) - 1; i >= t.written.answers; i-- {
		if a := &t.answers[i]; a.scope == scope && a.key == key {
			answer := a.Answer
			return &answer, nil
		}
	}
	return t.reader.Idempotent(scope, key)
}

// Idempotent returns the answer kept under a key.
func (r *reader) Idempotent(scope, key string) (*store.Answer, error) {
	row, err := r.q.Answer(r.ctx, gen.AnswerParams{Scope: scope, Key: key})
	if err != nil {
		return nil, r.failed(err, "answer to %s", key)
	}
	return &store.Answer{BodySHA256: row.BodySha256, Status: int(row.Status), Body: row.Body, Created: moment(row.Created)}, nil
}

// flushAnswers writes the answers that wait in memory; of several to one key
// the last.
func (t *tx) flushAnswers() error {
	waiting := t.answers[t.written.answers:]
	place := map[[2]string]int{}
	var rows [][]any
	for i := range waiting {
		a := &waiting[i]
		row := []any{a.scope, a.key, a.BodySHA256, int64(a.Status), nonNil(a.Body), micros(a.Created)}
		if at, again := place[[2]string{a.scope, a.key}]; again {
			rows[at] = row
			continue
		}
		place[[2]string{a.scope, a.key}] = len(rows)
		rows = append(rows, row)
	}
	const replace = "ON CONFLICT (scope, key) DO UPDATE SET body_sha256 = excluded.body_sha256, status = excluded.status, body = excluded.body, created = excluded.created"
	if _, err := t.insert("answers", "scope, key, body_sha256, status, body, created", replace, rows); err != nil {
		return t.failed(err, "keep %d answers", len(rows))
	}
	t.written.answers = len(t.answers)
	return nil
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

// nonNil returns b as a value that is not NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
