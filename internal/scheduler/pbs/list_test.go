package pbs

import (
	"bytes"
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
)

// recorded is what OpenPBS 23.06 printed for the driver's commands.
func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dsv is the recorded rows as they are with the driver's own separator.
func dsv(t testing.TB) []byte {
	t.Helper()
	return bytes.ReplaceAll(recorded(t, "live.dsv"), []byte("|"), []byte(separator))
}

func tag(n int) string { return fmt.Sprintf("s_%020d", n) }

func ids(list []scheduler.Status) []string {
	var ids []string
	for _, st := range list {
		ids = append(ids, st.ID)
	}
	return ids
}

func byID(list []scheduler.Status) map[string]scheduler.Status {
	m := map[string]scheduler.Status{}
	for _, st := range list {
		m[st.ID] = st
	}
	return m
}

const (
	queued, held, running, ended = scheduler.PhaseQueued, scheduler.PhaseHeld, scheduler.PhaseRunning, scheduler.PhaseEnded
)

var recordedLive = []string{"21.vm", "22.vm", "25.vm", "26.vm", "28.vm", "29.vm", "30.vm", "34.vm"}

func TestLiveListingTellsPhaseAndReason(t *testing.T) {
	list, err := Driver{User: "alice"}.parseListing(scheduler.Output{Stdout: recorded(t, "live.json")})
	if err != nil {
		t.Fatal(err)
	}
	if got := ids(list); !slices.Equal(got, recordedLive) {
		t.Errorf("got the jobs %q", got)
	}
	jobs := byID(list)
	for id, want := range map[string]scheduler.Status{
		"21.vm": {Phase: running, Native: "R", Message: "Job run at Sun Nov 22 at 09:51 on (vm:ncpus=2:mem=102400kb)", Nodes: "vm/3*2"},
		"25.vm": {Phase: held, Native: "H"},
		"26.vm": {Phase: queued, Native: "H", Reason: hpcsera.WaitingForDependency, Message: "afterok:21.vm@vm"},
		"28.vm": {Phase: queued, Native: "W", Reason: hpcsera.WaitingForResources, Message: "Execution_Time = Sun Nov 22 10:51:06 2026"},
		"29.vm": {Phase: queued, Native: "Q", Reason: hpcsera.NeverStarts, Message: "Can Never Run: Insufficient amount of resource: ncpus (R: 500 A: 64 T: 64)"},
	} {
		got := jobs[id]
		if got.Submitted.Format(time.ANSIC) != "Sun Nov 22 09:51:06 2026" && got.Submitted.Format(time.ANSIC) != "Sun Nov 22 09:51:07 2026" {
			t.Errorf("%s was submitted at %v", id, got.Submitted)
		}
		got.Ref, got.Submitted = scheduler.Ref{}, time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", id, diff)
		}
	}
	if got := jobs["21.vm"].Tag; got != "run1" {
		t.Errorf("tag: got %q, want the name", got)
	}
	others, err := Driver{User: "bob"}.parseListing(scheduler.Output{Stdout: recorded(t, "live.json")})
	if err != nil || len(others) != 0 {
		t.Errorf("jobs of bob: got %v, %v, want none", others, err)
	}
}

func TestBothFormatsTellTheSame(t *testing.T) {
	fromJSON, err1 := Driver{}.parseListing(scheduler.Output{Stdout: recorded(t, "live.json")})
	fromRows, err2 := Driver{}.parseNamed(scheduler.Output{Stdout: dsv(t)}, recordedLive, nil)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromJSON, fromRows); diff != "" {
		t.Errorf("JSON -, rows +:\n%s", diff)
	}
}

func TestHistoryTellsHowJobsEnded(t *testing.T) {
	list, err := Driver{User: "alice"}.parseListing(scheduler.Output{Stdout: recorded(t, "history.json")})
	if err != nil {
		t.Fatal(err)
	}
	jobs := byID(list)
	code := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Code: n} }
	for id, want := range map[string]struct {
		phase  scheduler.Phase
		reason hpcsera.Reason
		exit   *hpcsera.Exit
	}{
		"18.vm":    {ended, "", code(0)},
		"19.vm":    {ended, "", code(3)},
		"21.vm":    {running, "", nil},
		"22.vm":    {ended, hpcsera.Timeout, nil},
		"23.vm":    {ended, "", &hpcsera.Exit{Signal: 11}},
		"24[1].vm": {ended, "", code(0)},
		"24[3].vm": {ended, "", code(1)},
		"24[6].vm": {ended, "", code(0)},
		"26.vm":    {queued, hpcsera.WaitingForDependency, nil},
		"27.vm":    {ended, hpcsera.DependencyFailed, nil}, // substate "finished", and never ran
		"28.vm":    {held, "", nil},
		"29.vm":    {ended, hpcsera.CancelledByUser, nil}, // while it waited
		"30.vm":    {ended, "", code(0)},                  // this site does not enforce memory
		"33.vm":    {ended, "", code(254)},
		"34.vm":    {ended, hpcsera.CancelledByUser, nil},
	} {
		got, ok := jobs[id]
		if !ok || got.Phase != want.phase || got.Reason != want.reason || !cmp.Equal(got.Exit, want.exit) || got.Restarts != 0 {
			t.Errorf("%s: got %+v (exit %+v), want %+v", id, got, got.Exit, want)
		}
	}
	if st, ok := jobs["24[].vm"]; ok {
		t.Errorf("the array itself was taken for a job: %+v", st)
	}
	if got, want := len(list), 20; got != want {
		t.Errorf("jobs: got %d, want %d", got, want)
	}
}

