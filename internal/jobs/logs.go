package jobs

import (
	"context"
	"io"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
)

// LogRef names one stream of a job's output.
type LogRef struct {
	Job     string
	Stream  string // stdout or stderr
	Attempt int    // 0 is the job's current one (reading only)
}

// AppendLog takes output from the job's agent and returns the stream's new
// size. An offset that is not the stream's size is wrong_offset with Expected.
func (s *Service) AppendLog(ctx context.Context, p *auth.Principal, ref LogRef, offset int64, body io.Reader) (int64, error) {
	panic("in work")
}

// Log opens a job's output as far as it is here; a stream without output is
// empty. The caller closes the file.
func (s *Service) Log(ctx context.Context, p *auth.Principal, ref LogRef) (blob.File, error) {
	panic("in work")
}

// FollowLog writes a job's output to w from offset on and goes on as it comes,
// until the job has ended and all is written. It ends early as Stream does.
// flush is called when w should reach the reader.
func (s *Service) FollowLog(ctx context.Context, p *auth.Principal, ref LogRef, offset int64, w io.Writer, flush func() error) error {
	panic("in work")
}

// Artifact opens one result of a job. The caller closes the file.
func (s *Service) Artifact(ctx context.Context, p *auth.Principal, id, path string) (hpcsera.Artifact, blob.File, error) {
	panic("in work")
}
