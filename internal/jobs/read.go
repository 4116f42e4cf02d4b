package jobs

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// Get returns a job.
func (s *Service) Get(ctx context.Context, p *auth.Principal, id string) (hpcsera.Job, error) {
	panic("in work")
}

// Wait returns a job as soon as its version is above since, it has ended, wait
// (at most 60 s) is over, or the server stops; the job may be unchanged then.
func (s *Service) Wait(ctx context.Context, p *auth.Principal, id string, since int64, wait time.Duration) (hpcsera.Job, error) {
	panic("in work")
}

// ListQuery selects jobs. Zero fields select all.
type ListQuery struct {
	State      hpcsera.State
	Site       string
	Name       string
	Label      string    // KEY=VALUE
	Annotation string    // KEY=VALUE
	After      time.Time // created at or after
	Before     time.Time // created before
	Cursor     string    // Next of the page before
	Limit      int       // 1 to 1000; 0 is 100
}

// List returns a page of the jobs that p reaches, newest first.
func (s *Service) List(ctx context.Context, p *auth.Principal, q ListQuery) (hpcsera.JobList, error) {
	panic("in work")
}

// Artifacts lists what a job left on the server.
func (s *Service) Artifacts(ctx context.Context, p *auth.Principal, id string) (hpcsera.ArtifactList, error) {
	panic("in work")
}
