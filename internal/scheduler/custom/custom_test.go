package custom_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/custom"
)

// small is a file with no more than there must be, which reads what OpenPBS prints.
const small = `system: small
environment: {id: [JOB_ID]}
submit:
  command: [put, -n, "{tag}", -d, "{directory}", -o, "{output}", "{script}"]
  id: '^(?P<id>\d+)$'
queue:
  command: [list]
  rows: {json: {path: Jobs, fields: {id: "@key", tag: Job_Name, state: job_state, message: comment, exit: Exit_status}}}
cancel: {command: [drop, "{ids}"]}
probe: [{command: [ask], answers: yes}]
states:
  - {state: Q, phase: queued}
  - {state: R, phase: running}
  - {state: H, phase: held}
  - {state: F, phase: ended, exit: told}
`

func parse(t testing.TB, text string) custom.Driver {
	t.Helper()
	d, err := custom.Parse("/etc/small.yaml", []byte(text), "alice")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAFileIsCheckedWhenItIsLoaded(t *testing.T) {
	for name, c := range map[string]struct{ old, new, where string }{
		"no name":                       {"system: small", "system: Small One", "small.yaml:1 system"},
		"an unknown key":                {"cancel:", "kill: {}\ncancel:", "small.yaml:9 kill"},
		"a key twice":                   {"cancel:", "queue: {}\ncancel:", "small.yaml:9 queue"},
		"no cancel":                     {`cancel: {command: [drop, "{ids}"]}`, "", "cancel"},
		"cancel without ids":            {`"{ids}"`, "all", "small.yaml:9 cancel.command"},
		"no tag":                        {`"{tag}"`, "x", "small.yaml:4 submit.command"},
		"an unknown placeholder":        {`"{script}"`, `"{script}", "{passwd}"`, "small.yaml:4 submit.command[8]"},
		"a job's field elsewhere":       {"[list]", `[list, "{tag}"]`, "small.yaml:7 queue.command[1]"},
		"a lone brace":                  {`"{script}"`, `"{script}", "a}"`, "small.yaml:4 submit.command[8]"},
		"a shell's string":              {"[list]", "list --all", "small.yaml:7 queue.command"},
		"the command is a placeholder":  {"[put,", `["{script}",`, "small.yaml:4 submit.command"},
		"a value that may be missing":   {`"{script}"`, `"-q{queue_name}", "{script}"`, "small.yaml:4 submit.command[7]"},
		"a condition on another field":  {`"{script}"`, `{account: ["-q{queue_name}"]}, "{script}"`, "small.yaml:4 submit.command[7]"},
		"a value where it is not":       {`"{script}"`, `{not account: ["-A{account}"]}, "{script}"`, "small.yaml:4 submit.command[7]"},
		"an unknown condition":          {`"{script}"`, `{walltime: [x]}, "{script}"`, "small.yaml:4 submit.command[7]"},
		"a condition without a name":    {"[put,", `[{"": []}, put,`, "small.yaml:4 submit.command[0]"},
		"no condition at all":           {"[put,", "[{}, put,", "small.yaml:4 submit.command"},
		"memory without its unit":       {`"{script}"`, `{memory: ["{memory}"]}, "{script}"`, "small.yaml:4 submit.command[7]"},
		"a list inside an argument":     {`"{ids}"`, `"id={ids}"`, "small.yaml:9 cancel.command[1]"},
		"no regular expression":         {`^(?P<id>\d+)$`, `^(?P<id>\d+$`, "small.yaml:5 submit.id"},
		"no group id":                   {`(?P<id>\d+)`, `(\d+)`, "small.yaml:5 submit.id"},
		"an unknown field of a listing": {"message: comment", "walltime: comment", "small.yaml:8 queue.rows"},
		"a listing without states":      {"state: job_state, ", "", "small.yaml:8 queue.rows"},
		"two ways to read a listing":    {"rows: {json", "rows: {columns: {header: X, fields: [id, tag, state]}, json", "small.yaml:8 queue.rows"},
		"a table without header":        {"rows: {json: {path: Jobs, fields: {id: \"@key\", tag: Job_Name, state: job_state, message: comment, exit: Exit_status}}}", "rows: {columns: {fields: [id, tag, state]}}", "small.yaml:8 queue.rows.columns"},
		"a phase that is none":          {"phase: running", "phase: done", "small.yaml:13 states[1]"},
		"a rule for every state":        {"state: F", "state: .*", "small.yaml:15 states[3]"},
		"a rule without a state":        {"state: F, ", "", "small.yaml:15 states[3]"},
		"a reason of another phase":     {"phase: running", "phase: running, reason: timeout", "small.yaml:13 states[1]"},
		"the exit of a running job":     {"phase: running", "phase: running, exit: told", "small.yaml:13 states[1]"},
		"a probe that reads nothing":    {", answers: yes", "", "small.yaml:10 probe[0]"},
		"attributes that go nowhere":    {"cancel:", `attributes: {qos: {arguments: ["-q{value}"]}}` + "\ncancel:", "small.yaml:4 submit.command"},
		"an assumption about memory":    {"cancel:", "assumed: {memory: 1}\ncancel:", "small.yaml:9 assumed.memory"},
		"an assumption about nothing":   {"cancel:", "assumed: {walltime: 1}\ncancel:", "small.yaml:9 assumed.walltime"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(small, c.old, c.new, 1)
			if text == small {
				t.Fatalf("%q is not in the file", c.old)
			}
			_, err := custom.Parse("/etc/small.yaml", []byte(text), "alice")
			e, ok := errors.AsType[*hpcsera.Error](err)
			if !ok || !strings.HasSuffix(e.Field, c.where) {
				t.Errorf("got %v, want it at %s", err, c.where)
			}
		})
	}
}

func TestAFileThatEverybodyCanWriteIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "small.yaml")
	if err := os.WriteFile(path, []byte(small), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := custom.Load(path, "alice"); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := custom.Load(path, "alice"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want it refused by name", err)
	}
}

func TestWhatAFileHasNoArgumentForIsRefusedByName(t *testing.T) {
	d := parse(t, small+"assumed: {node_count: 1}\n")
	for name, c := range map[string]struct {
		change func(*scheduler.Submission)
		say    string
	}{
		"held":       {func(s *scheduler.Submission) { s.Held = true }, "held: small.yaml has no argument for it"},
		"requeue":    {func(s *scheduler.Submission) { s.Requeue = true }, "requeue: "},
		"memory":     {func(s *scheduler.Submission) { s.Resources.Memory = 1 }, "resources.memory: "},
		"nodes":      {func(s *scheduler.Submission) { s.Resources.NodeCount = 2 }, "resources.node_count: small has 1 and nothing else"},
		"exclusive":  {func(s *scheduler.Submission) { s.Resources.ExclusiveNodeUse = true }, "resources.exclusive_node_use: "},
		"duration":   {func(s *scheduler.Submission) { s.Attributes.Duration = 1 }, "attributes.duration: "},
		"queue":      {func(s *scheduler.Submission) { s.Attributes.QueueName = "q" }, "attributes.queue_name: "},
		"custom":     {func(s *scheduler.Submission) { s.Custom = map[string]string{"qos": "x"} }, "custom_attributes small.qos is not among those"},
		"a path":     {func(s *scheduler.Submission) { s.Script = "/a b" }, `script: small.yaml cannot pass on "/a b"`},
		"an option":  {func(s *scheduler.Submission) { s.Directory = "-rf" }, "directory: "},
		"a new line": {func(s *scheduler.Submission) { s.Output = "/a\nb" }, "output: "},
	} {
		t.Run(name, func(t *testing.T) {
			s := scheduler.Submission{Tag: "s_1", Script: "/s", Directory: "/d", Output: "/o"}
			c.change(&s)
			call := d.Submit(s)
			if call.Refusal == nil || call.Refusal.Throttled || !strings.HasPrefix(call.Refusal.Message, c.say) {
				t.Errorf("got %q, %+v, want it refused: %s", call.Argv, call.Refusal, c.say)
			}
		})
	}
	one := scheduler.Submission{Tag: "s_1", Script: "/s", Directory: "/d", Output: "/o", Comment: "x y", Resources: hpcsera.Resources{NodeCount: 1}}
	call := d.Submit(one)
	if diff := cmp.Diff([]string{"put", "-n", "s_1", "-d", "/d", "-o", "/o", "/s"}, call.Argv); call.Refusal != nil || diff != "" {
		t.Errorf("%+v, want -, got +:\n%s", call.Refusal, diff)
	}
	for _, action := range []scheduler.Action{scheduler.Hold, scheduler.Release} {
		if call := d.Act(action, []scheduler.Ref{{ID: "1"}}); call.Refusal == nil || !strings.Contains(call.Refusal.Message, string(action)) {
			t.Errorf("%s: got %+v, want a refusal", action, call)
		}
	}
	if _, ok := d.History(nil); ok {
		t.Error("got a history that the file has not")
	}
}

