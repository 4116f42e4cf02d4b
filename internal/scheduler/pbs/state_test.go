package pbs

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func TestUnknownStatesAreUnknownAndNeverEnded(t *testing.T) {
	for _, state := range []string{"M", "B", "Z", "FINISHED", "f", "C", "\u00e9"} {
		st := one(t, "job_state="+state, "Exit_status=0", "substate=92")
		if st.Phase != scheduler.PhaseUnknown || st.Native != state || st.Exit != nil || st.Reason != "" {
			t.Errorf("%q: got %+v", state, st)
		}
	}
}

func TestEveryStateHasItsPhase(t *testing.T) {
	for state, want := range map[string]scheduler.Phase{
		"Q": queued, "T": queued, "W": queued, "H": queued, "R": running, "S": running, "U": running, "E": running, "F": ended, "X": ended,
	} {
		if st := one(t, "job_state="+state, "Exit_status=3"); st.Phase != want || (st.Exit != nil) != (want == ended) {
			t.Errorf("%s: got %+v, want %s", state, st, want)
		}
	}
}

func TestHoldsAreTheUsersTheSitesOrADependencys(t *testing.T) {
	for holds, want := range map[string]scheduler.Status{
		"u": {Phase: held}, "us": {Phase: held}, "uos": {Phase: held},
		"s": {Phase: queued, Reason: hpcsera.HeldBySite, Message: "Hold_Types = s"},
		"o": {Phase: queued, Reason: hpcsera.HeldBySite, Message: "Hold_Types = o"},
		"n": {Phase: queued, Reason: hpcsera.HeldBySite, Message: "Hold_Types = n"},
	} {
		got := one(t, "job_state=H", "substate=20", "Hold_Types="+holds)
		if got.Phase != want.Phase || got.Reason != want.Reason || got.Message != want.Message {
			t.Errorf("%s: got %+v, want %+v", holds, got, want)
		}
	}
	got := one(t, "job_state=H", "substate=20", "Hold_Types=s", "comment=job held, too many failed attempts to run")
	if got.Reason != hpcsera.HeldBySite || got.Phase != queued || got.Message == "" {
		t.Errorf("after failed attempts: got %+v", got)
	}
}

func TestEndsAreToldApart(t *testing.T) {
	code, signal := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Code: n} }, func(n int) *hpcsera.Exit { return &hpcsera.Exit{Signal: n} }
	ran := "Job run at Sun Nov 22 at 09:51 on (vm:ncpus=1) and "
	for name, c := range map[string]struct {
		attributes []string
		reason     hpcsera.Reason
		exit       *hpcsera.Exit
	}{
		"success":                        {[]string{"Exit_status=0", "substate=92"}, "", code(0)},
		"failure":                        {[]string{"Exit_status=3", "substate=93"}, "", code(3)},
		"255":                            {[]string{"Exit_status=255", "substate=93"}, "", code(255)},
		"128":                            {[]string{"Exit_status=128", "substate=93"}, "", code(128)},
		"signal, by its shell":           {[]string{"Exit_status=137", "substate=93"}, "", signal(9)},
		"signal":                         {[]string{"Exit_status=267", "substate=93"}, "", signal(11)},
		"SIGTERM from elsewhere":         {[]string{"Exit_status=271", "substate=93", "comment=" + ran + "failed"}, "", signal(15)},
		"deleted by its owner":           {[]string{"Exit_status=271", "substate=91", "comment=" + ran + "terminated by alice@vm"}, hpcsera.CancelledByUser, nil},
		"deleted by an operator":         {[]string{"Exit_status=271", "substate=91", "comment=" + ran + "terminated by root@vm"}, hpcsera.CancelledBySite, nil},
		"deleted, exited in time":        {[]string{"Exit_status=0", "substate=91", "comment=" + ran + "terminated by alice@vm"}, hpcsera.CancelledByUser, nil},
		"deleted, without a substate":    {[]string{"Exit_status=271"}, hpcsera.CancelledByUser, nil},
		"deleted while it waited":        {[]string{"substate=91"}, hpcsera.CancelledByUser, nil},
		"time limit":                     {[]string{"Exit_status=-29", "substate=93", "comment=" + ran + "exceeded resource walltime"}, hpcsera.Timeout, nil},
		"time limit of older versions":   {[]string{"Exit_status=271", "substate=92", "comment=" + ran + "exceeded resource walltime"}, hpcsera.Timeout, nil},
		"cpu time":                       {[]string{"Exit_status=-28"}, hpcsera.Timeout, nil},
		"memory":                         {[]string{"Exit_status=-27"}, hpcsera.OutOfMemory, nil},
		"virtual memory":                 {[]string{"Exit_status=-26"}, hpcsera.OutOfMemory, nil},
		"memory of older versions":       {[]string{"Exit_status=271", "comment=" + ran + "exceeded resource mem"}, hpcsera.OutOfMemory, nil},
		"cores":                          {[]string{"Exit_status=-25"}, hpcsera.CancelledBySite, nil},
		"node started anew":              {[]string{"Exit_status=-4"}, hpcsera.NodeFailure, nil},
		"first node lost":                {[]string{"Exit_status=-20"}, hpcsera.NodeFailure, nil},
		"node down":                      {[]string{"Exit_status=271", "substate=91", "comment=Job deleted, execution node n3 down"}, hpcsera.NodeFailure, nil},
		"preempted":                      {[]string{"Exit_status=271", "substate=91", "comment=Job preempted by deletion"}, hpcsera.Preempted, nil},
		"could not be started":           {[]string{"Exit_status=-2", "substate=93"}, "", nil},
		"never ran, dependency":          {[]string{"substate=92", "Hold_Types=s", "depend=afterok:19.vm@vm"}, hpcsera.DependencyFailed, nil},
		"never ran, called finished":     {[]string{"substate=92"}, "", nil},
		"an exit that cannot be read":    {[]string{"Exit_status=many", "substate=92"}, "", nil},
		"a member deleted, older":        {[]string{"comment=Subjob terminated", "substate=70"}, hpcsera.CancelledByUser, nil},
		"a member without exit, older":   {[]string{"comment=Subjob finished", "substate=70"}, "", nil},
		"nothing is told":                {nil, "", nil},
		"a name that says it was killed": {[]string{"Exit_status=0", "substate=92", "Account_Name=terminated by root@vm"}, "", code(0)},
	} {
		st := one(t, append([]string{"job_state=F", "run_count=1"}, c.attributes...)...)
		if st.Phase != ended || st.Reason != c.reason || !cmp.Equal(st.Exit, c.exit) {
			t.Errorf("%s: got %s %q %+v, want ended %q %+v", name, st.Phase, st.Reason, st.Exit, c.reason, c.exit)
		}
	}
}

