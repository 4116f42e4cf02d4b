package lsf

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func pastOf(t *testing.T, text string) map[string]scheduler.Status {
	t.Helper()
	list, err := parseHistory(scheduler.Output{Stdout: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]scheduler.Status{}
	for _, st := range list {
		m[st.ID] = st
	}
	return m
}

// TestARelativesHistoryTellsWhoEndedAJob: volclava tells no termination reason.
func TestARelativesHistoryTellsWhoEndedAJob(t *testing.T) {
	jobs := pastOf(t, string(recorded(t, "volclava-bhist.txt")))
	if len(jobs) != 13 {
		t.Errorf("jobs: got %d, want 13: %v", len(jobs), jobs)
	}
	ended := func(id, name string, member int, native string, reason hpcsera.Reason, exit *hpcsera.Exit) scheduler.Status {
		return scheduler.Status{Ref: scheduler.Ref{ID: id, Tag: name, Member: member}, Phase: scheduler.PhaseEnded, Native: native, Reason: reason, Exit: exit}
	}
	for _, want := range []scheduler.Status{
		ended("27", "key-abc123", 0, "DONE", "", &hpcsera.Exit{}),
		ended("28", "fromstdin", 0, "EXIT", "", &hpcsera.Exit{Code: 3}),
		ended("30", "tmo", 0, "EXIT", hpcsera.Timeout, nil),
		ended("32[3]", "arr", 2, "EXIT", "", &hpcsera.Exit{Code: 1}),
		ended("32[6]", "arr", 5, "DONE", "", &hpcsera.Exit{}),
		ended("41", "can", 0, "EXIT", hpcsera.CancelledByUser, nil),
	} {
		if diff := cmp.Diff(want, jobs[want.ID]); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", want.ID, diff)
		}
	}
}

// block is what bhist -l tells of job 6, with LSB_DISPLAY_YEAR.
func block(events ...string) string {
	var b strings.Builder
	b.WriteString("\nJob <6>, Job Name <" + tag(6) + ">, User <alice>, Project <default>, Command </w/wra\n                     pper>\n" +
		"Sun Nov 22 09:42:50 2026: Submitted from host <login1>, to Queue <normal>, CWD \n                     </w>, Output File </w/out>;\n")
	for _, e := range events {
		b.WriteString(e + "\n")
	}
	b.WriteString("\nSummary of time in seconds spent in various states by  Sun Nov 22 10:42:50 2026\n" +
		"  PEND     PSUSP    RUN      USUSP    SSUSP    UNKWN    TOTAL\n  1        0        9        0        0        0        10          \n")
	return b.String()
}

