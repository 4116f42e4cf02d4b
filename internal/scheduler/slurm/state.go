package slurm

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// meaning is what a native state stands for.
type meaning struct {
	phase  scheduler.Phase
	reason hpcsera.Reason
}

// states is every state that squeue and sacct print. One that is missing here
// is PhaseUnknown: REVOKED, for instance, whose job lives on in another
// cluster of a federation.
var states = map[string]meaning{
	"PENDING":     {scheduler.PhaseQueued, ""},
	"CONFIGURING": {scheduler.PhaseQueued, hpcsera.WaitingForResources}, // has nodes, which still boot
	"REQUEUED":    {scheduler.PhaseQueued, ""},
	"REQUEUE_FED": {scheduler.PhaseQueued, ""},
	// Requeued, and held by whoever did it or because it could not be launched.
	"REQUEUE_HOLD":  {scheduler.PhaseQueued, hpcsera.HeldBySite},
	"SPECIAL_EXIT":  {scheduler.PhaseQueued, hpcsera.HeldBySite},
	"RESV_DEL_HOLD": {scheduler.PhaseQueued, hpcsera.HeldBySite},

	"RUNNING":    {scheduler.PhaseRunning, ""},
	"SUSPENDED":  {scheduler.PhaseRunning, ""},
	"STOPPED":    {scheduler.PhaseRunning, ""},
	"SIGNALING":  {scheduler.PhaseRunning, ""},
	"RESIZING":   {scheduler.PhaseRunning, ""},
	"STAGE_OUT":  {scheduler.PhaseRunning, ""},
	"COMPLETING": {scheduler.PhaseRunning, ""}, // how it ended is not told yet

	"COMPLETED":     {scheduler.PhaseEnded, ""},
	"FAILED":        {scheduler.PhaseEnded, ""}, // the exit tells
	"TIMEOUT":       {scheduler.PhaseEnded, hpcsera.Timeout},
	"DEADLINE":      {scheduler.PhaseEnded, hpcsera.Timeout},
	"CANCELLED":     {scheduler.PhaseEnded, hpcsera.CancelledByUser}, // by whom is only in the history
	"OUT_OF_MEMORY": {scheduler.PhaseEnded, hpcsera.OutOfMemory},
	"NODE_FAIL":     {scheduler.PhaseEnded, hpcsera.NodeFailure},
	"BOOT_FAIL":     {scheduler.PhaseEnded, hpcsera.NodeFailure},
	"PREEMPTED":     {scheduler.PhaseEnded, hpcsera.Preempted},
}

// queueMeaning fills in phase, reason and exit from squeue's words.
func queueMeaning(st *scheduler.Status, exit string) {
	m, ok := states[st.Native]
	if !ok {
		st.Phase = scheduler.PhaseUnknown
		return
	}
	st.Phase, st.Reason = m.phase, m.reason
	switch st.Native {
	case "PENDING":
		st.Phase, st.Reason = pending(st.Message)
	case "CANCELLED":
		st.Incomplete = true
		st.Message = "" // still says what the job had waited for
	}
	st.Exit = exitOf(st.Native, exit)
}

// historyMeaning does the same from sacct's. uid is the job's owner.
func historyMeaning(st *scheduler.Status, exit, uid string) {
	native, by, cancelled := strings.Cut(st.Native, " by ")
	m, ok := states[native]
	if !ok {
		st.Phase = scheduler.PhaseUnknown
		return
	}
	st.Phase, st.Reason = m.phase, m.reason
	if cancelled && by != uid && uid != "" {
		st.Reason = hpcsera.CancelledBySite
	}
	st.Exit = exitOf(native, exit)
}

// exitOf reads squeue's raw wait status (768 is exit 3, 11 is signal 11) or
// sacct's CODE:SIGNAL. Only ordinary ends have an exit that means something: a
// job stopped by its time limit is told as 0:0. A job that FAILED without
// having run, with 0:0 as well, has none either.
func exitOf(native, text string) *hpcsera.Exit {
	var e hpcsera.Exit
	if code, signal, ok := strings.Cut(text, ":"); ok {
		c, err1 := strconv.Atoi(code)
		s, err2 := strconv.Atoi(signal)
		if err1 != nil || err2 != nil || c < 0 || s < 0 {
			return nil
		}
		e = hpcsera.Exit{Code: c, Signal: s}
	} else {
		raw, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return nil
		}
		e = hpcsera.Exit{Code: int(raw >> 8), Signal: int(raw & 0x7f)}
	}
	switch {
	case native == "COMPLETED":
		return &hpcsera.Exit{}
	case native == "FAILED" && e != (hpcsera.Exit{}):
		return &e
	}
	return nil
}

