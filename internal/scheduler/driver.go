// Package scheduler drives batch systems. It has two halves: a [Driver] per
// system (subpackages slurm, local), which is pure: it builds argument vectors
// and parses output; and [Scheduler], which exists once, above the drivers:
// it runs the commands with deadlines and an allow-listed environment, asks
// for all jobs with one command, tells "absent" from "no answer", and counts
// what it costs the batch system. The agent is its only caller.
//
// The suite in schedulertest judges every driver against its real system.
// What it does not test is not promised.
//
// No answer, an empty answer where there must be one, or an unknown native
// state never means that a job ended.
package scheduler

import (
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Driver is one kind of batch system. A driver holds no state and does no I/O.
type Driver interface {
	// System returns the name of the batch system: slurm, local.
	System() string
	// Environment says what the batch system tells a job about itself.
	Environment() Environment
	// Submit hands a complete wrapper script to the batch system. The answer has
	// a reference for each member, in their order. Parse gets whole lines only
	// of a command that ended with 0.
	Submit(Submission) Call[[]Ref]
	// Queue lists all live jobs of the user that runs the agent, those whose
	// tag starts with hpcsera's prefix; finished ones may be among them.
	Queue() Call[[]Status]
	// History tells of jobs that have left the queue. Either all references
	// have an ID, or none has and they are looked up by tag. ok is false where
	// the batch system never keeps a history; where only this site keeps none,
	// Parse returns [ErrNoHistory].
	History([]Ref) (call Call[[]Status], ok bool)
	// Act cancels, holds or releases jobs that were in the queue's listing a
	// moment ago, with ID and tag. Acting on a job that is gone since is no
	// error.
	Act(Action, []Ref) Call[struct{}]
	// Probe asks for version, cluster and queues, and fails when the batch
	// system does not answer. Each command fills some of the facts.
	Probe() []Call[hpcsera.Facts]
}

// Narrower is a driver whose batch system lists everybody's jobs, or a few that
// are named: on a busy system the first costs as much as all its users' jobs.
type Narrower interface {
	Driver
	// QueueOf is Queue for some jobs, of which each has an ID. ok is false when
	// Queue costs less. A job is missing from the answer only if the batch system
	// said of it that it is not in the queue.
	QueueOf([]Ref) (call Call[[]Status], ok bool)
}

// ErrNoHistory says that this site keeps no history of jobs.
var ErrNoHistory = errors.New("the site keeps no history of jobs")

// Call is one command of the batch system and how to read what it prints.
type Call[T any] struct {
	Argv  []string // Argv[0] is the bare command name; Scheduler finds its absolute path
	Env   []string // beside the allow-listed environment, such as SLURM_TIME_FORMAT=%s
	Parse func(Output) (T, error)
	// Refusal is set when the driver cannot put into a command what was asked
	// of it; then there is nothing to run. An action is refused for a job by what
	// that job is, whatever others are named beside it.
	Refusal *Refused
}

// Output is what a command printed, whole, and its exit status. A command that
// was killed or printed too much never gets as far as Parse.
type Output struct {
	Stdout, Stderr []byte
	Exit           int
}

// Action is what can be done to a submitted job.
type Action string

// The actions.
const (
	Cancel  Action = "cancel"
	Hold    Action = "hold"
	Release Action = "release"
)

// Ref is the identity of a job at its batch system: all parts must agree before
// anybody acts on it, because ids are reused after a controller lost its state.
// Tags are random.
type Ref struct {
	Cluster string
	ID      string // with the array index where there is one, as the system writes it
	Tag     string // the submission's id, which is the batch job's name
	Member  int    // place in the submission's array, from 0; 0 without one
}

// Is reports whether r and o can be the same job: tag and member are equal, and
// where both know an ID or a cluster, these are equal too. A submission whose
// answer was lost is known by its tag alone.
func (r Ref) Is(o Ref) bool {
	return r.Tag == o.Tag && r.Member == o.Member && (r.ID == o.ID || r.ID == "" || o.ID == "") &&
		(r.Cluster == o.Cluster || r.Cluster == "" || o.Cluster == "")
}

// Submission is one call of the submit command.
type Submission struct {
	Tag        string // the batch job's name
	Script     string // absolute path of the wrapper script, complete before the call
	Directory  string // working directory
	Output     string // file for what the wrapper itself prints, absolute
	Comment    string // the user's own name for the job, printable
	Size       int    // members: 0 or 1 is a single job, more are an array where the system has them (see Environment.Index)
	Held       bool
	Requeue    bool
	Resources  hpcsera.Resources
	Attributes hpcsera.Attributes
	Custom     map[string]string // custom_attributes of this driver, without the prefix: constraint: skylake
}

// Phase is what a native state means.
type Phase string

// The phases. PhaseUnknown is a native state the driver does not know: ask
// again.
const (
	PhaseQueued  Phase = "queued"
	PhaseHeld    Phase = "held" // by the user
	PhaseRunning Phase = "running"
	PhaseEnded   Phase = "ended"
	PhaseUnknown Phase = "unknown"
)

// Status is what the batch system says of one job.
type Status struct {
	Ref
	Phase     Phase
	Native    string         // the native state, verbatim
	Reason    hpcsera.Reason // why it waits, or how it ended; "" when it just ended (see Exit) or the driver cannot tell
	Message   string         // the native reason, verbatim
	Exit      *hpcsera.Exit  // of the job, when ended and known
	Nodes     string
	Submitted time.Time // zero where unknown
	Estimated time.Time
	Restarts  int // native requeues
	// All says that the row tells of every member of an array that has no row of
	// its own. Their ids begin with the row's.
	All bool
	// Incomplete says that the history may know more of the end, such as who
	// cancelled the job.
	Incomplete bool
}

// Refused is the error of a Submit that the batch system rejected: nothing is
// queued. Any other error of a submit is ambiguous: the job may be queued.
type Refused struct {
	Message   string // the batch system's own words
	Throttled bool   // try again later: a limit on submissions or queued jobs, or Unreached
	Unreached bool   // the batch system never saw the call: it is down, or its command is missing
}

// Error returns the batch system's words.
func (r *Refused) Error() string { return r.Message }

// Unable is the error of an action that the batch system does not have for some
// of the jobs, such as holding one member of an array.
type Unable struct {
	Message string // about the first
	Refs    []Ref
}

// Error returns the message.
func (u *Unable) Error() string { return u.Message }
