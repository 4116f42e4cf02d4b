// Package local runs batch jobs as processes of this host: for login steps,
// and for workstations without a batch system. It is a small batch system of
// its own, in two halves.
//
// [Driver] is a driver like any other: it builds argument vectors and parses
// output. The agent's scheduler.Scheduler is its only caller.
//
// [Main] is the commands, which the agent's program exposes as its "local"
// subcommand: submit, list, cancel, hold, release, and two that they start
// themselves. All state is in one folder; there is no daemon:
//
//	jobs/ID/job.json     what was submitted; complete before jobs/ID appears
//	jobs/ID/script       the script, as it was at that moment
//	jobs/ID/hold         while the user holds it
//	jobs/ID/claim.json   the supervisor's process, or that it never starts
//	jobs/ID/child.json   the script's process, written by itself before it starts
//	jobs/ID/cancel       once it is to be cancelled
//	jobs/ID/end.json     how it ended
//
// A job is started by whoever comes by: its submission, the end of another,
// each list. Claim, child and end are made by link(2), so each has one author
// however many try, and all are on disk before anything follows from them. A
// supervisor is a process in a session of its own that outlives the agent; it
// starts the script in a session as well, ends it at its time limit or when it
// is cancelled, and records the end.
//
// Processes are told apart by id, start time and boot, so a reused process id
// is never taken for a job. A job whose processes are gone without a record of
// their end is LOST: ended, nobody knows how. The state of a folder that
// several hosts share is right for each host's own jobs; those of another are
// ELSEWHERE, which is an unknown state.
//
// Memory is not limited here, and processes that begin a session of their own
// escape.
package local

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Command is the name of the program that has Main as its "local" subcommand.
// The Scheduler's configuration maps it to the running program's path.
const Command = "hpcsera-agent"

// JobVariable is the environment variable that tells a job its id.
const JobVariable = "HPCSERA_LOCAL_JOB_ID"

const queueName = "local"

// Driver is the local driver. Several with the same Dir must agree in Slots.
type Driver struct {
	Dir   string        // state of the jobs, absolute, the user's own
	Slots int           // cores that jobs may use at once; 0 is all this host has, below 0 no limit
	Grace time.Duration // between SIGTERM and SIGKILL; default 10 s
}

// System returns "local".
func (Driver) System() string { return "local" }

// Environment names the variable with the job's id.
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{ID: []string{JobVariable}}
}

func (d Driver) argv(verb string, more ...string) []string {
	return append([]string{Command, "local", verb, "--dir=" + d.Dir, "--slots=" + strconv.Itoa(d.Slots)}, more...)
}

// Submit refuses what processes on one host cannot have: more nodes, GPUs,
// queues, accounts, reservations.
func (d Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	if message := unsupported(s); message != "" {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: message}}
	}
	grace := d.Grace
	if grace == 0 {
		grace = 10 * time.Second
	}
	argv := d.argv("submit", "--tag="+s.Tag, "--chdir="+s.Directory, "--output="+s.Output, "--comment="+strings.ToValidUTF8(s.Comment, "?"),
		"--cores="+strconv.Itoa(cores(s.Resources)), "--time="+time.Duration(s.Attributes.Duration).String(), "--grace="+grace.String())
	if s.Held {
		argv = append(argv, "--hold")
	}
	return scheduler.Call[[]scheduler.Ref]{Argv: append(argv, s.Script), Parse: parseSubmit}
}

// wholeHost stands for more cores than any host has; a job that asks for more
// slots than there are gets all of them.
const wholeHost = 1 << 20

func cores(r hpcsera.Resources) int {
	if r.ExclusiveNodeUse {
		return wholeHost
	}
	return min(r.Processes()*max(r.CPUCoresPerProcess, 1), wholeHost)
}

func unsupported(s scheduler.Submission) string {
	r, a := s.Resources, s.Attributes
	switch {
	case r.Nodes() > 1:
		return fmt.Sprintf("resources.node_count: this site runs jobs on one host; %d nodes cannot be had", r.Nodes())
	case r.GPUCoresPerProcess > 0:
		return "resources.gpu_cores_per_process: this site's jobs cannot reserve GPUs"
	case a.QueueName != "" && a.QueueName != queueName:
		return fmt.Sprintf("attributes.queue_name: there is no queue %s; the only one is %s", a.QueueName, queueName)
	case a.Account != "":
		return "attributes.account: this site has no accounts"
	case a.ReservationID != "":
		return "attributes.reservation_id: this site has no reservations"
	}
	for name := range s.Custom {
		return fmt.Sprintf("custom_attributes local.%s: this site has no custom attributes", name)
	}
	return ""
}

// Queue lists all jobs, those of the last day that have ended among them. It
// starts what can start as well.
func (d Driver) Queue() scheduler.Call[[]scheduler.Status] {
	return scheduler.Call[[]scheduler.Status]{Argv: d.argv("list"), Parse: parseList}
}

// History is not kept beyond the listing.
func (Driver) History([]scheduler.Ref) (scheduler.Call[[]scheduler.Status], bool) {
	return scheduler.Call[[]scheduler.Status]{}, false
}

// Act names each job by id and tag, and the commands check both.
func (d Driver) Act(action scheduler.Action, refs []scheduler.Ref) scheduler.Call[struct{}] {
	argv := d.argv(string(action))
	for _, r := range refs {
		argv = append(argv, r.ID+"/"+r.Tag)
	}
	return scheduler.Call[struct{}]{Argv: argv, Parse: func(out scheduler.Output) (struct{}, error) {
		if out.Exit != 0 {
			return struct{}{}, failed(out)
		}
		return struct{}{}, nil
	}}
}

