package sqlstore

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

const jobColumns = `id, created_seq, created, project, "user", client, site, name, state, agent, order_seq, unfinished, takeable, awaits, doc, own`

// InsertJobs files jobs. Each has its own seq in Version. If an id is taken,
// the closure has to fail when there were several, since the others are filed.
func (t *tx) InsertJobs(jobs []*store.Job) error {
	rows, err := encodeJobs(jobs)
	if err != nil {
		return fmt.Errorf("insert: %w", err)
	}
	from := t.mark()
	for i, j := range jobs {
		if err := t.addJob(j, &rows[i]); err != nil {
			t.cut(from)
			return fmt.Errorf("insert job %s: %w", j.ID, err)
		}
	}
	if !t.eager {
		return nil
	}
	if err := t.touch(); err != nil {
		return err
	}
	n, err := t.insertJobRows(t.jobs[from.jobs:], t.labels[from.labels:], t.needs[from.needs:])
	t.cut(from)
	if err == nil && n < int64(len(jobs)) {
		err = fmt.Errorf("insert %d jobs: an id %w", len(jobs), store.ErrExists)
		if len(jobs) > 1 && t.err == nil {
			t.err = err
		}
	}
	return err
}

// addJob puts a job among the pending ones.
func (t *tx) addJob(j *store.Job, e *jobRow) error {
	if j.Version <= t.start || j.Version > t.last {
		return fmt.Errorf("its version %d was not taken in this transaction", j.Version)
	}
	t.jobs = append(t.jobs, []any{
		j.ID, j.Version, micros(j.Times.Created), j.Project, j.User, j.Client, j.Site, j.Name, string(j.State), j.Agent,
		j.OrderSeq, e.unfinished, e.takeable, e.awaits, e.doc, e.own,
	})
	for _, tag := range tagsOf(&j.Job) {
		t.labels = append(t.labels, []any{tag, j.Project, j.Version, j.ID})
	}
	for _, d := range j.Depends {
		t.needs = append(t.needs, []any{d.Job, j.ID})
	}
	return nil
}

// UpdateJobs stores the new state of jobs. What they were made for (id, project,
// user, client, dependencies, time) stays as inserted.
func (t *tx) UpdateJobs(jobs ...*store.Job) error {
	if err := t.touch(); err != nil {
		return err
	}
	rows, err := encodeJobs(jobs)
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	for i, j := range jobs {
		if err := t.updateJob(j, &rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) updateJob(j *store.Job, e *jobRow) error {
	if err := t.settleJob(j.ID); err != nil {
		return err
	}
	n, err := t.q.UpdateJob(t.ctx, gen.UpdateJobParams{
		Site: j.Site, Name: j.Name, State: string(j.State), Agent: j.Agent, OrderSeq: j.OrderSeq,
		Unfinished: e.unfinished, Takeable: e.takeable, Awaits: e.awaits, Doc: e.doc, Own: e.own, ID: j.ID,
	})
	if err := t.changed(n, err, "update job %s", j.ID); err != nil {
		return err
	}
	return t.retag(&j.Job)
}

// retag makes the tags in the table those of j.
func (t *tx) retag(j *hpcsera.Job) error {
	now := tagsOf(j)
	have, known := t.tags[j.ID]
	if !known {
		var err error
		if have, err = t.q.JobTags(t.ctx, j.ID); err != nil {
			return t.failed(err, "labels of job %s", j.ID)
		}
		slices.Sort(have)
	}
	t.tags[j.ID] = now
	if slices.Equal(have, now) {
		return nil
	}
	for _, tag := range have {
		if !slices.Contains(now, tag) {
			if err := t.q.DeleteJobTag(t.ctx, gen.DeleteJobTagParams{Job: j.ID, Tag: tag}); err != nil {
				return t.failed(err, "labels of job %s", j.ID)
			}
		}
	}
	for _, tag := range now {
		if !slices.Contains(have, tag) {
			if err := t.q.InsertJobTag(t.ctx, gen.InsertJobTagParams{Tag: tag, ID: j.ID}); err != nil {
				return t.failed(err, "labels of job %s", j.ID)
			}
		}
	}
	return nil
}

// DeleteJob removes a job and its events but the last.
func (t *tx) DeleteJob(id string) error {
	if err := t.touch(); err != nil {
		return err
	}
	for _, flush := range []func() error{t.flushJobs, t.flushEvents} {
		if err := flush(); err != nil {
			return err
		}
	}
	n, err := t.q.DeleteJob(t.ctx, id)
	if err := t.changed(n, err, "delete job %s", id); err != nil {
		return err
	}
	delete(t.tags, id)
	if err := t.q.DeleteJobTags(t.ctx, id); err != nil {
		return t.failed(err, "delete job %s", id)
	}
	if err := t.q.DeleteDependencies(t.ctx, id); err != nil {
		return t.failed(err, "delete job %s", id)
	}
	if err := t.q.DeleteEvents(t.ctx, id); err != nil {
		return t.failed(err, "delete job %s", id)
	}
	return nil
}

// tagsOf returns the tags of a job's labels and annotations, sorted.
func tagsOf(j *hpcsera.Job) []string {
	var tags []string
	for _, kind := range []struct {
		name string
		set  map[string]string
	}{{"label", j.Labels}, {"annotation", j.Annotation}} {
		for _, key := range slices.Sorted(maps.Keys(kind.set)) {
			tags = append(tags, tagOf(kind.name, key, kind.set[key]))
		}
	}
	slices.Sort(tags)
	return tags
}

func tagsOfFilter(f store.JobFilter) []string {
	var tags []string
	if f.Label[0] != "" {
		tags = append(tags, tagOf("label", f.Label[0], f.Label[1]))
	}
	if f.Note[0] != "" {
		tags = append(tags, tagOf("annotation", f.Note[0], f.Note[1]))
	}
	return tags
}

// tagOf returns what stands for a label in the table: 128 bits of a digest, so
// that a value of any length can be found by an index.
func tagOf(kind, key, value string) string {
	sum := sha256.Sum256([]byte(kind + " " + strconv.Itoa(len(key)) + " " + key + "=" + value))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
