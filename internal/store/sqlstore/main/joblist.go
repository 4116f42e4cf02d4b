package sqlstore

import (
	"fmt"

	"github.com/hpcsera/hpcsera/internal/store"
)

// maxJobs and maxEvents are the lengths of lists at most, and without a limit:
// a page of the API, and for jobs one more, which tells whether there is
// another page.
const (
	maxJobs   = 1001
	maxEvents = 10_000
)

// Jobs returns the jobs that a filter selects, newest first. The cursor is the
// seq a job was created with.
func (r *reader) Jobs(f store.JobFilter) ([]store.Listed, error) {
	from, w := jobsFrom(f)
	if !f.After.IsZero() {
		w.is("j.created >=", micros(f.After))
	}
	if !f.Before.IsZero() {
		w.is("j.created <", micros(f.Before))
	}
	for _, c := range []struct{ condition, value string }{
		{`j."user" =`, f.User}, {"j.site =", f.Site}, {"j.state =", string(f.State)}, {"j.name =", f.Name},
	} {
		if c.value != "" {
			w.is(c.condition, c.value)
		}
	}
	query := "SELECT j.created_seq, j.doc FROM " + from + w.String() + w.limit(limited(f.Limit, maxJobs))
	return r.listJobs(query, w.args)
}

// jobsFrom returns where a list of jobs starts, which decides what it costs in
// a long history: with a label at the jobs that have it, with a state that ends
// at the few unfinished jobs, else at the project's or client's newest.
func jobsFrom(f store.JobFilter) (from string, w *where) {
	w = &where{order: "j.created_seq DESC"}
	place, client := "j", "j.client ="
	from = "jobs j"
	if tags := tagsOfFilter(f); len(tags) > 0 {
		place, w.order = "t0", "t0.created_seq DESC"
		// SQLite keeps the order of a CROSS JOIN: tags first.
		from = "job_tags t0 CROSS JOIN jobs j"
		w.conditions = []string{"j.id = t0.job"}
		w.is("t0.tag =", tags[0])
		if len(tags) > 1 {
			from = "job_tags t0 CROSS JOIN job_tags t1 CROSS JOIN jobs j"
			w.is("t1.project = t0.project AND t1.created_seq = t0.created_seq AND t1.job = t0.job AND t1.tag =", tags[1])
		}
	}
	w.in(place+".project", f.Projects)
	if f.Older > 0 {
		w.is(place+".created_seq <", f.Older)
	}
	if f.State != "" && !f.State.Final() {
		w.conditions = append(w.conditions, "j.unfinished")
		client = "j.client || '' =" // not by the index of all the client's jobs
	}
	if f.Client != "" {
		w.is(client, f.Client)
	}
	return from, w
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
	w := &where{conditions: []string{"takeable"}, order: "created_seq"}
	w.is(`"user" =`, user)
	w.is("site =", site)
	w.in("project", projects)
	query := "SELECT doc, own FROM jobs" + w.String() + w.limit(limited(limit, maxJobs))
	rows, err := r.db.QueryContext(r.ctx, query, w.args...)
	if err != nil {
		return nil, r.failed(err, "jobs ready for %s at %s", user, site)
	}
	defer rows.Close()
	var texts []jobRow
	for rows.Next() {
		var row jobRow
		if err := rows.Scan(&row.doc, &row.own); err != nil {
			return nil, r.failed(err, "jobs ready for %s at %s", user, site)
		}
		texts = append(texts, row)
	}
	if err := rows.Err(); err != nil {
		return nil, r.failed(err, "jobs ready for %s at %s", user, site)
	}
	return r.decodeJobs(texts)
}

func limited(limit, most int) int64 {
	if limit <= 0 || limit > most {
		return int64(most)
	}
	return int64(limit)
}
