// Package pbs drives OpenPBS 23 and PBS Professional by their command line:
// qsub, qstat, qdel, qhold, qrls and pbsnodes. The agent's scheduler.Scheduler
// is its only caller.
//
// What shaped it, seen on a real OpenPBS 23.06 or read in its source:
//   - qstat -u prints a table for people beside a JSON document without jobs,
//     so a listing is of everybody's jobs, or of those that are named;
//   - with -F json and several ids only the first one's job is printed, and
//     the others are missing without a word. Named jobs are therefore asked for
//     with -F dsv, and each has to be told, or to be called unknown or finished;
//   - the listing of everybody's jobs is JSON, which alone tells that it is
//     whole, and that there is no job. Other users' variables stand in it, which
//     older versions escape badly, so those are skipped and not read;
//   - an array's member is a row only once it has left the queue, with some
//     versions; the array's own row says which are left (array_indices_remaining),
//     and has what its members lack: hold, comment, owner's wishes;
//   - a script given to qsub starts in the home folder, run by a login shell. A
//     command after -- starts as it is, and PBS reads no directives in it;
//   - qdel -x deletes the history too, which is the only record of an end.
package pbs

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Driver is the PBS driver. The zero value works.
type Driver struct {
	// User is the login name whose jobs are taken from listings of all users'
	// jobs; empty takes all, of which the Scheduler finds its own by their tags.
	User string
}

// product is what users call it.
const product = scheduler.Product("PBS")

// System returns "pbs".
func (Driver) System() string { return "pbs" }

// utc makes qstat print times in a zone that is known: it writes local time
// and not which.
var utc = []string{"TZ=UTC0"}

// Queue lists the live jobs of all users. It costs the server 1.5 kB a job, and
// more for those with many variables.
func (d Driver) Queue() scheduler.Call[[]scheduler.Status] {
	return scheduler.Call[[]scheduler.Status]{Argv: []string{"qstat", "-t", "-f", "-F", "json"}, Env: utc, Parse: d.parseListing}
}

// maxOperands is how many jobs are asked for by name at most: qstat makes a
// connection of its own for each.
const maxOperands = 100

// separator stands between the fields of a row: PBS writes it into values as ^_.
const separator = "\x1f"

// QueueOf asks for some jobs by id. An array is one of them, whatever its size.
func (d Driver) QueueOf(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	ask := operands(refs)
	if len(ask) == 0 || len(ask) > maxOperands {
		return scheduler.Call[[]scheduler.Status]{}, false
	}
	return d.named(nil, ask, refs), true
}

// History asks for ended jobs by id. Where only the tag is known it has to ask
// for the history of all users.
func (d Driver) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	if ask := operands(refs); len(ask) > 0 {
		return d.named([]string{"-x"}, ask, refs), true
	}
	return scheduler.Call[[]scheduler.Status]{
		Argv: []string{"qstat", "-x", "-t", "-f", "-F", "json"}, Env: utc,
		Parse: func(out scheduler.Output) ([]scheduler.Status, error) {
			if noHistory(out) {
				return nil, scheduler.ErrNoHistory
			}
			return d.parseListing(out)
		},
	}, true
}

func (d Driver) named(more, ask []string, refs []scheduler.Ref) scheduler.Call[[]scheduler.Status] {
	argv := slices.Concat([]string{"qstat"}, more, []string{"-t", "-f", "-F", "dsv", "-D", separator}, ask)
	return scheduler.Call[[]scheduler.Status]{Argv: argv, Env: utc, Parse: func(out scheduler.Output) ([]scheduler.Status, error) {
		return d.parseNamed(out, ask, refs)
	}}
}

var jobID = regexp.MustCompile(`^(\d{1,18})(\[\d{0,9}\])?(\.[A-Za-z0-9][A-Za-z0-9_.-]*)?$`)

// operands returns what qstat is to be asked for: each job, and each array once.
// What is no id of PBS is no job of PBS.
func operands(refs []scheduler.Ref) []string {
	var list []string
	seen := map[string]bool{}
	for _, r := range refs {
		m := jobID.FindStringSubmatch(r.ID)
		if m == nil {
			continue
		}
		id := r.ID
		if m[2] != "" {
			id = m[1] + "[]" + m[3]
		}
		if !seen[id] {
			seen[id] = true
			list = append(list, id)
		}
	}
	return list
}

// Act cancels, holds or releases. PBS holds and releases whole arrays only.
// The user's own hold is the one that is set and taken away.
func (Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	argv := map[scheduler.Action][]string{
		scheduler.Cancel: {"qdel"}, scheduler.Hold: {"qhold", "-h", "u"}, scheduler.Release: {"qrls", "-h", "u"},
	}[action]
	for _, r := range refs {
		m := jobID.FindStringSubmatch(r.ID)
		switch {
		case m == nil:
			return scheduler.Call[struct{}]{Refusal: &scheduler.Refused{Message: fmt.Sprintf("%q is no job id of PBS", r.ID)}}
		case m[2] != "" && action != scheduler.Cancel:
			return scheduler.Call[struct{}]{Refusal: &scheduler.Refused{
				Message: fmt.Sprintf("PBS can %s only a whole array, not its member %s; submit the jobs that are to be held one by one", action, r.ID)}}
		}
		argv = append(argv, r.ID)
	}
	return scheduler.Call[struct{}]{Argv: argv, Parse: parseAct}
}

// gone matches what PBS says of a job on which nothing can be done any more.
var gone = regexp.MustCompile(`Unknown Job Id|Job has finished|Request invalid for (finished array subjob|state of job)|Delete already in progress`)

func parseAct(out scheduler.Output) (struct{}, error) {
	return struct{}{}, product.Acted(out, gone)
}

// noHistory matches the words of a site that keeps none. qstat says them with
// exit status 0.
func noHistory(out scheduler.Output) bool {
	return bytes.Contains(out.Stderr, []byte("not configured to maintain job history")) || bytes.Contains(out.Stderr, []byte("job_history_enable is set to false"))
}
