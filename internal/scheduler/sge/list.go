package sge

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// The most members that one row may stand for. Sites allow 75 000 in an array
// as a rule.
const maxMembers = 10_000_000

var jobID = regexp.MustCompile(`^\d{1,18}$`)

// parseQueue reads qstat -xml: a <job_info> with the running jobs in its
// <queue_info>, and the waiting ones in a <job_info> of its own. A listing that
// is not whole is an error: to skip a row would make its job vanish.
func parseQueue(out scheduler.Output) ([]scheduler.Status, error) {
	if out.Exit != 0 {
		return nil, product.Failed(out)
	}
	var list []scheduler.Status
	err := eachRow(out.Stdout, nil, func(row map[string]string) error {
		more, err := statuses(row)
		list = append(list, more...)
		return err
	})
	if err != nil {
		return nil, product.Garbled("that cannot be read", out.Stdout)
	}
	return list, nil
}

// eachRow calls queue for each <Queue-List>, where it is not nil, and job for
// each <job_list> of a whole listing, with the elements directly below it. The
// map is used again.
func eachRow(text []byte, queue func(*scanner) error, job func(map[string]string) error) error {
	s, ok := document(text)
	if !ok {
		return errXML
	}
	if _, root, err := s.next(); err != nil || root.end || root.empty || root.name != "job_info" {
		return errXML
	}
	for _, part := range []string{"queue_info", "job_info"} {
		if _, t, err := s.next(); err != nil || t.end || t.name != part {
			return errXML
		} else if !t.empty {
			if err := s.rows(part, queue, job); err != nil {
				return err
			}
		}
	}
	if _, t, err := s.next(); err != nil || !t.end || t.name != "job_info" || strings.TrimSpace(string(s.rest)) != "" {
		return errXML
	}
	return nil
}

// rows reads to the end of the element part.
func (s *scanner) rows(part string, queue func(*scanner) error, job func(map[string]string) error) error {
	row := map[string]string{}
	for {
		text, t, err := s.next()
		switch {
		case err != nil:
			return err
		case strings.TrimSpace(string(text)) != "":
			return errXML // a message among the rows
		case t.end && t.name == part:
			return nil
		case t.name == "job_list" && !t.end && !t.empty:
			clear(row)
			if err := s.fields(t.name, row); err != nil {
				return err
			}
			if err := job(row); err != nil {
				return err
			}
		case t.name == "Queue-List" && !t.end && !t.empty && queue != nil:
			if err := queue(s); err != nil {
				return err
			}
		default:
			return errXML
		}
	}
}

// fields reads the leaves of a row into fields.
func (s *scanner) fields(row string, fields map[string]string) error {
	for {
		_, t, err := s.next()
		if err != nil {
			return err
		}
		if t.end {
			if t.name != row {
				return errXML
			}
			return nil
		}
		text, ok, err := s.leaf(t)
		if err != nil {
			return err
		}
		if ok {
			fields[t.name] = text
		}
	}
}

// statuses are the jobs of a row: one, or members of an array.
func statuses(row map[string]string) ([]scheduler.Status, error) {
	id, state := row["JB_job_number"], row["state"]
	if !jobID.MatchString(id) || state == "" || row["JB_name"] == "" {
		return nil, errXML
	}
	st := scheduler.Status{Ref: scheduler.Ref{ID: id, Tag: row["JB_name"]}, Native: state, Submitted: moment("2006-01-02T15:04:05", row["JB_submission_time"])}
	if _, host, ok := strings.Cut(row["queue_name"], "@"); ok {
		st.Nodes = host
	}
	queueMeaning(&st, row["JAT_prio"])
	tasks, array := row["tasks"]
	if !array {
		return []scheduler.Status{st}, nil
	}
	members, ok := scheduler.Indices(tasks, maxMembers)
	if !ok || members[0] < 1 {
		return nil, fmt.Errorf("the members %q of an array: %w", tasks, errXML)
	}
	list := make([]scheduler.Status, len(members))
	for i, n := range members {
		list[i] = st
		list[i].ID, list[i].Member = id+"."+strconv.Itoa(n), n-1
	}
	return list, nil
}

// moment reads a time, which the commands were told to print in UTC.
func moment(layout, text string) time.Time {
	t, err := time.Parse(layout, text)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}
