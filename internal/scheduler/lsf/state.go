package lsf

import (
	"regexp"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// states are LSF's job states. One that is missing here is PhaseUnknown, as
// are UNKWN and ZOMBI on purpose: their host is out of reach, and nobody knows
// whether the job runs.
var states = map[string]scheduler.Phase{
	"PEND": scheduler.PhaseQueued,
	"PROV": scheduler.PhaseQueued, // its host is being woken up
	"WAIT": scheduler.PhaseQueued, // member of a chunk
	// Held before it started; by whom is in the reason.
	"PSUSP": scheduler.PhaseHeld,
	"RUN":   scheduler.PhaseRunning,
	"USUSP": scheduler.PhaseRunning,
	"SSUSP": scheduler.PhaseRunning,
	"DONE":  scheduler.PhaseEnded,
	"EXIT":  scheduler.PhaseEnded,
}

// queueMeaning fills in phase, reason and exit from bjobs' words.
func queueMeaning(st *scheduler.Status, r record) {
	phase, ok := states[r.State]
	if !ok {
		st.Phase = scheduler.PhaseUnknown
		return
	}
	st.Phase = phase
	switch r.State {
	case "PEND", "PROV", "WAIT":
		st.Message = tidy(r.Waits)
		st.Reason = pending(r.Waits)
		if st.Reason == "" && r.State != "PEND" {
			st.Reason = hpcsera.WaitingForResources
		}
	case "PSUSP":
		st.Message = tidy(r.Waits)
		if strings.Contains(r.Waits, "admin") {
			st.Phase, st.Reason = scheduler.PhaseQueued, hpcsera.HeldBySite
		}
	case "DONE": // a site can call other statuses than 0 a success
		if st.Exit = exitOf(r.Exit); st.Exit == nil {
			st.Exit = &hpcsera.Exit{}
		}
	case "EXIT":
		st.Message = tidy(r.Ended)
		endMeaning(st, r.Ended, r.Exit)
		// Only the history tells who killed a job of which nothing else is told.
		st.Incomplete = st.Reason == "" && (st.Exit == nil || st.Exit.Signal != 0)
	}
}

// terms are the termination reasons of LSF, without TERM_. One that is missing
// here tells no more than the exit status does.
var terms = map[string]hpcsera.Reason{
	"OWNER": hpcsera.CancelledByUser, "FORCE_OWNER": hpcsera.CancelledByUser, "REQUEUE_OWNER": hpcsera.CancelledByUser,
	"ADMIN": hpcsera.CancelledBySite, "FORCE_ADMIN": hpcsera.CancelledBySite, "REQUEUE_ADMIN": hpcsera.CancelledBySite,
	"LOAD": hpcsera.CancelledBySite, "WINDOW": hpcsera.CancelledBySite,
	"PROCESSLIMIT": hpcsera.CancelledBySite, "THREADLIMIT": hpcsera.CancelledBySite, "MC_RECALL": hpcsera.CancelledBySite,
	"RUNLIMIT": hpcsera.Timeout, "DEADLINE": hpcsera.Timeout, "CPULIMIT": hpcsera.Timeout,
	"MEMLIMIT": hpcsera.OutOfMemory, "SWAP": hpcsera.OutOfMemory,
	"PREEMPT": hpcsera.Preempted, "RC": hpcsera.Preempted, "REQUEUE_RC": hpcsera.Preempted, // the cloud took the host back
	"ZOMBIE": hpcsera.NodeFailure, "REMOVE_HUNG_JOB": hpcsera.NodeFailure,
	"ORPHAN_SYSTEM": hpcsera.DependencyFailed,
}

var term = regexp.MustCompile(`^TERM_([A-Z_]+)`)

// terminated returns the word of a termination reason such as
// "TERM_OWNER: job killed by owner".
func terminated(text string) string {
	if m := term.FindStringSubmatch(strings.TrimSpace(text)); m != nil {
		return m[1]
	}
	return ""
}

// endMeaning tells how a job in state EXIT ended. Status 0, or none, says that
// it never ran, or that nobody knows.
func endMeaning(st *scheduler.Status, ended, exit string) {
	if st.Reason = terms[terminated(ended)]; st.Reason != "" {
		return
	}
	if e := exitOf(exit); e != nil && *e != (hpcsera.Exit{}) {
		st.Exit = e
	}
}

// waits says what LSF's sentences mean, by words in them; there can be several
// sentences, and the first row of which one word is found counts. What concerns
// the job comes before what concerns single hosts. No regular expressions: a
// listing has thousands of jobs that wait.
var waits = []struct {
	reason hpcsera.Reason
	words  []string
}{
	{hpcsera.NeverStarts, []string{
		"invalid or never satisfied", "no longer satisfies", "unable to determine user account", "rejected by eventd", "bad host name",
	}},
	{hpcsera.WaitingForDependency, []string{"dependency condition not satisfied"}},
	{hpcsera.SiteMaintenance, []string{"inactivated by the administrator", "unable to schedule the job", "not ready for scheduling"}},
	{hpcsera.Throttled, []string{
		"reached its ", "reached his/her ", "reached the ", "limit defined", "exceeds quota", "not enough job slots", "per-user job slot",
		"queue's per-", "user's per-", "user group's per-",
	}},
	{hpcsera.WaitingForPriority, []string{"higher priority", "equal priority", "lower priority", "fairshare"}},
	{hpcsera.WaitingForResources, []string{
		"resource", "not enough", "slot", "load", "start time", "started a job", "exclusive", "reserv", "unreachable", "unavailable", "unable to reach",
		"requeue", "rescheduling", "re-scheduling", "will not finish", "time windows", "dispatch windows", "postponed", "pre-exec", "not the same type",
		"threshold",
	}},
	{hpcsera.SiteMaintenance, []string{"closed by ", "locked by "}},
}

func pending(text string) hpcsera.Reason {
	text = strings.ToLower(text)
	for _, w := range waits {
		for _, word := range w.words {
			if strings.Contains(text, word) {
				return w.reason
			}
		}
	}
	return ""
}

// tidy makes one line of LSF's reasons.
func tidy(text string) string {
	text = strings.TrimSuffix(strings.Join(strings.Fields(text), " "), ";")
	if len(text) > 500 {
		text = strings.ToValidUTF8(text[:500], "")
	}
	return text
}