func TestOnlyADocumentOfPBSSaysThatThereIsNoJob(t *testing.T) {
	empty := recorded(t, "empty.json")
	for name, before := range map[string]string{"alone": "", "after an empty line": "\n"} {
		list, err := Driver{}.parseListing(scheduler.Output{Stdout: append([]byte(before), empty...)})
		if err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v, want no job", name, list, err)
		}
	}
	// qstat -u writes the jobs for people, and then a document without any.
	table := "\nvm: \nJob ID          Username Queue\n21.vm           alice    workq\n"
	for name, out := range map[string]scheduler.Output{
		"a table before it": {Stdout: append([]byte(table), empty...)},
		"another document":  {Stdout: []byte("{}\n")},
		"broken off":        {Stdout: empty[:40]},
		"two documents":     {Stdout: append(bytes.Clone(empty), empty...)},
	} {
		if list, err := (Driver{}).parseListing(out); err == nil {
			t.Errorf("%s: got %v without an error", name, list)
		}
	}
}

// job is a row of the driver's own kind.
func job(id string, attributes ...string) string {
	return strings.Join(append([]string{"Job Id: " + id, "Job_Owner=alice@vm", "Job_Name=" + tag(1)}, attributes...), separator) + "\n"
}

func one(t *testing.T, attributes ...string) scheduler.Status {
	t.Helper()
	list, err := Driver{}.parseNamed(scheduler.Output{Stdout: []byte(job("1.vm", attributes...))}, []string{"1.vm"}, nil)
	if err != nil || len(list) != 1 {
		t.Fatalf("%q: got %+v, %v", attributes, list, err)
	}
	return list[0]
}

func TestAJobIsAbsentOnlyWhenPBSSaysSo(t *testing.T) {
	rows := job("1.vm", "job_state=R")
	unknown, finished := "qstat: Unknown Job Id 2.vm\n", "qstat: 3.vm Job has finished, use -x or -H to obtain historical job information\n"
	for name, c := range map[string]struct {
		stdout, stderr string
		exit           int
		ask            []string
		want           int // -1: an error
	}{
		"both told":                      {rows + job("2.vm", "job_state=Q"), "", 0, []string{"1.vm", "2.vm"}, 2},
		"one unknown":                    {rows, unknown, 153, []string{"1.vm", "2.vm"}, 1},
		"one unknown, one finished":      {rows, unknown + finished, 35, []string{"1.vm", "2.vm", "3.vm"}, 1},
		"all unknown":                    {"", unknown, 153, []string{"2.vm"}, 0},
		"asked without the server":       {rows, unknown, 153, []string{"1", "2"}, 1},
		"one missing without a word":     {rows, "", 0, []string{"1.vm", "2.vm"}, -1},
		"one missing, another unknown":   {rows, unknown, 153, []string{"1.vm", "2.vm", "3.vm"}, -1},
		"nothing at all":                 {"", "", 0, []string{"1.vm"}, -1},
		"all told, and failed":           {rows, "", 1, []string{"1.vm"}, -1},
		"no server":                      {"", "qstat: cannot connect to server vm (errno=15010)\n", 255, []string{"1.vm"}, -1},
		"the server went away":           {rows, unknown + "qstat: cannot connect to server vm (errno=111)\n", 1, []string{"1.vm", "2.vm", "3.vm"}, -1},
		"a member of an unknown array":   {"", "qstat: Unknown Job Id 7[].vm\n", 153, []string{"7[].vm"}, 0},
		"an id that only begins like it": {"", "qstat: Unknown Job Id 22.vm\n", 153, []string{"2.vm"}, -1},
	} {
		list, err := Driver{}.parseNamed(scheduler.Output{Stdout: []byte(c.stdout), Stderr: []byte(c.stderr), Exit: c.exit}, c.ask, nil)
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || len(list) != c.want) {
			t.Errorf("%s: got %+v, %v, want %d jobs", name, list, err, c.want)
		}
	}
}

// OpenPBS 23.06, asked for 18.vm, 21.vm and 999999 as JSON, printed 18.vm alone
// while 21.vm was running: why the driver asks for rows.
func TestTheRecordedAnswerForSeveralIDsHasOnlyTheFirst(t *testing.T) {
	list, err := Driver{}.parseListing(scheduler.Output{Stdout: recorded(t, "several.json")})
	if err != nil || !slices.Equal(ids(list), []string{"18.vm"}) {
		t.Errorf("got %+v, %v", list, err)
	}
	call, ok := Driver{}.QueueOf([]scheduler.Ref{{ID: "18.vm"}, {ID: "21.vm"}})
	if !ok || slices.Contains(call.Argv, "json") {
		t.Errorf("got %q", call.Argv)
	}
}
