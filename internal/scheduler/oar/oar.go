// Package oar drives OAR 2.5 by its command line: oarsub, oarstat, oardel,
// oarhold, oarresume and oarnodes. The agent's scheduler.Scheduler is its only
// caller.
//
// What shaped it, each seen on a real system or in OAR's own source:
//   - "no jobs" and "the database did not answer" look the same: nothing is
//     printed, with status 0. So every listing asks for the newest job of all
//     as well, whoever owns it, and a listing without any job is an error;
//   - a job whose nodes fail before it runs is submitted again under another
//     job id. What stays is the array's id (a single job is an array of one)
//     and the index in it, so these make the ID here: 11 is a single job, 11_2
//     the second member of array 11. OAR_ARRAY_ID and OAR_ARRAY_INDEX tell the
//     same inside the job. The listing's rows of one ID are runs of one job,
//     and the newest counts;
//   - for the same reason actions select by --sql, with tag, array and index:
//     it reaches the run that lives, and no other job that got its id;
//   - how a job ended is told only by its events, which only the full view has;
//     it costs a third more than the short one, and tells the estimated start;
//   - the commands change to the user oar, so the agent cannot kill one that
//     hangs. An oarsub that lost its reader deletes what it has submitted.
//
// The name takes a tag as it is (100 bytes). There is no place for a comment.
package oar

import (
	"regexp"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Driver is the OAR driver. The zero value works.
type Driver struct {
	User string // login name of whoever runs the agent; "" lists all users' jobs that can be HPCSerA's
}

// product is what users call it.
const product = scheduler.Product("OAR")

// System returns "oar".
func (Driver) System() string { return "oar" }

// Queue lists the live jobs with HPCSerA's names, and the newest job of all.
func (d Driver) Queue() scheduler.Call[[]scheduler.Status] {
	return listing(live+" AND "+d.ours(), parseQueue)
}

// History asks the same table, which keeps every job for ever.
func (d Driver) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	return listing(these(refs), parseListing), true
}

func listing(where string, parse func(scheduler.Output) ([]scheduler.Status, error)) scheduler.Call[[]scheduler.Status] {
	return scheduler.Call[[]scheduler.Status]{
		Argv:  []string{"oarstat", "--json", "--full", "--sql=" + where + " OR " + newest},
		Parse: parse,
	}
}

// Act cancels, holds or releases the runs that live. Hold and release mean
// nothing for other states than these, and OAR would call them errors.
func (d Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	command, state := "oardel", live
	switch action {
	case scheduler.Cancel:
	case scheduler.Hold:
		command, state = "oarhold", "state = 'Waiting'"
	case scheduler.Release:
		command, state = "oarresume", "state = 'Hold'"
	}
	return scheduler.Call[struct{}]{Argv: []string{command, "--sql=" + these(refs) + " AND " + state}, Parse: parseAct}
}

// gone matches what OAR says of a job on which nothing can be done any more, or
// to which it is being done already.
var gone = regexp.MustCompile(`: the job is not in the (right state|Hold or Suspended state)|; This job was already killed\.$`)

func parseAct(out scheduler.Output) (struct{}, error) {
	return struct{}{}, product.Acted(out, gone)
}
