package sqlstore

import (
	"encoding/json"
	"fmt"
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

// decodeJob makes a job of its documents. A transaction remembers its tags:
// whoever changes a job has read it first, so UpdateJob needs no query to see
// that they stayed.
func (r *reader) decodeJob(doc, own string) (*store.Job, error) {
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
	if r.tags != nil {
		r.tags[j.ID] = tagsOf(&j.Job)
	}
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
	j, err := r.decodeJob(row.Doc, row.Own)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", id, err)
	}
	return j, nil
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
	jobs := make([]*store.Job, 0, len(rows))
	for _, row := range rows {
		j, err := r.decodeJob(parts(row))
		if err != nil {
			return nil, fmt.Errorf("read job: %w", err)
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}
