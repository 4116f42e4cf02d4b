package oar

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Conditions on OAR's table of jobs, for its --sql options: the part after
// WHERE, for PostgreSQL and MySQL alike. OAR evaluates them as a database user
// that can only read.
const (
	// live is written as ranges, which the index on state serves: the table holds
	// all jobs that ever were. A state that is not known here counts as alive.
	live = "(state < 'Error' OR state > 'Error' AND state < 'Terminated' OR state > 'Terminated')"
	// newest is true for one job as soon as there ever was one.
	newest = "job_id = (SELECT MAX(job_id) FROM jobs)"
	none   = "(job_id < 0)"
)

var (
	jobID    = regexp.MustCompile(`^([1-9]\d{0,17})(?:_([1-9]\d{0,8}))?$`)
	plainTag = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)
	login    = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]*$`)
)

// ours narrows a listing to jobs that can be HPCSerA's.
func (d Driver) ours() string {
	where := "job_name LIKE 's_%'"
	if login.MatchString(d.User) {
		where = "job_user = '" + d.User + "' AND " + where
	}
	return where
}

// these selects the jobs of refs, all their runs. What cannot be one of our
// jobs selects nothing: only letters, digits, _ and - get into a condition.
// Of an array that oarsub did not complete, the first job has no array id yet.
func these(refs []scheduler.Ref) string {
	var tags, arrays, members []string
	seen := map[string]bool{}
	add := func(list *[]string, item string) {
		if !seen[item] {
			seen[item] = true
			*list = append(*list, item)
		}
	}
	tagOnly := len(refs) > 0 && refs[0].ID == ""
	for _, ref := range refs {
		array, index, ok := split(ref.ID)
		if !plainTag.MatchString(ref.Tag) || !tagOnly && !ok {
			continue
		}
		add(&tags, "'"+ref.Tag+"'")
		if !tagOnly {
			add(&arrays, array)
			add(&members, "("+array+","+index+")")
		}
	}
	switch {
	case len(tags) == 0:
		return none
	case tagOnly:
		return "job_name IN (" + strings.Join(tags, ",") + ")"
	}
	ids := strings.Join(arrays, ",")
	return fmt.Sprintf("(array_id IN (%s) AND (array_id,array_index) IN (%s) OR array_id = 0 AND job_id IN (%s)) AND job_name IN (%s)",
		ids, strings.Join(members, ","), ids, strings.Join(tags, ","))
}

// split takes an ID apart into array and index.
func split(id string) (array, index string, ok bool) {
	m := jobID.FindStringSubmatch(id)
	if m == nil {
		return "", "", false
	}
	if m[2] == "" {
		m[2] = "1"
	}
	return m[1], m[2], true
}

// memberID is the ID of a member of an array, the first of which has index 1; a
// single job has the array's id alone.
func memberID(array, index int64, single bool) string {
	if single {
		return strconv.FormatInt(array, 10)
	}
	return fmt.Sprintf("%d_%d", array, index)
}
