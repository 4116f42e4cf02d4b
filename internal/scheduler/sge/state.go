package sge

import (
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// stateLetters are those of a job's state (qstat(1)): deletion, Error, hold,
// running, Restarted, suspended by the user, Suspended with its queue,
// Threshold, transferring, waiting, queued.
const stateLetters = "dEhrRsSTtwq"

// queueMeaning fills in phase and reason from the letters.
func queueMeaning(st *scheduler.Status, priority string) {
	has := func(letter string) bool { return strings.Contains(st.Native, letter) }
	if strings.Contains(st.Native, "R") {
		st.Restarts = 1 // or more
	}
	switch {
	case strings.Trim(st.Native, stateLetters) != "":
		st.Phase = scheduler.PhaseUnknown
	case has("q") && has("E"):
		// Its start failed in a way that would fail again: it waits until somebody
		// clears the error or deletes it.
		st.Phase, st.Reason, st.Message = scheduler.PhaseQueued, hpcsera.NeverStarts, "Job is in error state"
	case has("q") && has("h"):
		st.Phase = scheduler.PhaseHeld // by whom is not told
	case has("q"):
		// Others may stand before it for what it needs: that is all one here.
		st.Phase, st.Reason, st.Message = scheduler.PhaseQueued, hpcsera.WaitingForResources, st.Native
		if priority != "" {
			st.Message += ", priority " + priority
		}
	case has("r") || has("t") || has("s") || has("S") || has("T"):
		st.Phase = scheduler.PhaseRunning
	default:
		st.Phase = scheduler.PhaseUnknown
	}
}

// failures is what the number in "failed" means for a job that has left the
// queue (sge_status(5)); 0 and 100 are ends of the job's own.
var failures = map[int]meaning{
	// The job was put back into the queue, and is not in it any more: it was
	// deleted there, which leaves no record, or has not come back yet.
	24: {scheduler.PhaseQueued, ""},
	25: {scheduler.PhaseQueued, ""},
	// Its start failed, it stayed in the queue as Eqw, and was deleted there.
	26: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	27: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	28: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	29: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	31: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	32: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	33: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	36: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	38: {scheduler.PhaseEnded, hpcsera.NeverStarts},
	// Whatever the job did was well; what comes after it on the node was not.
	12: {scheduler.PhaseEnded, ""},
	13: {scheduler.PhaseEnded, ""},
	14: {scheduler.PhaseEnded, ""},
	15: {scheduler.PhaseEnded, ""},
	16: {scheduler.PhaseEnded, ""},
	30: {scheduler.PhaseEnded, ""}, // exit status 100
	37: {scheduler.PhaseEnded, hpcsera.Timeout},
}

// meaning is what a native state stands for.
type meaning struct {
	phase  scheduler.Phase
	reason hpcsera.Reason
}

// lastFailure is the highest number that means the node, before, around or
// instead of the job.
const lastFailure = 36

// exitOf reads an exit status. Above 128 it is a signal: that of the job, or
// the one with which the wrapper says that its program ended. See launch for 99
// and 100.
func exitOf(status int) *hpcsera.Exit {
	switch {
	case status == 128+99 || status == 128+100:
		return &hpcsera.Exit{Code: status - 128}
	case status > 128 && status <= 128+64:
		return &hpcsera.Exit{Signal: status - 128}
	}
	return &hpcsera.Exit{Code: status}
}
