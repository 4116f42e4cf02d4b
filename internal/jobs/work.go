package jobs

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// Work answers an agent's poll: what should be and is not acknowledged yet,
// then new jobs. Without either it waits up to r.Wait seconds. Errors are
// agent_active (another living instance has the term) and stale_term.
func (s *Service) Work(ctx context.Context, p *auth.Principal, agent string, r hpcsera.WorkRequest) (hpcsera.WorkAnswer, error) {
	panic("in work")
}

// Reports applies an agent's facts in one transaction and says what became of
// each. An error (stale_term) applies none.
func (s *Service) Reports(ctx context.Context, p *auth.Principal, agent string, r hpcsera.ReportRequest) (hpcsera.ReportAnswer, error) {
	panic("in work")
}
