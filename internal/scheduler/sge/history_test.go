package sge

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func TestHistoryTellsHowJobsEnded(t *testing.T) {
	list, err := parseHistory(scheduler.Output{Stdout: recorded(t, "qacct.txt")})
	if err != nil {
		t.Fatal(err)
	}
	last, runs := map[scheduler.Ref]scheduler.Status{}, map[string]int{}
	for _, st := range list {
		runs[st.Tag]++
		key := scheduler.Ref{Tag: st.Tag, Member: st.Member}
		// What scheduler.Scheduler takes for the latest run.
		if best, ok := last[key]; !ok || !st.Submitted.Before(best.Submitted) {
			last[key] = st
		}
	}
	code := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Code: n} }
	sig := func(n int) *hpcsera.Exit { return &hpcsera.Exit{Signal: n} }
	const limit = "qmaster enforced h_rt, h_cpu, or h_vmem limit"
	for name, c := range map[string]struct {
		n, member int
		phase     scheduler.Phase
		native    string
		reason    hpcsera.Reason
		message   string
		exit      *hpcsera.Exit
	}{
		"exit 0":                      {1, 0, ended, "failed 0, exit_status 0", "", "", code(0)},
		"exit 3":                      {2, 0, ended, "failed 0, exit_status 3", "", "", code(3)},
		"signal 11":                   {3, 0, ended, "failed 0, exit_status 139", "", "", sig(11)},
		"time limit":                  {4, 0, ended, "failed 37, exit_status 137", hpcsera.Timeout, limit, nil},
		"deleted while it ran":        {5, 0, ended, "failed 100, exit_status 137", "", "assumedly after job", sig(9)},
		"exit 99":                     {6, 0, ended, "failed 0, exit_status 227", "", "", code(99)},
		"exit 100":                    {7, 0, ended, "failed 0, exit_status 228", "", "", code(100)},
		"memory limit":                {8, 0, ended, "failed 37, exit_status 137", hpcsera.OutOfMemory, limit, nil},
		"first member":                {9, 0, ended, "failed 0, exit_status 1", "", "", code(1)},
		"third member":                {9, 2, ended, "failed 0, exit_status 3", "", "", code(3)},
		"requeued, then exit 4":       {10, 0, ended, "failed 0, exit_status 4", "", "", code(4)},
		"requeued, then deleted":      {11, 0, queued, "failed 25, exit_status 99", "", "rescheduling", nil},
		"exit 100 of no script":       {12, 0, ended, "failed 30, exit_status 100", "", "application error returned", code(100)},
		"exit 140 of no script":       {13, 0, ended, "failed 0, exit_status 140", "", "", sig(12)},
		"signal 15 of no script":      {14, 0, ended, "failed 100, exit_status 143", "", "assumedly after job", sig(15)},
		"a folder that does not open": {15, 0, ended, "failed 28, exit_status 0", hpcsera.NeverStarts, "changing into working directory", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := last[scheduler.Ref{Tag: tagOf(c.n), Member: c.member}]
			if !ok {
				t.Fatalf("%s is not there", tagOf(c.n))
			}
			want := got
			want.Phase, want.Native, want.Reason, want.Message, want.Exit = c.phase, c.native, c.reason, c.message, c.exit
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			if got.Nodes != "vm" {
				t.Errorf("node: got %q, want vm", got.Nodes)
			}
		})
	}
	want := scheduler.Ref{ID: "144.3", Tag: tagOf(9), Member: 2}
	if got := last[scheduler.Ref{Tag: tagOf(9), Member: 2}]; got.Ref != want || got.Submitted.Year() != 2026 || got.Submitted.Location() != time.UTC {
		t.Errorf("got %+v, want %+v and its time", got, want)
	}
	if runs[tagOf(10)] != 2 || runs[tagOf(11)] < 3 {
		t.Errorf("runs of the requeued jobs: got %d and %d", runs[tagOf(10)], runs[tagOf(11)])
	}
}

