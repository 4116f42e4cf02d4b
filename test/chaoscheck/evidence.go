package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// evidence is what there is to know of one deployment.
type evidence struct {
	asked   []asked
	hits    []hit
	jobs    map[string]job
	events  map[string][]event
	runs    map[string][]*run // of a job, in the order of their beginnings
	records []record
	digests map[string]string // of the artifact that the API handed out, by job
	system  string
}

// asked is a job as its user knows it: what was wanted, and what was answered
// with success.
type asked struct {
	Job       string    `json:"job"`
	Requeue   bool      `json:"requeue"`
	Exit      int       `json:"exit"`      // what its program ends with
	Endless   bool      `json:"endless"`   // only a cancel ends it
	Cancelled bool      `json:"cancelled"` // a cancel was accepted while it had not ended
	Held      bool      `json:"held"`      // handed in held
	Released  time.Time `json:"released"`  // when the release was first sent
}

// hit is one fault: of all jobs, or of one.
type hit struct {
	Kind string    `json:"kind"`
	Job  string    `json:"job"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// job is what the API tells of one.
type job struct {
	ID      string `json:"id"`
	State   string `json:"state"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Attempt int    `json:"attempt"`
	Requeue bool   `json:"requeue"`
	Native  *struct {
		ID string `json:"id"`
	} `json:"native"`
	Exit *struct {
		Code   int `json:"code"`
		Signal int `json:"signal"`
	} `json:"exit"`
	Artifacts []struct {
		Path   string `json:"path"`
		Digest string `json:"digest"`
	} `json:"artifacts"`
}

type event struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"`
	Job     string    `json:"job"`
	Attempt int       `json:"attempt"`
	State   string    `json:"state"`
	Reason  string    `json:"reason"`
}

// run is what a job's program wrote of itself.
type run struct {
	attempt, pid int
	native       string
	begun        time.Time
	ended        time.Time // zero: it never came to its end
	exit         int
	digest       string // of what it left
}

func read(folder string) (*evidence, error) {
	e := &evidence{jobs: map[string]job{}, events: map[string][]event{}, runs: map[string][]*run{}, digests: map[string]string{}}
	var jobs []job
	var events []event
	for name, into := range map[string]any{"asked.json": &e.asked, "hits.json": &e.hits, "jobs.json": &jobs, "events.json": &events} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, into); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, j := range jobs {
		e.jobs[j.ID] = j
	}
	for _, ev := range events {
		e.events[ev.Job] = append(e.events[ev.Job], ev)
	}
	if err := e.readMarkers(filepath.Join(folder, "markers")); err != nil {
		return nil, err
	}
	if err := e.readArtifacts(filepath.Join(folder, "artifacts")); err != nil {
		return nil, err
	}
	return e, e.readAccounting(folder)
}

// readMarkers reads lines of the form
//
//	begin JOB ATTEMPT PID HOST NATIVE TIME
//	end   JOB ATTEMPT PID HOST NATIVE TIME EXIT DIGEST
func (e *evidence) readMarkers(name string) error {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing ever ran
	}
	if err != nil {
		return err
	}
	for n, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		if line == "" {
			continue
		}
		if err := e.marker(strings.Fields(line)); err != nil {
			return fmt.Errorf("%s:%d: %w: %q", name, n+1, err, line)
		}
	}
	return nil
}

func (e *evidence) marker(f []string) error {
	if len(f) < 7 || f[0] == "end" && len(f) != 9 {
		return errors.New("a marker that is not whole")
	}
	attempt, err1 := strconv.Atoi(f[2])
	pid, err2 := strconv.Atoi(f[3])
	seconds, err3 := strconv.ParseFloat(f[6], 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	at := time.UnixMicro(int64(seconds * 1e6))
	if f[0] == "begin" {
		e.runs[f[1]] = append(e.runs[f[1]], &run{attempt: attempt, pid: pid, native: f[5], begun: at})
		return nil
	}
	for _, r := range e.runs[f[1]] {
		if r.attempt == attempt && r.pid == pid && r.ended.IsZero() {
			var err error
			r.exit, err = strconv.Atoi(f[7])
			r.ended, r.digest = at, f[8]
			return err
		}
	}
	return errors.New("an end without a beginning")
}

func (e *evidence) readArtifacts(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(text)
		e.digests[entry.Name()] = hex.EncodeToString(sum[:])
	}
	return err
}
