package slurm

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

// recorded is what Slurm 22.05.8 printed for the driver's own commands.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tag(n int) string { return fmt.Sprintf("s_%020d", n) }

func byTag(t *testing.T, list []scheduler.Status) map[string]scheduler.Status {
	t.Helper()
	m := map[string]scheduler.Status{}
	for _, st := range list {
		m[st.Tag] = st
	}
	return m
}

func TestQueueListingTellsPhaseReasonAndExit(t *testing.T) {
	list, err := parseQueue(scheduler.Output{Stdout: recorded(t, "squeue.txt")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(list), 26; got != want { // one row stands for three waiting members
		t.Errorf("jobs: got %d, want %d", got, want)
	}
	const (
		queued, held, running, ended = scheduler.PhaseQueued, scheduler.PhaseHeld, scheduler.PhaseRunning, scheduler.PhaseEnded
	)
	code := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Code: n} }
	jobs := byTag(t, list)
	for name, c := range map[string]struct {
		n       int
		phase   scheduler.Phase
		native  string
		reason  hpcsera.Reason
		message string
		exit    *hpcsera.Exit
	}{
		"exit 0":              {1, ended, "COMPLETED", "", "", code(0)},
		"exit 3":              {2, ended, "FAILED", "", "NonZeroExitCode", code(3)},
		"signal 11":           {3, ended, "FAILED", "", "JobLaunchFailure", &hpcsera.Exit{Signal: 11}},
		"time limit":          {4, ended, "TIMEOUT", hpcsera.Timeout, "TimeLimit", nil},
		"cancelled pending":   {5, ended, "CANCELLED", hpcsera.CancelledByUser, "", nil},
		"cancelled running":   {15, ended, "CANCELLED", hpcsera.CancelledByUser, "", nil},
		"held by the user":    {7, held, "PENDING", "", "JobHeldUser", nil},
		"held by the site":    {12, queued, "PENDING", hpcsera.HeldBySite, "JobHeldAdmin", nil},
		"requeued":            {8, queued, "PENDING", hpcsera.WaitingForResources, "BeginTime", nil},
		"node failed":         {9, ended, "NODE_FAIL", hpcsera.NodeFailure, "NodeDown", nil},
		"too long":            {10, queued, "PENDING", hpcsera.NeverStarts, "PartitionTimeLimit", nil},
		"too wide":            {11, queued, "PENDING", hpcsera.NeverStarts, "PartitionNodeLimit", nil},
		"dependency failed":   {14, queued, "PENDING", hpcsera.NeverStarts, "DependencyNeverSatisfied", nil},
		"reserved for others": {18, queued, "PENDING", hpcsera.WaitingForResources, "ReqNodeNotAvail, May be reserved for other job", nil},
		"suspended":           {20, running, "SUSPENDED", "", "", nil},
		"running":             {21, running, "RUNNING", "", "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := jobs[tag(c.n)]
			if !ok {
				t.Fatalf("%s is not listed", tag(c.n))
			}
			want := got
			want.Phase, want.Native, want.Reason, want.Message, want.Exit = c.phase, c.native, c.reason, c.message, c.exit
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	for _, want := range []scheduler.Status{
		{Ref: scheduler.Ref{Cluster: "testbed", ID: "8", Tag: tag(8)}, Phase: queued, Native: "PENDING", Reason: hpcsera.WaitingForResources,
			Message: "BeginTime", Submitted: at(1795346438), Estimated: at(1795346559), Restarts: 1},
		{Ref: scheduler.Ref{Cluster: "testbed", ID: "15", Tag: tag(15)}, Phase: ended, Native: "CANCELLED", Reason: hpcsera.CancelledByUser,
			Nodes: "n[2-4]", Submitted: at(1795346419), Incomplete: true, All: true},
	} {
		if diff := cmp.Diff(want, jobs[want.Tag]); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
	if _, ok := jobs["a\nb\"\x1fc|d"]; !ok {
		t.Error("a name with a newline, a quote and the separator was not read as it is")
	}
}

func TestHistoryTellsWhoCancelledAndEveryRun(t *testing.T) {
	list, err := parseHistory(scheduler.Output{Stdout: recorded(t, "sacct.txt")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(list), 28; got != want { // one row stands for three waiting members
		t.Errorf("rows: got %d, want %d", got, want)
	}
	jobs := byTag(t, list)
	for n, want := range map[int]scheduler.Status{
		2:  {Phase: scheduler.PhaseEnded, Native: "FAILED", Exit: &hpcsera.Exit{Code: 3}},
		3:  {Phase: scheduler.PhaseEnded, Native: "FAILED", Exit: &hpcsera.Exit{Signal: 11}},
		4:  {Phase: scheduler.PhaseEnded, Native: "TIMEOUT", Reason: hpcsera.Timeout},
		5:  {Phase: scheduler.PhaseEnded, Native: "CANCELLED by 0", Reason: hpcsera.CancelledByUser}, // its owner
		9:  {Phase: scheduler.PhaseEnded, Native: "NODE_FAIL", Reason: hpcsera.NodeFailure},
		17: {Phase: scheduler.PhaseEnded, Native: "CANCELLED by 0", Reason: hpcsera.CancelledBySite}, // not its owner
	} {
		got := jobs[tag(n)]
		got.Ref, got.Nodes, got.Submitted = scheduler.Ref{}, "", time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", tag(n), diff)
		}
	}
	var runs []string
	for _, st := range list {
		if st.ID == "8" {
			runs = append(runs, st.Native)
		}
	}
	if want := []string{"REQUEUED", "PENDING"}; !cmp.Equal(runs, want) {
		t.Errorf("runs of the requeued job: got %q, want %q", runs, want)
	}
}

const (
	queueHead   = "JOBID\x1fCLUSTER\x1fSTATE\x1fREASON\x1fRESTART_COUNT\x1fEXIT_CODE\x1fSUBMIT_TIME\x1fSTART_TIME\x1fNODELIST\x1fNAME\x1f\n"
	historyHead = "JobID\x1fCluster\x1fState\x1fExitCode\x1fSubmit\x1fUID\x1fNodeList\x1fJobName\x1f\n"
)

func row(fields ...string) string { return strings.Join(fields, "\x1f") + "\x1f\n" }

func queueRow(id, state, reason, exit, name string) string {
	return row(id, "c", state, reason, "0", exit, "1795346418", "N/A", "", name)
}

func TestNoListingIsAnErrorAndNeverEmpty(t *testing.T) {
	good := queueHead + queueRow("1", "RUNNING", "None", "0", tag(1))
	for name, out := range map[string]scheduler.Output{
		"a row without header":     {Stdout: []byte(queueRow("1", "RUNNING", "None", "0", tag(1)))},
		"header broken off":        {Stdout: []byte(queueHead[:30])},
		"header without newline":   {Stdout: []byte(queueHead[:len(queueHead)-1])},
		"row broken off":           {Stdout: []byte(good[:len(good)-9])},
		"row without its newline":  {Stdout: []byte(good[:len(good)-1])},
		"other columns":            {Stdout: []byte("JOBID\x1fNAME\x1f\n" + row("1", tag(1)))},
		"a message among the rows": {Stdout: []byte(good + "squeue: warning: something\n" + good[len(queueHead):])},
		"a message after the rows": {Stdout: []byte(good + "bye\n")},
		"default format":           {Stdout: []byte("JOBID PARTITION NAME USER ST TIME NODES NODELIST(REASON)\n1 debug x root R 0:00 1 n1\n")},
	} {
		t.Run(name, func(t *testing.T) {
			if list, err := parseQueue(out); err == nil {
				t.Errorf("got %v without an error", list)
			}
			if list, err := parseHistory(out); err == nil || errors.Is(err, scheduler.ErrNoHistory) {
				t.Errorf("history: got %v, %v, want an error", list, err)
			}
		})
	}
}

func TestUnknownStatesAreUnknownAndNeverEnded(t *testing.T) {
	for _, state := range []string{"REVOKED", "NEW_STATE", "", "COMPLETED+", "completed", "CANCELLED by", "\x00"} {
		list, err := parseQueue(scheduler.Output{Stdout: []byte(queueHead + queueRow("1", state, "None", "0", tag(1)))})
		if err != nil || list[0].Phase != scheduler.PhaseUnknown || list[0].Native != state || list[0].Exit != nil {
			t.Errorf("%q: got %+v, %v", state, list, err)
		}
	}
	list, err := parseHistory(scheduler.Output{Stdout: []byte(historyHead + row("1", "c", "NEW_STATE", "0:0", "0", "0", "n1", tag(1)))})
	if err != nil || list[0].Phase != scheduler.PhaseUnknown {
		t.Errorf("history: got %+v, %v", list, err)
	}
}

func TestExitIsTakenOnlyFromEndsThatHaveOne(t *testing.T) {
	for _, c := range []struct {
		state, exit string
		want        *hpcsera.Exit
	}{
		{"COMPLETED", "0", &hpcsera.Exit{}}, {"COMPLETED", "0:0", &hpcsera.Exit{}}, {"COMPLETED", "?", nil},
		{"FAILED", "768", &hpcsera.Exit{Code: 3}}, {"FAILED", "11", &hpcsera.Exit{Signal: 11}}, {"FAILED", "139", &hpcsera.Exit{Signal: 11}}, // core dumped
		{"FAILED", "65280", &hpcsera.Exit{Code: 255}}, {"FAILED", "2:0", &hpcsera.Exit{Code: 2}}, {"FAILED", "0:9", &hpcsera.Exit{Signal: 9}},
		{"FAILED", "0", nil}, {"FAILED", "0:0", nil}, // never ran: not a success
		{"FAILED", "-1", nil}, {"FAILED", "1:", nil}, {"FAILED", "99999999999", nil},
		{"TIMEOUT", "0:0", nil}, {"OUT_OF_MEMORY", "253", nil}, {"CANCELLED", "15", nil}, {"RUNNING", "0", nil},
	} {
		if got := exitOf(c.state, c.exit); !cmp.Equal(got, c.want) {
			t.Errorf("%s %q: got %+v, want %+v", c.state, c.exit, got, c.want)
		}
	}
}

func TestPendingReasonsOfAllVersionsAreUnderstood(t *testing.T) {
	for text, want := range map[string]hpcsera.Reason{
		"Priority": hpcsera.WaitingForPriority, "Resources": hpcsera.WaitingForResources, "None": "", "": "", "SomethingNew": "",
		"Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": hpcsera.WaitingForResources,
		"Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved":                                        hpcsera.WaitingForResources,
		"ReqNodeNotAvail, UnavailableNodes:n[1-4]":                                                    hpcsera.WaitingForResources,
		"ReqNodeNotAvail, Reserved for maintenance":                                                   hpcsera.SiteMaintenance,
		"PartitionDown":                 hpcsera.SiteMaintenance,
		"Dependency":                    hpcsera.WaitingForDependency,
		"launch failed requeued held":   hpcsera.HeldBySite,
		"launch_failed_requeued_held":   hpcsera.HeldBySite,
		"job requeued in held state":    hpcsera.HeldBySite,
		"JobHoldMaxRequeue":             hpcsera.HeldBySite,
		"QOSMaxJobsPerUserLimit":        hpcsera.Throttled,
		"QOSGrpCpuLimit":                hpcsera.Throttled,
		"AssocGrpCPUMinutesLimit":       hpcsera.Throttled,
		"AssocMaxJobsLimit":             hpcsera.Throttled,
		"JobArrayTaskLimit":             hpcsera.Throttled,
		"QOSMaxWallDurationPerJobLimit": hpcsera.NeverStarts,
		"AssocMaxCpuPerJobLimit":        hpcsera.NeverStarts,
		"QOSMinCpuNotSatisfied":         hpcsera.NeverStarts,
		"BadConstraints":                hpcsera.NeverStarts,
		"AccountNotAllowed":             hpcsera.NeverStarts,
	} {
		if phase, got := pending(text); got != want || phase != scheduler.PhaseQueued {
			t.Errorf("%q: got %s %q, want queued %q", text, phase, got, want)
		}
	}
	if phase, reason := pending("JobHeldUser"); phase != scheduler.PhaseHeld || reason != "" {
		t.Errorf("JobHeldUser: got %s %q, want held", phase, reason)
	}
}

func TestSiteWithoutAccountingHasNoHistory(t *testing.T) {
	out := scheduler.Output{Stderr: []byte("Slurm accounting storage is disabled\n"), Exit: 1}
	if _, err := parseHistory(out); !errors.Is(err, scheduler.ErrNoHistory) {
		t.Errorf("got %v, want ErrNoHistory", err)
	}
	out.Stderr = []byte("sacct: error: slurm_persist_conn_open_without_init: failed to open persistent connection to host:localhost:6819: Connection refused\n")
	if _, err := parseHistory(out); err == nil || errors.Is(err, scheduler.ErrNoHistory) {
		t.Errorf("database down: got %v, want another error", err)
	}
}

func TestProbeReadsVersionClusterAndPartitions(t *testing.T) {
	f, err := parseConfig(scheduler.Output{Stdout: recorded(t, "config.txt")})
	if want := (hpcsera.Facts{Version: "22.05.8", Cluster: "testbed", LargestArray: 1001}); err != nil || !cmp.Equal(f, want) {
		t.Errorf("got %+v, %v, want %+v", f, err, want)
	}
	p := &probe{}
	f, err = p.nodes(scheduler.Output{Stdout: recorded(t, "nodes.txt")})
	if want := (hpcsera.Facts{Nodes: &hpcsera.Nodes{Total: 4, Up: 4, Idle: 4}}); err != nil || !cmp.Equal(f, want) {
		t.Errorf("got %+v, %v, want %+v", f, err, want)
	}
	f, err = p.partitions(scheduler.Output{Stdout: recorded(t, "partitions.txt")})
	want := []hpcsera.Queue{
		{Name: "debug", Default: true, State: "up", Nodes: 4, Idle: count(4), CoresPerNode: 64, MemoryPerNode: 64000 << 20,
			MaxDuration: hpcsera.Duration(time.Hour), DefaultDuration: hpcsera.Duration(10 * time.Minute)},
		{Name: "batch", State: "up", Nodes: 3, Idle: count(3), CoresPerNode: 64, MemoryPerNode: 64000 << 20,
			MaxDuration: hpcsera.Duration(7 * 24 * time.Hour), DefaultDuration: hpcsera.Duration(time.Hour)},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	f, err = parseLoad(scheduler.Output{Stdout: recorded(t, "sdiag.txt")})
	if want := (hpcsera.Facts{Jobs: &hpcsera.Load{}}); err != nil || !cmp.Equal(f, want) {
		t.Errorf("got %+v, %v, want %+v", f, err, want)
	}
	if f, err := parseLoad(scheduler.Output{Exit: 1, Stderr: []byte("Access/permission denied")}); err != nil || !cmp.Equal(f, hpcsera.Facts{}) {
		t.Errorf("a load that is nobody's business: got %+v, %v, want nothing", f, err)
	}
	for _, parse := range []func(scheduler.Output) (hpcsera.Facts, error){parseConfig, (&probe{}).partitions} {
		for _, out := range []scheduler.Output{{}, {Exit: 1}, {Stdout: []byte("hello\n")}} {
			if f, err := parse(out); err == nil {
				t.Errorf("%+v: got %+v without an error", out, f)
			}
		}
	}
	for text, want := range map[string]time.Duration{"UNLIMITED": 0, "1-00:00:00": 24 * time.Hour, "00:30:00": 30 * time.Minute, "x": 0} {
		if got := timeLimit(text); got != hpcsera.Duration(want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// FuzzListings: no output makes a parser panic, gives a job a phase that its
// native state does not have, or is read when its command failed.
func FuzzListings(f *testing.F) {
	f.Add(recorded(f, "squeue.txt"), 0)
	f.Add(recorded(f, "sacct.txt"), 0)
	f.Add(recorded(f, "squeue-clusters.txt"), 0)
	f.Add([]byte(queueHead+queueRow("1", "CANCELLED", "None", "9", tag(1))), 0)
	f.Add([]byte(historyHead+row("7_[0-5%2]", "c", "CANCELLED by 1", "0:0", "0", "0", "n1", "a\nb\x1fc")), 0)
	f.Add([]byte("warning\n"+historyHead), 1)
	f.Fuzz(func(t *testing.T, stdout []byte, exit int) {
		for _, parse := range []func(scheduler.Output) ([]scheduler.Status, error){parseQueue, parseHistory} {
			list, err := parse(scheduler.Output{Stdout: stdout, Exit: exit})
			if err != nil && list != nil {
				t.Errorf("a listing beside the error %v", err)
			}
			if exit != 0 && err == nil {
				t.Error("a failed command was read")
			}
			for _, st := range list {
				native, _, _ := strings.Cut(st.Native, " by ")
				if st.Phase == scheduler.PhaseEnded && states[native].phase != scheduler.PhaseEnded {
					t.Errorf("%q was read as ended", st.Native)
				}
				if !jobID.MatchString(st.ID) {
					t.Errorf("%q was read as an id", st.ID)
				}
			}
		}
	})
}

func TestARowForSeveralMembersIsARowForEach(t *testing.T) {
	for id, want := range map[string][]int{
		"18_[0-2]": {0, 1, 2}, "18_[1,4-6%2]": {1, 4, 5, 6}, "18_[0-8:4]": {0, 4, 8}, "18_[7]": {7},
		"18_3": {3}, "18": {0}, "18_[x]": {-1}, "18_[0-99999999]": {-1}, "18_[5-3]": {-1}, "18_[1-3:0]": {-1}, "18+1": {0},
	} {
		st := scheduler.Status{Ref: scheduler.Ref{ID: id, Tag: tag(1), Member: member(id)}, Native: "CANCELLED"}
		var got []int
		for _, m := range members(st) {
			got = append(got, m.Member)
			if len(want) > 1 && m.ID != fmt.Sprintf("18_%d", m.Member) {
				t.Errorf("%s: member %d has the id %s", id, m.Member, m.ID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got the members %v, want %v", id, got, want)
		}
	}
}

func BenchmarkListingOf10000Jobs(b *testing.B) {
	var text strings.Builder
	text.WriteString(queueHead)
	for i := range 10000 {
		text.WriteString(queueRow(fmt.Sprintf("%d_%d", 7+i/1000, i%1000), "PENDING", "Priority", "0", tag(i/1000)))
	}
	parsetest.MeasureListing(b, []byte(text.String()), parseQueue)
}
