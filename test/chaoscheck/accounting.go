package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// record is what the batch system's accounting tells of one run of a batch job.
type record struct {
	id, raw string // as a user names it, and as the job sees it
	name    string
	state   string // in the system's words
	failed  bool   // by the system's word
}

func (e *evidence) readAccounting(folder string) error {
	for name, parse := range map[string]func(string) ([]record, error){"slurm": slurmRecords, "sge": sgeRecords} {
		text, err := os.ReadFile(filepath.Join(folder, "accounting."+name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		e.system = name
		e.records, err = parse(string(text))
		return err
	}
	return fmt.Errorf("%s has no accounting.slurm and no accounting.sge", folder)
}

// slurmRecords reads `sacct -n -X -D -P --format=JobID,JobIDRaw,JobName,State,ExitCode`.
func slurmRecords(text string) (list []record, err error) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line == "" {
			continue
		}
		f := strings.Split(line, "|")
		if len(f) != 5 {
			return nil, fmt.Errorf("a line of sacct with %d fields: %q", len(f), line)
		}
		list = append(list, record{id: f[0], raw: f[1], name: f[2], state: f[3] + " " + f[4], failed: f[3] != "COMPLETED"})
	}
	return list, nil
}

// sgeRecords reads Grid Engine's accounting file: see accounting(5).
func sgeRecords(text string) (list []record, err error) {
	for _, line := range strings.Split(text, "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) < 40 {
			return nil, fmt.Errorf("a line of the accounting with %d fields: %q", len(f), line)
		}
		r := record{id: f[5], raw: f[5], name: f[4], state: "failed " + f[11] + " exit " + f[12], failed: f[11] != "0" || f[12] != "0"}
		if f[35] != "0" { // task_number
			r.id += "." + f[35]
		}
		list = append(list, r)
	}
	return list, nil
}

// of returns the records of a batch job as one of its runs names it.
func (e *evidence) of(native string) (list []record) {
	for _, r := range e.records {
		if r.raw == native || r.id == native {
			list = append(list, r)
		}
	}
	return list
}
