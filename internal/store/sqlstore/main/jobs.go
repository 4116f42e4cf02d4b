package sqlstore

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
	"github.com/hpcsera/hpcsera/internal/store/sqlstore/main/gen"
)

// ownPart is the document of what the server alone knows of a job.
type ownPart struct {
	Run         hpcsera.RunPart `json:"run"`
	Idempotency string          `json:"idempotency,omitempty"`
	Token       string          `json:"token,omitempty"`
	Ready       bool            `json:"ready,omitempty"`
	Revision    int64           `json:"revision,omitempty"`
	OrderSeq    int64           `json:"order_seq,omitempty"`
	Delivered   int64           `json:"delivered,omitempty"`
	ReportSeq   int64           `json:"report_seq,omitempty"`
	CancelAt    *time.Time      `json:"cancel_at,omitempty"`
}

// jobRow is a job as the table has it.
type jobRow struct {
	doc, own             string
	unfinished, takeable bool
	awaits               string
}

func encodeJob(j *store.Job) (row jobRow, err error) {
	doc, err := json.Marshal(&j.Job)
	if err != nil {
		return row, err
	}
	own, err := json.Marshal(&ownPart{
		Run: j.Run, Idempotency: j.Idempotency, Token: j.Token, Ready: j.Ready, Revision: j.Revision,
		OrderSeq: j.OrderSeq, Delivered: j.Delivered, ReportSeq: j.ReportSeq, CancelAt: j.CancelAt,
	})
	if err != nil {
		return row, err
	}
	row.doc, row.own = string(doc), string(own)
	row.unfinished = !j.State.Final()
	row.takeable = row.unfinished && j.Ready && j.Delivered == 0
	if j.State == hpcsera.Pending && j.Reason == hpcsera.WaitingForApproval {
		row.awaits = j.Code.Digest
	}
	return row, nil
}

// encodeJobs makes the rows of jobs, many at the same time: whoever writes them
// keeps all others waiting.
func encodeJobs(jobs []*store.Job) ([]jobRow, error) {
	rows, errs := make([]jobRow, len(jobs)), make([]error, len(jobs))
	inParts(len(jobs), func(i int) { rows[i], errs[i] = encodeJob(jobs[i]) })
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", jobs[i].ID, err)
		}
	}
	return rows, nil
}

// inParts does n things, each part of them on a core of its own where they are
// many.
func inParts(n int, do func(i int)) {
	parts := min(runtime.GOMAXPROCS(0), 1+n/100)
	var running sync.WaitGroup
	for part := range parts {
		work := func() {
			for i := part; i < n; i += parts {
				do(i)
			}
		}
		if part == parts-1 {
			work()
		} else {
			running.Go(work)
		}
	}
	running.Wait()
}

func decodeJob(doc, own string) (*store.Job, error) {
	j := &store.Job{}
	if err := decodeDoc(doc, &j.Job); err != nil {
		return nil, err
	}
	var o ownPart
	if err := json.Unmarshal([]byte(own), &o); err != nil {
		return nil, err
	}
	j.Run, j.Idempotency, j.Token, j.Ready, j.Revision = o.Run, o.Idempotency, o.Token, o.Ready, o.Revision
	j.OrderSeq, j.Delivered, j.ReportSeq, j.CancelAt = o.OrderSeq, o.Delivered, o.ReportSeq, o.CancelAt
	return j, nil
}

func decodeDoc(doc string, j *hpcsera.Job) error {
	if err := json.Unmarshal([]byte(doc), j); err != nil {
		return err
	}
	if string(j.Result) == "null" {
		j.Result = nil // as it was written
	}
	return nil
}

// Job returns a job.
func (r *reader) Job(id string) (*store.Job, error) {
	row, err := r.q.Job(r.ctx, id)
	if err != nil {
		return nil, r.failed(err, "job %s", id)
	}
	jobs, err := r.decodeJobs([]jobRow{{doc: row.Doc, own: row.Own}})
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	return jobs[0], nil
}

