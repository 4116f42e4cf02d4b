package pbs

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

var (
	rowStart = []byte("Job Id: ")
	// unknownJob and finishedJob are how qstat tells of a job that it has no row for.
	unknownJob  = regexp.MustCompile(`(?m)^qstat: Unknown Job Id (\S+)\s*$`)
	finishedJob = regexp.MustCompile(`(?m)^qstat: (\S+) Job has finished`)
)

// parseNamed reads rows of jobs that were asked for by id. Each of them has a
// row, or PBS says that it knows none: a job of which it says nothing is not
// absent, but the answer incomplete.
func (d Driver) parseNamed(out scheduler.Output, ask []string, refs []scheduler.Ref) ([]scheduler.Status, error) {
	if noHistory(out) {
		return nil, scheduler.ErrNoHistory
	}
	rows, err := table(out)
	if err != nil {
		return nil, err
	}
	told := map[string]bool{}
	for i := range rows {
		told[key(rows[i].id)] = true
	}
	absent := false
	for _, pattern := range []*regexp.Regexp{unknownJob, finishedJob} {
		for _, m := range pattern.FindAllSubmatch(out.Stderr, -1) {
			told[key(string(m[1]))] = true
			absent = true
		}
	}
	if out.Exit != 0 && !absent {
		return nil, product.Failed(out)
	}
	for _, id := range ask {
		if !told[key(id)] {
			return nil, product.Garbled("that says nothing of job "+id, append(bytes.Clone(out.Stderr), out.Stdout...))
		}
	}
	list, err := statuses(rows)
	if err != nil {
		return nil, err
	}
	return append(list, untold(list, rows, refs)...), nil
}

// untold returns the members that were asked for, and whose array is there, but
// of which nothing is said: they are not absent. With an array that has ended
// they have, nobody knows how.
func untold(list []scheduler.Status, rows []row, refs []scheduler.Ref) []scheduler.Status {
	told := map[string]bool{}
	for _, st := range list {
		told[key(st.ID)] = true
	}
	arrays := map[string]*row{}
	for i := range rows {
		if rows[i].array {
			arrays[key(rows[i].id)] = &rows[i]
		}
	}
	var more []scheduler.Status
	for _, ref := range refs {
		if array := arrays[key(parent(ref.ID))]; array != nil && !told[key(ref.ID)] {
			told[key(ref.ID)] = true
			more = append(more, meaning(&row{id: ref.ID}, array))
		}
	}
	return more
}

// table reads one row to a line, whole lines only. What precedes the first row
// is a site's wrapper's; nothing else may stand between them.
func table(out scheduler.Output) ([]row, error) {
	text := out.Stdout
	var rows []row
	seen := map[string]bool{}
	for line := range bytes.Lines(text) {
		rest, found := bytes.CutPrefix(line, rowStart)
		if !found {
			if len(rows) > 0 {
				return nil, product.Garbled("with a line that is no job", line)
			}
			continue
		}
		rest, whole := bytes.CutSuffix(rest, []byte("\n"))
		if !whole {
			return nil, product.Garbled("that breaks off", line)
		}
		r, ok := parseRow(string(rest))
		if !ok || seen[r.id] {
			return nil, product.Garbled("with a line that is no job", line)
		}
		seen[r.id] = true
		rows = append(rows, r)
	}
	return rows, nil
}

func parseRow(text string) (row, bool) {
	fields := strings.Split(strings.ToValidUTF8(text, "?"), separator)
	r := row{id: fields[0]}
	if !jobID.MatchString(r.id) {
		return r, false
	}
	for _, f := range fields[1:] {
		if name, value, ok := strings.Cut(f, "="); ok {
			r.set(name, value)
		}
	}
	return r, r.complete()
}
