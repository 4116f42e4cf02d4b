package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Binary copies the running program into the spool under its digest and
// returns the copy's path: compute nodes see the spool, not necessarily the
// place where the user keeps the agent, and a queued wrapper must not change
// when the agent is updated.
func (s *Spool) Binary(executable string) (string, error) {
	src, err := os.Open(executable)
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	defer src.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, src); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	path := filepath.Join(s.dir, "bin", "hpcsera-agent-"+hex.EncodeToString(hash.Sum(nil))[:16])
	info, statErr := os.Stat(path)
	if want, err := src.Stat(); err == nil && statErr == nil && info.Size() == want.Size() {
		return path, nil
	}
	if _, err := src.Seek(0, io.SeekStart); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Join(s.dir, "bin"), ".new-")
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, src)
	if err := errors.Join(err, tmp.Chmod(0o700), tmp.Sync(), tmp.Close()); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	return path, nil
}
