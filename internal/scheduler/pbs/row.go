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
func statuses(rows []row) ([]scheduler.Status, error) {
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
		waiting, ok := indices(r.remaining)
		if !ok {
			return nil, product.Garbled("with an array whose members cannot be told", []byte(r.id+": "+r.remaining))
		}
		for _, index := range waiting {
			if id := member(r.id, index); !told[id] {
				list = append(list, meaning(&row{id: id, state: "Q"}, r))
			}
		}
	}
	return list, nil
}

// memberOf reads the place in an array off an id such as 24[3].server.
func memberOf(id string) int {
	_, rest, _ := strings.Cut(id, "[")
	text, _, _ := strings.Cut(rest, "]")
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return n - firstIndex
}

func member(array string, index int) string {
	return strings.Replace(array, "[]", "["+strconv.Itoa(index)+"]", 1)
}

// maxMembers is more than any site allows: 10 000 are PBS's default.
const maxMembers = 200_000

// indices reads 1-3,7,10-20:2; "-" is none. ok is false for what it cannot read:
// to skip it would make a member vanish.
func indices(text string) (list []int, ok bool) {
	if text == "" || text == "-" {
		return nil, true
	}
	return scheduler.Indices(text, maxMembers)
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
