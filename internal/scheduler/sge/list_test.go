package sge

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

// recorded is what Grid Engine 8.1.9 printed for the driver's own commands.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tagOf(n int) string { return fmt.Sprintf("s_%020d", n) }

const (
	queued, held, running, ended, unknown = scheduler.PhaseQueued, scheduler.PhaseHeld, scheduler.PhaseRunning, scheduler.PhaseEnded, scheduler.PhaseUnknown
)

func TestQueueListingTellsPhaseAndReason(t *testing.T) {
	list, err := parseQueue(scheduler.Output{Stdout: recorded(t, "qstat.xml")})
	if err != nil {
		t.Fatal(err)
	}
	at := func(clock string) time.Time { return moment(time.DateTime, "2026-11-25 "+clock) }
	ref := func(id string, n, member int) scheduler.Ref {
		return scheduler.Ref{ID: id, Tag: tagOf(n), Member: member}
	}
	for _, want := range []scheduler.Status{
		{Ref: ref("151", 20, 0), Phase: running, Native: "r", Nodes: "vm"},
		{Ref: ref("154", 23, 0), Phase: running, Native: "s", Nodes: "vm"},
		{Ref: ref("155.38", 24, 37), Phase: running, Native: "r", Nodes: "vm"},
		{Ref: ref("158", 27, 0), Phase: running, Native: "dr", Nodes: "vm"},
		{Ref: ref("152", 21, 0), Phase: queued, Native: "qw", Reason: hpcsera.WaitingForResources, Message: "qw, priority 0.25069", Submitted: at("23:21:35")},
		{Ref: ref("156.3", 25, 2), Phase: queued, Native: "qw", Reason: hpcsera.WaitingForResources, Message: "qw, priority 0.25056", Submitted: at("23:21:36")},
		{Ref: ref("150", 15, 0), Phase: queued, Native: "Eqw", Reason: hpcsera.NeverStarts, Message: "Job is in error state", Submitted: at("23:21:08")},
		{Ref: ref("157", 26, 0), Phase: queued, Native: "Rq", Reason: hpcsera.WaitingForResources, Message: "Rq, priority 0.25000", Submitted: at("23:21:40"), Restarts: 1},
		{Ref: ref("153", 22, 0), Phase: held, Native: "hqw", Submitted: at("23:21:35")},
		{Ref: ref("155.1", 24, 0), Phase: held, Native: "hqw", Submitted: at("23:21:36")},
		{Ref: ref("155.37", 24, 36), Phase: held, Native: "hqw", Submitted: at("23:21:36")},
		{Ref: ref("155.40", 24, 39), Phase: held, Native: "hqw", Submitted: at("23:21:36")},
	} {
		i := slices.IndexFunc(list, func(st scheduler.Status) bool { return st.Ref == want.Ref })
		if i < 0 {
			t.Errorf("%+v is not listed", want.Ref)
		} else if diff := cmp.Diff(want, list[i]); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
	}
	// 9 jobs, 40 members less the 7 deleted, and an array of 3.
	if got, want := len(list), 9+33+3; got != want {
		t.Errorf("jobs: got %d, want %d", got, want)
	}
	if !slices.ContainsFunc(list, func(st scheduler.Status) bool { return st.Tag == `a%lt;b>&"c|d;e` }) { // Grid Engine's own mistake
		t.Error("a name full of marks was not read as it is")
	}
}

func TestAnEmptyQueueIsAnAnswer(t *testing.T) {
	list, err := parseQueue(scheduler.Output{Stdout: recorded(t, "empty.xml")})
	if err != nil || len(list) != 0 {
		t.Errorf("got %v, %v, want no job and no error", list, err)
	}
}

const (
	queueHead = "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://x\">\n  <queue_info>\n  </queue_info>\n  <job_info>\n"
	queueTail = "  </job_info>\n</job_info>\n"
)

func queueRow(id, name, state string) string {
	return fmt.Sprintf("    <job_list state=\"pending\">\n      <JB_job_number>%s</JB_job_number>\n      <JAT_prio>0.50000</JAT_prio>\n      <JB_name>%s</JB_name>\n      <JB_owner>alice</JB_owner>\n"+
		"      <state>%s</state>\n      <JB_submission_time>2026-11-25T23:21:35</JB_submission_time>\n      <queue_name></queue_name>\n      <slots>1</slots>\n    </job_list>\n", id, name, state)
}

