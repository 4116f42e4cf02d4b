package oar

import (
	"bytes"
	"cmp"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// job is a row of OAR's table, as far as it is wanted.
type job struct {
	id, array, index int64
	resubmits        int64 // the job id of the run before this one
	name, owner      string
	request          string // what oarsub was called with, if the job is ours
	state, message   string
	nodes            []string
	submitted, start int64
	exit             int64 // raw wait status
	exited           bool
	events           []event // in the order in which they happened
}

type event struct {
	id                  int64
	kind, text, toCheck string
}

// parseListing reads the JSON of oarstat, whatever a site's wrapper printed
// before it: one object with a member for each job. There is always a job, see
// newest. An answer that breaks off, or with a row that is none, is an error:
// to skip a row would make its job vanish.
func parseListing(out scheduler.Output) ([]scheduler.Status, error) {
	if out.Exit != 0 {
		return nil, product.Failed(out)
	}
	jobs, err := parseJobs(out.Stdout)
	if err != nil {
		return nil, err
	}
	return runs(jobs), nil
}

// parseQueue drops the newest job of all where it has ended: it is there only
// so that something is. The history tells ends.
func parseQueue(out scheduler.Output) ([]scheduler.Status, error) {
	list, err := parseListing(out)
	return slices.DeleteFunc(list, func(st scheduler.Status) bool { return st.Phase == scheduler.PhaseEnded }), err
}

func parseJobs(text []byte) ([]job, error) {
	c, ok := payload(text)
	if !ok {
		return nil, product.Garbled("without a job", text)
	}
	var jobs []job
	err := c.object(func(key []byte) error {
		j, err := c.job()
		if err == nil && (j.id <= 0 || string(key) != strconv.FormatInt(j.id, 10)) {
			err = errors.New("a row is not of the job it stands for")
		}
		if err == nil && (j.state == "" || j.array < 0 || j.index <= 0 || j.index > 1<<30) {
			err = errors.New("a row without state or array")
		}
		jobs = append(jobs, j)
		return err
	})
	switch {
	case err != nil:
		return nil, product.Garbled("that cannot be read: "+err.Error(), c.text[min(c.at, len(c.text)):])
	case c.next() != 0 || c.at < len(c.text):
		return nil, product.Garbled("with more behind it", c.text[c.at:])
	case len(jobs) == 0:
		return nil, product.Garbled("without a job", text)
	}
	return jobs, nil
}

// payload finds the line that is a lone brace, with which JSON begins. Perl's
// own empty object is no listing of ours either.
func payload(text []byte) (*cursor, bool) {
	at := 0
	for line := range bytes.Lines(text) {
		if string(bytes.TrimSpace(line)) == "{" {
			return &cursor{text: text[at:]}, true
		}
		at += len(line)
	}
	return nil, false
}

func (c *cursor) job() (j job, err error) {
	err = c.object(func(name []byte) (err error) {
		switch string(name) {
		case "Job_Id":
			j.id, _, err = c.number()
		case "array_id":
			j.array, _, err = c.number()
		case "array_index":
			j.index, _, err = c.number()
		case "resubmit_job_id":
			j.resubmits, _, err = c.number()
		case "name":
			j.name, _, err = c.value()
		case "owner":
			j.owner, _, err = c.value()
		case "initial_request":
			j.request, _, err = c.value()
		case "state":
			j.state, _, err = c.value()
		case "message":
			j.message, _, err = c.value()
		case "assigned_network_address":
			err = c.array(func() error {
				node, _, err := c.value()
				j.nodes = append(j.nodes, node)
				return err
			})
		case "submissionTime":
			j.submitted, _, err = c.number()
		case "scheduledStart":
			j.start, _, err = c.number()
		case "exit_code":
			j.exit, j.exited, err = c.number()
		case "events":
			err = c.array(func() error {
				e, err := c.event()
				j.events = append(j.events, e)
				return err
			})
		default:
			err = c.skip(0)
		}
		return err
	})
	slices.SortStableFunc(j.events, func(a, b event) int { return cmp.Compare(a.id, b.id) })
	return j, err
}

func (c *cursor) event() (e event, err error) {
	err = c.object(func(name []byte) (err error) {
		switch string(name) {
		case "event_id":
			e.id, _, err = c.number()
		case "type":
			e.kind, _, err = c.value()
		case "description":
			e.text, _, err = c.value()
		case "to_check":
			e.toCheck, _, err = c.value()
		default:
			err = c.skip(0)
		}
		return err
	})
	return e, err
}

// arrayRequest matches the end of what Submit calls for an array. Nothing else
// tells the first member of an array from a single job.
var arrayRequest = regexp.MustCompile(` --array=\d+ -- \S+$`)

// runs makes one status of all runs of a job. A listing of live jobs has only
// the last run, which says that there was one before.
func runs(jobs []job) []scheduler.Status {
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Compare(a.id, b.id) })
	var list []scheduler.Status
	at := make(map[scheduler.Ref]int, len(jobs))
	for i := range jobs {
		j := &jobs[i]
		if j.array == 0 {
			j.array = j.id // oarsub has not completed it yet
		}
		single := j.index == 1 && !arrayRequest.MatchString(j.request)
		ref := scheduler.Ref{ID: memberID(j.array, j.index, single), Tag: j.name, Member: int(j.index) - 1}
		st := scheduler.Status{Ref: ref, Native: j.state, Nodes: strings.Join(j.nodes, ","), Submitted: moment(j.submitted)}
		if j.resubmits != 0 {
			st.Restarts = 1
		}
		meaning(&st, j)
		if n, again := at[ref]; again {
			st.Restarts = list[n].Restarts + 1
			list[n] = st
			continue
		}
		at[ref] = len(list)
		list = append(list, st)
	}
	return list
}

// moment reads a time since the epoch; 0 is no time.
func moment(n int64) time.Time {
	if n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(n, 0).UTC()
}
