package wrapper

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// check lays out a file whose bytes were signed.
func (s *site) check(name, text string) spool.Check {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(text))
	return spool.Check{Path: s.path(name), SHA256: hex.EncodeToString(sum[:])}
}

func TestFilesOfATaskAreWrittenAndThenChecked(t *testing.T) {
	const script = "#!/bin/sh\necho ran >> marks\n"
	for text, want := range map[string]int{script: 0, script + "rm -rf ~\n": 126} {
		s := newSite(t)
		path := s.FilePath(s.job, 0, "script")
		sum := sha256.Sum256([]byte(script))
		s.task("", func(task *spool.Task) {
			task.Argv = []string{path}
			task.Files = []spool.File{{Name: "script", Text: text, Program: true}, {Name: "values.json", Text: `{"a":"é"}`}}
			task.Check = []spool.Check{{Path: path, SHA256: hex.EncodeToString(sum[:])}}
		})
		_, submission := s.submission(1)
		if s.exists(filepath.Join("spool", s.job)) {
			t.Error("a submission made files of a job's own, want none")
		}
		if got := s.run(submission, "4711"); got != want || s.marks() != (126-want)/126 {
			t.Errorf("got status %d and %d runs, want %d", got, s.marks(), want)
		}
		if text, err := os.ReadFile(s.FilePath(s.job, 0, "values.json")); err != nil || string(text) != `{"a":"é"}` {
			t.Errorf("values.json: got %q (%v)", text, err)
		}
	}
}

func TestAFileThatIsNotWhatWasSignedRunsNothing(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"another byte":        func(p string) error { return os.WriteFile(p, []byte("signeD"), 0o600) },
		"a byte more":         func(p string) error { return os.WriteFile(p, []byte("signed\n"), 0o600) },
		"nothing":             func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"gone":                os.Remove,
		"a link to something": func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/etc/passwd", p)) },
		"a folder":            func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			checks := []spool.Check{s.check("untouched", "x"), s.check("input", "signed")}
			s.task(count, func(task *spool.Task) { task.Check = checks })
			_, script := s.submission(1)
			if err := change(s.path("input")); err != nil {
				t.Fatal(err)
			}
			if got := s.run(script, "4711"); got == 0 {
				t.Error("got status 0, want an error")
			}
			if s.marks() != 0 {
				t.Error("the program ran")
			}
			if end := s.end(); end.Failure == "" || end.Exit.Code == 0 {
				t.Errorf("end record: got %+v, want a failure that says why", end)
			}
		})
	}
}

func TestASignedFileAsItWasSignedRuns(t *testing.T) {
	s := newSite(t)
	checks := []spool.Check{s.check("input", "signed")}
	s.task(count, func(task *spool.Task) { task.Check = checks })
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 || s.marks() != 1 {
		t.Errorf("got status %d and %d runs, want 0 and 1", got, s.marks())
	}
}

// A job's folder is made where the agent keeps them, and nowhere else: on a node
// where that is not mounted a job would run to an end that nobody sees.
func TestAJobsFolderIsMadeInItsPlaceOnly(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(work string) error
		status  int
	}{
		"the agent's place":      {spool.Mark, 0},
		"the folder is there":    {func(work string) error { return os.MkdirAll(filepath.Join(work, "job"), 0o700) }, 0},
		"nothing is mounted":     {func(string) error { return nil }, 126},
		"another one is mounted": {func(work string) error { return os.Mkdir(work, 0o700) }, 126},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			work := s.path("work")
			if err := c.prepare(work); err != nil {
				t.Fatal(err)
			}
			before, _ := filepath.Glob(filepath.Join(work, "*"))
			s.task("pwd; echo ran >> ../../marks", func(task *spool.Task) { task.Directory = filepath.Join(work, "job") })
			_, script := s.submission(1)
			if got := s.run(script, "4711"); got != c.status {
				t.Errorf("got status %d (%+v), want %d", got, s.end(), c.status)
			}
			if c.status == 0 && s.marks() == 1 {
				return
			}
			after, _ := filepath.Glob(filepath.Join(work, "*"))
			if end := s.end(); s.marks() != 0 || !strings.Contains(end.Failure, "work_root is not on this node") || len(before) != len(after) {
				t.Errorf("it ran %d times, said %q, and left %v", s.marks(), end.Failure, after)
			}
		})
	}
}
