package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// folder is the state of one local batch system.
type folder struct {
	dir   string
	slots int // cores, or below 0 for no limit
	here  process
}

// job is job.json.
type job struct {
	Tag       string        `json:"tag"`
	Comment   string        `json:"comment"`
	Chdir     string        `json:"chdir"`
	Output    string        `json:"output"`
	Cores     int           `json:"cores"`
	Limit     time.Duration `json:"limit"` // 0: none
	Grace     time.Duration `json:"grace"`
	Submitted time.Time     `json:"submitted"`
}

// end is end.json.
type end struct {
	State     string        `json:"state"`
	Message   string        `json:"message,omitempty"`
	Exit      *hpcsera.Exit `json:"exit,omitempty"`
	Restarted bool          `json:"restarted,omitempty"`
	BySite    bool          `json:"by_site,omitempty"`
	Ended     time.Time     `json:"ended"`
}

func open(dir string, slots int) (*folder, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("--dir is not absolute: %q", dir)
	}
	for _, d := range []string{dir, filepath.Join(dir, "jobs"), filepath.Join(dir, "tmp")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	here, err := thisHost()
	return &folder{dir: dir, slots: slots, here: here}, err
}

func (f *folder) path(id string, name ...string) string {
	return filepath.Join(append([]string{f.dir, "jobs", id}, name...)...)
}

// ids returns all jobs' ids in the order of their submission.
func (f *folder) ids() ([]string, error) {
	names, err := os.ReadDir(filepath.Join(f.dir, "jobs"))
	if err != nil {
		return nil, err
	}
	var list []string
	for _, n := range names {
		if validID(n.Name()) {
			list = append(list, n.Name())
		}
	}
	slices.SortFunc(list, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	return list, nil
}

// load reads one record. ok is false when there is none; a record that cannot
// be read is an error, since records are complete from the beginning.
func load[T any](path string) (v T, ok bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return v, false, fmt.Errorf("%s: %w", path, err)
	}
	return v, true, nil
}

// put makes a record, whole and on disk, unless there is one: first is false
// when somebody else was faster.
func (f *folder) put(path string, v any) (first bool, err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return false, err
	}
	tmp, err := f.temporary(b, 0o600)
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp)
	if err := os.Link(tmp, path); errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(path))
}

func (f *folder) temporary(b []byte, mode os.FileMode) (string, error) {
	file, err := os.CreateTemp(filepath.Join(f.dir, "tmp"), "record-")
	if err != nil {
		return "", err
	}
	_, err = file.Write(b)
	if err := errors.Join(err, file.Chmod(mode), file.Sync(), file.Close()); err != nil {
		os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}

// mark makes an empty marker file; one that stands already is fine.
func mark(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close(), syncDir(filepath.Dir(path)))
}

func marked(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// add makes a job visible under a new id: a folder that is complete and on
// disk is renamed to the next free number, which fails if another was faster.
func (f *folder) add(j job, script []byte, hold bool) (string, error) {
	tmp, err := os.MkdirTemp(filepath.Join(f.dir, "tmp"), "job-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	record, err := json.Marshal(j)
	if err != nil {
		return "", err
	}
	files := map[string][]byte{"job.json": record, "script": script}
	if hold {
		files["hold"] = nil
	}
	for name, b := range files {
		file, err := f.temporary(b, 0o700)
		if err != nil {
			return "", err
		}
		if err := os.Rename(file, filepath.Join(tmp, name)); err != nil {
			return "", err
		}
	}
	if err := syncDir(tmp); err != nil {
		return "", err
	}
	last, err := f.lastID()
	for n := last + 1; err == nil; n++ {
		id := strconv.Itoa(n)
		switch err = syscall.Rename(tmp, f.path(id)); {
		case err == nil:
			return id, syncDir(filepath.Join(f.dir, "jobs"))
		case errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EEXIST):
			err = nil
		}
	}
	return "", err
}

// lastID returns the highest id in use, or that was in use before old jobs
// were removed.
func (f *folder) lastID() (int, error) {
	ids, err := f.ids()
	if err != nil {
		return 0, err
	}
	last, _, err := load[int](filepath.Join(f.dir, "last.json"))
	if len(ids) > 0 {
		n, _ := strconv.Atoi(ids[len(ids)-1])
		last = max(last, n)
	}
	return last, err
}

// keep is how long an ended job is listed; pruneEvery is how often somebody
// looks for older ones.
const (
	keep       = 24 * time.Hour
	pruneEvery = 10 * time.Minute
)

// prune removes old jobs, and what crashed commands left in tmp.
func (f *folder) prune(now time.Time) error {
	stamp := filepath.Join(f.dir, "pruned")
	if info, err := os.Stat(stamp); err == nil && now.Sub(info.ModTime()) < pruneEvery {
		return nil
	}
	if err := errors.Join(mark(stamp), os.Chtimes(stamp, now, now)); err != nil {
		return err
	}
	old := now.Add(-keep)
	leftovers, err := os.ReadDir(filepath.Join(f.dir, "tmp"))
	if err != nil {
		return err
	}
	for _, l := range leftovers {
		if info, err := l.Info(); err == nil && info.ModTime().Before(old) {
			_ = os.RemoveAll(filepath.Join(f.dir, "tmp", l.Name())) // or somebody else did
		}
	}
	ids, err := f.ids()
	if err != nil {
		return err
	}
	for i, id := range ids {
		e, ended, err := load[end](f.path(id, "end.json"))
		if err != nil {
			return err
		}
		if ended && e.Ended.Before(old) {
			if err := f.remove(id, i == len(ids)-1); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove takes a job away. The number of the last one is noted, so that it is
// not given again.
func (f *folder) remove(id string, last bool) error {
	if last {
		tmp, err := f.temporary([]byte(id), 0o600)
		if err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(f.dir, "last.json")); err != nil {
			return err
		}
	}
	// Renamed first: a folder half removed would be a job without its end.
	gone := filepath.Join(f.dir, "tmp", "gone-"+id)
	err := os.Rename(f.path(id), gone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another list was faster
	}
	return errors.Join(err, os.RemoveAll(gone))
}

// lock keeps two processes from counting the same free slots. It is for
// tidiness alone: that a job starts once is the claim's work, so where locks do
// not work, or are held for too long, the caller goes on without.
func (f *folder) lock(ctx context.Context) (unlock func()) {
	file, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK) {
		select {
		case <-ctx.Done():
			file.Close()
			return func() {}
		case <-tick.C:
		}
	}
	return func() { file.Close() }
}
