// Package fs keeps blobs and logs as files of one folder:
//
//	blobs/AB/HEX          whole blobs, AB the first byte of the digest HEX
//	uploads/SCOPE/HEX     unfinished uploads, SCOPE a hash of the scope
//	logs/NAME             streams
//
// Every access goes through an os.Root, so no name and no symbolic link leads
// out of the folder. Files are for the server's user alone.
//
// A name is locked only while bytes are written, not while they are waited
// for: an upload that hangs holds up nobody, and whoever finds that another
// has written meanwhile gets the offset to go on from.
//
// A blob is on the disk when Put says so. Logs and unfinished uploads are left
// to the operating system: a power failure may cut them, and their writers,
// told the offset, send the rest again.
package fs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
)

// Store is the folder. It implements [blob.Store] and [blob.Logs]; its methods
// may be called concurrently, by one process.
type Store struct {
	root    *os.Root
	names   names
	buffers sync.Pool // of *[]byte
}

// Open makes the folder where it is missing.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	s := &Store{root: root, names: names{locks: map[string]*nameLock{}}}
	s.buffers.New = func() any { b := make([]byte, 64<<10); return &b }
	for _, sub := range []string{"blobs", "uploads", "logs"} {
		if err := root.Mkdir(sub, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(translate("open", err), root.Close())
		}
	}
	return s, nil
}

// Close closes the folder.
func (s *Store) Close() error { return s.root.Close() }

// Open returns a whole blob.
func (s *Store) Open(_ context.Context, digest string) (blob.File, error) {
	if !hpcsera.ValidDigest(digest) {
		return nil, blob.ErrNotFound
	}
	return s.open(blobName(digest))
}

// OpenLog returns a stream as it is now.
func (s *Store) OpenLog(_ context.Context, name string) (blob.File, error) {
	if !validLog(name) {
		return nil, blob.ErrNotFound
	}
	return s.open("logs/" + name)
}

func (s *Store) open(name string) (blob.File, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, translate("open", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist // a folder of logs has no bytes
	}
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
	return s.size(uploadName(scope, digest))
}

// size returns a file's size, 0 if there is none.
func (s *Store) size(name string) (int64, error) {
	info, err := s.root.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, translate("look", err)
	}
	return info.Size(), nil
}

// DeleteLogs removes the streams below a prefix, which ends where a part of
// their names ends.
func (s *Store) DeleteLogs(_ context.Context, prefix string) error {
	prefix = strings.TrimSuffix(prefix, "/")
	if !validLog(prefix) {
		return nil // there can be no such streams
	}
	return translate("delete", s.root.RemoveAll("logs/"+prefix))
}

// DropUploads removes unfinished uploads that nobody has added to since
// before. Whoever goes on with one starts again.
func (s *Store) DropUploads(ctx context.Context, before time.Time) error {
	return fs.WalkDir(s.root.FS(), "uploads", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		defer s.names.lock(name)()
		info, err := s.root.Stat(name)
		if err == nil && info.ModTime().Before(before) {
			err = s.root.Remove(name)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // finished meanwhile
		}
		return errors.Join(err, ctx.Err())
	})
}

func blobName(digest string) string {
	h := strings.TrimPrefix(digest, "sha256:")
	return path.Join("blobs", h[:2], h)
}

func uploadName(scope, digest string) string {
	sum := sha256.Sum256([]byte(scope))
	return path.Join("uploads", hex.EncodeToString(sum[:16]), strings.TrimPrefix(digest, "sha256:"))
}

// validLog reports whether name can be a stream's: parts of letters, digits,
// hyphens and underscores.
func validLog(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '/'
	})
}

// translate gives the errors that callers know their names.
func translate(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return blob.ErrNotFound
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("blobs: %s: %w", op, blob.ErrFull)
	}
	return fmt.Errorf("blobs: %s: %w", op, err)
}
