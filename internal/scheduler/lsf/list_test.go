package lsf

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/parsetest"
)

// recorded is what an LSF-compatible system (volclava 2.2) printed where the
// name says so, and else what IBM's documentation says LSF 10.1 prints.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tag(n int) string { return fmt.Sprintf("s_%020d", n) }

func queueOf(t *testing.T, text []byte) map[string]scheduler.Status {
	t.Helper()
	list, err := parseQueue(scheduler.Output{Stdout: text})
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]scheduler.Status{}
	for _, st := range list {
		m[st.ID] = st
	}
	return m
}

func TestQueueListingTellsPhaseReasonAndExit(t *testing.T) {
	const (
		queued, held, running, ended, unknown = scheduler.PhaseQueued, scheduler.PhaseHeld, scheduler.PhaseRunning, scheduler.PhaseEnded, scheduler.PhaseUnknown
	)
	code := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Code: n} }
	sig := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Signal: n} }
	jobs := queueOf(t, recorded(t, "bjobs.json"))
	for name, c := range map[string]struct {
		id         string
		phase      scheduler.Phase
		native     string
		reason     hpcsera.Reason
		exit       *hpcsera.Exit
		incomplete bool
	}{
		"exit 0":              {"1", ended, "DONE", "", code(0), false},
		"exit 3":              {"2", ended, "EXIT", "", code(3), false},
		"signal 11":           {"3", ended, "EXIT", "", sig(11), true},
		"time limit":          {"4", ended, "EXIT", hpcsera.Timeout, nil, false},
		"cancelled running":   {"5", ended, "EXIT", hpcsera.CancelledByUser, nil, false},
		"cancelled pending":   {"6", ended, "EXIT", hpcsera.CancelledByUser, nil, false},
		"cancelled by others": {"7", ended, "EXIT", hpcsera.CancelledBySite, nil, false},
		"memory":              {"8", ended, "EXIT", hpcsera.OutOfMemory, nil, false},
		"preempted":           {"9", ended, "EXIT", hpcsera.Preempted, nil, false},
		"node failed":         {"10", ended, "EXIT", hpcsera.NodeFailure, nil, false},
		"killed by somebody":  {"11", ended, "EXIT", "", sig(2), true},
		"new":                 {"12", queued, "PEND", "", nil, false},
		"resources":           {"13", queued, "PEND", hpcsera.WaitingForResources, nil, false},
		"dependency":          {"14", queued, "PEND", hpcsera.WaitingForDependency, nil, false},
		"never":               {"15", queued, "PEND", hpcsera.NeverStarts, nil, false},
		"throttled":           {"16", queued, "PEND", hpcsera.Throttled, nil, false},
		"maintenance":         {"17", queued, "PEND", hpcsera.SiteMaintenance, nil, false},
		"held by the user":    {"18", held, "PSUSP", "", nil, false},
		"held by the site":    {"19", queued, "PSUSP", hpcsera.HeldBySite, nil, false},
		"running":             {"20", running, "RUN", "", nil, false},
		"out of reach":        {"21", unknown, "UNKWN", "", nil, false},
		"member running":      {"22[1]", running, "RUN", "", nil, false},
		"member ended":        {"22[10]", ended, "EXIT", "", code(1), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := jobs[c.id]
			if !ok {
				t.Fatalf("%s is not listed", c.id)
			}
			want := got
			want.Phase, want.Native, want.Reason, want.Exit, want.Incomplete = c.phase, c.native, c.reason, c.exit, c.incomplete
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	at := func(day, hour, minute int) time.Time { return time.Date(2026, 11, day, hour, minute, 0, 0, time.UTC) }
	for _, want := range []scheduler.Status{
		{
			Ref: scheduler.Ref{ID: "13", Tag: tag(13)}, Phase: queued, Native: "PEND", Reason: hpcsera.WaitingForResources,
			Message:   "Not enough job slot(s): 3 hosts; Job's requirements for reserving resource (mem) not satisfied: 1 host",
			Submitted: at(22, 9, 42), Estimated: at(22, 21, 7),
		},
		{Ref: scheduler.Ref{ID: "20", Tag: tag(20)}, Phase: running, Native: "RUN", Nodes: "hostA,hostB", Submitted: at(2, 9, 42)},
		{Ref: scheduler.Ref{ID: "22[10]", Tag: tag(22), Member: 9}, Phase: ended, Native: "EXIT", Nodes: "hostA", Exit: code(1), Submitted: at(22, 9, 42)},
	} {
		if diff := cmp.Diff(want, jobs[want.ID]); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
	if got, want := jobs["99"].Tag, "a\nb\"}],{\"JOBID\":\"1\"}|^,\t[x]"; got != want {
		t.Errorf("a name with every separator: got %q, want %q", got, want)
	}
}

// TestARelativesListingTellsWhatItHas: volclava knows neither index nor exit
// nor reasons, and no year.
func TestARelativesListingTellsWhatItHas(t *testing.T) {
	jobs := queueOf(t, recorded(t, "volclava-bjobs.json"))
	if len(jobs) != 50 {
		t.Errorf("jobs: got %d, want 50", len(jobs))
	}
	for id, want := range map[string]scheduler.Status{
		"29":    {Ref: scheduler.Ref{ID: "29", Tag: "run1"}, Phase: scheduler.PhaseRunning, Native: "RUN", Nodes: "vm"},
		"36":    {Ref: scheduler.Ref{ID: "36", Tag: "later"}, Phase: scheduler.PhaseQueued, Native: "PEND"},
		"1":     {Ref: scheduler.Ref{ID: "1", Tag: "key-abc123"}, Phase: scheduler.PhaseEnded, Native: "DONE", Nodes: "vm", Exit: &hpcsera.Exit{}},
		"10":    {Ref: scheduler.Ref{ID: "10", Tag: "later"}, Phase: scheduler.PhaseEnded, Native: "EXIT", Incomplete: true},
		"32[3]": {Ref: scheduler.Ref{ID: "32[3]", Tag: "arr", Member: 2}, Phase: scheduler.PhaseEnded, Native: "EXIT", Nodes: "vm", Incomplete: true},
	} {
		if diff := cmp.Diff(want, jobs[id]); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", id, diff)
		}
	}
}

func listing(records ...string) string {
	return fmt.Sprintf("{\n  \"COMMAND\":\"bjobs\",\n  \"JOBS\":%d,\n  \"RECORDS\":[\n%s\n  ]\n}\n", len(records), strings.Join(records, ",\n"))
}

func one(id, index, state, name string) string {
	return fmt.Sprintf(`{"JOBID":%q,"JOBINDEX":%q,"STAT":%q,"JOB_NAME":%q,"EXEC_HOST":"","SUBMIT_TIME":"","EXIT_CODE":"","EXIT_REASON":"","PEND_REASON":""}`, id, index, state, name)
}

func TestNoListingIsAnErrorAndNeverEmpty(t *testing.T) {
	good := listing(one("1", "0", "RUN", tag(1)))
	for name, out := range map[string]scheduler.Output{
		"no jobs, and something else": {Stdout: []byte("No job found\n"), Stderr: []byte("Batch library internal error\n")},
		"broken off":                  {Stdout: []byte(good[:len(good)-2])},
		"broken off at a record":      {Stdout: []byte(good[:strings.Index(good, "\n  ]")])},
		"a record too few":            {Stdout: []byte(strings.Replace(good, `"JOBS":1`, `"JOBS":2`, 1))},
		"no number of records":        {Stdout: []byte(strings.Replace(good, `"JOBS":1,`, "", 1))},
		"no records":                  {Stdout: []byte(`{"COMMAND":"bjobs","JOBS":0}`)},
		"another command":             {Stdout: []byte(strings.Replace(good, "bjobs", "bhosts", 1))},
		"an error for a job":          {Stdout: []byte(listing(`{"JOBID":"1","ERROR":"Job <1> is not found"}`))},
		"a job without id":            {Stdout: []byte(listing(one("", "0", "RUN", tag(1))))},
		"id 0":                        {Stdout: []byte(listing(one("0", "0", "RUN", tag(1))))},
		"an index that is none":       {Stdout: []byte(listing(one("1", "x", "RUN", tag(1))))},
		"something after its end":     {Stdout: []byte(good + "bye\n")},
		"two listings":                {Stdout: []byte(good + good)},
		"a list":                      {Stdout: []byte("[]\n")},
		"text in place of the table":  {Stdout: []byte("JOBID USER STAT QUEUE\n1 alice RUN normal\n")},
	} {
		t.Run(name, func(t *testing.T) {
			if list, err := parseQueue(out); err == nil || list != nil {
				t.Errorf("got %v, %v, want an error", list, err)
			}
		})
	}
}

func TestAnAnswerThatThereIsNothingIsNoError(t *testing.T) {
	for name, out := range map[string]scheduler.Output{
		"on stderr":            {Stderr: []byte("No job found\n")},
		"with a status":        {Stderr: []byte("No unfinished job found\n"), Exit: 255},
		"on stdout":            {Stdout: []byte("No unfinished job found\n")},
		"as an empty listing":  {Stdout: []byte(listing())},
		"after a site's words": {Stdout: []byte("*** Welcome {you} ***\n\n" + listing())},
	} {
		if list, err := parseQueue(out); err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v, want no jobs", name, list, err)
		}
	}
}

