// Package sge drives Grid Engine 8.1 (Son of Grid Engine) and its relatives by
// their command line: qsub, qstat, qacct, qdel, qhold and qrls. The agent's
// scheduler.Scheduler is its only caller.
//
// What shaped it, each seen on a real system:
//   - a job's end is in the accounting file only, which qacct reads from its
//     beginning to its end (120 MB in 0.2 s) for one name or one pattern of
//     names; its window of days goes by the start of jobs, so it would hide
//     those that ran for long or never started;
//   - a job deleted before it ran leaves no trace at all: it is absent. A
//     running job that was deleted looks like one that was killed;
//   - exit status 99 is an order to run the job again, whatever -r says, and 100
//     one to keep it in the queue for ever; so no job's own status is passed on
//     when it is one of these, see launch;
//   - the listing tells neither whose hold holds a job nor why it waits; what
//     does (qstat -j) tells nothing of holds, and is ten times as large;
//   - the listing has an array's waiting members in one row;
//   - times have no zone, but are those of TZ.
package sge

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Driver is the Grid Engine driver. The zero value works.
type Driver struct {
	// User is the login name of whoever runs the agent. It narrows the history,
	// and the queue's listing where the site shows everybody's jobs to all.
	User string
	// PE is the site's parallel environment that keeps a job's slots on one node:
	// "smp" when empty.
	PE string
	// Memory is the resource that memory is asked for with, per slot: "h_vmem"
	// when empty.
	Memory string
}

// product is what users call it.
const product = scheduler.Product("Grid Engine")

// System returns "sge".
func (Driver) System() string { return "sge" }

// utc makes the commands print times that can be read: they name no zone.
var utc = []string{"TZ=UTC"}

// Queue lists the user's own jobs that have not ended.
func (d Driver) Queue() scheduler.Call[[]scheduler.Status] {
	argv := []string{"qstat", "-xml"}
	if d.User != "" {
		argv = append(argv, "-u", d.User)
	}
	return scheduler.Call[[]scheduler.Status]{Argv: argv, Env: utc, Parse: parseQueue}
}

// anyTag matches the tags of all submissions: qacct has ? and *, and no lists.
var anyTag = "s_" + strings.Repeat("?", 20)

// History asks the accounting file, by name: its rows have ids and names both.
// For several names it must be asked for all that the user ever had, about
// 1.3 kB each.
func (d Driver) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	tag := refs[0].Tag
	if !hpcsera.ValidID("s", tag) || slices.ContainsFunc(refs, func(r scheduler.Ref) bool { return r.Tag != tag }) {
		tag = anyTag
	}
	argv := []string{"qacct"}
	if d.User != "" {
		argv = append(argv, "-o", d.User)
	}
	return scheduler.Call[[]scheduler.Status]{Argv: append(argv, "-j", tag), Env: utc, Parse: parseHistory}, true
}

// Act cancels, holds or releases. The hold is the user's: it is the one that
// the job's owner can end.
func (Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	var argv []string
	switch action {
	case scheduler.Cancel:
		argv = []string{"qdel"}
	case scheduler.Hold:
		argv = []string{"qhold", "-h", "u"}
	case scheduler.Release:
		argv = []string{"qrls", "-h", "u"}
	}
	return scheduler.Call[struct{}]{Argv: append(argv, ranges(refs)...), Parse: parseAct}
}

// ranges writes ids, of which those of an array's neighbours become one:
// 9.1 9.2 9.3 is 9.1-3.
func ranges(refs []scheduler.Ref) []string {
	var list []string
	var job string
	var first, last int
	flush := func() {
		switch {
		case job == "":
		case first == last:
			list = append(list, fmt.Sprintf("%s.%d", job, first))
		default:
			list = append(list, fmt.Sprintf("%s.%d-%d", job, first, last))
		}
		job = ""
	}
	for _, r := range refs {
		id, task, member := strings.Cut(r.ID, ".")
		n, err := strconv.Atoi(task)
		if member && err == nil && id == job && n == last+1 {
			last = n
			continue
		}
		flush()
		if member && err == nil {
			job, first, last = id, n, n
		} else {
			list = append(list, r.ID)
		}
	}
	flush()
	return list
}

var (
	acted = regexp.MustCompile(`^(\S+ has (registered the|deleted) job|modified hold of job)`)
	// gone matches what is said of a job on which nothing can be done any more.
	gone = regexp.MustCompile(`^(denied: )?job(-array task)? "?[0-9.:-]+"? (does not exist|is already in deletion)`)
)

// parseAct reads a line for each job, on standard output.
func parseAct(out scheduler.Output) (struct{}, error) {
	if out.Exit == 0 {
		return struct{}{}, nil
	}
	said := false
	for line := range bytes.Lines(append(append(bytes.Clone(out.Stdout), '\n'), out.Stderr...)) {
		switch line = bytes.TrimSpace(line); {
		case len(line) == 0:
		case acted.Match(line), gone.Match(line):
			said = true
		default:
			return struct{}{}, product.Failed(scheduler.Output{Stderr: line, Exit: out.Exit})
		}
	}
	if !said {
		return struct{}{}, product.Failed(out)
	}
	return struct{}{}, nil
}

// Probe asks for the version, the queues and the configuration. The second
// command is the one that the controller must answer.
func (d Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	list := []string{"qstat", "-f", "-xml", "-F", "h_rt"}
	if d.User != "" {
		list = append(list, "-u", d.User)
	}
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: []string{"qstat", "-help"}, Parse: parseVersion},
		{Argv: list, Parse: parseQueues},
		{Argv: []string{"qconf", "-sconf"}, Parse: parseConfig},
	}
}