func TestHistoryTellsTheLastRunsEnd(t *testing.T) {
	const (
		at       = "Sun Nov 22 09:43:00 2026: "
		dispatch = at + "Dispatched 1 Task(s) on Host(s) <hostA>, Allocated 1 Slot(s) on Host(s) <\n                     hostA>, Effective RES_REQ <select[type == local] order[r15s:pg] >;"
		start    = at + "Starting (Pid 87178);"
		exit130  = at + "Exited with exit code 130. The CPU time used is 0.1 second\n                     s;"
	)
	type want struct {
		phase    scheduler.Phase
		reason   hpcsera.Reason
		exit     *hpcsera.Exit
		restarts int
	}
	ended := scheduler.PhaseEnded
	for name, c := range map[string]struct {
		events []string
		want   want
	}{
		"done":                   {[]string{dispatch, start, at + "Done successfully. The CPU time used is 0.1 seconds;", at + "Post job process done successfully;"}, want{ended, "", &hpcsera.Exit{}, 0}},
		"exit 42":                {[]string{dispatch, at + "Exited with exit code 42. The CPU time used is 0.1 seconds;", at + "Completed <exit>;"}, want{ended, "", &hpcsera.Exit{Code: 42}, 0}},
		"signal 11":              {[]string{dispatch, at + "Exited by signal 11. The CPU time used is 0.1 seconds;"}, want{ended, "", &hpcsera.Exit{Signal: 11}, 0}},
		"exit 139":               {[]string{dispatch, at + "Exited with exit code 139. The CPU time used is 0.1 seconds;", at + "Completed <exit>;"}, want{ended, "", &hpcsera.Exit{Signal: 11}, 0}},
		"run limit":              {[]string{"\n RUNLIMIT\n 1.0 min of hostA", dispatch, at + "Exited with exit code 140. The CPU time used is 0.1 seconds;", at + "Completed <exit>; TERM_RUNLIMIT: job killed after reaching LSF run tim\n                     e limit;"}, want{ended, hpcsera.Timeout, nil, 0}},
		"SIGUSR2, no limit":      {[]string{dispatch, at + "Exited with exit code 140. The CPU time used is 0.1 seconds;"}, want{ended, "", &hpcsera.Exit{Signal: 12}, 0}},
		"memory":                 {[]string{dispatch, exit130, at + "Completed <exit>; TERM_MEMLIMIT: job killed after reaching LSF memory usage limit."}, want{ended, hpcsera.OutOfMemory, nil, 0}},
		"by its owner":           {[]string{dispatch, at + "Signal <KILL> requested by user or administrator <alice>;", exit130, at + "Completed <exit>; TERM_OWNER: job killed by owner;"}, want{ended, hpcsera.CancelledByUser, nil, 0}},
		"by somebody else":       {[]string{dispatch, at + "Signal <KILL> requested by user or administrator <root>;", exit130}, want{ended, hpcsera.CancelledBySite, nil, 0}},
		"while pending":          {[]string{at + "Signal <KILL> requested by user or administrator <alice>;", at + "Exited;"}, want{ended, hpcsera.CancelledByUser, nil, 0}},
		"ended for no reason":    {[]string{at + "Exited"}, want{ended, "", nil, 0}},
		"forced":                 {[]string{dispatch, at + "Exited; job has been forced to exit with exit code 130. The CPU time used is unknown;", at + "Completed <exit>; TERM_FORCE_ADMIN: job killed by root or LSF administrator without time for cleanup;"}, want{ended, hpcsera.CancelledBySite, nil, 0}},
		"done though killed":     {[]string{dispatch, at + "Signal <KILL> requested by user or administrator <alice>;", at + "Done successfully. The CPU time used is 0.1 seconds;"}, want{ended, "", &hpcsera.Exit{}, 0}},
		"another signal":         {[]string{dispatch, at + "Signal <USR1> requested by user or administrator <alice>;", at + "Exited with exit code 7. The CPU time used is 0.1 seconds;"}, want{ended, "", &hpcsera.Exit{Code: 7}, 0}},
		"requeued, then done":    {[]string{dispatch, at + "Exited with exit code 17.", at + "Pending: Requeued job is waiting for rescheduling;(exit code 17)", dispatch, at + "Done successfully. The CPU time used is 0.1 seconds;"}, want{ended, "", &hpcsera.Exit{}, 1}},
		"requeued, waits":        {[]string{dispatch, at + "Exited with exit code 17.", at + "Pending: Requeued job is waiting for rescheduling;(exit code 17)"}, want{scheduler.PhaseQueued, "", nil, 0}},
		"killed, requeued, done": {[]string{dispatch, at + "Signal <KILL> requested by user or administrator <root>;", exit130, at + "Completed <exit>; TERM_REQUEUE_ADMIN: job killed and requeued by root or LSF administrator;", dispatch, at + "Exited with exit code 3."}, want{ended, "", &hpcsera.Exit{Code: 3}, 1}},
		"host out of reach":      {[]string{dispatch, start, at + "Unknown; unable to reach the execution host;"}, want{scheduler.PhaseUnknown, "", nil, 0}},
		"back in reach":          {[]string{dispatch, at + "Unknown; unable to reach the execution host;", at + "Running;", at + "Exited with exit code 143. The CPU time used is 0.0 seconds;", at + "Completed <exit>; TERM_ZOMBIE: job exited while LSF is not available;"}, want{ended, hpcsera.NodeFailure, nil, 0}},
		"running":                {[]string{dispatch, start, at + "Running with execution home </home/alice>, Execution CWD </w>, Execution Pid <1>;"}, want{scheduler.PhaseRunning, "", nil, 0}},
		"pending":                {nil, want{scheduler.PhaseQueued, "", nil, 0}},
		"a reason of no meaning": {[]string{dispatch, at + "Exited with exit code 9.", at + "Completed <exit>; TERM_SOMETHING_NEW: job killed for fun;"}, want{ended, "", &hpcsera.Exit{Code: 9}, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			st := pastOf(t, block(c.events...)+"\n")["6"]
			if got := (want{st.Phase, st.Reason, st.Exit, st.Restarts}); !cmp.Equal(got, c.want, cmp.AllowUnexported(want{})) {
				t.Errorf("got %+v, want %+v", st, c.want)
			}
			if st.Tag != tag(6) || !st.Submitted.Equal(time.Date(2026, 11, 22, 9, 42, 50, 0, time.UTC)) {
				t.Errorf("got %+v, want the name and the time of its submission", st)
			}
		})
	}
}

