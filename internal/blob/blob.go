// Package blob is the seam to digest-addressed bytes: files of code parts,
// inputs and artifacts, and beside them the logs of jobs. Implementations are
// subpackages (fs); blobtest is their suite. Bytes become visible only when
// they are whole and have the digest of their name. Blobs know no rights: a
// project's claim to a digest is a row of the store.
package blob

import (
	"context"
	"errors"
	"io"
)

// Errors of every implementation.
var (
	ErrNotFound = errors.New("blob not found")
	ErrDigest   = errors.New("the bytes do not have this digest")
	ErrFull     = errors.New("storage is full")
)

// OffsetError says where an upload or a log goes on.
type OffsetError struct{ Expected int64 }

// Error says the same as a sentence.
func (e *OffsetError) Error() string { return "the bytes do not start where the stored ones end" }

// Store keeps blobs.
type Store interface {
	// Open returns a blob for random access.
	Open(ctx context.Context, digest string) (File, error)
	// Put appends r to the upload of digest within scope (a project: uploads
	// of different projects never mix) starting at offset, and returns the
	// upload's size so far. When it reaches total the digest is checked and
	// the blob appears (ErrDigest drops the upload). A wrong offset is an
	// OffsetError. Whatever was written before r failed counts.
	Put(ctx context.Context, scope, digest string, offset, total int64, r io.Reader) (int64, error)
	// Uploaded returns the size of an unfinished upload, 0 if there is none.
	Uploaded(ctx context.Context, scope, digest string) (int64, error)
}

// Logs keeps the output of jobs, one stream of bytes per name. Names are made
// by the caller of valid ids only.
type Logs interface {
	// AppendLog writes r at offset, which must be the stream's size (else an
	// OffsetError), and returns the new size.
	AppendLog(ctx context.Context, name string, offset int64, r io.Reader) (int64, error)
	// OpenLog returns a stream for random access; ErrNotFound before its first
	// byte.
	OpenLog(ctx context.Context, name string) (File, error)
	// DeleteLogs removes every stream below a prefix.
	DeleteLogs(ctx context.Context, prefix string) error
}

// File is an open blob or log.
type File interface {
	io.ReaderAt
	io.Closer
	Size() int64
}
