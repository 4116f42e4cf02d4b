package code

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/failpoint"
	"github.com/hpcsera/hpcsera/internal/store"
)

// OpenBlob opens bytes that p's project has. The caller closes the file.
func (s *Service) OpenBlob(ctx context.Context, p *auth.Principal, digest string) (blob.File, error) {
	if _, err := s.owning(ctx, p, auth.GetBlob, digest); err != nil {
		return nil, err
	}
	return s.open(ctx, digest)
}

func (s *Service) open(ctx context.Context, digest string) (blob.File, error) {
	f, err := s.cfg.Blobs.Open(ctx, digest)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, noBlob(digest)
	} else if err != nil {
		return nil, fmt.Errorf("open blob %s: %w", digest, err)
	}
	return f, nil
}

// StatBlob answers HEAD: size is the blob's, or, with complete false, how much
// of an unfinished upload is here (not_found when nothing is). job is as in
// BlobUpload: what the project of another job has is not there for this one.
func (s *Service) StatBlob(ctx context.Context, p *auth.Principal, digest, job string) (size int64, complete bool, err error) {
	if job == "" {
		_, err = s.owning(ctx, p, auth.HeadBlob, digest)
		if err == nil {
			return s.stat(ctx, digest)
		}
		if hpcsera.CodeOf(err) != hpcsera.NotFound || p.Agent != nil {
			return 0, false, err
		}
	}
	target, err := s.uploadTarget(ctx, p, digest, job)
	if err != nil {
		return 0, false, err
	}
	if err := auth.Allow(p, auth.HeadBlob, target); err != nil {
		return 0, false, err
	}
	if has, err := s.has(ctx, target.Project, digest); err != nil {
		return 0, false, err
	} else if has {
		return s.stat(ctx, digest)
	}
	size, err = s.cfg.Blobs.Uploaded(ctx, target.Project, digest)
	if err != nil {
		return 0, false, fmt.Errorf("look for an upload of %s: %w", digest, err)
	}
	if size == 0 {
		return 0, false, noBlob(digest)
	}
	return size, false, nil
}

// stat returns the size of a whole blob.
func (s *Service) stat(ctx context.Context, digest string) (size int64, complete bool, err error) {
	f, err := s.open(ctx, digest)
	if err != nil {
		return 0, false, err
	}
	size = f.Size()
	return size, true, f.Close()
}

func (s *Service) has(ctx context.Context, project, digest string) (has bool, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		has, err = r.HasBlob(project, digest)
		return err
	})
	return has, store.Failed("look up blob "+digest, err)
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
	target, err := s.uploadTarget(ctx, p, u.Digest, u.Job)
	if err != nil {
		return 0, false, err
	}
	if err := auth.Allow(p, auth.PutBlob, target); err != nil {
		return 0, false, err
	}
	if u.Offset < 0 || u.Total < 0 || u.Offset > u.Total {
		return 0, false, hpcsera.Errorf(hpcsera.InvalidField, "part at %d of %d bytes cannot be.", u.Offset, u.Total).At("Content-Range")
	}
	has, err := s.has(ctx, target.Project, u.Digest)
	if err != nil || has {
		return u.Total, has, err
	}
	if size, err = s.put(ctx, target.Project, u); err != nil {
		return size, false, err
	}
	if size < u.Total {
		failpoint.Hit("server.after-part")
		return size, false, nil
	}
	// If the server dies here the bytes are stored, but nobody's: the client,
	// which has no answer, sends them again.
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error { return tx.PutBlob(target.Project, u.Digest, u.Total) })
	return size, err == nil, store.Failed("file blob "+u.Digest, err)
}

// put stores the bytes and tells the sender's faults from ours.
func (s *Service) put(ctx context.Context, project string, u BlobUpload) (int64, error) {
	body := &remembering{r: u.Body}
	size, err := s.cfg.Blobs.Put(ctx, project, u.Digest, u.Offset, u.Total, body)
	var offset *blob.OffsetError
	switch {
	case err == nil:
		return size, nil
	case errors.As(err, &offset):
		e := hpcsera.Errorf(hpcsera.WrongOffset, "the upload goes on at byte %d, not at %d.", offset.Expected, u.Offset).At("Content-Range")
		e.Expected = offset.Expected
		return size, e
	case errors.Is(err, blob.ErrDigest):
		return size, hpcsera.Errorf(hpcsera.DigestMismatch, "the bytes do not have the digest %s.", u.Digest).
			Hint("They were dropped; start again at byte 0.")
	case errors.Is(err, blob.ErrFull):
		return size, hpcsera.Errorf(hpcsera.StorageFull, "the server's disk is full: %w", err).Hint("Tell the operator; the upload can go on later.")
	case body.err != nil:
		return size, hpcsera.Errorf(hpcsera.MalformedRequest, "the body broke off after %d bytes: %w", size, body.err).
			Hint("Go on at byte %d.", size)
	}
	return size, fmt.Errorf("store blob %s: %w", u.Digest, err)
}

// remembering keeps the error of a body, which is the sender's or the
// network's, while an error beside it is the disk's.
type remembering struct {
	r   io.Reader
	err error
}

func (b *remembering) Read(buf []byte) (int, error) {
	n, err := b.r.Read(buf)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// owning returns the first of p's projects that has the blob.
func (s *Service) owning(ctx context.Context, p *auth.Principal, action auth.Action, digest string) (project string, err error) {
	if err := checkDigest(digest); err != nil {
		return "", err
	}
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		for _, candidate := range p.Projects() {
			if err := auth.Allow(p, action, auth.Target{Project: candidate, User: p.User()}); err != nil {
				return err
			}
			has, err := r.HasBlob(candidate, digest)
			if err != nil {
				return err
			}
			if has {
				project = candidate
				return nil
			}
		}
		return noBlob(digest)
	})
	return project, store.Failed("look up blob "+digest, err)
}

// uploadTarget says whose an upload is: the token's project, or the one of the
// job whose artifact an agent brings.
func (s *Service) uploadTarget(ctx context.Context, p *auth.Principal, digest, job string) (auth.Target, error) {
	if err := checkDigest(digest); err != nil {
		return auth.Target{}, err
	}
	if p.Token != nil {
		if job != "" {
			return auth.Target{}, hpcsera.Errorf(hpcsera.InvalidField, "only agents upload for a job.").At("job")
		}
		return auth.Target{Project: p.Token.Project, User: p.Token.User}, nil
	}
	if job == "" {
		return auth.Target{}, nil // Allow refuses it
	}
	var target auth.Target
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		j, err := r.Job(job)
		if errors.Is(err, store.ErrNotFound) || err == nil && j.Agent != p.Agent.ID {
			return hpcsera.Errorf(hpcsera.NotFound, "this agent has no job %s.", job).At("job")
		} else if err != nil {
			return err
		}
		target = auth.Target{Project: j.Project, User: j.User, Agent: j.Agent}
		return nil
	})
	return target, store.Failed("look up job "+job, err)
}

func checkDigest(digest string) error {
	if !hpcsera.ValidDigest(digest) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a digest.", digest).At("digest").
			Hint("Write sha256: and 64 hexadecimal digits in lower case.")
	}
	return nil
}

func noBlob(digest string) error {
	return hpcsera.Errorf(hpcsera.NotFound, "the project has no blob %s.", digest)
}