func TestNoHistoryIsAnErrorAndNeverAbsence(t *testing.T) {
	good := block("Sun Nov 22 09:43:00 2026: Done successfully. The CPU time used is 0.1 seconds;")
	rule := strings.Repeat("-", 78) + "\n"
	for name, out := range map[string]scheduler.Output{
		"none found, and an error": {Stdout: []byte("No matching job found\n"), Stderr: []byte("lsb.events.3: Permission denied\n")},
		"broken off at its end":    {Stdout: []byte(good[:len(good)-30])},
		"broken off at an event":   {Stdout: []byte(good[:strings.Index(good, "Done")])},
		"without its newline":      {Stdout: []byte(strings.TrimRight(good, "\n"))},
		"broken off in the second": {Stdout: []byte(good + rule + good[:100])},
		"the first broken off":     {Stdout: []byte(good[:strings.Index(good, "Summary")] + rule + good)},
		"a title that is none":     {Stdout: []byte(strings.Replace(good, "User <", "Nobody <", 1))},
		"an id that is none":       {Stdout: []byte(strings.Replace(good, "Job <6>", "Job <x>", 1))},
	} {
		if list, err := parseHistory(out); err == nil || list != nil {
			// A job that broke off must not end by what stands in the next one's place.
			t.Errorf("%s: got %+v, %v, want an error", name, list, err)
		}
	}
	for name, out := range map[string]scheduler.Output{
		"on stdout": {Stdout: []byte("No matching job found\n"), Exit: 255}, "on stderr": {Stderr: []byte("No matching job found.\n"), Exit: 255},
	} {
		if list, err := parseHistory(out); err != nil || len(list) != 0 {
			t.Errorf("%s: got %v, %v, want no jobs", name, list, err)
		}
	}
	if list, err := parseHistory(scheduler.Output{Stdout: []byte("Warning: old log file\n" + good + rule + strings.ReplaceAll(good, "<6>", "<7>"))}); err != nil || len(list) != 2 {
		t.Errorf("after a warning: got %v, %v, want two jobs", list, err)
	}
}

// FuzzHistory: no output makes the parser panic, ends a job by anything but an
// event, or is read when the command failed.
func FuzzHistory(f *testing.F) {
	f.Add(recorded(f, "volclava-bhist.txt"), 0)
	f.Add([]byte(block("Sun Nov 22 09:43:00 2026: Exited by signal 9."))[1:], 0)
	f.Add([]byte("No matching job found\n"), 255)
	f.Fuzz(func(t *testing.T, stdout []byte, exit int) {
		out := scheduler.Output{Stdout: stdout, Exit: exit}
		list, err := parseHistory(out)
		if err != nil && list != nil || exit != 0 && len(list) > 0 {
			t.Errorf("exit %d: got %v beside the error %v", exit, list, err)
		}
		if err == nil && len(list) == 0 && !only(out, unfound) {
			t.Errorf("%q was read as an empty history", stdout)
		}
		for _, st := range list {
			if st.Phase == scheduler.PhaseEnded && st.Native != "DONE" && st.Native != "EXIT" || !address.MatchString(st.ID) {
				t.Errorf("got %+v", st)
			}
		}
	})
}
