package pbs

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// phases is every state that qstat prints and that says where a job is. One that
// is missing here is PhaseUnknown: M, for instance, whose job lives on at another
// server, and B, which is an array's.
var phases = map[string]scheduler.Phase{
	"Q": scheduler.PhaseQueued,
	"T": scheduler.PhaseQueued, // on its way to a queue or a node
	"W": scheduler.PhaseQueued, // for its time, or after its files could not be staged
	"H": scheduler.PhaseHeld,   // by whom is in Hold_Types
	"R": scheduler.PhaseRunning,
	"S": scheduler.PhaseRunning, // suspended for another job
	"U": scheduler.PhaseRunning, // suspended while somebody types at the node
	"E": scheduler.PhaseRunning, // how it ended is not told yet
	"F": scheduler.PhaseEnded,
	"X": scheduler.PhaseEnded, // a member of an array of which others live
}

// The substates that say more than the state.
const (
	dependencyHold = "22"
	terminated     = "91"
	finished       = "92"
	failedItself   = "93"
)

// meaning turns a row into a job. array is the row of the array of which it is a
// member, nil if it is none or that is not there. A member that waits has state
// and reason of its array.
func meaning(r, array *row) scheduler.Status {
	w := *r
	if array != nil {
		if w.name == "" {
			w.name, w.owner, w.queued = array.name, array.owner, array.queued
			if array.state == "F" { // it was deleted before this member could run
				w.state, w.substate, w.comment = "F", array.substate, array.comment
			}
		}
		if w.state == "Q" || w.state == "H" || w.state == "W" {
			if array.state == "H" || array.state == "W" {
				w.state = array.state
			}
			w.holds, w.begin, w.depend = array.holds, array.begin, array.depend
			if w.substate == "" {
				w.substate = array.substate
			}
			if w.comment == "" {
				w.comment = array.comment
			}
		}
	}
	st := scheduler.Status{
		Ref: scheduler.Ref{ID: w.id, Tag: w.name, Member: memberOf(w.id)}, Phase: scheduler.PhaseUnknown, Native: w.state,
		Message: w.comment, Nodes: w.nodes, Submitted: moment(w.queued),
	}
	if phase, ok := phases[w.state]; ok {
		st.Phase = phase
	}
	st.Restarts, _ = strconv.Atoi(w.runs)
	switch st.Phase {
	case scheduler.PhaseQueued, scheduler.PhaseHeld:
		st.Estimated = moment(w.estimated)
		whyWaits(&st, &w)
	case scheduler.PhaseEnded:
		st.Restarts--
		howEnded(&st, &w)
	default:
		st.Restarts-- // this run is none
	}
	st.Restarts = max(st.Restarts, 0)
	return st
}

// whyWaits says for what a job waits. The user's own hold is the one that the user
// can end; dependencies are a hold of the system.
func whyWaits(st *scheduler.Status, r *row) {
	switch {
	case st.Phase == scheduler.PhaseHeld && strings.Contains(r.holds, "u"):
		return
	case st.Phase == scheduler.PhaseHeld && r.substate == dependencyHold:
		st.Phase, st.Reason = scheduler.PhaseQueued, hpcsera.WaitingForDependency
		if st.Message == "" {
			st.Message = r.depend
		}
	case st.Phase == scheduler.PhaseHeld:
		st.Phase, st.Reason = scheduler.PhaseQueued, hpcsera.HeldBySite
		if st.Message == "" {
			st.Message = "Hold_Types = " + r.holds
		}
	case r.state == "W":
		st.Reason = hpcsera.WaitingForResources
		if st.Message == "" {
			st.Message = "Execution_Time = " + r.begin
		}
	default:
		st.Reason = reasonOf(r.comment)
	}
}

