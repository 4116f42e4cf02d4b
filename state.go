package hpcsera

// State is where a job stands. The state is its current step's.
type State string

// The states of a job. The last three are final and never change again.
const (
	Pending   State = "pending"   // accepted; waits for an agent, an approval, or the site's limits
	Held      State = "held"      // held by the user
	Staging   State = "staging"   // its agent runs the steps before the batch step
	Queued    State = "queued"    // in the batch system's queue
	Running   State = "running"   // executing
	Finishing State = "finishing" // steps and uploads after the batch step
	Succeeded State = "succeeded"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// States lists every state in the order of a job's life.
var States = []State{Pending, Held, Staging, Queued, Running, Finishing, Succeeded, Failed, Cancelled}

// Final reports whether a job in state s has ended.
func (s State) Final() bool { return s == Succeeded || s == Failed || s == Cancelled }

// Valid reports whether s is one of the nine states.
func (s State) Valid() bool { return transitions[s] != nil || s.Final() }

// transitions is the whole life of a job: what may follow what, apart from a
// native requeue, which CanFollow treats beside it. Reports may skip states,
// so every later state follows every earlier one.
var transitions = map[State][]State{
	Pending: {Held, Staging, Queued, Running, Finishing, Succeeded, Failed, Cancelled},
	Held:    {Pending, Staging, Queued, Running, Finishing, Succeeded, Failed, Cancelled},
	// held: a hold while staging acts before the next step.
	Staging: {Held, Queued, Running, Finishing, Succeeded, Failed, Cancelled},
	// staging: a login step after this one, which was not seen running.
	Queued: {Held, Staging, Running, Finishing, Succeeded, Failed, Cancelled},
	// queued: a second batch step; staging: a login step between two batch steps.
	Running:   {Held, Staging, Queued, Finishing, Succeeded, Failed, Cancelled},
	Finishing: {Succeeded, Failed, Cancelled},
}

// Position is what the transition rules look at: a job's state, its step
// (counted from 0) and its attempt (claims won by wrappers, at least 1).
type Position struct {
	State   State
	Step    int
	Attempt int
}

// CanFollow reports whether a job at from may be reported at to. A final
// state never changes. Attempts and steps never go back. A higher attempt is
// a native requeue, allowed only with requeue set; within an attempt and a
// step a job does not go from running back to the queue.
func CanFollow(from, to Position, requeue bool) bool {
	if from.State.Final() || !to.State.Valid() || to.Attempt < from.Attempt || to.Step < from.Step {
		return false
	}
	if to.Attempt > from.Attempt {
		// A requeued job waits, runs or has ended: it never goes back to pending.
		return requeue && to.State != Pending
	}
	if to.State == from.State {
		return true // new reason, message or times
	}
	if from.State == Running && (to.State == Queued || to.State == Staging || to.State == Held) || from.State == Queued && to.State == Staging {
		return to.Step > from.Step
	}
	for _, s := range transitions[from.State] {
		if s == to.State {
			return true
		}
	}
	return false
}

// Desired is what the user wants of a job; the agent reconciles to the one
// with the highest revision.
type Desired string

// What may be wanted of a job.
const (
	DesiredRun    Desired = "run"
	DesiredHold   Desired = "hold"
	DesiredCancel Desired = "cancel"
)

// Desires lists what may be wanted.
var Desires = []Desired{DesiredRun, DesiredHold, DesiredCancel}

// Reason says why a job is in its state: a closed list for programs. The
// batch system's own words are in the job's message.
type Reason string

// The reasons.
const (
	WaitingForAgent      Reason = "waiting_for_agent"
	WaitingForApproval   Reason = "waiting_for_approval"
	WaitingForDependency Reason = "waiting_for_dependency"
	WaitingForResources  Reason = "waiting_for_resources"
	WaitingForPriority   Reason = "waiting_for_priority"
	Throttled            Reason = "throttled"
	SiteMaintenance      Reason = "site_maintenance"
	NeverStarts          Reason = "never_starts"
	HeldBySite           Reason = "held_by_site"
	RejectedByPolicy     Reason = "rejected_by_policy"
	RejectedByScheduler  Reason = "rejected_by_scheduler"
	ApprovalDenied       Reason = "approval_denied"
	ApprovalExpired      Reason = "approval_expired"
	ApprovalInvalid      Reason = "approval_invalid"
	ApprovalWithdrawn    Reason = "approval_withdrawn"
	RunsExhausted        Reason = "runs_exhausted"
	TokenRevoked         Reason = "token_revoked"
	ExitNonzero          Reason = "exit_nonzero"
	Signalled            Reason = "signal"
	Timeout              Reason = "timeout"
	OutOfMemory          Reason = "out_of_memory"
	NodeFailure          Reason = "node_failure"
	Preempted            Reason = "preempted"
	CancelledByUser      Reason = "cancelled_by_user"
	CancelledBySite      Reason = "cancelled_by_site"
	StageInFailed        Reason = "stage_in_failed"
	StageOutFailed       Reason = "stage_out_failed"
	DependencyFailed     Reason = "dependency_failed"
	LostByScheduler      Reason = "lost_by_scheduler"
	OutcomeUnknown       Reason = "outcome_unknown"
	AgentRemoved         Reason = "agent_removed"
)

// Reasons lists every reason.
var Reasons = []Reason{
	WaitingForAgent, WaitingForApproval, WaitingForDependency, WaitingForResources, WaitingForPriority,
	Throttled, SiteMaintenance, NeverStarts, HeldBySite, RejectedByPolicy, RejectedByScheduler,
	ApprovalDenied, ApprovalExpired, ApprovalInvalid, ApprovalWithdrawn, RunsExhausted, TokenRevoked,
	ExitNonzero, Signalled, Timeout, OutOfMemory, NodeFailure, Preempted, CancelledByUser, CancelledBySite,
	StageInFailed, StageOutFailed, DependencyFailed, LostByScheduler, OutcomeUnknown, AgentRemoved,
}
