package oar

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

// recorded is what OAR 2.5.9 printed for the driver's own commands.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tag(n int) string { return fmt.Sprintf("s_%020d", n) }

func byRef(t *testing.T, list []scheduler.Status) map[scheduler.Ref]scheduler.Status {
	t.Helper()
	m := map[scheduler.Ref]scheduler.Status{}
	for _, st := range list {
		if _, twice := m[st.Ref]; twice {
			t.Errorf("%+v is listed twice", st.Ref)
		}
		m[st.Ref] = st
	}
	return m
}

const (
	queued, held, running, ended, unknown = scheduler.PhaseQueued, scheduler.PhaseHeld, scheduler.PhaseRunning, scheduler.PhaseEnded, scheduler.PhaseUnknown
)

func TestListingTellsPhaseReasonAndExit(t *testing.T) {
	list, err := parseListing(scheduler.Output{Stdout: recorded(t, "oarstat.json")})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(list), 19; got != want {
		t.Errorf("jobs: got %d, want %d: two of the 21 rows are second runs", got, want)
	}
	jobs := byRef(t, list)
	plan := func(n int, rest string) string { return fmt.Sprintf(rest, tag(n)) }
	for name, c := range map[string]struct {
		n        int
		id       string
		phase    scheduler.Phase
		native   string
		reason   hpcsera.Reason
		message  string
		exit     *hpcsera.Exit
		restarts int
	}{
		"exit 0":               {1, "1002", ended, "Terminated", "", "", &hpcsera.Exit{}, 0},
		"exit 3":               {2, "1003", ended, "Terminated", "", "", &hpcsera.Exit{Code: 3}, 0},
		"signal 11":            {3, "1004", ended, "Terminated", "", "", &hpcsera.Exit{Signal: 11}, 0},
		"time limit":           {4, "1005", ended, "Error", hpcsera.Timeout, "[sarko] Job [1005] from 1795648451 with 8; current time=1795648463 (Elapsed)", nil, 0},
		"cancelled held":       {5, "1006", ended, "Error", hpcsera.CancelledByUser, "User alice requested to frag the job 1006", nil, 0},
		"cancelled running":    {6, "1007", ended, "Error", hpcsera.CancelledByUser, "User alice requested to frag the job 1007", nil, 0},
		"cancelled by root":    {13, "1013", ended, "Error", hpcsera.CancelledBySite, "User root requested to frag the job 1013", nil, 0},
		"preempted":            {11, "1014", ended, "Error", hpcsera.Preempted, "[MetaSched] kill the besteffort job 1014", nil, 0},
		"held":                 {7, "1008", held, "Hold", "", plan(7, "R=1,W=2:0:0,J=B,N=%s"), nil, 0},
		"postponed":            {8, "1009", queued, "Waiting", hpcsera.WaitingForResources, plan(8, "R=1,W=2:0:0,J=B,N=%s,T=postpone (Karma=0.000,quota_ok)"), nil, 0},
		"first member":         {12, "1010_1", ended, "Terminated", "", "", &hpcsera.Exit{}, 0},
		"third member":         {12, "1010_3", ended, "Terminated", "", "", &hpcsera.Exit{}, 0},
		"preempted, requeued":  {14, "1015", queued, "Waiting", hpcsera.WaitingForResources, plan(14, "R=20,W=2:0:0,J=B,N=%s,T=besteffort|idempotent (Karma=0.000,quota_ok)"), nil, 1},
		"node failed at start": {9, "1017", queued, "Waiting", hpcsera.WaitingForResources, "", nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			_, index, _ := strings.Cut(c.id, "_")
			n, _ := strconv.Atoi(index)
			got, ok := jobs[scheduler.Ref{ID: c.id, Tag: tag(c.n), Member: max(n-1, 0)}]
			if !ok {
				t.Fatalf("%s %s is not listed", c.id, tag(c.n))
			}
			want := got
			want.Phase, want.Native, want.Reason, want.Message, want.Exit, want.Restarts = c.phase, c.native, c.reason, c.message, c.exit, c.restarts
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	odd, ok := jobs[scheduler.Ref{ID: "1016", Tag: "a\"b\\c\n{}[],:\té|"}]
	if !ok || odd.Phase != ended || odd.Reason != "" || odd.Exit != nil || !strings.Contains(odd.Message, "Cannot go into the working directory") {
		t.Errorf("a name with everything that JSON needs: got %+v", odd)
	}
}

func TestQueueHasTimesNodesAndNoEnds(t *testing.T) {
	at := func(n int64) time.Time { return time.Unix(n, 0).UTC() }
	list, err := parseQueue(scheduler.Output{Stdout: recorded(t, "live.json")})
	if err != nil || len(list) != 5 {
		t.Fatalf("got %d jobs, %v, want 5", len(list), err)
	}
	jobs := byRef(t, list)
	for _, want := range []scheduler.Status{
		{Ref: scheduler.Ref{ID: "1018", Tag: tag(15)}, Phase: running, Native: "Running", Nodes: "node-1", Submitted: at(1795648483),
			Message: "R=50,W=0:20:0,J=B,N=" + tag(15) + " (Karma=0.000,quota_ok)"},
		{Ref: scheduler.Ref{ID: "1017", Tag: tag(9)}, Phase: queued, Native: "Waiting", Reason: hpcsera.WaitingForResources, Restarts: 1,
			Submitted: at(1795648497), Estimated: at(1795649708), Message: "R=64,W=0:10:0,J=B,N=" + tag(9) + " (Karma=0.000,quota_ok)"},
	} {
		got := jobs[want.Ref]
		want.Submitted = got.Submitted
		if diff := cmp.Diff(want, got); diff != "" || got.Submitted.Unix() < 1795648000 {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
	list, err = parseQueue(scheduler.Output{Stdout: recorded(t, "oarstat.json")})
	if err != nil || len(list) != 7 {
		t.Errorf("without those that ended: got %d jobs, %v, want 7", len(list), err)
	}
	list, err = parseQueue(listingOf(row(7, `"state" : "Terminated", "exit_code" : 0`)))
	if err != nil || len(list) != 0 {
		t.Errorf("the newest job alone, which has ended: got %v, %v, want an empty queue", list, err)
	}
}

func row(id int, fields string) string {
	if !strings.Contains(fields, "array_id") {
		fields += fmt.Sprintf(`, "array_id" : %d, "array_index" : 1`, id)
	}
	return fmt.Sprintf(`   "%d" : {"Job_Id" : %d, "name" : %q, "owner" : "alice", "submissionTime" : 5, %s}`, id, id, tag(id), fields)
}

func listingOf(rows ...string) scheduler.Output {
	return scheduler.Output{Stdout: []byte("{\n" + strings.Join(rows, ",\n") + "\n}\n")}
}

func TestNoListingIsAnErrorAndNeverEmpty(t *testing.T) {
	good := string(listingOf(row(1, `"state" : "Running"`)).Stdout)
	for name, out := range map[string]scheduler.Output{
		"an empty object in lines": {Stdout: []byte("{\n}\n")},
		"no newline at the end":    {Stdout: []byte(good[:len(good)-2])},
		"broken off":               {Stdout: []byte(good[:60])},
		"broken off in a name":     {Stdout: []byte(good[:40])},
		"a message behind":         {Stdout: []byte(good + "bye\n")},
		"a second listing behind":  {Stdout: []byte(good + good)},
		"a message within":         {Stdout: []byte(strings.Replace(good, "\"Job_Id\"", "Warning: x\n\"Job_Id\"", 1))},
		"a row of another job":     {Stdout: []byte(strings.Replace(good, `"1" :`, `"2" :`, 1))},
		"a row without state":      listingOf(row(1, `"owner" : "a"`)),
		"a state that is null":     listingOf(row(1, `"state" : null`)),
		"a row without id":         {Stdout: []byte("{\n\"1\" : {\"state\" : \"Running\"}\n}\n")},
		"a row without index":      listingOf(row(1, `"state" : "Running", "array_id" : 1`)),
		"an id that is no number":  listingOf(row(1, `"state" : "Running", "array_id" : "x", "array_index" : 1`)),
		"a row that is none":       {Stdout: []byte("{\n\"1\" : \"Terminated\"\n}\n")},
		"the states only":          {Stdout: []byte("{\n   \"6\" : \"Terminated\",\n   \"8\" : \"Running\"\n}\n")},
		"the text view":            {Stdout: []byte("Job_Id: 1\n    job_array_id = 1\n    state = Running\n")},
		"an array":                 {Stdout: []byte("[\n]\n")},
	} {
		t.Run(name, func(t *testing.T) {
			if list, err := parseQueue(out); err == nil || len(list) != 0 {
				t.Errorf("got %v, %v, want an error", list, err)
			}
			if list, err := parseListing(out); err == nil || len(list) != 0 {
				t.Errorf("history: got %v, %v, want an error", list, err)
			}
		})
	}
}

// MySQL's driver hands numbers out as text.
func TestNumbersMayBeText(t *testing.T) {
	list, err := parseListing(listingOf(row(5, `"state" : "Terminated", "exit_code" : "768", "array_id" : "3", "array_index" : "3"`)))
	if err != nil || list[0].ID != "3_3" || *list[0].Exit != (hpcsera.Exit{Code: 3}) {
		t.Errorf("numbers as text: got %+v, %v", list, err)
	}
}

func TestUnknownStatesAreUnknownAndNeverEnded(t *testing.T) {
	for _, state := range []string{"Frozen", "terminated", "Error ", "E"} {
		list, err := parseQueue(listingOf(row(1, fmt.Sprintf(`"state" : %q, "exit_code" : 0, "message" : "m"`, state))))
		if err != nil || len(list) != 1 || list[0].Phase != unknown || list[0].Native != state || list[0].Exit != nil || list[0].Message != "m" {
			t.Errorf("%q: got %+v, %v", state, list, err)
		}
	}
	for state, want := range map[string]scheduler.Phase{
		"toAckReservation": queued, "toLaunch": queued, "Launching": queued, "toError": queued, "Suspended": running, "Resuming": running, "Finishing": running,
	} {
		list, err := parseListing(listingOf(row(1, fmt.Sprintf(`"state" : %q, "exit_code" : 0`, state))))
		if err != nil || list[0].Phase != want || list[0].Exit != nil {
			t.Errorf("%s: got %+v, %v, want %s", state, list, err, want)
		}
	}
}

func eventsOf(events ...string) string {
	var list []string
	for i, e := range events {
		kind, text, _ := strings.Cut(e, ": ")
		check := "NO"
		if s, ok := strings.CutPrefix(kind, "?"); ok {
			kind, check = s, "YES"
		}
		// The listing has them in no order.
		list = append([]string{fmt.Sprintf(`{"event_id" : %d, "type" : %q, "description" : %q, "to_check" : %q}`, i+1, kind, text, check)}, list...)
	}
	return `"state" : "Error", "exit_code" : null, "message" : "m", "events" : [` + strings.Join(list, ", ") + `]`
}

func TestEventsTellHowAJobFailed(t *testing.T) {
	mine, roots := "FRAG_JOB_REQUEST: User alice requested to frag the job 1", "FRAG_JOB_REQUEST: User root requested to frag the job 1"
	for name, c := range map[string]struct {
		events []string
		phase  scheduler.Phase
		reason hpcsera.Reason
	}{
		"no event, the message tells":          {nil, ended, ""},
		"an event that is new":                 {[]string{"NEWS: x"}, ended, ""},
		"time limit":                           {[]string{roots, "WALLTIME: w"}, ended, hpcsera.Timeout},
		"cancelled just before the time limit": {[]string{mine, "WALLTIME: w"}, ended, hpcsera.CancelledByUser},
		"cancelled too late":                   {[]string{"WALLTIME: w", mine}, ended, hpcsera.Timeout},
		"cancelled on a node that is gone":     {[]string{mine, "EXTERMINATE_JOB: x"}, ended, hpcsera.CancelledByUser},
		"preempted":                            {[]string{roots, "BESTEFFORT_KILL: b", "SEND_KILL_JOB: s"}, ended, hpcsera.Preempted},
		"with its container":                   {[]string{"FRAG_JOB_REQUEST: Container job 7 was fragged, frag inner job"}, ended, hpcsera.CancelledBySite},
		"the node broke":                       {[]string{"EXIT_VALUE_OAREXEC: error of oarexec"}, ended, hpcsera.NodeFailure},
		"OAR may submit it again":              {[]string{"?PING_CHECKER_NODE_SUSPECTED: x"}, unknown, ""},
		"OAR has submitted it again":           {[]string{"PING_CHECKER_NODE_SUSPECTED: x", "RESUBMIT_JOB_AUTOMATICALLY: => 9"}, unknown, ""},
		"no output file":                       {[]string{"SWITCH_INTO_ERROR_STATE: x", "OUTPUT_FILES: o"}, ended, ""},
	} {
		list, err := parseListing(listingOf(row(1, eventsOf(c.events...))))
		if err != nil || list[0].Phase != c.phase || list[0].Reason != c.reason || list[0].Message == "" || list[0].Exit != nil {
			t.Errorf("%s: got %+v, %v, want %s %q", name, list, err, c.phase, c.reason)
		}
	}
}

func TestAllRunsAreOneJobUnderTheFirstID(t *testing.T) {
	run := func(id, before int, fields string) string {
		return strings.Replace(row(id, fmt.Sprintf(`"resubmit_job_id" : %d, "array_id" : 11, "array_index" : 2, %s`, before, fields)), tag(id), tag(1), 1)
	}
	failed := eventsOf("PING_CHECKER_NODE_SUSPECTED: x", "RESUBMIT_JOB_AUTOMATICALLY: y")
	list, err := parseListing(listingOf(run(20, 12, failed), run(31, 20, `"state" : "Running"`), run(12, 0, failed), row(13, `"state" : "Waiting"`)))
	if err != nil || len(list) != 2 {
		t.Fatalf("got %+v, %v, want two jobs", list, err)
	}
	if got := list[0]; got.ID != "11_2" || got.Member != 1 || got.Phase != running || got.Restarts != 2 {
		t.Errorf("got %+v, want job 11_2 running after two restarts", got)
	}
	// The queue lists the run that lives alone.
	list, err = parseQueue(listingOf(run(31, 20, `"state" : "Waiting"`)))
	if err != nil || len(list) != 1 || list[0].ID != "11_2" || list[0].Restarts != 1 {
		t.Errorf("got %+v, %v, want job 11_2 with a restart", list, err)
	}
	// What a user writes into his job does not make it a member.
	list, err = parseQueue(listingOf(row(9, `"state" : "Hold", "initial_request" : "oarsub --name=x --property=a --array=3 -- /x y -- /w/script"`), row(10, `"state" : "Hold", "initial_request" : "oarsub --array=3 -- /w/script"`)))
	if err != nil || len(list) != 2 || list[0].ID != "9" || list[1].ID != "10_1" {
		t.Errorf("got %+v, %v, want the jobs 9 and 10_1", list, err)
	}
	// An oarsub that was killed on its way leaves a job without array.
	list, err = parseQueue(listingOf(row(40, `"state" : "Hold", "array_id" : 0, "array_index" : 1`)))
	if err != nil || len(list) != 1 || list[0].ID != "40" || list[0].Phase != held {
		t.Errorf("got %+v, %v, want job 40 held", list, err)
	}
}

func TestWaitingReasonsAreUnderstood(t *testing.T) {
	for text, want := range map[string]hpcsera.Reason{
		"": hpcsera.WaitingForResources, "R=1,W=2:0:0,J=B,N=x (Karma=0.000,quota_ok)": hpcsera.WaitingForResources,
		"No enough matching resources (no_matching_slot)":                           hpcsera.WaitingForResources,
		"No enough matching resources (quota_exceeded:Gantt_quotas->{*}->{*}=[1])":  hpcsera.Throttled,
		"Cannot determine scheduling time due to dependency with the job 5":         hpcsera.WaitingForDependency,
		"Job will never run (deadline=2020-01-01 00:00:00), setting it to error":    hpcsera.NeverStarts,
		"Inner job: container 9 does not exist, inner job will never run, setting…": hpcsera.NeverStarts,
	} {
		if got := waiting(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestExitIsTakenOnlyFromEndsThatHaveOne(t *testing.T) {
	for text, want := range map[string]*hpcsera.Exit{
		"0": {}, "768": {Code: 3}, "11": {Signal: 11}, "139": {Signal: 11}, "65280": {Code: 255}, "null": nil, "-1": nil, "65536": nil, "99999999999": nil,
	} {
		list, err := parseListing(listingOf(row(1, `"state" : "Terminated", "exit_code" : `+text)))
		if err != nil || !cmp.Equal(list[0].Exit, want) {
			t.Errorf("%s: got %+v, %v, want %+v", text, list, err, want)
		}
	}
}

func TestProbeReadsVersionAndNodes(t *testing.T) {
	f, err := parseVersion(scheduler.Output{Stdout: []byte("OAR version : 2.5.9 (Canicule)\n")})
	if want := (hpcsera.Facts{Version: "2.5.9"}); err != nil || !cmp.Equal(f, want) {
		t.Errorf("got %+v, %v, want %+v", f, err, want)
	}
	f, err = parseNodes(scheduler.Output{Stdout: recorded(t, "oarnodes.json")})
	idle := 0
	want := hpcsera.Facts{
		Queues:      []hpcsera.Queue{{Name: "default", Default: true, State: "up", Nodes: 2, Idle: &idle, CoresPerNode: 2}},
		OtherQueues: true, Nodes: &hpcsera.Nodes{Total: 2, Up: 2}, LargestArray: 1000,
	}
	if diff := cmp.Diff(want, f); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	f, err = parseNodes(scheduler.Output{Stdout: []byte(`{
"1":{"type":"default","network_address":"a","state":"Absent","jobs":["1"],"gpu":1},
		"2":{"type":"default","network_address":"a","state":"Alive","jobs":null,"gpu":2},"3":{"type":"default","network_address":"b","state":"Suspected","gpu":"0"}
}
`)})
	if n := (hpcsera.Nodes{Total: 2, Up: 1, Idle: 1}); err != nil || *f.Nodes != n || f.Queues[0].GPUsPerNode != 2 || f.Queues[0].CoresPerNode != 2 {
		t.Errorf("got %+v, %+v, %v, want %+v", f.Nodes, f.Queues, err, n)
	}
	for _, parse := range []func(scheduler.Output) (hpcsera.Facts, error){parseVersion, parseNodes} {
		for _, out := range []scheduler.Output{{}, {Exit: 1}, {Stdout: []byte("hello\n")}, {Stdout: []byte("{\n}\n")}, {Stdout: []byte("{\n\"1\" : {\n")}} {
			if f, err := parse(out); err == nil {
				t.Errorf("%+v: got %+v without an error", out, f)
			}
		}
	}
}

// FuzzListings: no output makes a parser panic, gives a job a phase that its
// native state does not have, or is read when its command failed; and what is
// read is JSON, of which no job is missing.
func FuzzListings(f *testing.F) {
	for _, name := range []string{"oarstat.json", "live.json", "oarnodes.json"} {
		var rows map[string]json.RawMessage
		if err := json.Unmarshal(recorded(f, name), &rows); err != nil {
			f.Fatal(err)
		}
		for key, text := range rows { // one by one: large inputs are hardly changed
			f.Add(listingOf(fmt.Sprintf("%q : %s", key, text)).Stdout, 0)
		}
	}
	f.Add(listingOf(row(1, eventsOf("WALLTIME: x")), row(2, `"state" : "\ud83d\ude00\u00e9\\"`)).Stdout, 0)
	f.Add([]byte("warning\n{\n}\n"), 1)
	f.Fuzz(func(t *testing.T, stdout []byte, exit int) {
		out := scheduler.Output{Stdout: stdout, Exit: exit}
		_, _ = parseNodes(out)
		list, err := parseListing(out)
		if err != nil && list != nil || exit != 0 && err == nil {
			t.Errorf("exit %d: got %v, %v", exit, list, err)
		}
		for _, st := range list {
			if st.Phase == ended && phases[st.Native] != ended {
				t.Errorf("%q was read as ended", st.Native)
			}
			if _, _, ok := split(st.ID); !ok {
				t.Errorf("%q was read as an id", st.ID)
			}
		}
		c, _ := payload(stdout)
		if err == nil && json.Valid(c.text) {
			var whole map[string]any
			if err := json.Unmarshal(c.text, &whole); err != nil {
				t.Fatal(err)
			}
			runs := 0
			for _, st := range list {
				runs += max(st.Restarts, 0) + 1
			}
			if runs < len(whole) {
				t.Errorf("got %d jobs and runs of %d", runs, len(whole))
			}
		}
	})
}

// FuzzStrings: a string is read as encoding/json reads it.
func FuzzStrings(f *testing.F) {
	for _, s := range []string{`"a"`, `"\ud83d\ude00"`, `"\ud83dx"`, `"\\\""`, `"\u00e9\n"`, `"\`, `"\u12"`, `"é\/"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want string
		if json.Unmarshal(text, &want) != nil || !bytes.HasPrefix(bytes.TrimSpace(text), []byte{'"'}) {
			want = ""
		}
		c := cursor{text: text}
		got, given, err := c.value()
		if want != "" && (err != nil || !given || strings.ToValidUTF8(got, "\ufffd") != strings.ToValidUTF8(want, "\ufffd") && !strings.Contains(want, "\ufffd")) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}

func BenchmarkListingOf10000Jobs(b *testing.B) {
	var live map[string]json.RawMessage
	if err := json.Unmarshal(recorded(b, "live.json"), &live); err != nil {
		b.Fatal(err)
	}
	rows := make([]string, 10000)
	for i := range rows { // a job with 50 cores
		rows[i] = `"1018" : ` + string(live["1018"])
		rows[i] = strings.ReplaceAll(strings.ReplaceAll(rows[i], "1018", strconv.Itoa(20000+i)), tag(15), tag(i))
	}
	parsetest.MeasureListing(b, listingOf(rows...).Stdout, parseQueue)
}