// Probe lists as well, for the folder must be usable.
func (d Driver) Probe() []scheduler.Call[hpcsera.Facts] {
	return []scheduler.Call[hpcsera.Facts]{{Argv: d.argv("list"), Parse: func(out scheduler.Output) (hpcsera.Facts, error) {
		list, err := parseList(out)
		if err != nil {
			return hpcsera.Facts{}, err
		}
		return factsOf(list), nil
	}}}
}

// factsOf are of this host. A job that asks for more cores than there are gets
// all of them, so their number is no limit.
func factsOf(list []scheduler.Status) hpcsera.Facts {
	f := hpcsera.Facts{Nodes: &hpcsera.Nodes{Total: 1, Up: 1}, Jobs: &hpcsera.Load{}}
	for _, st := range list {
		switch st.Phase {
		case scheduler.PhaseQueued, scheduler.PhaseHeld:
			f.Jobs.Queued++
		case scheduler.PhaseRunning:
			f.Jobs.Running++
		}
	}
	if f.Jobs.Running == 0 {
		f.Nodes.Idle = 1
	}
	f.Queues = []hpcsera.Queue{{Name: queueName, Default: true, State: "up", Nodes: 1, Idle: &f.Nodes.Idle}}
	return f
}

// refusedStatus is the exit status of a submit that refused; nothing was queued.
const refusedStatus = 3

// answer is what the commands print for programs.
type answer struct {
	ID   string  `json:"id,omitempty"`
	Jobs []entry `json:"jobs,omitempty"`
	Done bool    `json:"done"` // last, and always true: the answer is whole
}

// entry is one job of a listing.
type entry struct {
	ID        string        `json:"id"`
	Tag       string        `json:"tag"`
	State     string        `json:"state"`
	Message   string        `json:"message,omitempty"`
	Exit      *hpcsera.Exit `json:"exit,omitempty"`
	Restarted bool          `json:"restarted,omitempty"` // LOST because the host was restarted
	BySite    bool          `json:"by_site,omitempty"`   // CANCELLED, but not by the cancel command
	Submitted time.Time     `json:"submitted"`
}

func parseSubmit(out scheduler.Output) ([]scheduler.Ref, error) {
	if out.Exit == refusedStatus {
		return nil, &scheduler.Refused{Message: scheduler.FirstLine(out.Stderr)}
	}
	a, err := read(out)
	if err != nil {
		return nil, err
	}
	if !validID(a.ID) {
		return nil, hpcsera.Errorf(hpcsera.Unavailable, "the submit command printed no job id: %q", scheduler.FirstLine(out.Stdout))
	}
	return []scheduler.Ref{{ID: a.ID}}, nil
}

func read(out scheduler.Output) (answer, error) {
	var a answer
	if out.Exit != 0 {
		return a, failed(out)
	}
	text := out.Stdout
	if at := bytes.Index(text, []byte("\n{")); at >= 0 && text[0] != '{' { // a warning precedes it
		text = text[at:]
	}
	if err := json.Unmarshal(text, &a); err != nil || !a.Done {
		return a, hpcsera.Errorf(hpcsera.Unavailable, "the command printed something else than an answer: %q", scheduler.FirstLine(out.Stdout))
	}
	return a, nil
}

func failed(out scheduler.Output) error {
	return hpcsera.Errorf(hpcsera.Unavailable, "the command ended with status %d: %s", out.Exit, scheduler.FirstLine(out.Stderr))
}

// The native states.
const (
	queued    = "QUEUED"
	held      = "HELD"
	running   = "RUNNING"
	completed = "COMPLETED"
	failure   = "FAILED"
	timedOut  = "TIMEOUT"
	cancelled = "CANCELLED"
	lost      = "LOST"
	elsewhere = "ELSEWHERE"
)

var phases = map[string]scheduler.Phase{
	queued: scheduler.PhaseQueued, held: scheduler.PhaseHeld, running: scheduler.PhaseRunning, completed: scheduler.PhaseEnded,
	failure: scheduler.PhaseEnded, timedOut: scheduler.PhaseEnded, cancelled: scheduler.PhaseEnded, lost: scheduler.PhaseEnded,
}

func parseList(out scheduler.Output) ([]scheduler.Status, error) {
	a, err := read(out)
	if err != nil {
		return nil, err
	}
	var list []scheduler.Status
	for _, e := range a.Jobs {
		st := scheduler.Status{
			Ref: scheduler.Ref{ID: e.ID, Tag: e.Tag}, Phase: scheduler.PhaseUnknown,
			Native: e.State, Message: e.Message, Submitted: e.Submitted,
		}
		if phase, ok := phases[e.State]; ok {
			st.Phase = phase
		}
		if st.Phase == scheduler.PhaseEnded {
			st.Exit = e.Exit
		}
		switch {
		case e.State == queued:
			st.Reason = hpcsera.WaitingForResources
		case e.State == timedOut:
			st.Reason = hpcsera.Timeout
		case e.State == cancelled && e.BySite:
			st.Reason = hpcsera.CancelledBySite
		case e.State == cancelled:
			st.Reason = hpcsera.CancelledByUser
		case e.State == lost && e.Restarted:
			st.Reason = hpcsera.NodeFailure
		}
		list = append(list, st)
	}
	return list, nil
}

func validID(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && strconv.Itoa(n) == s
}