func TestUnknownStatesAreUnknownAndNeverEnded(t *testing.T) {
	for _, state := range []string{"UNKWN", "ZOMBI", "NEW_STATE", "", "done", "EXIT ", "DONE+"} {
		list, err := parseQueue(scheduler.Output{Stdout: []byte(listing(one("1", "0", state, tag(1))))})
		if err != nil || list[0].Phase != scheduler.PhaseUnknown || list[0].Native != state || list[0].Exit != nil {
			t.Errorf("%q: got %+v, %v", state, list, err)
		}
	}
}

func TestMembersOfArraysAreToldHoweverTheSiteShowsThem(t *testing.T) {
	for _, c := range []struct {
		id, index, name string
		want            scheduler.Ref
	}{
		{"6", "0", tag(1), scheduler.Ref{ID: "6", Tag: tag(1)}},
		{"6", "3", tag(1) + "[3]", scheduler.Ref{ID: "6[3]", Tag: tag(1), Member: 2}},
		{"6", "3", tag(1), scheduler.Ref{ID: "6[3]", Tag: tag(1), Member: 2}},
		{"6[3]", "3", tag(1) + "[3]", scheduler.Ref{ID: "6[3]", Tag: tag(1), Member: 2}},
		{"6", "", tag(1) + "[3]", scheduler.Ref{ID: "6[3]", Tag: tag(1), Member: 2}},
		{"6", "0", "x[3]", scheduler.Ref{ID: "6", Tag: "x[3]"}},
		{"6", "3", "[3]", scheduler.Ref{ID: "6[3]", Tag: "", Member: 2}},
		{"6", "", "x[y]", scheduler.Ref{ID: "6", Tag: "x[y]"}},
	} {
		if got, ok := reference(c.id, c.index, c.name); !ok || got != c.want {
			t.Errorf("%q %q %q: got %+v, %v, want %+v", c.id, c.index, c.name, got, ok, c.want)
		}
	}
}