// historyRecord is one as qacct prints it.
func historyRecord(id, task, failed, exit, memory, category string) string {
	return rule + "\n" + fmt.Sprintf("qname        debug.q             \nhostname     vm                  \nowner        alice               \njobname      %s\njobnumber    %-20s\n"+
		"taskid       %s\nqsub_time    Wed Nov 25 23:21:08 2026\nslots        2                   \nfailed       %s\nexit_status  %s\nmaxvmem      %s\narid         undefined\ncategory     %s\n",
		tagOf(1), id, task, failed, exit, memory, category)
}

func TestEveryFailureHasItsMeaning(t *testing.T) {
	for _, c := range []struct {
		failed, exit, memory, category string
		phase                          scheduler.Phase
		reason                         hpcsera.Reason
		code                           *hpcsera.Exit
	}{
		{"1   : assumedly before job", "0", "0.000B", "NONE", ended, hpcsera.NodeFailure, nil},
		{"8   : in prolog", "0", "0.000B", "NONE", ended, hpcsera.NodeFailure, nil},
		{"15  : in epilog", "4", "0.000B", "NONE", ended, "", &hpcsera.Exit{Code: 4}},
		{"19  : before writing exit_status", "0", "0.000B", "NONE", ended, hpcsera.NodeFailure, nil},
		{"21  : in recognizing job", "0", "0.000B", "NONE", ended, hpcsera.NodeFailure, nil},
		{"24  : migrating", "0", "0.000B", "NONE", queued, "", nil},
		{"26  : opening input/output file", "0", "0.000B", "NONE", ended, hpcsera.NeverStarts, nil},
		{"37  : x", "137", "299.9MB", "-l h_rt=5,h_vmem=150M -pe smp 2", ended, hpcsera.Timeout, nil},
		{"37  : x", "137", "300.1MB", "-l h_rt=5,h_vmem=150M -pe smp 2", ended, hpcsera.OutOfMemory, nil},
		{"37  : x", "137", "?", "-l h_vmem=150M", ended, hpcsera.Timeout, nil},
		{"41  : of a later version", "0", "0.000B", "NONE", unknown, "", nil},
		{"0", "75", "0.000B", "NONE", ended, "", &hpcsera.Exit{Code: 75}},
		{"0", "255", "0.000B", "NONE", ended, "", &hpcsera.Exit{Code: 255}},
		{"0", "128", "0.000B", "NONE", ended, "", &hpcsera.Exit{Code: 128}},
	} {
		list, err := parseHistory(scheduler.Output{Stdout: []byte(historyRecord("7", "undefined", c.failed, c.exit, c.memory, c.category))})
		if err != nil || len(list) != 1 {
			t.Errorf("%+v: got %v, %v", c, list, err)
			continue
		}
		if st := list[0]; st.Phase != c.phase || st.Reason != c.reason || !cmp.Equal(st.Exit, c.code) {
			t.Errorf("%+v: got %+v", c, st)
		}
	}
}

