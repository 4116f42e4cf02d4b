package code

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Config is what a Service is made of.
type Config struct {
	Store      store.Store
	Blobs      blob.Store
	Deployment string // the server's public URL, as statements name it
	Log        *slog.Logger
	Now        func() time.Time // nil is time.Now
}

// Service keeps code. It may be used by many goroutines.
type Service struct{ cfg Config }

// New returns a service.
func New(cfg Config) *Service { return &Service{cfg: cfg} }

// Put files a code part and says which blobs are missing. Filing it twice is
// no error; created is false then.
func (s *Service) Put(ctx context.Context, p *auth.Principal, m hpcsera.Manifest) (entry hpcsera.CodeEntry, created bool, err error) {
	panic("in work")
}

// Get returns a code part by digest, with its missing blobs.
func (s *Service) Get(ctx context.Context, p *auth.Principal, digest string) (hpcsera.CodeEntry, error) {
	panic("in work")
}

// List returns the code parts that p reaches, newest first, at most 1000.
func (s *Service) List(ctx context.Context, p *auth.Principal) (hpcsera.CodeList, error) {
	panic("in work")
}

// Delete takes a code part off file: conflict while an unfinished job uses it.
func (s *Service) Delete(ctx context.Context, p *auth.Principal, digest string) error {
	panic("in work")
}

// FileApproval files a signed statement and makes the jobs ready that waited
// for it. Filing the same twice is no error.
func (s *Service) FileApproval(ctx context.Context, p *auth.Principal, r hpcsera.ApprovalRequest) (hpcsera.Approval, error) {
	panic("in work")
}

// Approvals lists the approvals of p's user in p's project, newest first.
// digest and name narrow the list where they are not "".
func (s *Service) Approvals(ctx context.Context, p *auth.Principal, digest, name string) (hpcsera.ApprovalList, error) {
	panic("in work")
}

// Approval returns one of them.
func (s *Service) Approval(ctx context.Context, p *auth.Principal, id string) (hpcsera.Approval, error) {
	panic("in work")
}

// OpenBlob opens bytes that p's project has. The caller closes the file.
func (s *Service) OpenBlob(ctx context.Context, p *auth.Principal, digest string) (blob.File, error) {
	panic("in work")
}

// StatBlob answers HEAD: size is the blob's, or, with complete false, how much
// of an unfinished upload is here (not_found when nothing is). job is as in
// BlobUpload.
func (s *Service) StatBlob(ctx context.Context, p *auth.Principal, digest, job string) (size int64, complete bool, err error) {
	panic("in work")
}

// BlobUpload is a part of a blob, or all of it.
type BlobUpload struct {
	Digest string
	Job    string // agents: the job whose artifact it is
	Offset int64  // of Body's first byte
	Total  int64  // size of the whole blob
	Body   io.Reader
}

// PutBlob takes a part of a blob and returns how much is here now; complete
// says that all is, that the digest is right, and that the project has it.
// Errors are wrong_offset (with Expected), digest_mismatch (the upload starts
// anew) and storage_full.
func (s *Service) PutBlob(ctx context.Context, p *auth.Principal, u BlobUpload) (size int64, complete bool, err error) {
	panic("in work")
}
