package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

// Submit hands in one job. key makes the request safe to repeat; it must not
// be empty, because an answer can be lost.
func (c *Client) Submit(ctx context.Context, spec hpcsera.JobSpec, key string) (hpcsera.Job, error) {
	body, err := json.Marshal(spec)
	if err != nil {
		return hpcsera.Job{}, err
	}
	return decode[hpcsera.Job](read(c.whole.SubmitJobs(ctx, &api.SubmitJobsParams{IdempotencyKey: &key}, body)))
}

// Job returns a job as it is.
func (c *Client) Job(ctx context.Context, id string) (hpcsera.Job, error) {
	return decode[hpcsera.Job](read(c.whole.GetJob(ctx, id, &api.GetJobParams{})))
}

// Wait returns a job as soon as its version is above since, at the latest
// after wait (at most 60 s), unchanged then.
func (c *Client) Wait(ctx context.Context, id string, since int64, wait time.Duration) (hpcsera.Job, error) {
	seconds := int(min(max(wait, 0), time.Minute) / time.Second)
	return decode[hpcsera.Job](read(c.whole.GetJob(ctx, id, &api.GetJobParams{Wait: &seconds, Since: &since})))
}

// JobQuery selects jobs; zero fields select all.
type JobQuery struct {
	State      hpcsera.State
	Site       string
	Name       string
	Label      string // KEY=VALUE
	Annotation string // KEY=VALUE
	After      time.Time
	Before     time.Time
	Cursor     string // Next of the page before
	Limit      int    // 1 to 1000; 0 is the server's default
}

// Jobs returns one page of jobs, newest first.
func (c *Client) Jobs(ctx context.Context, q JobQuery) (hpcsera.JobList, error) {
	return decode[hpcsera.JobList](read(c.whole.ListJobs(ctx, &api.ListJobsParams{
		State: given(q.State), Site: given(q.Site), Name: given(q.Name), Label: given(q.Label), Annotation: given(q.Annotation),
		After: given(q.After), Before: given(q.Before), Cursor: given(q.Cursor), Limit: given(q.Limit),
	})))
}

// Patch holds, releases or changes a job.
func (c *Client) Patch(ctx context.Context, id string, patch hpcsera.JobPatch) (hpcsera.Job, error) {
	body, err := json.Marshal(patch)
	if err != nil {
		return hpcsera.Job{}, err
	}
	// PATCH states what should be, so it may be sent again.
	return decode[hpcsera.Job](read(c.whole.PatchJobWithBody(safely(ctx), id, "application/json", strings.NewReader(string(body)))))
}

// Cancel asks for a job's end. It may be called again; a job that has ended
// keeps its end.
func (c *Client) Cancel(ctx context.Context, id string) (hpcsera.Job, error) {
	return decode[hpcsera.Job](read(c.whole.DeleteJob(ctx, id, &api.DeleteJobParams{})))
}

// Purge erases a job that has ended, with its logs.
func (c *Client) Purge(ctx context.Context, id string) error {
	purge := true
	_, err := read(c.whole.DeleteJob(ctx, id, &api.DeleteJobParams{Purge: &purge}))
	return err
}

// Retry makes a new job like one that has ended.
func (c *Client) Retry(ctx context.Context, id, key string) (hpcsera.Job, error) {
	return decode[hpcsera.Job](read(c.whole.RetryJob(ctx, id, &api.RetryJobParams{IdempotencyKey: &key})))
}

// Artifacts lists what a job left on the server.
func (c *Client) Artifacts(ctx context.Context, id string) ([]hpcsera.Artifact, error) {
	list, err := decode[hpcsera.ArtifactList](read(c.whole.ListArtifacts(ctx, id)))
	return list.Artifacts, err
}

// Events returns one page of events with a higher seq than after, oldest
// first: of one job, or of all within reach for job "".
func (c *Client) Events(ctx context.Context, job string, after int64, limit int) (hpcsera.EventList, error) {
	return decode[hpcsera.EventList](read(events(ctx, c.whole, job, after, given(limit), nil)))
}

func events(ctx context.Context, from *api.Client, job string, after int64, limit *int, edit api.RequestEditorFn) (*http.Response, error) {
	var edits []api.RequestEditorFn
	if edit != nil {
		edits = append(edits, edit)
	}
	if job == "" {
		return from.ListEvents(ctx, &api.ListEventsParams{After: &after, Limit: limit}, edits...)
	}
	return from.ListJobEvents(ctx, job, &api.ListJobEventsParams{After: &after, Limit: limit}, edits...)
}

// given returns a pointer to v, nil for the zero value: what the generated
// code takes for "not given".
func given[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}