func TestAnEmptyHistoryIsSaidAloud(t *testing.T) {
	for _, out := range []scheduler.Output{
		{Stderr: []byte("error: job name s_???????????????????? not found\n"), Exit: 1},
		{Stderr: []byte("error: ignoring invalid entry in line 6\nerror: job id 10 not found\n"), Exit: 1},
		{Stdout: []byte("no jobs running since startup\n"), Stderr: []byte("/sge/default/common/accounting: No such file or directory\n"), Exit: 1},
		{Stdout: []byte("/sge/default/common/accounting: No such file or directory\nno jobs running since startup\n"), Exit: 1},
	} {
		if list, err := parseHistory(out); err != nil || len(list) != 0 {
			t.Errorf("%+v: got %v, %v, want no job and no error", out, list, err)
		}
	}
	for _, out := range []scheduler.Output{
		{Stderr: []byte("error: unable to open /sge/default/common/accounting\n"), Stdout: []byte("no jobs running since startup\n"), Exit: 1},
		{Stderr: []byte("/sge/default/common/accounting: Permission denied\nno jobs running since startup\n"), Exit: 1},
	} {
		if _, err := parseHistory(out); !errors.Is(err, scheduler.ErrNoHistory) {
			t.Errorf("%+v: got %v, want that the site keeps none", out, err)
		}
	}
	good := historyRecord("7", "undefined", "0", "0", "0.000B", "NONE")
	for name, out := range map[string]scheduler.Output{
		"a failure that found": {Stdout: []byte(good), Stderr: []byte("error: job id 10 not found\n"), Exit: 1},
		"a hanging file":       {Stdout: []byte("no jobs running since startup\n"), Stderr: []byte("/sge/default/common/accounting: Stale file handle\n"), Exit: 1},
		"not found, exit 0":    {Stderr: []byte("error: job id 10 not found\n")},
		"a rule alone":         {Stdout: []byte(rule + "\n")},
		"half a record":        {Stdout: []byte(good[:len(good)/2] + "\n")},
		"no last newline":      {Stdout: []byte(good[:len(good)-1])},
		"half a second record": {Stdout: []byte(good + good[:200] + "\n")},
		"a word for an id":     {Stdout: []byte(strings.Replace(good, "7 ", "x ", 1))},
		"a word for a member":  {Stdout: []byte(strings.Replace(good, "undefined", "some", 1))},
		"a word for a failure": {Stdout: []byte(strings.Replace(good, "failed       0", "failed       no", 1))},
		"a negative status":    {Stdout: []byte(strings.Replace(good, "exit_status  0", "exit_status  -1", 1))},
	} {
		if list, err := parseHistory(out); err == nil || errors.Is(err, scheduler.ErrNoHistory) {
			t.Errorf("%s: got %v, %v, want an error", name, list, err)
		}
	}
}

func TestHistoryAsksForOneNameOrForAll(t *testing.T) {
	a, b := scheduler.Ref{ID: "1.1", Tag: tagOf(1)}, scheduler.Ref{ID: "1.2", Tag: tagOf(1)}
	other := scheduler.Ref{Tag: tagOf(2)}
	for _, c := range []struct {
		d    Driver
		refs []scheduler.Ref
		want string
	}{
		{Driver{User: "alice"}, []scheduler.Ref{a, b}, "qacct -o alice -j " + tagOf(1)},
		{Driver{}, []scheduler.Ref{other}, "qacct -j " + tagOf(2)},
		{Driver{User: "alice"}, []scheduler.Ref{a, other}, "qacct -o alice -j s_????????????????????"},
		{Driver{}, []scheduler.Ref{{Tag: "*"}}, "qacct -j s_????????????????????"},
		{Driver{}, []scheduler.Ref{{ID: "7"}}, "qacct -j s_????????????????????"},
	} {
		call, ok := c.d.History(c.refs)
		if got := strings.Join(call.Argv, " "); !ok || got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// FuzzHistory: whatever qacct prints, it is an error or rows with ids, and what
// has ended has a reason or an exit.
func FuzzHistory(f *testing.F) {
	f.Add(recorded(f, "qacct.txt"), []byte(""), 0)
	f.Add([]byte(historyRecord("7", "2", "37  : x", "137  (Killed)", "300.1MB", "-l h_vmem=150M")), []byte(""), 0)
	f.Add([]byte(""), []byte("error: job id 10 not found\n"), 1)
	f.Add([]byte("no jobs running since startup\n"), []byte("/x: No such file or directory\n"), 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit int) {
		list, err := parseHistory(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit})
		if err == nil && exit == 0 && len(list) == 0 {
			t.Error("silence was taken for an empty history")
		}
		for _, st := range list {
			if exit != 0 || st.ID == "" || st.Tag == "" || st.Phase == ended && st.Exit == nil && st.Reason == "" || st.Member < 0 {
				t.Errorf("exit %d: got %+v", exit, st)
			}
		}
	})
}

// BenchmarkHistory reads 10 000 records.
func BenchmarkHistory(b *testing.B) {
	one := strings.SplitAfterN(string(recorded(b, "qacct.txt")), rule+"\n", 3)[1]
	one = strings.TrimSuffix(one, rule+"\n")
	out := scheduler.Output{Stdout: []byte(strings.Repeat(rule+"\n"+one, 10000))}
	b.SetBytes(int64(len(out.Stdout)))
	for b.Loop() {
		if list, err := parseHistory(out); err != nil || len(list) != 10000 {
			b.Fatal(len(list), err)
		}
	}
}
