package sqlstore

import (
	"fmt"

	"github.com/hpcsera/hpcsera/internal/store"
)

// pending is what closures inserted and no table has yet. It is written at the
// commit, many rows to a statement, or before something reads it. Sixty
// requests cost as few statements as one does.
type pending struct {
	jobs, labels, needs [][]any        // rows
	events              [][]any        // rows
	changes             []store.Change // the same events, for the feed
	answers             []keptAnswer
	written             mark // how much of each is in the tables

	codes map[[2]string]*store.Code // read in this transaction, by project and digest
}

// mark is how long each list is.
type mark struct{ jobs, labels, needs, events, answers int }

func (p *pending) mark() mark {
	return mark{len(p.jobs), len(p.labels), len(p.needs), len(p.events), len(p.answers)}
}

// cut drops what came after a mark.
func (p *pending) cut(m mark) {
	p.jobs, p.labels, p.needs = p.jobs[:m.jobs], p.labels[:m.labels], p.needs[:m.needs]
	p.events, p.changes, p.answers = p.events[:m.events], p.changes[:m.events], p.answers[:m.answers]
}

// keptAnswer is an answer on its way into the table.
type keptAnswer struct {
	scope, key string
	store.Answer
}

// waits reports whether a job is not in its table yet.
func (p *pending) waits(id string) bool {
	for _, row := range p.jobs[p.written.jobs:] {
		if row[0] == id {
			return true
		}
	}
	return false
}

// settle writes pending jobs so that a query finds them.
func (t *tx) settle() error {
	if t.written.jobs == len(t.jobs) {
		return nil
	}
	if err := t.touch(); err != nil {
		return err
	}
	return t.flushJobs()
}

// settleJob does so if that job is pending.
func (t *tx) settleJob(id string) error {
	if !t.waits(id) {
		return nil
	}
	return t.settle()
}

// flushJobs writes pending jobs with their tags and dependencies. An id that is
// taken may be anybody's in the group, so each closure has to run apart.
func (t *tx) flushJobs() error {
	jobs := t.jobs[t.written.jobs:]
	if len(jobs) == 0 {
		return nil
	}
	n, err := t.insertJobRows(jobs, t.labels[t.written.labels:], t.needs[t.written.needs:])
	if err != nil {
		return err
	}
	if n < int64(len(jobs)) {
		t.spoilt = fmt.Errorf("insert %d jobs: an id %w", len(jobs), store.ErrExists)
		return t.spoilt
	}
	t.written.jobs, t.written.labels, t.written.needs = len(t.jobs), len(t.labels), len(t.needs)
	return nil
}

// insertJobRows returns how many of the jobs were new; if not all, the rest is
// not written.
func (t *tx) insertJobRows(jobs, labels, needs [][]any) (int64, error) {
	n, err := t.insert("jobs", jobColumns, "ON CONFLICT DO NOTHING", jobs)
	if err != nil {
		return n, t.failed(err, "insert %d jobs", len(jobs))
	}
	if n < int64(len(jobs)) {
		return n, nil
	}
	if _, err := t.insert("job_tags", "tag, project, created_seq, job", "ON CONFLICT DO NOTHING", labels); err != nil {
		return n, t.failed(err, "labels of %d jobs", len(jobs))
	}
	if _, err := t.insert("job_dependencies", "needs, job", "ON CONFLICT DO NOTHING", needs); err != nil {
		return n, t.failed(err, "dependencies of %d jobs", len(jobs))
	}
	return n, nil
}

// flushEvents writes pending events.
func (t *tx) flushEvents() error {
	waiting := t.events[t.written.events:]
	if _, err := t.insert("events", `seq, job, project, "user", client, doc`, "", waiting); err != nil {
		return t.failed(err, "append %d events", len(waiting))
	}
	t.written.events = len(t.events)
	return nil
}

// flushAnswers writes pending answers; of several to one key the last.
func (t *tx) flushAnswers() error {
	waiting := t.answers[t.written.answers:]
	place := make(map[[2]string]int, len(waiting))
	var rows [][]any
	for i := range waiting {
		a := &waiting[i]
		row := []any{a.scope, a.key, a.User, a.BodySHA256, int64(a.Status), nonNil(a.Body), micros(a.Created)}
		if at, again := place[[2]string{a.scope, a.key}]; again {
			rows[at] = row
			continue
		}
		place[[2]string{a.scope, a.key}] = len(rows)
		rows = append(rows, row)
	}
	const replace = "ON CONFLICT (scope, key) DO UPDATE SET \"user\" = excluded.\"user\", body_sha256 = excluded.body_sha256, status = excluded.status, body = excluded.body, created = excluded.created"
	if _, err := t.insert("answers", "scope, key, \"user\", body_sha256, status, body, created", replace, rows); err != nil {
		return t.failed(err, "keep %d answers", len(rows))
	}
	t.written.answers = len(t.answers)
	return nil
}

// nonNil returns b as a value that is not NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