func TestJSONIsReadByPaths(t *testing.T) {
	recorded, err := os.ReadFile("../pbs/testdata/live.json")
	if err != nil {
		t.Fatal(err)
	}
	list, err := parse(t, small).Queue().Parse(scheduler.Output{Stdout: recorded})
	if err != nil {
		t.Fatal(err)
	}
	phases := map[string]scheduler.Phase{}
	for _, st := range list {
		phases[st.ID] = st.Phase
	}
	want := map[string]scheduler.Phase{}
	for _, st := range list {
		want[st.ID] = map[string]scheduler.Phase{"Q": scheduler.PhaseQueued, "R": scheduler.PhaseRunning, "H": scheduler.PhaseHeld}[st.Native]
		if want[st.ID] == "" {
			want[st.ID] = scheduler.PhaseUnknown
		}
	}
	if diff := cmp.Diff(want, phases); diff != "" || len(list) != strings.Count(string(recorded), `"Job_Name"`) || phases["21.vm"] != scheduler.PhaseRunning {
		t.Errorf("got %+v", list)
	}
}

func TestColumnsAreReadByBlanks(t *testing.T) {
	text := strings.Replace(small, `{json: {path: Jobs, fields: {id: "@key", tag: Job_Name, state: job_state, message: comment, exit: Exit_status}}}`,
		`{columns: {header: ID, fields: [id, "", state, tag]}}`, 1)
	d := parse(t, text)
	const head = "ID  OWNER  ST NAME\n"
	list, err := d.Queue().Parse(scheduler.Output{Stdout: []byte("Welcome\n" + head + "7   alice  F  s_1\n8 bob  ?? x\n")})
	want := []scheduler.Status{
		{Ref: scheduler.Ref{ID: "7", Tag: "s_1"}, Phase: scheduler.PhaseEnded, Native: "F"},
		{Ref: scheduler.Ref{ID: "8", Tag: "x"}, Phase: scheduler.PhaseUnknown, Native: "??"},
	}
	if diff := cmp.Diff(want, list); err != nil || diff != "" {
		t.Errorf("%v, want -, got +:\n%s", err, diff)
	}
	for _, cut := range []string{"", "ID OWNER\n", head[:5], head + "7 alice F\n", head + "7 alice F s_1", head + "7 alice F s_1\nBye, see you\n\n"} {
		if list, err := d.Queue().Parse(scheduler.Output{Stdout: []byte(cut)}); err == nil {
			t.Errorf("%q: got %+v", cut, list)
		}
	}
}

