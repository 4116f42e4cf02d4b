package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// mark stands beside the jobs' folders, so that a wrapper tells the agent's
// place from what lies on a node where that is not mounted.
const mark = ".hpcsera"

// Mark says that root is the place of jobs' folders, and finds out whether
// anything can be written there.
func Mark(root string) error {
	write := func() error {
		return os.WriteFile(filepath.Join(root, mark), []byte("hpcsera-agent keeps jobs' folders here; where this file is not seen, none is made.\n"), 0o600)
	}
	err := write()
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(root, 0o700); err == nil {
			err = write()
		}
	}
	return err
}

// Folder makes a job's folder, in a place that was marked, unless it is there.
func Folder(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(dir), mark)); err != nil {
		return fmt.Errorf("the agent's work_root is not on this node: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
