// Package journal is the agent's memory: an append-only list of what it was
// told and what it is about to do, on disk before it is done. The agent's
// state is a fold over the entries, so a crash at any moment is only a
// shorter list.
//
// Each instance (process) writes a file of its own and reads all of them, in
// the order of the epochs and terms under which they were written. A line is a CRC-32,
// a space and an entry as JSON. A torn last line is what a crash leaves and is
// dropped; any other damage is an error, because forgetting an entry could
// run a job twice.
package journal

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Kind says what an entry means.
type Kind string

// The kinds of entries.
const (
	KindInstance  Kind = "instance"  // a process started; first line of each file
	KindTerm      Kind = "term"      // the server granted Term in Epoch
	KindOrder     Kind = "order"     // the server wants Order
	KindCursor    Kind = "cursor"    // every order up to Cursor is above
	KindRun       Kind = "run"       // a start of Job is counted against Approval
	KindSubmit    Kind = "submit"    // Tag is about to be submitted, as its Member for Job, Step, N
	KindSubmitted Kind = "submitted" // the batch system took it as Native
	KindRefused   Kind = "refused"   // the batch system certainly did not take it
	KindBlocked   Kind = "blocked"   // the agent owns the claim: Tag can never run
	KindRequeued  Kind = "requeued"  // the batch system queued Tag once more after start N
	KindAbsent    Kind = "absent"    // N whole answers of the batch system in a row did not know Tag
	KindStep      Kind = "step"      // Job goes on with Step
	KindOutcome   Kind = "outcome"   // Job's steps have ended as Outcome says
	KindFact      Kind = "fact"      // Fact will be reported
	KindSent      Kind = "sent"      // the server answered every fact up to Seq
	KindForgotten Kind = "forgotten" // Job's directory was removed
)

// Entry is one line. Which fields stand depends on Kind.
type Entry struct {
	Kind     Kind            `json:"kind"`
	At       time.Time       `json:"at"`
	Instance string          `json:"instance,omitempty"`
	Host     string          `json:"host,omitempty"`
	Term     int64           `json:"term,omitempty"`
	Epoch    int64           `json:"epoch,omitempty"`
	Cursor   string          `json:"cursor,omitempty"`
	Order    *hpcsera.Order  `json:"order,omitempty"`
	Job      string          `json:"job,omitempty"`
	Step     int             `json:"step,omitempty"`
	N        int             `json:"n,omitempty"`
	Tag      string          `json:"tag,omitempty"`
	Member   int             `json:"member,omitempty"` // of Tag
	Approval string          `json:"approval,omitempty"`
	Native   *hpcsera.Native `json:"native,omitempty"`
	Outcome  *Outcome        `json:"outcome,omitempty"`
	Fact     *hpcsera.Report `json:"fact,omitempty"`
	Seq      int64           `json:"seq,omitempty"`
	Created  time.Time       `json:"created,omitzero"` // of the order that Fact answers, where its job is over
}

// Outcome is how a job's steps ended.
type Outcome struct {
	State   hpcsera.State  `json:"state"`
	Reason  hpcsera.Reason `json:"reason,omitempty"`
	Message string         `json:"message,omitempty"`
	Exit    *hpcsera.Exit  `json:"exit,omitempty"`
	Nodes   string         `json:"nodes,omitempty"`
	Ended   time.Time      `json:"ended"`
}

// Journal is an instance's own file, open for appending. It is used by one
// goroutine.
type Journal struct {
	file *os.File
	good int64 // size up to which the file is whole
	bad  bool  // the last append failed: cut back before the next
	buf  bytes.Buffer
}

const suffix = ".jsonl"

// Open reads every earlier file of dir into fold, oldest term first, and
// starts the file of this instance.
func Open(dir string, head Entry, fold func(Entry)) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if _, err := Replay(dir, fold); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, head.Instance+suffix)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{file: file}
	head.Kind = KindInstance
	err = j.Append(head)
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return j, nil
}

