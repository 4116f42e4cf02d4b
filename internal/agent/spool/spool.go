// Package spool is the folder that the agent and its wrappers share across
// the site's hosts. It carries what a step runs, who may run it (the start
// claim) and how it ended. The agent and the wrapper are its only users; no
// message between them goes another way.
//
//	bin/hpcsera-agent-DIGEST      the agent's own binary, as the wrapper runs it
//	submissions/TAG/              wrapper.sh, submission.json, output, and
//	                tasks         what the members run, one after the other
//	JOB/STEP/script, values.json  files that the wrapper writes as its task says
//	JOB/STEP/N/claim              who owns the N-th start: link(2), so exactly one
//	JOB/STEP/N/end                how it ended
//	JOB/STEP/N/stdout, stderr     what it printed
//	inbox/                        doorbell: a link to each claim and end record
//
// The claim is the authority for what may run: whoever links it first owns
// that start, and link(2) is atomic on shared file systems where locks are
// not. The files under JOB are the truth; the inbox only says where to look,
// so that the agent lists one folder however many jobs it has. Losing a
// doorbell loses nothing.
package spool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Spool is the folder at a path. Its methods can be called concurrently, from
// any host.
type Spool struct{ dir string }

// Open makes the spool's folders where missing. The spool is for its owner
// alone: a looser mode is refused.
func Open(dir string) (*Spool, error) {
	for _, d := range []string{dir, filepath.Join(dir, "inbox"), filepath.Join(dir, "bin"), filepath.Join(dir, "submissions")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("spool: %w", err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("spool: %s can be entered by others (mode %04o). Type: chmod 700 %s", dir, info.Mode().Perm(), dir)
	}
	return &Spool{dir: dir}, nil
}

// Dir returns the spool's path.
func (s *Spool) Dir() string { return s.dir }

// Claim says who owns a start.
type Claim struct {
	Owner    string    `json:"owner"` // "wrapper" or "agent"
	Tag      string    `json:"tag"`   // of the submission
	Cluster  string    `json:"cluster,omitempty"`
	NativeID string    `json:"native_id,omitempty"` // as the wrapper found it in its environment
	Member   int       `json:"member,omitempty"`    // of the submission
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Nonce    string    `json:"nonce"`
	At       time.Time `json:"at"`
}

// The owners of a claim.
const (
	OwnerWrapper = "wrapper"
	OwnerAgent   = "agent"
)

// End is how a start ended.
type End struct {
	Exit    hpcsera.Exit `json:"exit"`
	Started time.Time    `json:"started"`
	Ended   time.Time    `json:"ended"`
	Host    string       `json:"host"`
	Failure string       `json:"failure,omitempty"` // why the program could not be started or was refused
	Timeout bool         `json:"timeout,omitempty"` // a login step ran into its own limit
	Output  bool         `json:"output,omitempty"`  // ... or printed more than it may
	Told    bool         `json:"told,omitempty"`    // a signal reached it before it ended
}

// Success says that the program ended with 0.
func (e *End) Success() bool {
	return e != nil && e.Failure == "" && !e.Timeout && !e.Output && e.Exit == (hpcsera.Exit{})
}

// Done says that the program ended with 0 of itself, so that nothing else need
// be known and it never runs again. One that was told to end may have saved
// its work and gone, with 0, for the batch system to run it once more.
func (e *End) Done() bool { return e.Success() && !e.Told }

// Start is a claim with its place.
type Start struct {
	Job  string
	Step int
	N    int
	Claim
	End *End // when there is one
}

func (s *Spool) step(job string, step int) string {
	return filepath.Join(s.dir, job, strconv.Itoa(step))
}

func (s *Spool) start(job string, step, n int) string {
	return filepath.Join(s.step(job, step), strconv.Itoa(n))
}

// OutputPath returns the file of a start's stdout or stderr.
func (s *Spool) OutputPath(job string, step, n int, stream string) string {
	return filepath.Join(s.start(job, step, n), stream)
}

// FilePath returns where a file of a task will be.
func (s *Spool) FilePath(job string, step int, name string) string {
	return filepath.Join(s.step(job, step), name)
}

// Take tries to become the owner of a start. It returns the claim that stands
// there in the end, and whether it is this one. A lost answer of link(2) on a
// network file system does no harm: what counts is what is read back.
func (s *Spool) Take(job string, step, n int, c Claim) (Claim, bool, error) {
	dir := s.start(job, step, n)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Claim{}, false, fmt.Errorf("claim: %w", err)
	}
	nonce := make([]byte, 16)
	rand.Read(nonce)
	c.Nonce = hex.EncodeToString(nonce)
	tmp := filepath.Join(dir, ".claim-"+c.Nonce)
	if err := writeDurably(tmp, c); err != nil {
		return Claim{}, false, fmt.Errorf("claim: %w", err)
	}
	defer os.Remove(tmp)
	linkErr := os.Link(tmp, filepath.Join(dir, "claim"))
	owner, err := s.Claimed(job, step, n)
	switch {
	case err == nil && owner.Nonce == c.Nonce:
		syncDir(dir)
		if c.Owner == OwnerWrapper {
			s.ring(filepath.Join(dir, "claim"), job, step, n, "start")
		}
		return owner, true, nil
	case err == nil:
		return owner, false, nil
	case linkErr != nil:
		return Claim{}, false, fmt.Errorf("claim: %w", linkErr)
	}
	return Claim{}, false, err
}

