package custom_test

import (
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// written is output in the form that HTCondor's manual and source give it. It was
// written by hand, not recorded: Debian 12 has no HTCondor.
func written(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestHTCondorByAFileIsSubmittedTo(t *testing.T) {
	d := load(t, "htcondor.yaml")
	call := d.Submit(scheduler.Submission{
		Tag: "s_1", Script: "/spool/s.sh", Directory: "/work", Output: "/spool/s.out", Comment: `a "name"`, Held: true, Requeue: true,
		Resources:  hpcsera.Resources{NodeCount: 1, ProcessCount: 2, CPUCoresPerProcess: 4, Memory: 3<<30 + 1},
		Attributes: hpcsera.Attributes{Duration: hpcsera.Duration(90 * time.Second), Account: "physics"},
		Custom:     map[string]string{"requirements": `Machine == "node7"`},
	})
	want := []string{
		"condor_submit", "-terse", "-batch-name", "s_1", "-append", "universe=vanilla", "-append", "executable=/spool/s.sh", "-append", "initialdir=/work",
		"-append", "output=/spool/s.out", "-append", "error=/spool/s.out", "-append", "should_transfer_files=NO",
		"-append", `environment="HPCSERA_HTCONDOR_ID=$(ClusterId)"`, "-append", "getenv=HOME,USER,LOGNAME,PATH,LANG,LC_ALL,TZ", "-append", "request_cpus=8", "-append", "hold=true", "-append", "request_memory=3073",
		"-append", "accounting_group=physics", "-append", "periodic_remove=JobStatus == 2 && time() - EnteredCurrentStatus > 90",
		"-append", `requirements=Machine == "node7"`, "/dev/null", "-queue", "1",
	}
	if diff := cmp.Diff(want, call.Argv); call.Refusal != nil || diff != "" {
		t.Errorf("%v; want -, got +:\n%s", call.Refusal, diff)
	}
	refs, err := call.Parse(scheduler.Output{Stdout: []byte("WARNING: your job has no log\n101.0 - 101.0\n")})
	if err != nil || !slices.Equal(refs, []scheduler.Ref{{ID: "101"}}) {
		t.Errorf("got %+v, %v, want job 101", refs, err)
	}
	for said, want := range map[string]*scheduler.Refused{
		"\nERROR: Can't find address of local schedd\n":                       {Throttled: true, Unreached: true},
		"\nERROR: Number of submitted jobs would exceed MAX_JOBS_PER_OWNER\n": {Throttled: true},
		"\nERROR: Parse error in expression: \n\trequest_cpus = x\n":          {},
		"\nERROR: Failed to commit job submission into the queue.\n":          nil,
		"Segmentation fault\n": nil,
	} {
		_, err := call.Parse(scheduler.Output{Stderr: []byte(said), Exit: 1})
		got, refused := errors.AsType[*scheduler.Refused](err)
		switch {
		case err == nil || refused != (want != nil):
			t.Errorf("%q: got %#v, want %+v", said, err, want)
		case refused && (got.Throttled != want.Throttled || got.Unreached != want.Unreached || got.Message == ""):
			t.Errorf("%q: got %+v, want %+v", said, got, want)
		}
	}
}

func TestHTCondorByAFileIsListed(t *testing.T) {
	d := load(t, "htcondor.yaml")
	list, err := d.Queue().Parse(scheduler.Output{Stdout: written(t, "condor_q.xml")})
	if err != nil {
		t.Fatal(err)
	}
	type told struct {
		ID, Tag, Nodes string
		Phase          scheduler.Phase
		Reason         hpcsera.Reason
		Exit           hpcsera.Exit
	}
	brief := func(list []scheduler.Status) (all []told) {
		for _, st := range list {
			row := told{st.ID, st.Tag, st.Nodes, st.Phase, st.Reason, hpcsera.Exit{Code: -1}}
			if st.Exit != nil {
				row.Exit = *st.Exit
			}
			all = append(all, row)
		}
		return all
	}
	none := hpcsera.Exit{Code: -1}
	tag := func(n string) string { return "s_000000000000000000" + n }
	want := []told{
		{"101", tag("01"), "", scheduler.PhaseQueued, "", none},
		{"102", tag("02"), "node7.example.org", scheduler.PhaseRunning, "", none},
		{"103", tag("03"), "", scheduler.PhaseHeld, "", none},
		{"104", tag("04"), "", scheduler.PhaseHeld, "", none},
		{"105", tag("05"), "", scheduler.PhaseQueued, hpcsera.HeldBySite, none},
		{"106", tag("06"), "", scheduler.PhaseRunning, "", none}, // its end is the history's
		{"107", "", "", scheduler.PhaseQueued, "", none},
		{"108", "&lt;/c&gt;&lt;c&gt; &quot;my&quot; batch", "", scheduler.PhaseRunning, "", none},
	}
	if diff := cmp.Diff(want, brief(list)); diff != "" {
		t.Errorf("queue: want -, got +:\n%s", diff)
	}
	past, ok := d.History([]scheduler.Ref{{ID: "90"}, {ID: "91"}})
	if got := past.Argv[len(past.Argv)-2:]; !ok || !slices.Equal(got, []string{"90", "91"}) {
		t.Errorf("got the arguments %q, want an id each", past.Argv)
	}
	list, err = past.Parse(scheduler.Output{Stdout: written(t, "condor_history.xml")})
	if err != nil {
		t.Fatal(err)
	}
	want = []told{
		{"90", tag("10"), "node7.example.org", scheduler.PhaseEnded, "", hpcsera.Exit{}},
		{"91", tag("11"), "node7.example.org", scheduler.PhaseEnded, "", hpcsera.Exit{Code: 3}},
		{"92", tag("12"), "node8.example.org", scheduler.PhaseEnded, "", hpcsera.Exit{Signal: 11}},
		{"93", tag("13"), "", scheduler.PhaseEnded, hpcsera.CancelledByUser, none},
		{"94", tag("14"), "node8.example.org", scheduler.PhaseEnded, hpcsera.Timeout, none},
	}
	if diff := cmp.Diff(want, brief(list)); diff != "" {
		t.Errorf("history: want -, got +:\n%s", diff)
	}
	if empty, err := d.Queue().Parse(scheduler.Output{Stdout: []byte("<?xml version=\"1.0\"?>\n<!DOCTYPE classads SYSTEM \"classads.dtd\">\n<classads>\n</classads>\n")}); err != nil || len(empty) != 0 {
		t.Errorf("an empty queue: got %+v, %v", empty, err)
	}
}

func TestActionsMeanIDAndTag(t *testing.T) {
	d := load(t, "htcondor.yaml")
	call := d.Act(scheduler.Cancel, []scheduler.Ref{{ID: "7", Tag: "s_a"}, {ID: "8", Tag: "s_b"}})
	want := []string{"condor_rm", "-constraint", `stringListMember(JobBatchName, "s_a,s_b") && stringListMember(string(ClusterId), "7,8")`}
	if !slices.Equal(call.Argv, want) {
		t.Errorf("got %q, want %q", call.Argv, want)
	}
}
