package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
	"github.com/hpcsera/hpcsera/internal/jobs"
	"github.com/hpcsera/hpcsera/internal/store"
)

// handlers are the operations of the contract: each one call of a feature.
type handlers struct{ *API }

// stored is an answer whose bytes were kept, or could be: they are sent as
// they are.
type stored struct {
	store.Answer
	location string
}

func (s stored) visit(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	if s.location != "" {
		w.Header().Set("Location", s.location)
	}
	w.WriteHeader(s.Status)
	_, err := w.Write(s.Body)
	return err
}

// VisitSubmitJobsResponse writes the answer.
func (s stored) VisitSubmitJobsResponse(w http.ResponseWriter) error { return s.visit(w) }

// VisitRetryJobResponse writes the answer.
func (s stored) VisitRetryJobResponse(w http.ResponseWriter) error { return s.visit(w) }

// SubmitJobs reads the body itself: strictly, and once.
func (h handlers) SubmitJobs(ctx context.Context, r gen.SubmitJobsRequestObject) (gen.SubmitJobsResponseObject, error) {
	c := callOf(ctx)
	specs, bulk, err := readSpecs(c.body)
	if err != nil {
		return nil, err
	}
	answer, err := h.cfg.Jobs.Submit(ctx, c.principal, specs, bulk, c.idempotency(r.Params.IdempotencyKey))
	if err != nil {
		return nil, err
	}
	return h.created(answer, bulk), nil
}

// idempotency is what makes the request safe to repeat.
func (c *call) idempotency(key *string) jobs.Idempotency {
	if key == nil {
		return jobs.Idempotency{}
	}
	return jobs.Idempotency{Key: *key, Path: c.request.URL.Path, BodySHA256: c.bodySHA256()}
}

func (h handlers) created(answer store.Answer, bulk bool) stored {
	var made struct {
		ID string `json:"id"`
	}
	if bulk || json.Unmarshal(answer.Body, &made) != nil {
		return stored{Answer: answer}
	}
	return stored{Answer: answer, location: "/api/v1/jobs/" + made.ID}
}

// ListJobs returns a page.
func (h handlers) ListJobs(ctx context.Context, r gen.ListJobsRequestObject) (gen.ListJobsResponseObject, error) {
	p := r.Params
	list, err := h.cfg.Jobs.List(ctx, callOf(ctx).principal, jobs.ListQuery{
		State: value(p.State), Site: value(p.Site), Name: value(p.Name), Label: value(p.Label), Annotation: value(p.Annotation),
		After: value(p.After), Before: value(p.Before), Cursor: value(p.Cursor), Limit: value(p.Limit),
	})
	return gen.ListJobs200JSONResponse(list), err
}

// GetJob returns a job, at once or after its next change.
func (h handlers) GetJob(ctx context.Context, r gen.GetJobRequestObject) (gen.GetJobResponseObject, error) {
	p, wait := callOf(ctx).principal, time.Duration(value(r.Params.Wait))*time.Second
	var job hpcsera.Job
	var err error
	if wait == 0 || r.Params.Since == nil {
		job, err = h.cfg.Jobs.Get(ctx, p, r.Id)
	}
	if wait > 0 && err == nil {
		since := job.Version
		if r.Params.Since != nil {
			since = *r.Params.Since
		}
		job, err = h.cfg.Jobs.Wait(ctx, p, r.Id, since, wait)
	}
	return gen.GetJob200JSONResponse{JobJSONResponse: gen.JobJSONResponse(job)}, err
}

// PatchJob holds, releases or changes a job.
func (h handlers) PatchJob(ctx context.Context, r gen.PatchJobRequestObject) (gen.PatchJobResponseObject, error) {
	job, err := h.cfg.Jobs.Patch(ctx, callOf(ctx).principal, r.Id, *r.Body)
	return gen.PatchJob200JSONResponse{JobJSONResponse: gen.JobJSONResponse(job)}, err
}

// DeleteJob cancels, or erases.
func (h handlers) DeleteJob(ctx context.Context, r gen.DeleteJobRequestObject) (gen.DeleteJobResponseObject, error) {
	p := callOf(ctx).principal
	if value(r.Params.Purge) {
		return gen.DeleteJob204Response{}, h.cfg.Jobs.Purge(ctx, p, r.Id)
	}
	job, err := h.cfg.Jobs.Cancel(ctx, p, r.Id)
	return gen.DeleteJob200JSONResponse{JobJSONResponse: gen.JobJSONResponse(job)}, err
}

// RetryJob makes a new job like a final one.
func (h handlers) RetryJob(ctx context.Context, r gen.RetryJobRequestObject) (gen.RetryJobResponseObject, error) {
	c := callOf(ctx)
	answer, err := h.cfg.Jobs.Retry(ctx, c.principal, r.Id, c.idempotency(r.Params.IdempotencyKey))
	if err != nil {
		return nil, err
	}
	return h.created(answer, false), nil
}

// PutJobStatus sets what a client tells of a job.
func (h handlers) PutJobStatus(ctx context.Context, r gen.PutJobStatusRequestObject) (gen.PutJobStatusResponseObject, error) {
	job, err := h.cfg.Jobs.Annotate(ctx, callOf(ctx).principal, r.Id, *r.Body)
	return gen.PutJobStatus200JSONResponse{JobJSONResponse: gen.JobJSONResponse(job)}, err
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
