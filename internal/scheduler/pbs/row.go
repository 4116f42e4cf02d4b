package pbs

import (
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// row is what is read of one job, whichever format it was printed in. An
// attribute that is printed twice counts as it stood first.
type row struct {
	id, name, owner, state, holds, comment, nodes, depend string
	substate, runs                                        string
	exit                                                  string // "" while the job has not ended, or has ended without having run
	queued, begin, estimated                              string
	remaining                                             string // of an array: the indices of the members that wait
	array                                                 bool
}

// field returns where the value of an attribute goes, nil if nobody reads it.
func (r *row) field(name string) *string {
	switch name {
	case "Job_Name":
		return &r.name
	case "Job_Owner":
		return &r.owner
	case "job_state":
		return &r.state
	case "Hold_Types":
		return &r.holds
	case "comment":
		return &r.comment
	case "exec_host":
		return &r.nodes
	case "depend":
		return &r.depend
	case "substate":
		return &r.substate
	case "run_count":
		return &r.runs
	case "Exit_status":
		return &r.exit
	case "ctime":
		return &r.queued
	case "Execution_Time":
		return &r.begin
	case "estimated.start_time":
		return &r.estimated
	case "array_indices_remaining":
		return &r.remaining
	}
	return nil
}

func (r *row) set(name, value string) {
	if name == "array" {
		r.array = value == "True"
	} else if f := r.field(name); f != nil && *f == "" {
		*f = value
	}
}

// user is the login name in alice@host.
func user(owner string) string {
	name, _, _ := strings.Cut(owner, "@")
	return name
}

// key is the number of a job with the index of a member: the server's name can
// be given in more than one way.
func key(id string) string {
	number, _, _ := strings.Cut(id, ".")
	return number
}

// parent returns the id of the array to which a member belongs, "" for others.
func parent(id string) string {
	m := jobID.FindStringSubmatch(id)
	if m == nil || len(m[2]) <= len("[]") {
		return ""
	}
	return m[1] + "[]" + m[3]
}

// statuses turns rows into jobs. An array's own row is none: it says which of
// its members still wait, and for what.
func statuses(rows []row) []scheduler.Status {
	arrays := map[string]*row{}
	told := map[string]bool{}
	for i := range rows {
		if rows[i].array {
			arrays[rows[i].id] = &rows[i]
		} else if strings.Contains(rows[i].id, "[") {
			told[rows[i].id] = true
		}
	}
	list := make([]scheduler.Status, 0, len(rows))
	for i := range rows {
		r := &rows[i]
		if !r.array {
			list = append(list, meaning(r, arrays[parent(r.id)]))
			continue
		}
		for _, index := range indices(r.remaining) {
			if id := member(r.id, index); !told[id] {
				list = append(list, meaning(&row{id: id, state: "Q"}, r))
			}
		}
	}
	return list
}

func member(array string, index int) string {
	return strings.Replace(array, "[]", "["+strconv.Itoa(index)+"]", 1)
}

// maxMembers is more than an array of PBS can have.
const maxMembers = 1_000_000

// indices reads 1-3,7,10-20:2. What it cannot read, and "-", is nothing.
func indices(text string) []int {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		span, stepText, hasStep := strings.Cut(part, ":")
		first, last, isSpan := strings.Cut(span, "-")
		from, err := strconv.Atoi(first)
		if err != nil || from < 0 {
			continue
		}
		to, step := from, 1
		if isSpan {
			if to, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		if hasStep {
			if step, err = strconv.Atoi(stepText); err != nil || step < 1 {
				continue
			}
		}
		for i := from; i <= to && len(list) < maxMembers; i += step {
			list = append(list, i)
		}
	}
	return list
}

// moment reads a time as PBS writes it, here in UTC, or seconds since the epoch.
// What it cannot read is no time.
func moment(text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	if t, err := time.Parse(time.ANSIC, text); err == nil {
		return t
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