func TestReasonsToWaitAreUnderstood(t *testing.T) {
	for text, want := range map[string]hpcsera.Reason{
		"": "", "New job is waiting for scheduling;": "", "Something new;": "",
		"The job has a specified start time;":                                                 hpcsera.WaitingForResources,
		"Job slot limit reached: 2 hosts;":                                                    hpcsera.WaitingForResources,
		"Load information unavailable: 1 host;\n Closed by LSF administrator: 1 host;":        hpcsera.WaitingForResources,
		"Just started a job recently: 3 hosts;":                                               hpcsera.WaitingForResources,
		"Requeued job is waiting for rescheduling;":                                           hpcsera.WaitingForResources,
		"Job's requirement for exclusive execution not satisfied: 4 hosts;":                   hpcsera.WaitingForResources,
		"Not enough hosts to meet the job's spanning requirement;":                            hpcsera.WaitingForResources,
		"Unable to reach slave batch server: 1 host;":                                         hpcsera.WaitingForResources,
		"Closed by LSF administrator: 2 hosts;":                                               hpcsera.SiteMaintenance,
		"Host is locked by LSF administrator: 2 hosts;":                                       hpcsera.SiteMaintenance,
		"System is unable to schedule the job;":                                               hpcsera.SiteMaintenance,
		"Higher or equal priority jobs suspended by host load: 1 host;":                       hpcsera.WaitingForPriority,
		"The queue has reached its job slot limit;":                                           hpcsera.Throttled,
		"User has reached the per-user job slot limit of the queue;":                          hpcsera.Throttled,
		"One of the user's groups has reached its job slot limit;":                            hpcsera.Throttled,
		"The job array has reached its running element limit;":                                hpcsera.Throttled,
		"Resource (slot) limit defined on user or user group has been reached;":               hpcsera.Throttled,
		"The user has not enough job slots for the parallel job;":                             hpcsera.Throttled,
		"Job no longer satisfies queue PROCLIMIT configuration;":                              hpcsera.NeverStarts,
		"Unable to determine user account for execution;":                                     hpcsera.NeverStarts,
		"Dependency condition invalid or never satisfied;\nJob's requirements not satisfied;": hpcsera.NeverStarts,
		"Job dependency condition not satisfied;":                                             hpcsera.WaitingForDependency,
	} {
		if got := pending(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestExitsAndTimesAreReadOrElseUnknown(t *testing.T) {
	for text, want := range map[string]*hpcsera.Exit{
		"0": {}, "3": {Code: 3}, "128": {Code: 128}, "129": {Signal: 1}, "139": {Signal: 11}, "192": {Signal: 64}, "193": {Code: 193}, "255": {Code: 255},
		"": nil, "-": nil, "-1": nil, "256": nil, "x": nil,
	} {
		if got := exitOf(text); !cmp.Equal(got, want) {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	for text, want := range map[string]time.Time{
		"Nov 22 09:42 2026": time.Date(2026, 11, 22, 9, 42, 0, 0, time.UTC), "Nov  2 09:42 2026 L": time.Date(2026, 11, 2, 9, 42, 0, 0, time.UTC),
		"Nov 22 09:42:07 2026": time.Date(2026, 11, 22, 9, 42, 7, 0, time.UTC),
		"Nov 22 09:42":         {}, "Nov 22 09:42 L": {}, "": {}, "-": {}, "Nov 32 09:42 2026": {},
	} {
		if got := moment(text); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", text, got, want)
		}
	}
}

// FuzzQueue: no output makes the parser panic, gives a job a phase that its
// native state does not have, or is read when the command failed.
func FuzzQueue(f *testing.F) {
	f.Add(recorded(f, "bjobs.json"), "", 0)
	f.Add(recorded(f, "volclava-bjobs.json"), "", 0)
	f.Add([]byte("warning\n"+listing(one("6[2]", "2", "EXIT", tag(1)+"[2]"))), "", 1)
	f.Add([]byte(""), "No job found\n", 255)
	f.Fuzz(func(t *testing.T, stdout []byte, stderr string, exit int) {
		out := scheduler.Output{Stdout: stdout, Stderr: []byte(stderr), Exit: exit}
		list, err := parseQueue(out)
		if err != nil && list != nil || exit != 0 && len(list) > 0 {
			t.Errorf("exit %d: got %v beside the error %v", exit, list, err)
		}
		if err == nil && len(list) == 0 && !only(out, none) && !strings.Contains(string(stdout), "bjobs") {
			t.Errorf("%q was read as an empty listing", stdout)
		}
		for _, st := range list {
			if st.Phase == scheduler.PhaseEnded && states[st.Native] != scheduler.PhaseEnded {
				t.Errorf("%q was read as ended", st.Native)
			}
			if !address.MatchString(st.ID) || st.Member < 0 {
				t.Errorf("%+v was read as an id", st.Ref)
			}
		}
	})
}

// manyJobs is a listing of n jobs.
func manyJobs(n int) []byte {
	records := make([]string, n)
	for i := range records {
		state, code, wait := "PEND", "", "Not enough job slot(s): 3 hosts; Job's requirements for reserving resource (mem) not satisfied: 1 host;"
		if i%2 == 0 {
			state, code, wait = "EXIT", "3", ""
		}
		records[i] = fmt.Sprintf("    {\n      \"JOBID\":\"%d\",\n      \"JOBINDEX\":\"%d\",\n      \"STAT\":%q,\n      \"JOB_NAME\":\"%s[%d]\",\n      \"EXEC_HOST\":\"8*host%d:8*other\",\n"+
			"      \"SUBMIT_TIME\":\"Nov 22 09:42 2026\",\n      \"ESTIMATED_START_TIME\":\"\",\n      \"EXIT_CODE\":%q,\n      \"EXIT_REASON\":\"\",\n      \"PEND_REASON\":%q\n    }",
			1000000+i/1000, i%1000+1, state, tag(i/1000), i%1000+1, i%100, code, wait)
	}
	return []byte(listing(records...))
}

func BenchmarkListingOf10000Jobs(b *testing.B) {
	parsetest.MeasureListing(b, manyJobs(10000), parseQueue)
}