// reasons are the scheduler's comments on jobs that wait, the first that fits.
var reasons = []struct {
	words  *regexp.Regexp
	reason hpcsera.Reason
}{
	{regexp.MustCompile(`(?i)^can never run|requested .* not available|exceeds? (the )?(maximum|queue|server)`), hpcsera.NeverStarts},
	{regexp.MustCompile(`(?i)dedicated time|queue \S*\s*(is )?not (started|running)|maintenance`), hpcsera.SiteMaintenance},
	{regexp.MustCompile(`(?i)limit|maximum number of|too many`), hpcsera.Throttled},
	{regexp.MustCompile(`(?i)top job|starving|priority|fairshare|not in formula`), hpcsera.WaitingForPriority},
	{regexp.MustCompile(`(?i)insufficient|not enough|too few|no (available|free)|in use|busy|unavailable|reservation|prime ?time|nodes?\b`), hpcsera.WaitingForResources},
}

func reasonOf(comment string) hpcsera.Reason {
	for _, r := range reasons {
		if r.words.MatchString(comment) {
			return r.reason
		}
	}
	return ""
}

// ends are the Exit_status of jobs that PBS ended, or could not run
// (JOB_EXEC_* in its job.h).
var ends = map[int]hpcsera.Reason{
	-4:  hpcsera.NodeFailure, // aborted when the node's daemon started anew
	-5:  hpcsera.NodeFailure,
	-6:  hpcsera.NodeFailure,
	-14: hpcsera.NodeFailure, // a node of the job was lost
	-20: hpcsera.NodeFailure, // its first node was lost
	-19: hpcsera.CancelledBySite,
	-24: hpcsera.CancelledBySite, // used more cores than it had asked for
	-25: hpcsera.CancelledBySite,
	-26: hpcsera.OutOfMemory,
	-27: hpcsera.OutOfMemory,
	-28: hpcsera.Timeout, // of cpu time
	-29: hpcsera.Timeout,
}

var (
	exceeded  = regexp.MustCompile(`exceeded resource (\w+)`)
	by        = regexp.MustCompile(`terminated by ([^@\s]+)`)
	nodeLost  = regexp.MustCompile(`(?i)(execution )?(node|vnode|host) \S+ (is )?(down|failed|unreachable)|node failure`)
	preempted = regexp.MustCompile(`(?i)preempt`)
	unmet     = regexp.MustCompile(`(?i)dependen`)
)

// howEnded says how a job ended. Only its own end has an exit: a job that never ran
// has no Exit_status, whatever its substate calls it.
func howEnded(st *scheduler.Status, r *row) {
	code, err := strconv.Atoi(r.exit)
	known := err == nil
	word := ""
	if m := exceeded.FindStringSubmatch(r.comment); m != nil {
		word = m[1]
	}
	switch {
	case known && code < 0 && ends[code] != "":
		st.Reason = ends[code]
	case word == "walltime" || word == "cput": // older versions end such a job with SIGTERM and no code of its own
		st.Reason = hpcsera.Timeout
	case word == "mem" || word == "vmem":
		st.Reason = hpcsera.OutOfMemory
	case preempted.MatchString(r.comment):
		st.Reason = hpcsera.Preempted
	case nodeLost.MatchString(r.comment):
		st.Reason = hpcsera.NodeFailure
	case r.substate == terminated, r.comment == "Subjob terminated", code == 256+15 && r.substate != finished && r.substate != failedItself:
		st.Reason = hpcsera.CancelledByUser
		if m := by.FindStringSubmatch(r.comment); m != nil && m[1] != user(r.owner) {
			st.Reason = hpcsera.CancelledBySite
		}
	case known && code >= 0:
		st.Exit = exitOf(code)
	case !known && (r.depend != "" && strings.Contains(r.holds, "s") || unmet.MatchString(r.comment)):
		st.Reason = hpcsera.DependencyFailed
	}
}

// exitOf reads an Exit_status of 0 or more: 256+N is a program ended by signal N,
// and 128+N is how its shell tells the same.
func exitOf(code int) *hpcsera.Exit {
	switch {
	case code > 256:
		return &hpcsera.Exit{Signal: code - 256}
	case code > 128 && code <= 128+64:
		return &hpcsera.Exit{Signal: code - 128}
	}
	return &hpcsera.Exit{Code: code}
}
