package sqlstore

import (
	"fmt"

	"github.com/hpcsera/hpcsera/internal/store"
)

// maxJobs and maxEvents are the lengths of lists at most, and without a limit.
const (
	maxJobs   = 1000
	maxEvents = 10_000
)

// Jobs returns the jobs that a filter selects, newest first. The cursor is the
// seq a job was created with.
func (r *reader) Jobs(f store.JobFilter) ([]store.Listed, error) {
	w := &where{}
	from := "jobs j"
	for i, tag := range tagsOfFilter(f) {
		// A tag leads to its jobs in the order of the list, so a rare label in
		// a long history costs no more than a frequent one.
		t := fmt.Sprintf("t%d", i)
		from += " JOIN job_tags " + t + " ON " + t + ".job = j.id AND " + t + ".created_seq = j.created_seq"
		w.is(t+".tag =", tag)
		w.in(t+".project", f.Projects)
	}
	w.in("j.project", f.Projects)
	for _, c := range []struct{ condition, value string }{
		{`j."user" =`, f.User}, {"j.client =", f.Client}, {"j.site =", f.Site}, {"j.state =", string(f.State)}, {"j.name =", f.Name},
	} {
		if c.value != "" {
			w.is(c.condition, c.value)
		}
	}
	if f.State != "" && !f.State.Final() {
		w.conditions = append(w.conditions, "j.unfinished") // reaches the index of the few unfinished ones
	}
	if !f.After.IsZero() {
		w.is("j.created >=", micros(f.After))
	}
	if !f.Before.IsZero() {
		w.is("j.created <", micros(f.Before))
	}
	if f.Older > 0 {
		w.is("j.created_seq <", f.Older)
	}
	query := "SELECT j.created_seq, j.doc FROM " + from + w.String() + " ORDER BY j.created_seq DESC LIMIT " + w.arg(limited(f.Limit, maxJobs))
	return r.listJobs(query, w.args)
}

func (r *reader) listJobs(query string, args []any) ([]store.Listed, error) {
	rows, err := r.db.QueryContext(r.ctx, query, args...)
	if err != nil {
		return nil, r.failed(err, "list jobs")
	}
	defer rows.Close()
	list := []store.Listed{}
	for rows.Next() {
		var l store.Listed
		var doc string
		if err := rows.Scan(&l.Cursor, &doc); err != nil {
			return nil, r.failed(err, "list jobs")
		}
		if err := decodeDoc(doc, &l.Job); err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		list = append(list, l)
	}
	if err := rows.Err(); err != nil {
		return nil, r.failed(err, "list jobs")
	}
	return list, nil
}

// Ready returns the jobs that an agent of user at site may take, oldest first.
func (r *reader) Ready(user, site string, projects []string, limit int) ([]*store.Job, error) {
	if len(projects) == 0 {
		return nil, nil // an agent is configured for projects; none stands for none here
	}
	w := &where{conditions: []string{"takeable"}}
	w.is(`"user" =`, user)
	w.is("site =", site)
	w.in("project", projects)
	query := "SELECT doc, own FROM jobs" + w.String() + " ORDER BY created_seq LIMIT " + w.arg(limited(limit, maxJobs))
	rows, err := r.db.QueryContext(r.ctx, query, w.args...)
	if err != nil {
		return nil, r.failed(err, "jobs ready for %s at %s", user, site)
	}
	defer rows.Close()
	var jobs []*store.Job
	for rows.Next() {
		var doc, own string
		if err := rows.Scan(&doc, &own); err != nil {
			return nil, r.failed(err, "jobs ready for %s at %s", user, site)
		}
		j, err := r.decodeJob(doc, own)
		if err != nil {
			return nil, fmt.Errorf("jobs ready for %s at %s: %w", user, site, err)
		}
		jobs = append(jobs, j)
	}
	if err := rows.Err(); err != nil {
		return nil, r.failed(err, "jobs ready for %s at %s", user, site)
	}
	return jobs, nil
}

func limited(limit, most int) int64 {
	if limit <= 0 || limit > most {
		return int64(most)
	}
	return int64(limit)
}