func TestNoListingIsAnErrorAndNeverEmpty(t *testing.T) {
	good := queueHead + queueRow("1", tagOf(1), "qw") + queueTail
	for name, out := range map[string]scheduler.Output{
		"no prolog":                {Stdout: []byte(good[strings.Index(good, "\n")+1:])},
		"prolog only":              {Stdout: []byte(good[:22])},
		"another document":         {Stdout: []byte("<?xml version='1.0'?>\n<unknown_jobs >\n</unknown_jobs>\n")},
		"detailed":                 {Stdout: []byte("<?xml version='1.0'?>\n<detailed_job_info>\n</detailed_job_info>\n")},
		"without waiting jobs":     {Stdout: []byte("<?xml version='1.0'?>\n<job_info>\n<queue_info>\n</queue_info>\n</job_info>\n")},
		"a message among the rows": {Stdout: []byte(queueHead + "warning: x\n" + queueRow("1", tagOf(1), "qw") + queueTail)},
		"a message after the rows": {Stdout: []byte(good + "bye\n")},
		"no id":                    {Stdout: []byte(queueHead + queueRow("", tagOf(1), "qw") + queueTail)},
		"a word for an id":         {Stdout: []byte(queueHead + queueRow("-5", tagOf(1), "qw") + queueTail)},
		"no state":                 {Stdout: []byte(queueHead + queueRow("1", tagOf(1), "") + queueTail)},
		"a state in another place": {Stdout: []byte(strings.NewReplacer("<state>", "<x><state>", "</state>", "</state></x>").Replace(good))},
		"members that are none":    {Stdout: []byte(strings.Replace(good, "<slots>1</slots>", "<tasks>1-3,x</tasks>", 1))},
		"members without end":      {Stdout: []byte(strings.Replace(good, "<slots>1</slots>", "<tasks>1-999999999999:1</tasks>", 1))},
		"mixed ends":               {Stdout: []byte(strings.Replace(good, "</JB_owner>", "</JB_name>", 1))},
		"text":                     {Stdout: []byte("job-ID  prior   name       user         state submit/start at     queue\n")},
	} {
		t.Run(name, func(t *testing.T) {
			if list, err := parseQueue(out); err == nil {
				t.Errorf("got %v without an error", list)
			}
			if f, err := parseQueues(out); err == nil {
				t.Errorf("queues: got %v without an error", f)
			}
		})
	}
}

func TestStatesAreKnownByTheirLetters(t *testing.T) {
	for state, want := range map[string]scheduler.Phase{
		"r": running, "t": running, "Rr": running, "Rt": running, "s": running, "S": running, "T": running, "dr": running, "dt": running, "hr": running, "RS": running,
		"qw": queued, "Rq": queued, "Eqw": queued, "dqw": queued, "EhRqw": queued, "hqw": held, "hRwq": held, "hRq": held,
		"z": unknown, "P": unknown, "x": unknown, "running": unknown, "d": unknown, "R": unknown, "h": unknown, "qw\x00": unknown, "QW": unknown, "N": unknown,
	} {
		st := scheduler.Status{Native: state}
		queueMeaning(&st, "")
		if st.Phase != want || st.Native != state || st.Exit != nil {
			t.Errorf("%q: got %+v, want %s", state, st, want)
		}
	}
}

func TestMembersAreCountedFromTheirRanges(t *testing.T) {
	row := func(tasks string) ([]scheduler.Status, error) {
		return statuses(map[string]string{"JB_job_number": "9", "JB_name": "a", "state": "qw", "tasks": tasks})
	}
	for tasks, want := range map[string][]int{"3": {3}, "1,3,5": {1, 3, 5}, "2-4:1,9": {2, 3, 4, 9}, "1-7:3": {1, 4, 7}, "5-6": {5, 6}} {
		var got []int
		list, err := row(tasks)
		for _, st := range list {
			if st.ID != fmt.Sprintf("9.%d", st.Member+1) {
				t.Errorf("%q: member %d has the id %s", tasks, st.Member, st.ID)
			}
			got = append(got, st.Member+1)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", tasks, got, err, want)
		}
	}
	for _, tasks := range []string{"", ",", "0", "-1", "3-1", "1-2:0", "1-2:-1", "undefined", "1...", "1-10000001", "1,2,"} {
		if got, err := row(tasks); err == nil {
			t.Errorf("%q: got %v, want an error", tasks, got)
		}
	}
}

