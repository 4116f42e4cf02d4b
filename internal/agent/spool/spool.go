// Package spool is the folder that the agent and its wrappers share across
// the site's hosts. It carries what a step runs, who may run it (the start
// claim) and how it ended. The agent and the wrapper are its only users; no
// message between them goes another way.
//
//	bin/hpcsera-agent-DIGEST      the agent's own binary, as the wrapper runs it
//	submissions/TAG/              wrapper.sh, submission.json, output
//	JOB/STEP/task.json            what the step runs
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
	"slices"
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

// Task is what a step runs. The agent writes it, from signed bytes, before
// the step is submitted.
type Task struct {
	Job         string            `json:"job"`
	Step        int               `json:"step"`
	Directory   string            `json:"directory"`
	Argv        []string          `json:"argv"`
	Environment map[string]string `json:"environment"` // signed, or the agent's own
	Values      map[string]string `json:"values"`      // of the schema that was signed
	Setup       *Setup            `json:"setup,omitempty"`
	Hooks       Hooks             `json:"hooks,omitzero"`
	Present     []Present         `json:"present,omitempty"` // what the node must have
	Check       []Check           `json:"check"`             // bytes that are verified again at the start
	Requeue     bool              `json:"requeue"`
	Timeout     hpcsera.Duration  `json:"timeout,omitempty"` // of a login step
	Output      hpcsera.Bytes     `json:"output,omitempty"`  // that a login step may print
}

// Setup is software of the site that the program needs in its environment. The
// names are signed; how they are loaded is the agent's own setting.
type Setup struct {
	Field   string   `json:"field"`   // of job.yaml
	Command string   `json:"command"` // module or spack
	Init    string   `json:"init"`    // the file that defines the command
	Names   []string `json:"names"`
}

// Hooks are programs of the site that run around the user's, from the agent's
// own settings.
type Hooks struct {
	Before  string           `json:"before,omitempty"`
	After   string           `json:"after,omitempty"`
	Timeout hpcsera.Duration `json:"timeout,omitempty"` // of each
}

// Check is a file and the SHA-256 that its bytes must have, in hexadecimal.
type Check struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// Present is a path that a step needs on its node.
type Present struct {
	Field string `json:"field"` // of job.yaml
	Path  string `json:"path"`
}

// Submission maps the indices of one submit call to steps of jobs.
type Submission struct {
	Tag     string   `json:"tag"`
	Members []Member `json:"members"`
	// Where the wrapper finds its native id and its index in the environment
	// that the batch system gives it; the first variable that is set counts.
	IDVariables   []string `json:"id_variables"`
	IndexVariable string   `json:"index_variable,omitempty"` // of an array
	FirstIndex    int      `json:"first_index,omitempty"`    // that of the first member
	MemberID      string   `json:"member_id,omitempty"`      // of {id} and {index}
	// Variables that are to name the member's own folder.
	DirectoryVariables []string `json:"directory_variables,omitempty"`
	ClusterVariable    string   `json:"cluster_variable,omitempty"`
	// Which of the batch system's variables the program gets: those with one of
	// the prefixes Pass, apart from Drop.
	Pass []string `json:"pass,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

// Member is the start that one index of a submission may claim.
type Member struct {
	Job     string `json:"job"`
	Step    int    `json:"step"`
	N       int    `json:"n"`
	Attempt int    `json:"attempt"` // of the job when N wins
}

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

// StepDir makes and returns the folder of a step.
func (s *Spool) StepDir(job string, step int) (string, error) {
	dir := s.step(job, step)
	return dir, os.MkdirAll(dir, 0o700)
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

// PutTask writes a step's task, whole.
func (s *Spool) PutTask(t Task) error {
	dir, err := s.StepDir(t.Job, t.Step)
	if err != nil {
		return fmt.Errorf("task: %w", err)
	}
	return writeWhole(filepath.Join(dir, "task.json"), t)
}

// Task reads a step's task.
func (s *Spool) Task(job string, step int) (Task, error) {
	var t Task
	err := readJSON(filepath.Join(s.step(job, step), "task.json"), &t)
	return t, err
}

// PutSubmission writes a submission and its wrapper script, whole, and
// returns the script's path and the file for what the wrapper prints.
// wrapper is the absolute path of the binary that the script starts.
func (s *Spool) PutSubmission(sub Submission, wrapper string) (script, output string, err error) {
	dir := filepath.Join(s.dir, "submissions", sub.Tag)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("submission: %w", err)
	}
	if err := writeWhole(filepath.Join(dir, "submission.json"), sub); err != nil {
		return "", "", err
	}
	script = filepath.Join(dir, "wrapper.sh")
	text := fmt.Sprintf("#!/bin/sh\nexec %s step %s %s\n", quote(wrapper), quote(s.dir), quote(sub.Tag))
	if err := writeBytes(script, []byte(text), 0o700); err != nil {
		return "", "", fmt.Errorf("submission: %w", err)
	}
	return script, filepath.Join(dir, "output"), nil
}

// Submission reads a submission.
func (s *Spool) Submission(tag string) (Submission, error) {
	var sub Submission
	err := readJSON(filepath.Join(s.dir, "submissions", tag, "submission.json"), &sub)
	return sub, err
}

// OutputTail returns the end of what a submission's wrapper printed.
func (s *Spool) OutputTail(tag string, size int) string {
	b, err := os.ReadFile(filepath.Join(s.dir, "submissions", tag, "output"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b[max(0, len(b)-size):]))
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

// Jobs lists the jobs that have a folder in the spool.
func (s *Spool) Jobs() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	var jobs []string
	for _, e := range entries {
		if hpcsera.ValidID("j", e.Name()) {
			jobs = append(jobs, e.Name())
		}
	}
	slices.Sort(jobs)
	return jobs, nil
}
