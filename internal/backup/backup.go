// Package backup makes folders with copies of databases, and puts such copies
// in the place of databases. It knows files only: what copies a database, and
// what has to be done to a copy before it counts, is handed in by the programs
// that have databases.
//
// A backup appears whole or not at all. A copy is put in place with one rename,
// after all that has to be changed in it was changed, so that a crash leaves
// either the old database or the finished new one, and never one whose tokens
// still work.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Request asks a running program for a backup.
type Request struct {
	Folder string `json:"folder"` // absolute; to be made
}

// Made is a backup as it was made.
type Made struct {
	Files []string `json:"files"`
	// Elsewhere are the commands that copy the databases which are no files of
	// ours.
	Elsewhere []string `json:"elsewhere"`
}

// Database is a database to copy.
type Database struct {
	Name string // the copy's, in the folder
	// Copy writes the copy into a new file; nil where Elsewhere tells how that is
	// done.
	Copy      func(ctx context.Context, into string) error
	Elsewhere string
}

// Make makes the folder with a copy of each database, in their order.
func Make(ctx context.Context, r Request, list []Database) (made Made, err error) {
	made = Made{Files: []string{}, Elsewhere: []string{}}
	for _, d := range list {
		if d.Copy == nil {
			made.Elsewhere = append(made.Elsewhere, d.Elsewhere)
		} else {
			made.Files = append(made.Files, filepath.Join(r.Folder, d.Name))
		}
	}
	if len(made.Files) == 0 {
		return made, hpcsera.Errorf(hpcsera.Conflict, "the database is PostgreSQL, which copies itself.").Hint("Type: %s", made.Elsewhere[0])
	}
	if !filepath.IsAbs(r.Folder) {
		return made, hpcsera.Errorf(hpcsera.InvalidField, "%q is not an absolute path.", r.Folder).At("folder")
	}
	if _, err := os.Lstat(r.Folder); !errors.Is(err, fs.ErrNotExist) {
		return made, hpcsera.Errorf(hpcsera.Conflict, "%s is there already.", r.Folder).At("folder").Hint("Name a folder that is to be made.")
	}
	parent := filepath.Dir(r.Folder)
	// Its mode is 0700: the copies hold hashes of secrets.
	unfinished, err := os.MkdirTemp(parent, filepath.Base(r.Folder)+".unfinished-*")
	if err != nil {
		return made, hpcsera.Errorf(hpcsera.InvalidField, "the server cannot write there: %w", err).At("folder").
			Hint("Name a folder inside one that belongs to the server's user.")
	}
	defer os.RemoveAll(unfinished) // gone after the rename
	for _, d := range list {
		if d.Copy == nil {
			continue
		}
		if err := d.Copy(ctx, filepath.Join(unfinished, d.Name)); err != nil {
			return made, err
		}
	}
	if err := syncFolder(unfinished); err != nil {
		return made, err
	}
	if err := os.Rename(unfinished, r.Folder); err != nil {
		return made, err
	}
	return made, syncFolder(parent)
}

// beside are the engine's own files beside a database.
var beside = []string{"-wal", "-shm", "-journal"}

// Prepare copies a database of a backup to a file beside target, where it can
// be changed before it counts. What an earlier attempt left there is replaced.
// The caller discards it unless it was put in place.
func Prepare(from, target string) (prepared string, err error) {
	for _, more := range beside {
		if _, err := os.Lstat(from + more); err == nil {
			return "", hpcsera.Errorf(hpcsera.Conflict, "%s lies beside the database: these are the files of a running server, and no backup.", filepath.Base(from)+more).
				Hint("Make one of them: sqlite3 %s \"VACUUM INTO 'copy.db'\"", from)
		}
	}
	prepared = target + ".restoring"
	Discard(prepared)
	in, err := os.Open(from)
	if err != nil {
		return "", fmt.Errorf("read the backup: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(prepared, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", fmt.Errorf("write beside the database: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		Discard(prepared)
		return "", fmt.Errorf("copy the backup: %w", err)
	}
	return prepared, nil
}

// Discard removes a prepared database with what the engine put beside it.
func Discard(prepared string) {
	for _, more := range append([]string{"", ".lock"}, beside...) {
		_ = os.Remove(prepared + more) // it usually is not there
	}
}

// Exists reports whether there is a database that would be replaced.
func Exists(target string) (bool, error) {
	info, err := os.Stat(target)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err != nil || info.Size() > 0, err
}

// Place puts a prepared database, which nobody has open, in the place of target,
// which nobody may have open either. The one that was there is kept under
// another name, which is returned; "" where there was none.
func Place(prepared, target string, at time.Time) (kept string, err error) {
	if _, err := os.Lstat(prepared + "-wal"); err == nil {
		return "", fmt.Errorf("%s was not closed", prepared)
	}
	there, err := Exists(target)
	if err != nil {
		return "", fmt.Errorf("look at the database: %w", err)
	}
	if there {
		kept = target + ".replaced-" + at.UTC().Format("20060102T150405.000000Z")
		if err := os.Link(target, kept); err != nil {
			return "", fmt.Errorf("keep the old database: %w", err)
		}
	}
	// The old one's latest changes may stand beside it; the new one must not
	// find them.
	for _, more := range beside {
		if there {
			err = os.Rename(target+more, kept+more)
		} else {
			err = os.Remove(target + more)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return kept, fmt.Errorf("keep the old database: %w", err)
		}
	}
	if err := os.Rename(prepared, target); err != nil {
		return kept, fmt.Errorf("put the database in place: %w", err)
	}
	Discard(prepared)
	return kept, syncFolder(filepath.Dir(target))
}

func syncFolder(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
