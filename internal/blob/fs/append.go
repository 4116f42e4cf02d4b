package fs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"sync"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
)

// Put appends to an upload and makes it a blob when it is whole. It reads no
// further than total.
func (s *Store) Put(ctx context.Context, scope, digest string, offset, total int64, r io.Reader) (int64, error) {
	if !hpcsera.ValidDigest(digest) {
		return 0, blob.ErrDigest
	}
	upload := uploadName(scope, digest)
	size, err := s.extend(ctx, upload, offset, total, r)
	if err == nil && total == 0 {
		size, err = s.write(upload, 0, nil)
	}
	if err != nil || size < total {
		return size, err
	}
	if err := s.finish(upload, digest); err != nil {
		if errors.Is(err, blob.ErrDigest) {
			size = 0
		}
		return size, err
	}
	return size, nil
}

// AppendLog appends to a stream.
func (s *Store) AppendLog(ctx context.Context, name string, offset int64, r io.Reader) (int64, error) {
	if !validLog(name) {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "%q cannot name a log.", name)
	}
	return s.extend(ctx, "logs/"+name, offset, math.MaxInt64, r)
}

// extend appends r to a file whose size is offset, up to the size end, and
// returns the new size. Bytes are written as they come.
func (s *Store) extend(ctx context.Context, name string, offset, end int64, r io.Reader) (int64, error) {
	size, err := s.size(name)
	if err == nil && (size != offset || offset > end) {
		err = &blob.OffsetError{Expected: size} // he learns it before he sends
	}
	if err != nil {
		return size, err
	}
	buffer, ok := s.buffers.Get().(*[]byte)
	if !ok {
		panic("the pool holds something else")
	}
	defer s.buffers.Put(buffer)
	for size < end {
		if err := ctx.Err(); err != nil {
			return size, err
		}
		n, readErr := r.Read((*buffer)[:min(int64(len(*buffer)), end-size)])
		if n > 0 {
			if size, err = s.write(name, size, (*buffer)[:n]); err != nil {
				return size, err
			}
		}
		if errors.Is(readErr, io.EOF) {
			return size, nil
		}
		if readErr != nil {
			return size, readErr
		}
	}
	return size, nil
}

// write appends b to a file if its size is offset. The file is opened anew each
// time: meanwhile another writer may have finished it or it may be deleted, and
// then its name stands for something else.
func (s *Store) write(name string, offset int64, b []byte) (size int64, err error) {
	defer s.names.lock(name)()
	flag := os.O_WRONLY
	if offset == 0 {
		flag |= os.O_CREATE
		if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
			return 0, translate("write", err)
		}
	}
	f, err := s.root.OpenFile(name, flag, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, &blob.OffsetError{Expected: 0}
	}
	if err != nil {
		return 0, translate("write", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, translate("write", err)
	}
	if info.Size() != offset {
		return info.Size(), &blob.OffsetError{Expected: info.Size()}
	}
	size = offset + int64(len(b))
	if _, err = f.WriteAt(b, offset); err != nil {
		// WriteAt does not count what the last, broken call wrote.
		size = offset
		if info, statErr := f.Stat(); statErr == nil {
			size = info.Size()
		}
	}
	return size, translate("write", err)
}

// finish makes a whole upload a blob. The bytes are read again, however they
// came: between two writes somebody else may have dropped the file and begun
// another, and what gets a digest for a name must have it.
func (s *Store) finish(upload, digest string) error {
	defer s.names.lock(upload)()
	name := blobName(digest)
	f, err := s.root.OpenFile(upload, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := s.root.Stat(name) // another writer of the same bytes was faster
		return translate("finish", err)
	}
	if err != nil {
		return translate("finish", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return translate("finish", err)
	}
	if "sha256:"+hex.EncodeToString(sum.Sum(nil)) != digest {
		return errors.Join(blob.ErrDigest, translate("drop", s.root.Remove(upload)))
	}
	if err := f.Sync(); err != nil {
		return translate("finish", err)
	}
	if err := s.root.MkdirAll(path.Dir(name), 0o700); err != nil {
		return translate("finish", err)
	}
	if err := s.root.Rename(upload, name); err != nil {
		return translate("finish", err)
	}
	return errors.Join(s.syncFolder(path.Dir(name)), s.syncFolder("blobs"))
}

// syncFolder makes what was renamed or made in a folder durable.
func (s *Store) syncFolder(name string) error {
	d, err := s.root.Open(name)
	if err != nil {
		return translate("finish", err)
	}
	defer d.Close()
	return translate("finish", d.Sync())
}

// names locks names while something is done to their files. A lock exists only
// while somebody has it or waits for it.
type names struct {
	mu    sync.Mutex
	locks map[string]*nameLock
}

type nameLock struct {
	mu    sync.Mutex
	users int
}

func (n *names) lock(name string) (unlock func()) {
	n.mu.Lock()
	l := n.locks[name]
	if l == nil {
		l = &nameLock{}
		n.locks[name] = l
	}
	l.users++
	n.mu.Unlock()
	l.mu.Lock()
	return func() {
		l.mu.Unlock()
		n.mu.Lock()
		defer n.mu.Unlock()
		if l.users--; l.users == 0 {
			delete(n.locks, name)
		}
	}
}
