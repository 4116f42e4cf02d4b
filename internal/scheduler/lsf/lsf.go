// Package lsf drives IBM Spectrum LSF 10.1 (Fix Pack 2 and newer) by its
// command line: bsub, bjobs, bhist, bkill, bstop, bresume, lsid, bhosts and
// bqueues. The agent's scheduler.Scheduler is its only caller.
//
// What shaped it, by IBM's documentation and by what was seen:
//   - bjobs -o … -json is asked for, since names hold anything; it counts its
//     records, so a listing that lost some is told from a whole one;
//   - times have no zone, and no year unless LSB_DISPLAY_YEAR asks for it; TZ
//     makes them UTC;
//   - the members of an array have the array's id and a name with their index,
//     s_…[3], and are addressed as 6[3];
//   - a job that ended leaves bjobs -a after the site's CLEAN_PERIOD; bhist
//     reads the event logs, for people: lines are broken at 80 columns;
//   - commands retry without end while the controller is away, and bsub while
//     there are too many pending jobs, unless LSB_NTRIES says how often;
//   - what bsub is given as command passes a shell;
//   - a signal is told as exit status 128 + signal, which a program can return
//     as well.
package lsf

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Driver is the LSF driver. The zero value works.
type Driver struct{}

// product is what users call it.
const product = scheduler.Product("LSF")

// System returns "lsf".
func (Driver) System() string { return "lsf" }

// once makes commands give up when they do not reach the controller.
const once = "LSB_NTRIES=1"

// asked are the variables of every query.
var asked = []string{once, "LSB_DISPLAY_YEAR=Y", "TZ=UTC0"}

// fields are what bjobs is asked for, each in full width.
const fields = "jobid jobindex stat job_name exec_host submit_time estimated_start_time exit_code exit_reason pend_reason"

// Queue lists the user's own jobs, which is bjobs' default, those that ended
// lately among them. A filter by name would be cheaper for users with many
// other jobs, but a filter that finds nothing is no answer to rely on.
func (Driver) Queue() scheduler.Call[[]scheduler.Status] {
	return scheduler.Call[[]scheduler.Status]{
		Argv: []string{"bjobs", "-a", "-o", fields, "-json"}, Env: asked, Parse: parseQueue,
	}
}

// address matches 6 and 6[3].
var address = regexp.MustCompile(`^[1-9]\d{0,17}(?:\[[1-9]\d{0,9}\])?$`)

// History asks for the events of jobs in all log files. With ids, bhist takes
// no other selection. An id that is none of LSF's has no history.
func (Driver) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	argv := []string{"bhist", "-l", "-n", "0"}
	var ids []string
	for _, r := range refs {
		if address.MatchString(r.ID) {
			ids = append(ids, r.ID)
		}
	}
	switch {
	case len(ids) > 0:
		argv = append(argv, ids...)
	case len(refs) == 1 && hpcsera.ValidID("s", refs[0].Tag):
		argv = append(argv, "-a", "-J", refs[0].Tag+"*") // the array's members as well
	default: // it takes one name only
		argv = append(argv, "-a", "-J", "s_*")
	}
	return scheduler.Call[[]scheduler.Status]{Argv: argv, Env: asked, Parse: parseHistory}, true
}

// Act cancels, holds or releases. A job that starts between the listing and
// bstop is stopped while it runs, for bstop takes no state to act in.
func (Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	command := map[scheduler.Action]string{scheduler.Cancel: "bkill", scheduler.Hold: "bstop", scheduler.Release: "bresume"}[action]
	argv := []string{command}
	for _, r := range refs {
		if !address.MatchString(r.ID) { // 0 would be all jobs of the user
			return scheduler.Call[struct{}]{Refusal: &scheduler.Refused{Message: fmt.Sprintf("%q is no job id of LSF", r.ID)}}
		}
		argv = append(argv, r.ID)
	}
	return scheduler.Call[struct{}]{Argv: argv, Env: []string{once}, Parse: parseAct}
}

var (
	// done is what LSF says of a job that it acts on.
	done = regexp.MustCompile(`^Job <[^>]+> is being (terminated|stopped|resumed|signaled)\.?$`)
	// gone is what it says of a job on which nothing can be done any more, or
	// not yet again.
	gone = regexp.MustCompile(`^Job <[^>]+>: (No matching job found|Job has already finished|Job has already started|` +
		`Job has already been (suspended|requeued)|Operation is in progress|Operation not supported for a suspended job)\.?$|` +
		`^Job <[^>]+> (is not found|has already finished|has already been suspended)\.?$`)
)

// parseAct reads a line for each job; they go on after one that failed.
func parseAct(out scheduler.Output) (struct{}, error) {
	said := false
	for _, text := range [][]byte{out.Stderr, out.Stdout} {
		for line := range bytes.Lines(text) {
			switch line = bytes.TrimSpace(line); {
			case len(line) == 0 || done.Match(line):
			case gone.Match(line):
				said = true
			case out.Exit != 0:
				return struct{}{}, product.Failed(scheduler.Output{Stderr: line, Exit: out.Exit})
			}
		}
	}
	if out.Exit != 0 && !said {
		return struct{}{}, product.Failed(out)
	}
	return struct{}{}, nil
}

// only reports whether a command said this and nothing else. LSF's commands do
// not agree on the stream.
func only(out scheduler.Output, what *regexp.Regexp) bool {
	return what.MatchString(strings.TrimSpace(string(out.Stdout) + "\n" + string(out.Stderr)))
}