// Claimed returns the claim on a start; fs.ErrNotExist when nobody owns it.
func (s *Spool) Claimed(job string, step, n int) (Claim, error) {
	var c Claim
	err := readJSON(filepath.Join(s.start(job, step, n), "claim"), &c)
	return c, err
}

// Finish writes the end of a start, durably and whole, and rings.
func (s *Spool) Finish(job string, step, n int, e End) error {
	dir := s.start(job, step, n)
	tmp := filepath.Join(dir, ".end")
	if err := writeDurably(tmp, e); err != nil {
		return fmt.Errorf("end record: %w", err)
	}
	path := filepath.Join(dir, "end")
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("end record: %w", err)
	}
	syncDir(dir)
	s.ring(path, job, step, n, "end")
	return nil
}

// Latest returns the newest start of a step that a wrapper owns, counting
// from n upwards, with its end; nil when n itself is not claimed. count is
// the number of starts from n on that wrappers own. blocked says that the
// newest claim is the agent's.
func (s *Spool) Latest(job string, step, n int) (latest *Start, count int, blocked bool, err error) {
	for ; ; n++ {
		c, err := s.Claimed(job, step, n)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, 0, false, err
		}
		if c.Owner == OwnerAgent {
			blocked = true
			break
		}
		count++
		latest = &Start{Job: job, Step: step, N: n, Claim: c}
	}
	if latest == nil {
		return nil, 0, blocked, nil
	}
	var end End
	switch err := readJSON(filepath.Join(s.start(job, step, latest.N), "end"), &end); {
	case err == nil:
		latest.End = &end
	case !errors.Is(err, fs.ErrNotExist):
		return nil, 0, false, err
	}
	return latest, count, blocked, nil
}

// ring puts a doorbell into the inbox. Failing is harmless: the agent looks
// itself whenever the batch system says that a job has ended.
func (s *Spool) ring(record, job string, step, n int, what string) {
	_ = os.Link(record, filepath.Join(s.dir, "inbox", fmt.Sprintf("%s.%d.%d.%s", job, step, n, what)))
}

// Rings lists the jobs whose doorbell rang, with the names to be removed by
// Answer once the jobs were looked at. A file is made and removed first: that
// refreshes the directory caches of network file systems, and its one byte
// finds out whether the disk or the quota is full.
func (s *Spool) Rings(instance string) (map[string][]string, error) {
	inbox := filepath.Join(s.dir, "inbox")
	touch := filepath.Join(inbox, "."+instance)
	if err := os.WriteFile(touch, []byte{0}, 0o600); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	if err := os.Remove(touch); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	entries, err := os.ReadDir(inbox)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	rings := map[string][]string{}
	for _, e := range entries {
		if job, _, ok := strings.Cut(e.Name(), "."); ok && job != "" {
			rings[job] = append(rings[job], e.Name())
		}
	}
	return rings, nil
}

// Answer removes doorbells.
func (s *Spool) Answer(names []string) {
	for _, name := range names {
		_ = os.Remove(filepath.Join(s.dir, "inbox", name))
	}
}

// Remove erases a job's folder and those of its submissions.
func (s *Spool) Remove(job string, tags []string) error {
	if !hpcsera.ValidID("j", job) {
		return fmt.Errorf("spool: %q is not a job", job)
	}
	var errs []error
	for _, tag := range tags {
		if hpcsera.ValidID("s", tag) {
			errs = append(errs, os.RemoveAll(filepath.Join(s.dir, "submissions", tag)))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(filepath.Join(s.dir, job)))...)
}

// quote makes one word of a path for sh.
func quote(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }

func readJSON(path string, into any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeDurably writes a record that must survive the host.
func writeDurably(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// writeWhole writes a file that appears complete or not at all.
func writeWhole(path string, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = writeBytes(path, b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	return nil
}

func writeBytes(path string, b []byte, mode fs.FileMode) error {
	tmp := path + ".new"
	// A process that begins while the file is open for writing has it open, too,
	// until it becomes another program; a script that is started meanwhile is
	// "text file busy" (go.dev/issue/22315).
	syscall.ForkLock.RLock()
	err := os.WriteFile(tmp, b, mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		_ = d.Sync()
		d.Close()
	}
}
