package oar

import (
	"regexp"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// phases is every state of OAR's table. One that is missing here is
// PhaseUnknown.
var phases = map[string]scheduler.Phase{
	"Waiting":          scheduler.PhaseQueued,
	"Hold":             scheduler.PhaseHeld,
	"toAckReservation": scheduler.PhaseQueued,
	"toLaunch":         scheduler.PhaseQueued,
	"Launching":        scheduler.PhaseQueued, // its nodes are being prepared
	"toError":          scheduler.PhaseQueued, // and will never run
	"Running":          scheduler.PhaseRunning,
	"Suspended":        scheduler.PhaseRunning,
	"Resuming":         scheduler.PhaseRunning,
	"Finishing":        scheduler.PhaseRunning, // how it ended is not told yet
	"Terminated":       scheduler.PhaseEnded,   // the exit tells
	"Error":            scheduler.PhaseEnded,   // the events tell
}

// meaning fills phase, reason, message and exit.
func meaning(st *scheduler.Status, j *job) {
	phase, ok := phases[j.state]
	if !ok {
		st.Phase, st.Message = scheduler.PhaseUnknown, j.message
		return
	}
	st.Phase, st.Message = phase, j.message
	switch {
	case j.state == "Terminated":
		st.Message = ""
		if j.exited && j.exit >= 0 && j.exit < 1<<16 {
			st.Exit = &hpcsera.Exit{Code: int(j.exit >> 8), Signal: int(j.exit & 0x7f)}
		}
	case j.state == "Error":
		failure(st, j)
	case j.state == "toError":
		st.Reason = hpcsera.NeverStarts
	case phase == scheduler.PhaseQueued:
		st.Reason = waiting(j.message)
		st.Estimated = moment(j.start)
	}
}

// reasons are the events that say why a job is in the state Error. The nodes'
// are all those for which OAR suspects a node or stops its queues.
var reasons = map[string]hpcsera.Reason{
	"WALLTIME":                    hpcsera.Timeout,
	"BESTEFFORT_KILL":             hpcsera.Preempted,
	"PING_CHECKER_NODE_SUSPECTED": hpcsera.NodeFailure,
	"CPUSET_ERROR":                hpcsera.NodeFailure,
	"PROLOGUE_ERROR":              hpcsera.NodeFailure,
	"CANNOT_WRITE_NODE_FILE":      hpcsera.NodeFailure,
	"CANNOT_WRITE_PID_FILE":       hpcsera.NodeFailure,
	"CANNOT_CREATE_TMP_DIRECTORY": hpcsera.NodeFailure,
	"USER_SHELL":                  hpcsera.NodeFailure,
	"LAUNCHING_OAREXEC_TIMEOUT":   hpcsera.NodeFailure,
	"SSH_TRANSFER_TIMEOUT":        hpcsera.NodeFailure,
	"BAD_HASHTABLE_DUMP":          hpcsera.NodeFailure,
	"EXIT_VALUE_OAREXEC":          hpcsera.NodeFailure,
	"RESERVATION_NO_NODE":         hpcsera.NodeFailure,
	"SUSPEND_ERROR":               hpcsera.NodeFailure,
	"RESUME_ERROR":                hpcsera.NodeFailure,
	"EXTERMINATE_JOB":             hpcsera.NodeFailure, // the node did not answer when the job was to be killed
	// Not the nodes, but the site's own scripts around the job.
	"SERVER_PROLOGUE_TIMEOUT":         hpcsera.NodeFailure,
	"SERVER_PROLOGUE_EXIT_CODE_ERROR": hpcsera.NodeFailure,
	"SERVER_PROLOGUE_ERROR":           hpcsera.NodeFailure,
	"SERVER_EPILOGUE_TIMEOUT":         hpcsera.NodeFailure,
	"SERVER_EPILOGUE_EXIT_CODE_ERROR": hpcsera.NodeFailure,
	// The job itself could not begin.
	"WORKING_DIRECTORY": "",
	"OUTPUT_FILES":      "",
}

// killer is who asked for a job's end. OAR asks in the name of oar or root.
var killer = regexp.MustCompile(`^User (\S+) requested to frag the job`)

// failure tells why a job is in the state Error. The owner's wish comes first,
// if it came first: what follows it, even the time limit, ends a job that is
// about to end. Else the first event with a reason counts, and somebody else's
// wish is the last to be considered, since OAR kills with it at a time limit.
//
// While OAR still has to look at an event, it may submit the job again; and it
// has done so where an event says so, even if the listing lacks that run.
// Then the job has not ended.
func failure(st *scheduler.Status, j *job) {
	var decided, killed bool
	for _, e := range j.events {
		reason, known := reasons[e.kind]
		by := killer.FindStringSubmatch(e.text)
		switch {
		case e.kind == "RESUBMIT_JOB_AUTOMATICALLY" || known && e.toCheck == "YES" && reason == hpcsera.NodeFailure:
			st.Phase, st.Reason, st.Message = scheduler.PhaseUnknown, "", e.text
			return
		case decided:
		case e.kind == "FRAG_JOB_REQUEST" && by != nil && by[1] == j.owner:
			st.Reason, st.Message, decided = hpcsera.CancelledByUser, e.text, true
		case known:
			st.Reason, st.Message, decided = reason, e.text, true
		case e.kind == "FRAG_JOB_REQUEST" && !killed:
			st.Reason, st.Message, killed = hpcsera.CancelledBySite, e.text, true
		}
	}
}

var sayings = []struct {
	words  string
	reason hpcsera.Reason
}{
	{"quota_exceeded", hpcsera.Throttled},
	{"dependency", hpcsera.WaitingForDependency},
	{"will never run", hpcsera.NeverStarts},
}

// waiting reads the scheduler's message about a job: "R=2,W=1:0:0,J=B,N=name
// (Karma=0.000,quota_ok)" when it has a place in the plan, else a sentence. OAR
// plans every job ahead and does not tell for which others it waits.
func waiting(message string) hpcsera.Reason {
	for _, s := range sayings {
		if strings.Contains(strings.ToLower(message), s.words) {
			return s.reason
		}
	}
	return hpcsera.WaitingForResources
}
