package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Task is what a step runs. The agent writes it, from signed bytes, with the
// submission.
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
	Files       []File            `json:"files,omitempty"`   // written into the step's folder at the start, then checked
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

// File is one that a step needs beside its task. It goes with the task, and is
// written on the compute node: making files is what takes the login node long
// when a thousand jobs come at once, above all on network file systems.
type File struct {
	Name    string `json:"name"` // below the step's folder
	Text    string `json:"text"`
	Program bool   `json:"program,omitempty"` // may be executed
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
	// Where its task lies among the others: PutSubmission's own.
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// PutSubmission writes a submission, with a task for each member, and its
// wrapper script, whole, and returns the script's path and the file for what
// the wrapper prints. wrapper is the absolute path of the binary that the
// script starts. However many members there are, they make no files.
func (s *Spool) PutSubmission(sub Submission, tasks []Task, wrapper string) (script, output string, err error) {
	dir := filepath.Join(s.dir, "submissions", sub.Tag)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("submission: %w", err)
	}
	sub.Members = slices.Clone(sub.Members)
	var all bytes.Buffer
	lines := json.NewEncoder(&all)
	for i, t := range tasks {
		from := all.Len()
		if err := lines.Encode(t); err != nil {
			return "", "", fmt.Errorf("submission: %w", err)
		}
		sub.Members[i].Offset, sub.Members[i].Length = int64(from), int64(all.Len()-from)
		if i == 0 {
			all.Grow(min(len(tasks)*(all.Len()+all.Len()/8), 4<<20)) // most are alike
		}
	}
	if err := writeBytes(filepath.Join(dir, "tasks"), all.Bytes(), 0o600); err != nil {
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

// Task reads the task of a submission's member: its own part of a file that
// may hold a thousand.
func (s *Spool) Task(tag string, m Member) (t Task, err error) {
	f, err := os.Open(filepath.Join(s.dir, "submissions", tag, "tasks"))
	if err != nil {
		return t, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, m.Offset, m.Length))
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	if err == nil && (t.Job != m.Job || t.Step != m.Step) {
		err = fmt.Errorf("the task of %s stands where that of %s should", t.Job, m.Job)
	}
	if err != nil {
		return t, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return t, nil
}

// OutputTail returns the end of what a submission's wrapper printed.
func (s *Spool) OutputTail(tag string, size int) string {
	b, err := os.ReadFile(filepath.Join(s.dir, "submissions", tag, "output"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b[max(0, len(b)-size):]))
}

// PutFiles writes a task's files, each whole.
func (s *Spool) PutFiles(t Task) error {
	for _, f := range t.Files {
		mode := fs.FileMode(0o600)
		if f.Program {
			mode = 0o700
		}
		if err := writeBytes(s.FilePath(t.Job, t.Step, f.Name), []byte(f.Text), mode); err != nil {
			return fmt.Errorf("task: %w", err)
		}
	}
	return nil
}
