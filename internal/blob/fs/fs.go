// Package fs keeps blobs and logs as files of one folder:
//
//	blobs/AB/HEX                 whole blobs, AB the digest's first byte
//	uploads/SCOPE-HASH/HEX       unfinished uploads
//	logs/NAME                    streams
//
// Every access goes through an os.Root, so no name leads out of the folder.
package fs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
)

// Store is the folder. Its methods can be called concurrently; two uploads or
// appends under one name take turns.
type Store struct {
	root  *os.Root
	locks [256]sync.Mutex // by name
}

// Open makes the folder where missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	s := &Store{root: root}
	for _, sub := range []string{"blobs", "uploads", "logs"} {
		if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("blobs: %w", err)
		}
	}
	return s, nil
}

// Close closes the folder.
func (s *Store) Close() error { return s.root.Close() }

func (s *Store) lock(name string) func() {
	sum := sha256.Sum256([]byte(name))
	m := &s.locks[sum[0]]
	m.Lock()
	return m.Unlock
}

func blobName(digest string) (string, error) {
	if !hpcsera.ValidDigest(digest) {
		return "", blob.ErrNotFound
	}
	h := strings.TrimPrefix(digest, "sha256:")
	return path.Join("blobs", h[:2], h), nil
}

func uploadName(scope, digest string) string {
	sum := sha256.Sum256([]byte(scope))
	return path.Join("uploads", hex.EncodeToString(sum[:8]), strings.TrimPrefix(digest, "sha256:"))
}

// Open returns a whole blob.
func (s *Store) Open(_ context.Context, digest string) (blob.File, error) {
	name, err := blobName(digest)
	if err != nil {
		return nil, err
	}
	return s.open(name)
}

func (s *Store) open(name string) (blob.File, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, translate("open", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, translate("open", err)
	}
	return &file{File: f, size: info.Size()}, nil
}

// file is an open file with its size at the opening.
type file struct {
	*os.File
	size int64
}

// Size returns the size at the opening.
func (f *file) Size() int64 { return f.size }

// Uploaded returns the size of an unfinished upload.
func (s *Store) Uploaded(_ context.Context, scope, digest string) (int64, error) {
	if !hpcsera.ValidDigest(digest) {
		return 0, nil
	}
	info, err := s.root.Stat(uploadName(scope, digest))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, translate("upload", err)
	}
	return info.Size(), nil
}

// Put appends to an upload and makes it a blob when it is whole.
func (s *Store) Put(_ context.Context, scope, digest string, offset, total int64, r io.Reader) (int64, error) {
	name, err := blobName(digest)
	if err != nil {
		return 0, blob.ErrDigest
	}
	upload := uploadName(scope, digest)
	defer s.lock(upload)()
	size, err := s.extend(upload, offset, io.LimitReader(r, max(0, total-offset)))
	if err != nil || size < total {
		return size, err
	}
	if err := s.check(upload, digest); err != nil {
		if errors.Is(err, blob.ErrDigest) {
			_ = s.root.Remove(upload)
		}
		return 0, err
	}
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return size, translate("upload", err)
	}
	if err := s.root.Rename(upload, name); err != nil {
		return size, translate("upload", err)
	}
	return size, s.syncFolder(path.Dir(name))
}

// extend appends r to a file whose size must be offset, and flushes what it
// got even when r fails.
func (s *Store) extend(name string, offset int64, r io.Reader) (int64, error) {
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return 0, translate("append", err)
	}
	f, err := s.root.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, translate("append", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, translate("append", err)
	}
	if info.Size() != offset {
		return info.Size(), &blob.OffsetError{Expected: info.Size()}
	}
	n, err := io.Copy(io.NewOffsetWriter(f, offset), r)
	return offset + n, translate("append", errors.Join(err, f.Sync()))
}

func (s *Store) check(name, digest string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return translate("check", err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return translate("check", err)
	}
	if "sha256:"+hex.EncodeToString(hash.Sum(nil)) != digest {
		return blob.ErrDigest
	}
	return nil
}

// syncFolder makes a rename durable.
func (s *Store) syncFolder(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return translate("sync", err)
	}
	defer d.Close()
	return translate("sync", d.Sync())
}

func logName(name string) (string, error) {
	if !fs.ValidPath(name) || name == "." {
		return "", blob.ErrNotFound
	}
	return path.Join("logs", name), nil
}

// AppendLog appends to a stream.
func (s *Store) AppendLog(_ context.Context, name string, offset int64, r io.Reader) (int64, error) {
	full, err := logName(name)
	if err != nil {
		return 0, err
	}
	defer s.lock(full)()
	return s.extend(full, offset, r)
}

// OpenLog returns a stream as it is now.
func (s *Store) OpenLog(_ context.Context, name string) (blob.File, error) {
	full, err := logName(name)
	if err != nil {
		return nil, err
	}
	return s.open(full)
}

// DeleteLogs removes the streams below a prefix, which is a folder.
func (s *Store) DeleteLogs(_ context.Context, prefix string) error {
	full, err := logName(strings.TrimSuffix(prefix, "/"))
	if err != nil {
		return err
	}
	return translate("delete", s.root.RemoveAll(full))
}

// translate gives the errors that callers know their names.
func translate(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return blob.ErrNotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: %w", op, blob.ErrFull)
	}
	return fmt.Errorf("blobs: %s: %w", op, err)
}