func TestProbeReadsVersionAndQueues(t *testing.T) {
	calls := Driver{User: "alice"}.Probe()
	f, err := calls[0].Parse(scheduler.Output{Stdout: recorded(t, "version.txt")})
	if err != nil || f.Version != "SGE 8.1.9" {
		t.Errorf("got %+v, %v", f, err)
	}
	f, err = calls[1].Parse(scheduler.Output{Stdout: recorded(t, "queues.xml")})
	want := []hpcsera.Queue{
		{Name: "batch.q", State: "down", Nodes: 1, Idle: new(int), CoresPerNode: 200, MaxDuration: hpcsera.Duration(24 * time.Hour)},
		{Name: "debug.q", State: "up", Nodes: 1, Idle: new(int), CoresPerNode: 200, MaxDuration: hpcsera.Duration(24 * time.Hour)},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v; want -, got +:\n%s", err, diff)
	}
	if want := (hpcsera.Nodes{Total: 1, Up: 1}); f.Nodes == nil || *f.Nodes != want {
		t.Errorf("got the nodes %+v, want %+v", f.Nodes, want)
	}
	for text, want := range map[string]int{string(recorded(t, "config.txt")): 75000, "max_aj_tasks 0\n": 0, "denied: sorry\n": 0, "": 0} {
		if f, err := calls[2].Parse(scheduler.Output{Stdout: []byte(text)}); err != nil || f.LargestArray != want {
			t.Errorf("%.40q: got arrays of %d, %v, want %d", text, f.LargestArray, err, want)
		}
	}
	if f, err := parseVersion(scheduler.Output{Stdout: []byte("usage: qstat [options]\n")}); err == nil {
		t.Errorf("got %+v without a version", f)
	}
}

func TestAQueueIsThatOfAllItsNodes(t *testing.T) {
	part := func(name, state, limit string) string {
		return fmt.Sprintf("<Queue-List><name>%s</name><slots_used>0</slots_used><slots_total>8</slots_total><state>%s</state><resource name=\"h_rt\" type=\"qf\">%s</resource></Queue-List>\n", name, state, limit)
	}
	text := "<?xml version='1.0'?>\n<job_info>\n<queue_info>\n" + part("a.q@n1", "au", "1:00:00") + part("a.q@n2", "", "48:00:00") +
		part("b.q@n1", "", "3600") + part("b.q@n2", "d", "INFINITY") + "</queue_info>\n<job_info>\n</job_info>\n</job_info>\n"
	f, err := parseQueues(scheduler.Output{Stdout: []byte(text)})
	one := 1
	want := []hpcsera.Queue{
		{Name: "a.q", State: "up", Nodes: 2, Idle: &one, CoresPerNode: 8, MaxDuration: hpcsera.Duration(48 * time.Hour)},
		{Name: "b.q", State: "up", Nodes: 2, Idle: &one, CoresPerNode: 8},
	}
	if diff := cmp.Diff(want, f.Queues); err != nil || diff != "" {
		t.Errorf("%v; want -, got +:\n%s", err, diff)
	}
}

// FuzzQueue: whatever qstat prints, it is an error or a list of jobs with ids,
// of which none has ended.
func FuzzQueue(f *testing.F) {
	f.Add(recorded(f, "qstat.xml"))
	f.Add(recorded(f, "empty.xml"))
	f.Add(recorded(f, "queues.xml"))
	f.Add([]byte(queueHead + queueRow("1", "a&amp;&#10;b", "qw") + queueTail))
	f.Add([]byte(strings.Replace(queueHead+queueRow("1", tagOf(1), "hqw")+queueTail, "<slots>1</slots>", "<tasks>1-3:2,7</tasks><x/><y z='1'><w/></y>", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseQueue(scheduler.Output{Stdout: text})
		if err != nil && len(list) > 0 {
			t.Errorf("got both %d jobs and %v", len(list), err)
		}
		for _, st := range list {
			if st.ID == "" || st.Tag == "" || st.Native == "" || st.Phase == ended || st.Exit != nil || st.Member < 0 {
				t.Errorf("got %+v", st)
			}
		}
		if facts, err := parseQueues(scheduler.Output{Stdout: text}); err == nil && (len(facts.Queues) == 0 || facts.Queues[0].Name == "" || facts.Queues[0].MaxDuration < 0) {
			t.Errorf("got the queues %+v", facts.Queues)
		}
	})
}

// BenchmarkListingOf10000Jobs reads a listing of 10 000 jobs, each in a row of its own.
func BenchmarkListingOf10000Jobs(b *testing.B) {
	var text strings.Builder
	text.WriteString(queueHead)
	for i := range 10000 {
		text.WriteString(queueRow(fmt.Sprint(i+1), tagOf(i), "qw"))
	}
	text.WriteString(queueTail)
	parsetest.MeasureListing(b, []byte(text.String()), parseQueue)
}

func isRefusal(err error) bool {
	_, ok := errors.AsType[*scheduler.Refused](err)
	return ok
}
