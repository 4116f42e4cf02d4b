package jobs

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// Patch holds, releases or changes a job.
func (s *Service) Patch(ctx context.Context, p *auth.Principal, id string, patch hpcsera.JobPatch) (hpcsera.Job, error) {
	panic("in work")
}

// Cancel ends a job that no agent has, and orders the end of any other. It may
// be repeated; a job that has ended keeps its end.
func (s *Service) Cancel(ctx context.Context, p *auth.Principal, id string) (hpcsera.Job, error) {
	panic("in work")
}

// Purge erases a job that has ended: job_not_final otherwise.
func (s *Service) Purge(ctx context.Context, p *auth.Principal, id string) error {
	panic("in work")
}

// Annotate sets what clients may tell of a job.
func (s *Service) Annotate(ctx context.Context, p *auth.Principal, id string, status hpcsera.JobStatus) (hpcsera.Job, error) {
	panic("in work")
}
