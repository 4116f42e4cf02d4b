// Package slurm drives Slurm 22.05 and newer by its command line: sbatch,
// squeue, sacct, scancel and scontrol. The agent's scheduler.Scheduler is its
// only caller.
//
// What shaped it, each seen on a real system:
//   - the text listings are used, not --json: squeue's ignores its filters and
//     is ten times as slow, and sacct's of 22.05 calls failed jobs successful;
//   - names are printed raw, with newlines and anything else, so the name is
//     the last field of a row and the row ends in a mark of its own;
//   - listings are asked for with their header: a command that prints nothing,
//     and a command that found no job, are different answers;
//   - SLURM_TIME_FORMAT=%s gives times since the epoch; the default is local
//     time without its zone;
//   - with --clusters listings have a line of their own before the header, and
//     every command asks the accounting database where that cluster is;
//   - squeue -t all shows ended jobs for the site's MinJobAge with their exit,
//     so a site without accounting database can be used too.
package slurm

import (
	"regexp"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Driver is the Slurm driver. The zero value works.
type Driver struct {
	// Cluster is the one cluster, by its name in the accounting database, that
	// all commands mean; empty is the one that the host belongs to.
	Cluster string
}

// command is an argument vector. scontrol wants the option before its verb.
func (d Driver) command(name string, args ...string) []string {
	if d.Cluster == "" {
		return append([]string{name}, args...)
	}
	return slices.Concat([]string{name, "--clusters=" + d.Cluster}, args)
}

// product is what users call it.
const product = scheduler.Product("Slurm")

// System returns "slurm".
func (Driver) System() string { return "slurm" }

var epochTimes = []string{"SLURM_TIME_FORMAT=%s"}

// queueFields are what squeue is asked for. parseQueue knows their order.
var queueFields = []string{"JobArrayID", "Cluster", "State", "Reason", "RestartCnt", "exit_code", "SubmitTime", "StartTime", "NodeList", "Name"}

// Queue lists the user's own jobs in all states: one call that asks the
// controller for this user's jobs only.
func (d Driver) Queue() scheduler.Call[[]scheduler.Status] {
	format := strings.Join(queueFields, ":"+separator+",") + ":" + separator
	return scheduler.Call[[]scheduler.Status]{
		Argv:  d.command("squeue", "--me", "--array", "--states=all", "--Format="+format),
		Env:   epochTimes,
		Parse: parseQueue,
	}
}

// historyFields are what sacct is asked for. parseHistory knows their order.
var historyFields = []string{"JobID", "Cluster", "State", "ExitCode", "Submit", "UID", "NodeList", "JobName"}

// searchWindow is how far back a job is looked for by its name alone. Without
// a start sacct knows only today.
const searchWindow = "now-30days"

// History asks the accounting database. It asks for duplicates, or else a job
// whose id was reused would be hidden behind the later one.
func (d Driver) History(refs []scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	argv := d.command("sacct", "--allocations", "--duplicates", "--parsable", "--delimiter="+separator, "--format="+strings.Join(historyFields, ","))
	if len(refs) > 0 && refs[0].ID != "" {
		argv = append(argv, "--jobs="+strings.Join(ids(refs), ","))
	} else {
		argv = append(argv, "--starttime="+searchWindow, "--name="+strings.Join(tags(refs), ","))
	}
	return scheduler.Call[[]scheduler.Status]{Argv: argv, Env: epochTimes, Parse: parseHistory}, true
}

// Act cancels, holds or releases. uhold is the hold that the job's owner can
// end, whoever set it.
func (d Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	var argv []string
	switch action {
	case scheduler.Cancel:
		argv = d.command("scancel")
		// The filter takes one name only, and with it scancel takes a waiting array
		// for one job: it would cancel all members.
		if len(refs) == 1 && !strings.Contains(refs[0].ID, "_") {
			argv = append(argv, "--name="+refs[0].Tag)
		}
		argv = append(argv, ids(refs)...)
	case scheduler.Hold:
		argv = d.command("scontrol", "uhold", strings.Join(ids(refs), ","))
	case scheduler.Release:
		argv = d.command("scontrol", "release", strings.Join(ids(refs), ","))
	}
	return scheduler.Call[struct{}]{Argv: argv, Parse: parseAct}
}

// gone matches what Slurm says of a job on which nothing can be done any more,
// or not yet again.
var gone = regexp.MustCompile(`(?i)invalid job id|already (finished|completing)|no longer pending|not pending nor running`)

func parseAct(out scheduler.Output) (struct{}, error) {
	return struct{}{}, product.Acted(out, gone)
}

// Probe asks for the configuration, the nodes, the partitions and the load.
// Hidden partitions are among them: a job may name one.
func (d Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	p := &probe{}
	return []scheduler.Call[hpcsera.Facts]{
		{Argv: d.command("scontrol", "show", "config"), Parse: parseConfig},
		{Argv: d.command("sinfo", "--all", "--noheader", "--Node", "--format="+nodeFormat), Parse: p.nodes},
		{Argv: d.command("scontrol", "--all", "--oneliner", "show", "partition"), Parse: p.partitions},
		{Argv: d.command("sdiag"), Parse: parseLoad},
	}
}

func ids(refs []scheduler.Ref) []string {
	var list []string
	for _, r := range refs {
		list = append(list, r.ID)
	}
	return list
}

func tags(refs []scheduler.Ref) []string {
	var list []string
	for _, r := range refs {
		list = append(list, r.Tag)
	}
	return list
}
