package sqlstore

import (
	"github.com/hpcsera/hpcsera/internal/store"
)

// What a transaction reads includes what it has not written yet.

// Job returns a job.
func (t *tx) Job(id string) (*store.Job, error) {
	if err := t.settleJob(id); err != nil {
		return nil, err
	}
	return t.reader.Job(id)
}

// Taken returns those of the ids that jobs have.
func (t *tx) Taken(ids []string) (map[string]bool, error) {
	for _, id := range ids {
		if err := t.settleJob(id); err != nil {
			return nil, err
		}
	}
	return t.reader.Taken(ids)
}

// Jobs returns the jobs that a filter selects, newest first.
func (t *tx) Jobs(f store.JobFilter) ([]store.Listed, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.reader.Jobs(f)
}

// Orders returns an agent's unfinished jobs whose order changed after seq.
func (t *tx) Orders(agent string, seq int64, limit int) ([]*store.Job, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.reader.Orders(agent, seq, limit)
}

// Ready returns the jobs that an agent of user at site may take, oldest first.
func (t *tx) Ready(user, site string, projects []string, limit int) ([]*store.Job, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.reader.Ready(user, site, projects, limit)
}

// Awaited returns for which code jobs wait for an approval.
func (t *tx) Awaited(after store.Awaited, limit int) ([]store.Awaited, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.reader.Awaited(after, limit)
}

// AwaitingApproval returns the pending jobs that wait for approval of a code.
func (t *tx) AwaitingApproval(user, project, digest string) ([]*store.Job, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.reader.AwaitingApproval(user, project, digest)
}

// Dependents returns the unfinished jobs that depend on a job.
func (t *tx) Dependents(job string) ([]*store.Job, error) {
	if err := t.settle(); err != nil {
		return nil, err
	}
	return t.reader.Dependents(job)
}

// UnfinishedByAgent counts an agent's unfinished jobs.
func (t *tx) UnfinishedByAgent(agent string) (int, error) {
	if err := t.settle(); err != nil {
		return 0, err
	}
	return t.reader.UnfinishedByAgent(agent)
}

// Events returns the events that a filter selects, by seq.
func (t *tx) Events(f store.EventFilter) ([]store.Change, error) {
	if t.written.events < len(t.events) {
		if err := t.touch(); err != nil {
			return nil, err
		}
		if err := t.flushEvents(); err != nil {
			return nil, err
		}
	}
	return t.reader.Events(f)
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