func TestASiteWithoutHistoryIsKnownByItsWords(t *testing.T) {
	call, _ := load(t, "slurm.yaml").History([]scheduler.Ref{{ID: "1"}})
	_, err := call.Parse(scheduler.Output{Stderr: []byte("Slurm accounting storage is disabled\n"), Exit: 1})
	if !errors.Is(err, scheduler.ErrNoHistory) {
		t.Errorf("got %v, want no history", err)
	}
}

// FuzzListings: whatever a command prints, it is an error or rows with ids, and
// only a rule ends a job.
func FuzzListings(f *testing.F) {
	drivers := []custom.Driver{load(f, "slurm.yaml"), load(f, "htcondor.yaml"), parse(f, small)}
	for i, name := range []string{"../slurm/testdata/squeue.txt", "testdata/condor_q.xml", "../pbs/testdata/live.json"} {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, i, 0)
	}
	f.Fuzz(func(t *testing.T, text []byte, driver, exit int) {
		list, err := drivers[uint(driver)%3].Queue().Parse(scheduler.Output{Stdout: text, Exit: exit})
		if err == nil && (exit != 0 || len(text) == 0) || err != nil && list != nil {
			t.Errorf("exit %d: got %+v, %v", exit, list, err)
		}
		for _, st := range list {
			if st.ID == "" || st.Exit != nil && st.Phase != scheduler.PhaseEnded {
				t.Errorf("got %+v", st)
			}
		}
	})
}

// FuzzFile: no text makes the reader of scheduler files panic, nor a driver made of one.
func FuzzFile(f *testing.F) {
	for _, name := range []string{"slurm.yaml", "htcondor.yaml"} {
		text, err := os.ReadFile(examples + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(small)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := custom.Parse("f.yaml", []byte(text), "alice")
		if err != nil {
			return
		}
		call := d.Submit(scheduler.Submission{
			Tag: "s_1", Script: "/s", Directory: "/d", Output: "/o", Resources: hpcsera.Resources{Memory: 1 << 30, ProcessCount: 2}, Attributes: hpcsera.Attributes{Duration: 61},
		})
		if call.Refusal == nil && (len(call.Argv) == 0 || call.Argv[0] == "") {
			t.Errorf("got %q", call.Argv)
		}
	})
}

func BenchmarkQueueOf10000Jobs(b *testing.B) {
	for _, c := range []struct{ file, recorded, row, end string }{
		{"slurm.yaml", "", "%d\x1fc\x1fRUNNING\x1fNone\x1f0\x1f0\x1f1795346418\x1f1795346418\x1fn1\x1fs_%020d\x1f\n", ""},
		{"htcondor.yaml", "<classads>\n", "<c>\n    <a n=\"ClusterId\"><i>%d</i></a>\n    <a n=\"JobBatchName\"><s>s_%020d</s></a>\n    <a n=\"JobStatus\"><i>2</i></a>\n    <a n=\"QDate\"><i>1795346425</i></a>\n</c>\n", "</classads>\n"},
	} {
		b.Run(c.file, func(b *testing.B) {
			parse := load(b, c.file).Queue().Parse
			text := c.recorded
			if text == "" {
				text = "JOBID\x1fCLUSTER\x1fSTATE\x1fREASON\x1fRESTART_COUNT\x1fEXIT_CODE\x1fSUBMIT_TIME\x1fSTART_TIME\x1fNODELIST\x1fNAME\x1f\n"
			}
			var all strings.Builder
			all.WriteString(text)
			for i := range 10000 {
				fmt.Fprintf(&all, c.row, i+1, i)
			}
			all.WriteString(c.end)
			out := scheduler.Output{Stdout: []byte(all.String())}
			b.SetBytes(int64(len(out.Stdout)))
			for b.Loop() {
				if list, err := parse(out); err != nil || len(list) != 10000 {
					b.Fatal(len(list), err)
				}
			}
		})
	}
}