// Append writes entries and returns when they are on disk. After an error none
// of them counts, and the same Append can be tried again.
func (j *Journal) Append(entries ...Entry) error {
	if j.bad {
		if err := j.file.Truncate(j.good); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	if j.buf.Cap() > 4*piece {
		j.buf = bytes.Buffer{} // there was one large entry
	}
	j.buf.Reset()
	j.bad = true // until all of it is on disk
	end := j.good
	orders := shared{}
	for i, e := range entries {
		if err := j.addLine(orders.brief(e)); err != nil {
			return fmt.Errorf("journal: encode %s: %w", e.Kind, err)
		}
		if j.buf.Len() < piece && i < len(entries)-1 {
			continue
		}
		n, err := j.file.WriteAt(j.buf.Bytes(), end)
		j.buf.Reset()
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		end += int64(n)
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	j.good, j.bad = end, false
	return nil
}

// piece is about how many bytes are written at once. A thousand orders come
// together, and an agent's memory is small.
const piece = 64 << 10

// addLine adds an entry to what is written next.
func (j *Journal) addLine(e Entry) error {
	const sum = "00000000 "
	at := j.buf.Len()
	j.buf.WriteString(sum)
	if err := json.NewEncoder(&j.buf).Encode(e); err != nil {
		j.buf.Truncate(at)
		return err
	}
	line := j.buf.Bytes()[at:]
	text := line[len(sum) : len(line)-1] // without the newline
	copy(line, fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)))
	return nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// Replay reads every file of dir into fold, oldest term first, without
// starting one. A missing dir is an empty journal. ungranted is the number of
// instances that wrote no term: each may have been granted one whose answer it
// did not live to write down.
func Replay(dir string, fold func(Entry)) (ungranted int, err error) {
	files, err := history(dir)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if f.term == 0 {
			ungranted++
		}
		if err := read(f.path, fold); err != nil {
			return 0, err
		}
	}
	return ungranted, nil
}

// Prune removes files of dir, oldest term first, and stops at the first that
// is own, was changed after before, or has an entry about a job that keep
// accepts. Only the beginning of the past is ever forgotten: were a later file
// removed before an earlier one, a job could stand in the past without its end
// and run again.
func Prune(dir, own string, before time.Time, keep func(job string) bool) error {
	files, err := history(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		old := f.instance != own && !f.changed.After(before)
		if f.term == 0 && !old {
			continue // it did nothing, so nothing is forgotten out of order
		}
		needed := !old
		if !needed {
			err = read(f.path, func(e Entry) { needed = needed || e.About() != "" && keep(e.About()) })
		}
		if err == nil && needed {
			return nil
		}
		if err == nil {
			err = os.Remove(f.path)
		}
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	return nil
}

// About returns the job that an entry names, "" for none.
func (e Entry) About() string {
	switch {
	case e.Order != nil:
		return e.Order.JobID
	case e.Fact != nil:
		return e.Fact.JobID
	}
	return e.Job
}

type past struct {
	path     string
	instance string
	epoch    int64 // of the last term
	term     int64
	started  time.Time
	changed  time.Time
}

// history lists the files of dir by epoch and term, then by start: a server that
// was put back from a backup begins a new epoch, and gives old terms again. No
// instance serves in two epochs. An instance that
// was never granted a term has read and done nothing: term 0 sorts it first.
func history(dir string) ([]past, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var files []past
	for _, name := range names {
		p := past{path: name, instance: strings.TrimSuffix(filepath.Base(name), suffix)}
		if info, err := os.Stat(name); err == nil {
			p.changed = info.ModTime()
		}
		count := 0
		err := read(name, func(e Entry) {
			if count++; e.Kind == KindInstance {
				p.started = e.At
			}
			if e.Kind == KindTerm {
				p.epoch, p.term = max(p.epoch, e.Epoch), max(p.term, e.Term)
			}
		})
		if err != nil {
			return nil, err
		}
		files = append(files, p)
	}
	slices.SortFunc(files, func(a, b past) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.term, b.term), a.started.Compare(b.started))
	})
	return files, nil
}

func read(path string, fold func(Entry)) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 64<<10)
	orders := shared{}
	for number := 1; ; number++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what stands after the last newline is torn
		}
		if err != nil {
			return fmt.Errorf("journal: %w", err)
		}
		e, err := decode(line)
		if err != nil {
			if _, next := r.Peek(1); errors.Is(next, io.EOF) {
				return nil // torn, though its newline reached the disk
			}
			return damaged(path, number, err)
		}
		if err := orders.complete(e); err != nil {
			return damaged(path, number, err)
		}
		fold(e)
	}
}

func damaged(path string, line int, err error) error {
	return fmt.Errorf("journal: %s line %d is damaged (%w). Nothing was started. Restore the file from a backup, or enrol this agent anew", path, line, err)
}

func decode(line []byte) (Entry, error) {
	var e Entry
	if len(line) < 10 || line[8] != ' ' {
		return e, errors.New("no checksum")
	}
	body := bytes.TrimSuffix(line[9:], []byte("\n"))
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE(body)) != string(line[:8]) {
		return e, errors.New("wrong checksum")
	}
	return e, json.Unmarshal(body, &e)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