// Taken returns those of the ids that jobs have.
func (r *reader) Taken(ids []string) (map[string]bool, error) {
	taken := map[string]bool{}
	for part := range slices.Chunk(ids, chunks[0]) {
		w := &where{order: "id"}
		if missing := chunks[0] - len(part); len(ids) > 1 && missing > 0 { // one statement for all
			part = append(slices.Clone(part), slices.Repeat(part[:1], missing)...)
		}
		w.in("id", part)
		rows, err := r.db.QueryContext(r.ctx, "SELECT id FROM jobs"+w.String(), w.args...)
		if err == nil {
			err = texts(rows, func(id string) { taken[id] = true })
		}
		if err != nil {
			return nil, r.failed(err, "which of %d jobs there are", len(ids))
		}
	}
	return taken, nil
}

// texts calls do with the one text of every row.
func texts(rows *sql.Rows, do func(string)) error {
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		do(text)
	}
	return rows.Err()
}

// Orders returns an agent's unfinished jobs whose order changed after seq.
func (r *reader) Orders(agent string, seq int64, limit int) ([]*store.Job, error) {
	rows, err := r.q.Orders(r.ctx, gen.OrdersParams{Agent: agent, OrderSeq: seq, Limit: int32(limit)})
	if err != nil {
		return nil, r.failed(err, "orders of %s", agent)
	}
	return decodeJobs(r, rows, func(row gen.OrdersRow) (string, string) { return row.Doc, row.Own })
}

// AwaitingApproval returns the pending jobs that wait for approval of a code.
func (r *reader) AwaitingApproval(user, project, digest string) ([]*store.Job, error) {
	rows, err := r.q.AwaitingApproval(r.ctx, gen.AwaitingApprovalParams{User: user, Project: project, Awaits: digest})
	if err != nil {
		return nil, r.failed(err, "jobs awaiting approval of %s", digest)
	}
	return decodeJobs(r, rows, func(row gen.AwaitingApprovalRow) (string, string) { return row.Doc, row.Own })
}

// Awaited returns for which code jobs wait for an approval.
func (r *reader) Awaited(after store.Awaited, limit int) ([]store.Awaited, error) {
	rows, err := r.q.Awaited(r.ctx, gen.AwaitedParams{
		AfterUser: after.User, AfterProject: after.Project, AfterDigest: after.Digest, Most: int32(limited(limit, maxJobs)),
	})
	if err != nil {
		return nil, r.failed(err, "code that is awaited")
	}
	list := make([]store.Awaited, len(rows))
	for i, row := range rows {
		list[i] = store.Awaited{User: row.User, Project: row.Project, Digest: row.Awaits}
	}
	return list, nil
}

// Dependents returns the unfinished jobs that depend on a job.
func (r *reader) Dependents(job string) ([]*store.Job, error) {
	rows, err := r.q.Dependents(r.ctx, job)
	if err != nil {
		return nil, r.failed(err, "dependents of %s", job)
	}
	return decodeJobs(r, rows, func(row gen.DependentsRow) (string, string) { return row.Doc, row.Own })
}

// UnfinishedByAgent counts an agent's unfinished jobs.
func (r *reader) UnfinishedByAgent(agent string) (int, error) {
	n, err := r.q.UnfinishedByAgent(r.ctx, agent)
	if err != nil {
		return 0, r.failed(err, "unfinished jobs of %s", agent)
	}
	return int(n), nil
}

func decodeJobs[R any](r *reader, rows []R, parts func(R) (doc, own string)) ([]*store.Job, error) {
	texts := make([]jobRow, len(rows))
	for i, row := range rows {
		texts[i].doc, texts[i].own = parts(row)
	}
	return r.decodeJobs(texts)
}

// decodeJobs makes jobs of their documents. A transaction remembers their tags:
// whoever changes a job has read it first, so UpdateJobs needs no query to see
// that they stayed.
func (r *reader) decodeJobs(rows []jobRow) ([]*store.Job, error) {
	jobs, errs := make([]*store.Job, len(rows)), make([]error, len(rows))
	inParts(len(rows), func(i int) { jobs[i], errs[i] = decodeJob(rows[i].doc, rows[i].own) })
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("read job: %w", err)
		}
		if r.tags != nil {
			r.tags[jobs[i].ID] = tagsOf(&jobs[i].Job)
		}
	}
	return jobs, nil
}