// reasons are the ones by name of those for which a job is pending.
var reasons = map[string]hpcsera.Reason{
	"priority":                 hpcsera.WaitingForPriority,
	"resources":                hpcsera.WaitingForResources,
	"licenses":                 hpcsera.WaitingForResources,
	"reservation":              hpcsera.WaitingForResources, // its own reservation has not begun
	"nodedown":                 hpcsera.WaitingForResources,
	"frontenddown":             hpcsera.WaitingForResources,
	"prolog":                   hpcsera.WaitingForResources,
	"cleaning":                 hpcsera.WaitingForResources,
	"begintime":                hpcsera.WaitingForResources, // after a requeue, or as the job itself asked
	"burstbufferresources":     hpcsera.WaitingForResources,
	"burstbufferstagein":       hpcsera.WaitingForResources,
	"partitiondown":            hpcsera.SiteMaintenance,
	"partitioninactive":        hpcsera.SiteMaintenance,
	"dependency":               hpcsera.WaitingForDependency,
	"dependencyneversatisfied": hpcsera.NeverStarts,
	"partitiontimelimit":       hpcsera.NeverStarts,
	"partitionnodelimit":       hpcsera.NeverStarts,
	"partitionconfig":          hpcsera.NeverStarts,
	"badconstraints":           hpcsera.NeverStarts,
	"invalidaccount":           hpcsera.NeverStarts,
	"invalidqos":               hpcsera.NeverStarts,
	"accountnotallowed":        hpcsera.NeverStarts,
	"qosnotallowed":            hpcsera.NeverStarts,
	"reservationdeleted":       hpcsera.NeverStarts,
	"deadline":                 hpcsera.NeverStarts,
	"jobarraytasklimit":        hpcsera.Throttled,
	"associationjoblimit":      hpcsera.Throttled,
	"associationresourcelimit": hpcsera.Throttled,
	"associationtimelimit":     hpcsera.Throttled,
	"jobheldadmin":             hpcsera.HeldBySite,
	"jobholdmaxrequeue":        hpcsera.HeldBySite,
	"launchfailedrequeuedheld": hpcsera.HeldBySite,
	"jobrequeuedinheldstate":   hpcsera.HeldBySite,
	"reservationdeletedheld":   hpcsera.HeldBySite,
}

var (
	limit    = regexp.MustCompile(`^(qos|assoc|maxbilling|grp)`)
	perJob   = regexp.MustCompile(`perjob|notsatisfied|^(qos|assoc)max(wall|cpumins|billing).*`)
	nonLower = regexp.MustCompile(`[^a-z,]`)
)

// pending turns the reason of a pending job into ours. Slurm's versions write
// the same reason with blanks, underscores or in one word, and put details
// after a comma: ReqNodeNotAvail, UnavailableNodes:n[1-4].
func pending(reason string) (scheduler.Phase, hpcsera.Reason) {
	word, detail, _ := strings.Cut(nonLower.ReplaceAllString(strings.ToLower(reason), ""), ",")
	if word == "jobhelduser" {
		return scheduler.PhaseHeld, ""
	}
	if r, ok := reasons[word]; ok {
		return scheduler.PhaseQueued, r
	}
	switch {
	case strings.Contains(word, "maint") || strings.Contains(detail, "maint"):
		return scheduler.PhaseQueued, hpcsera.SiteMaintenance
	case word == "reqnodenotavail" || strings.HasPrefix(word, "nodesrequired"):
		return scheduler.PhaseQueued, hpcsera.WaitingForResources
	case limit.MatchString(word) && perJob.MatchString(word):
		return scheduler.PhaseQueued, hpcsera.NeverStarts // above what one job may ask for
	case limit.MatchString(word):
		return scheduler.PhaseQueued, hpcsera.Throttled // above what all jobs together may use now
	}
	return scheduler.PhaseQueued, ""
}
