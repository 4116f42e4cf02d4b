package fs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/blob/blobtest"
	blobfs "github.com/hpcsera/hpcsera/internal/blob/fs"
)

func TestFolder(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blobtest.Target {
		dir := filepath.Join(t.TempDir(), "new", "blobs")
		return blobtest.Target{
			Store:  open(t, dir),
			Reopen: func(t *testing.T) blobtest.Store { return open(t, dir) },
			Small:  small,
		}
	})
}

func open(t *testing.T, dir string) *blobfs.Store {
	t.Helper()
	s, err := blobfs.Open(dir)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// small opens a store on a disk of 4 MiB.
func small(t *testing.T) (blobtest.Store, func()) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatalf("A full disk needs a small disk, which only root can mount: %v. Run this test as root.", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return open(t, dir), func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatalf("remount: %v", err)
		}
	}
}

// Somebody who can place links in the folder still reaches nothing outside.
func TestLinksDoNotLeadOut(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	secret := []byte("secret")
	if err := os.WriteFile(filepath.Join(outside, "stdout"), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir)
	digest := hpcsera.DigestOf(secret)
	hex := strings.TrimPrefix(digest, "sha256:")
	for link, to := range map[string]string{"logs/j_1": outside, "blobs/" + hex[:2]: outside} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, hex), secret, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenLog(t.Context(), "j_1/stdout"); err == nil {
		t.Error("OpenLog followed a link out of the folder")
	}
	if _, err := s.AppendLog(t.Context(), "j_1/stdout", int64(len(secret)), strings.NewReader("x")); err == nil {
		t.Error("AppendLog followed a link out of the folder")
	}
	if _, err := s.Open(t.Context(), digest); err == nil {
		t.Error("Open followed a link out of the folder")
	}
	if _, err := s.Put(t.Context(), "cfd", digest, 0, int64(len(secret)), bytes.NewReader(secret)); err == nil {
		t.Error("Put followed a link out of the folder")
	}
	if err := s.DeleteLogs(t.Context(), "j_1"); err != nil {
		t.Errorf("DeleteLogs: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(outside, "stdout")); string(b) != "secret" {
		t.Errorf("the file outside is %q (%v), want it untouched", b, err)
	}
}

func TestFilesAreTheServersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	s := open(t, dir)
	put(t, s, []byte("whole"))
	if _, err := s.Put(t.Context(), "cfd", hpcsera.DigestOf(nil), 0, 10, strings.NewReader("part")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AppendLog(t.Context(), "j_1/1/stdout", 0, strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v, want it closed to others", path, info.Mode())
		}
		if !entry.IsDir() {
			files++
		}
		return nil
	})
	if err != nil || files != 3 {
		t.Errorf("got %d files (%v), want 3", files, err)
	}
}

func put(t *testing.T, s *blobfs.Store, b []byte) string {
	t.Helper()
	digest := hpcsera.DigestOf(b)
	if _, err := s.Put(t.Context(), "cfd", digest, 0, int64(len(b)), bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return digest
}

func TestDropUploadsTakesForgottenOnesOnly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	whole := put(t, s, []byte("whole"))
	old, young := hpcsera.DigestOf([]byte("old")), hpcsera.DigestOf([]byte("young"))
	for _, digest := range []string{old, young} {
		if _, err := s.Put(t.Context(), "cfd", digest, 0, 10, strings.NewReader("part")); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	matches, err := filepath.Glob(filepath.Join(dir, "uploads", "*", strings.TrimPrefix(old, "sha256:")))
	if err != nil || len(matches) != 1 {
		t.Fatalf("found %v (%v), want one upload", matches, err)
	}
	if err := os.Chtimes(matches[0], now, now.Add(-48*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.DropUploads(t.Context(), now.Add(-24*time.Hour)); err != nil {
		t.Fatalf("DropUploads: %v", err)
	}
	for digest, want := range map[string]int64{old: 0, young: 4} {
		if got, err := s.Uploaded(t.Context(), "cfd", digest); got != want || err != nil {
			t.Errorf("Uploaded is %d (%v), want %d", got, err, want)
		}
	}
	f, err := s.Open(t.Context(), whole)
	if err != nil {
		t.Fatalf("the whole blob: %v", err)
	}
	f.Close()
}

func TestOpenRefusesAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blobfs.Open(file); err == nil || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("got %v, want an error that says what is wrong", err)
	}
}