func TestRunsBeyondTheFirstAreRestarts(t *testing.T) {
	for _, c := range []struct {
		state, runs string
		want        int
	}{{"Q", "", 0}, {"Q", "1", 1}, {"R", "1", 0}, {"R", "3", 2}, {"F", "2", 1}, {"F", "", 0}, {"H", "21", 21}, {"R", "x", 0}} {
		if got := one(t, "job_state="+c.state, "run_count="+c.runs).Restarts; got != c.want {
			t.Errorf("%s after %s runs: got %d restarts, want %d", c.state, c.runs, got, c.want)
		}
	}
}

func TestCommentsOfTheSchedulerAreUnderstood(t *testing.T) {
	for comment, want := range map[string]hpcsera.Reason{
		"": "", "Something new": "",
		"Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0 T: 64)":                         hpcsera.WaitingForResources,
		"Not Running: Not enough free nodes available":                                                  hpcsera.WaitingForResources,
		"Not Running: Not enough of the right type of nodes are available":                              hpcsera.WaitingForResources,
		"Not Running: Job is requesting an exclusive node and node is in use.":                          hpcsera.WaitingForResources,
		"Not Running: Host set host=n1 has too few free resources":                                      hpcsera.WaitingForResources,
		"Not Running: No available resources on nodes":                                                  hpcsera.WaitingForResources,
		"Not Running: Job would conflict with reservation or top job":                                   hpcsera.WaitingForPriority,
		"Not Running: Draining system to allow starving job to run":                                     hpcsera.WaitingForPriority,
		"Not Running: User has reached server running job limit.":                                       hpcsera.Throttled,
		"Not Running: Queue workq per-user limit reached on resource ncpus":                             hpcsera.Throttled,
		"Not Running: would exceed project cfd's limit on resource ncpus in complex":                    hpcsera.Throttled,
		"Not Running: Job would cross dedicated time boundary":                                          hpcsera.SiteMaintenance,
		"Not Running: Queue not started.":                                                               hpcsera.SiteMaintenance,
		"Can Never Run: Insufficient amount of resource: ncpus (R: 500 A: 64 T: 64)":                    hpcsera.NeverStarts,
		"Can Never Run: can't fit in the largest placement set, and can't span psets":                   hpcsera.NeverStarts,
		"Not Running: Insufficient amount of resource: ncpus (R: 4 A: 0 T: 64) and a limit was not hit": hpcsera.Throttled, // words win by their order
	} {
		if st := one(t, "job_state=Q", "comment="+comment); st.Reason != want || st.Phase != queued {
			t.Errorf("%q: got %s %q, want queued %q", comment, st.Phase, st.Reason, want)
		}
	}
}

func TestAnEstimatedStartIsTold(t *testing.T) {
	if got := one(t, "job_state=Q", "estimated.start_time=Sun Nov 22 10:00:00 2026").Estimated; got.Unix() != 1795341600 {
		t.Errorf("from rows: got %v", got)
	}
	text := `{"pbs_version":"23","Jobs":{"1.vm":{"Job_Name":"x","Job_Owner":"a@b","job_state":"Q",` +
		`"estimated":{"exec_vnode":"(n1:ncpus=1)","start_time":1795341600},"ctime":"Sun Nov  1 09:00:00 2026"}}}`
	list, err := Driver{}.parseListing(scheduler.Output{Stdout: []byte(text)})
	if err != nil || len(list) != 1 || list[0].Estimated.Unix() != 1795341600 || list[0].Submitted.Day() != 1 {
		t.Errorf("from JSON: got %+v, %v", list, err)
	}
	if got := one(t, "job_state=R", "estimated.start_time=Sun Nov 22 10:00:00 2026").Estimated; !got.IsZero() {
		t.Errorf("of a running job: got %v", got)
	}
}
