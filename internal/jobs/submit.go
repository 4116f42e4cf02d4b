package jobs

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Idempotency makes a request safe to repeat. The zero value is a request
// without a key.
type Idempotency struct {
	Key        string // the header Idempotency-Key: 1 to 200 printable characters
	Path       string // of the request, such as /api/v1/jobs
	BodySHA256 string // of the raw body, hexadecimal
}

// Submit accepts the jobs, all of them or none, and returns the answer to
// send: 201 with the Job, or with a BulkAnswer when bulk is set. The answer to
// a repeated key is the first one's, byte for byte. An error in one job of a
// bulk has its Index.
func (s *Service) Submit(ctx context.Context, p *auth.Principal, specs []hpcsera.JobSpec, bulk bool, key Idempotency) (store.Answer, error) {
	panic("in work")
}

// Retry makes a new job like a finished one, with RetryOf: 201 with the Job.
func (s *Service) Retry(ctx context.Context, p *auth.Principal, id string, key Idempotency) (store.Answer, error) {
	panic("in work")
}
