package oar

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func submission() scheduler.Submission {
	return scheduler.Submission{Tag: tag(1), Script: "/w/wrapper", Directory: "/w/job", Output: "/w/wrapper.out", Comment: "cavity"}
}

func TestSubmitPassesOneArgumentPerOption(t *testing.T) {
	plain := []string{"oarsub", "--name=" + tag(1), "--directory=/w/job", "--stdout=/w/wrapper.out", "--stderr=/w/wrapper.out", "--", "/w/wrapper"}
	call := Driver{}.Submit(submission())
	if !slices.Equal(call.Argv, plain) || !slices.Equal(call.Env, []string{"PWD=/w/job"}) {
		t.Errorf("got  %q %q\nwant %q", call.Argv, call.Env, plain)
	}
	s := submission()
	s.Held, s.Requeue, s.Size = true, true, 7
	s.Resources = hpcsera.Resources{NodeCount: 3, ProcessCount: 12, ProcessesPerNode: 4, CPUCoresPerProcess: 2}
	s.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(50*time.Hour + 3*time.Minute + 4*time.Second), QueueName: "q", Account: "a", ReservationID: "12"}
	s.Custom = map[string]string{"type": "besteffort", "property": "mem > 4 AND host = 'a' --notify=x", "checkpoint": "60", "signal": "10"}
	want := []string{"--hold", "--resource=/network_address=3/resource_id=8,walltime=50:03:04", "--queue=q", "--project=a", "--type=inner=12",
		"--checkpoint=60", "--property=mem > 4 AND host = 'a' --notify=x", "--signal=10", "--type=besteffort", "--type=idempotent", "--array=7", "--", "/w/wrapper"}
	if got := (Driver{}).Submit(s).Argv[5:]; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s = submission()
	s.Custom = map[string]string{"resource": "{gpu_model = 'x'}/host=1/core=4"}
	s.Attributes.Duration = hpcsera.Duration(1500 * time.Millisecond)
	if got := (Driver{}).Submit(s).Argv; !slices.Contains(got, "--resource={gpu_model = 'x'}/host=1/core=4,walltime=0:00:02") {
		t.Errorf("the site's own hierarchy: got %q", got)
	}
	s.Custom = nil
	if got := (Driver{}).Submit(s).Argv; !slices.Contains(got, "--resource=walltime=0:00:02") {
		t.Errorf("a time limit alone: got %q", got)
	}
}

func TestResourcesBecomeAPathOrARefusal(t *testing.T) {
	type r = hpcsera.Resources
	for _, c := range []struct {
		r    r
		want string
	}{
		{r{}, ""},
		{r{ProcessCount: 1}, "/network_address=1/resource_id=1"},
		{r{CPUCoresPerProcess: 8}, "/network_address=1/resource_id=8"},
		{r{ProcessCount: 100}, "/resource_id=100"},
		{r{NodeCount: 2}, "/network_address=2/resource_id=1"},
		{r{NodeCount: 2, ProcessCount: 5, CPUCoresPerProcess: 2}, "/network_address=2/resource_id=6"},
		{r{ProcessCount: 9, ProcessesPerNode: 4}, "/network_address=3/resource_id=4"},
		{r{ProcessesPerNode: 4}, "/network_address=1/resource_id=4"},
		{r{GPUCoresPerProcess: 1, CPUCoresPerProcess: 16}, "/network_address=1/gpu=1/resource_id=16"},
		{r{NodeCount: 2, ProcessCount: 8, GPUCoresPerProcess: 2, CPUCoresPerProcess: 5}, "/network_address=2/gpu=8/resource_id=3"},
		{r{ExclusiveNodeUse: true}, "/network_address=1"},
		{r{NodeCount: 3, ProcessCount: 30, ExclusiveNodeUse: true}, "/network_address=3"},
	} {
		if got, err := resources(c.r); err != nil || got != c.want {
			t.Errorf("%+v: got %q, %v, want %q", c.r, got, err, c.want)
		}
	}
	for want, bad := range map[string]r{
		"resources.memory":                {Memory: 1},
		"resources.cpu_cores_per_process": {ProcessCount: 4, CPUCoresPerProcess: 2},
		"resources.gpu_cores_per_process": {ProcessCount: 4, GPUCoresPerProcess: 1},
		"resources.exclusive_node_use":    {ProcessCount: 4, ExclusiveNodeUse: true},
		"beside gpu_cores_per_process":    {NodeCount: 1, GPUCoresPerProcess: 1, ExclusiveNodeUse: true},
	} {
		s := submission()
		s.Resources = bad
		if got := (Driver{}).Submit(s).Refusal; got == nil || !strings.Contains(got.Message, want) || got.Throttled || got.Unreached {
			t.Errorf("%+v: got %+v, want a refusal that names %s", bad, got, want)
		}
	}
}

func TestWhatOARWouldPutIntoAShellOrAStatementIsRefused(t *testing.T) {
	for name, change := range map[string]func(*scheduler.Submission){
		"script with a blank":          func(s *scheduler.Submission) { s.Script = "/w/a b" },
		"script with a command":        func(s *scheduler.Submission) { s.Script = "/w/$(id)" },
		"script with a quote":          func(s *scheduler.Submission) { s.Script = "/w/a'b" },
		"script with a line":           func(s *scheduler.Submission) { s.Script = "/w/a\nid" },
		"script that is an option":     func(s *scheduler.Submission) { s.Script = "--notify=x" },
		"folder with Perl":             func(s *scheduler.Submission) { s.Directory = "/w/a'.`id`.'" },
		"folder with a line":           func(s *scheduler.Submission) { s.Directory = "/w\n" },
		"output with a job's id":       func(s *scheduler.Submission) { s.Output = "/w/%jobid%" },
		"output with a pipe":           func(s *scheduler.Submission) { s.Output = "/w/a|id" },
		"output that OAR refuses":      func(s *scheduler.Submission) { s.Output = "/w/a+b" },
		"tag with a quote":             func(s *scheduler.Submission) { s.Tag = "s_'" },
		"tag too long":                 func(s *scheduler.Submission) { s.Tag = strings.Repeat("s", 101) },
		"account with a quote":         func(s *scheduler.Submission) { s.Attributes.Account = "a','b" },
		"account too long":             func(s *scheduler.Submission) { s.Attributes.Account = strings.Repeat("a", 65) },
		"queue with a quote":           func(s *scheduler.Submission) { s.Attributes.QueueName = "a'" },
		"queue with a blank":           func(s *scheduler.Submission) { s.Attributes.QueueName = "a b" },
		"reservation that is no job":   func(s *scheduler.Submission) { s.Attributes.ReservationID = "r1" },
		"reservation that is a word":   func(s *scheduler.Submission) { s.Attributes.ReservationID = "1,x" },
		"an array that takes too long": func(s *scheduler.Submission) { s.Size = maxArray + 1 },
	} {
		s := submission()
		change(&s)
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("%s: got %q, want a refusal", name, call.Argv)
		}
	}
	s := submission()
	s.Comment = "a\nb\x00--notify=x"
	for _, arg := range (Driver{}).Submit(s).Argv[1:5] {
		if !strings.HasPrefix(arg, "--") || strings.ContainsAny(arg, "\n\x00") {
			t.Errorf("got the argument %q", arg)
		}
	}
}

func TestCustomAttributesOutsideTheListAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"notify": "exec:/bin/id", "stdout": "/etc/passwd", "stagein": "x", "array": "3", "array-param-file": "f", "anterior": "1", "name": "x", "directory": "/",
		"reservation": "2030-01-01 00:00:00", "interactive": "", "connect": "1", "use-job-key": "", "import-job-key-from-file": "f", "export-job-key-to-file": "f",
		"resubmit": "1", "scanscript": "", "project": "x", "hold": "", "p": "x", "": "x", "property=x --notify": "id",
		"property": "a\nb", "checkpoint": "x", "signal": "-9", "type": "noop",
	} {
		s := submission()
		s.Custom = map[string]string{name: value}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("%s=%q: got %q, want a refusal", name, value, call.Argv)
		}
	}
	for _, kind := range []string{"container", "inner=1", "deploy", "cosystem", "idempotent", "placeholder=x", "desktop_computing", "besteffort\n", "allowed=a'b", "timesharing=a", "postpone=tomorrow"} {
		s := submission()
		s.Custom = map[string]string{"type": kind}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("type %q: got %q, want a refusal", kind, call.Argv)
		}
	}
	for _, kind := range []string{"besteffort", "timesharing=user,*", "token:lic=2", "allowed=x", "postpone=2030-01-01", "deadline=2030-01-01 10:00:00", "state=permissive"} {
		s := submission()
		s.Custom = map[string]string{"type": kind}
		if call := (Driver{}).Submit(s); call.Refusal != nil || !slices.Contains(call.Argv, "--type="+kind) {
			t.Errorf("type %q: got %q, %v", kind, call.Argv, call.Refusal)
		}
	}
	for _, s := range []scheduler.Submission{
		{Custom: map[string]string{"resource": "/core=1"}, Resources: hpcsera.Resources{NodeCount: 1}},
		{Custom: map[string]string{"resource": "/core=1,walltime=99:0:0"}},
	} {
		if _, err := options(s); err == nil {
			t.Errorf("%+v: got no refusal", s.Custom)
		}
	}
}

const chatter = "[ADMISSION RULE] Set default walltime to 7200.\n[ADMISSION RULE] Modify resource description with type constraints\n"

func TestSubmitTakesOnlyAClearID(t *testing.T) {
	for _, c := range []struct {
		out  string
		size int
		want []string
	}{
		{"OAR_JOB_ID=7\n", 1, []string{"7"}},
		{chatter + "OAR_JOB_ID=7\n", 1, []string{"7"}},
		{chatter + "OAR_JOB_ID=11\nOAR_JOB_ID=12\nOAR_JOB_ID=15\nOAR_ARRAY_ID=11\n", 3, []string{"11_1", "11_2", "11_3"}},
	} {
		refs, err := parseSubmit(scheduler.Output{Stdout: []byte(c.out)}, c.size)
		var got []string
		for _, ref := range refs {
			got = append(got, ref.ID)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, %v, want %q", c.out, got, err, c.want)
		}
	}
	for _, c := range []struct {
		out  string
		exit int
		size int
	}{
		{"", 0, 1}, {"\n", 0, 1}, {chatter, 0, 1}, {"OAR_JOB_ID=\n", 0, 1}, {"OAR_JOB_ID=x\n", 0, 1}, {"OAR_JOB_ID=0\n", 0, 1}, {"OAR_JOB_ID=-5\n", 0, 1},
		{"OAR_JOB_ID=7\nOAR_JOB_ID=8\n", 0, 1}, {"see OAR_JOB_ID=7\n", 0, 1}, {"OAR_JOB_ID=99999999999999999999\n", 0, 1}, {"Usage: oarsub\n", 0, 1},
		{"OAR_JOB_ID=7\nOAR_ARRAY_ID=7\n", 0, 2}, {"OAR_JOB_ID=7\nOAR_JOB_ID=8\n", 0, 2}, {"OAR_JOB_ID=7\nOAR_JOB_ID=8\nOAR_ARRAY_ID=\n", 0, 2},
		{"OAR_JOB_ID=7\nOAR_JOB_ID=-10\nOAR_ARRAY_ID=7\n", 0, 2},
		// The job is queued, whatever the status: here OAR's server is down, and its words are wrong.
		{"OAR_JOB_ID=7\n", 9, 1}, {"OAR_JOB_ID=7\nOAR_JOB_ID=-10\n", 8, 2}, {"OAR_JOB_ID=\n", 8, 1}, {"OAR_JOB_ID=0\n", 8, 1},
	} {
		stderr := "[ERROR] Cannot connect to executor localhost:6666. Job is killed.\n"
		refs, err := parseSubmit(scheduler.Output{Stdout: []byte(c.out), Stderr: []byte(stderr), Exit: c.exit}, c.size)
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, %v, want an ambiguous error: the job may be queued", c.out, refs, err)
		}
	}
}

func TestRefusalsAreCertainOrElseAmbiguous(t *testing.T) {
	asked := "[ERROR] Oarsub failed, please verify your request syntax.\n"
	for _, c := range []struct {
		stdout, stderr string
		exit           int
		want           scheduler.Refused
	}{
		{chatter, "ERROR : The queue nope does not exist\n", 248, scheduler.Refused{Message: "ERROR : The queue nope does not exist"}},
		{chatter + "OAR_JOB_ID=-5\n", "There are not enough resources for your request\n" + asked, 8, scheduler.Refused{Message: "There are not enough resources for your request"}},
		{chatter, "Simple array job submission is used\nThere are not enough resources for your request\n", 251, scheduler.Refused{Message: "There are not enough resources for your request"}},
		{chatter + "OAR_JOB_ID=-5\n", "Bad resource request (ERROR:  column \"core\" does not exist\nLINE 1: SELECT  core, resource_id\n\t)\n" + asked, 8,
			scheduler.Refused{Message: "Bad resource request (ERROR:  column \"core\" does not exist; LINE 1: SELECT  core, resource_id; )"}},
		{"", "[ADMISSION RULE] root and oar users are not allowed to submit jobs.\n\n", 254, scheduler.Refused{Message: "[ADMISSION RULE] root and oar users are not allowed to submit jobs."}},
		{"", "[ADMISSION RULE] Error: you cannot have more than 2 waiting advance reservations.\n", 254,
			scheduler.Refused{Message: "[ADMISSION RULE] Error: you cannot have more than 2 waiting advance reservations.", Throttled: true}},
		{"", "/!\\ Invalid stdout file name (bad character)\n", 244, scheduler.Refused{Message: "/!\\ Invalid stdout file name (bad character)"}},
		{"", "Unknown option: foo\n", 1, scheduler.Refused{Message: "Unknown option: foo"}},
		{"", "/!\\ Cannot recognize the resource description : x\n", 255, scheduler.Refused{Message: "/!\\ Cannot recognize the resource description : x"}},
		{"[SITE] Your project has ended.\n", "", 254, scheduler.Refused{Message: "[SITE] Your project has ended."}},
		{"", "[OARDO] ERROR: Cannot run with oar privileges /usr/lib/oar/oarsub (Permission denied)\n", 1,
			scheduler.Refused{Message: "[OARDO] ERROR: Cannot run with oar privileges /usr/lib/oar/oarsub (Permission denied)", Throttled: true, Unreached: true}},
	} {
		_, err := parseSubmit(scheduler.Output{Stdout: []byte(c.stdout), Stderr: []byte(c.stderr), Exit: c.exit}, 1)
		got, ok := errors.AsType[*scheduler.Refused](err)
		if !ok {
			t.Errorf("%q: got %v, want a refusal", c.stderr, err)
		} else if diff := cmp.Diff(c.want, *got); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", c.stderr, diff)
		}
	}
	for _, c := range []struct {
		text string
		exit int
	}{
		{"", 1}, {"", 8}, {"", 254}, {"Killed\n", 137}, {"DBD::Pg::db do failed: server closed the connection unexpectedly\n", 255}, {"Can't call method \"execute\" on an undefined value\n", 255},
		{"Error: Cannot exec user shell\n", 242}, {"[ERROR] Cannot connect to executor localhost:6666. Is OAR started?\n", 3}, {"bash: /usr/bin/oarsub: Input/output error\n", 126},
		{"[IOlib] Cannot connect to database\n", 1}, {"Ihre Anfrage wurde abgelehnt.\n", 1},
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(c.text), Exit: c.exit}, 1)
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%d %q: got %v, want an ambiguous error: the job may be queued", c.exit, c.text, err)
		}
	}
}

func TestConditionsHoldNothingButPlainWords(t *testing.T) {
	refs := []scheduler.Ref{{ID: "11_1", Tag: tag(1)}, {ID: "11_2", Tag: tag(1), Member: 1}, {ID: "9", Tag: tag(2)}, {ID: "1 OR 1=1", Tag: tag(3)}, {ID: "12", Tag: "s_' OR '1'='1"}, {ID: "011", Tag: tag(4)}}
	want := "(array_id IN (11,9) AND (array_id,array_index) IN ((11,1),(11,2),(9,1)) OR array_id = 0 AND job_id IN (11,9)) AND job_name IN ('" + tag(1) + "','" + tag(2) + "')"
	if got := these(refs); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := these([]scheduler.Ref{{Tag: tag(1)}, {Tag: "'"}}), "job_name IN ('"+tag(1)+"')"; got != want {
		t.Errorf("by tag: got %s, want %s", got, want)
	}
	for _, refs := range [][]scheduler.Ref{nil, {{ID: "x", Tag: tag(1)}}, {{Tag: ""}}, {{ID: "3", Tag: "\\"}}} {
		if got := these(refs); got != none {
			t.Errorf("%+v: got %s, want nothing selected", refs, got)
		}
	}
	for user, want := range map[string]string{"alice": "job_user = 'alice' AND job_name LIKE 's_%'", "": "job_name LIKE 's_%'", "a'b": "job_name LIKE 's_%'"} {
		if got := (Driver{User: user}).ours(); got != want {
			t.Errorf("user %q: got %s, want %s", user, got, want)
		}
	}
	call := Driver{User: "alice"}.Queue()
	if sql := call.Argv[3]; !strings.HasPrefix(sql, "--sql="+live+" AND job_user") || !strings.HasSuffix(sql, " OR "+newest) {
		t.Errorf("got %q", call.Argv)
	}
	for action, want := range map[scheduler.Action][2]string{
		scheduler.Cancel: {"oardel", live}, scheduler.Hold: {"oarhold", "state = 'Waiting'"}, scheduler.Release: {"oarresume", "state = 'Hold'"},
	} {
		got := Driver{}.Act(action, refs[:1]).Argv
		if len(got) != 2 || got[0] != want[0] || got[1] != "--sql="+these(refs[:1])+" AND "+want[1] {
			t.Errorf("%s: got %q", action, got)
		}
	}
}

func TestActingOnAGoneJobIsNoError(t *testing.T) {
	for _, text := range []string{
		"/!\\ Cannot hold 8 : the job is not in the right state (try '-r' option).\n",
		"/!\\ Cannot resume 8 : the job is not in the Hold or Suspended state.\n",
		"Cannot frag 16 ; This job was already killed.\nCannot frag 17 ; This job was already killed.\n",
	} {
		if _, err := parseAct(scheduler.Output{Stderr: []byte(text), Exit: 6}); err != nil {
			t.Errorf("%q: got %v", text, err)
		}
	}
	for _, text := range []string{
		"", "Cannot frag 99999 ; You are not the right user.\n", "/!\\ Cannot hold 8 : you are not the right user.\n",
		"Cannot frag 16 ; This job was already killed.\nCannot connect to localhost:6666.\n", "DB connection error, exiting.\n",
	} {
		if _, err := parseAct(scheduler.Output{Stderr: []byte(text), Exit: 2}); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}

// FuzzSubmit: whatever oarsub prints, a success has an id for each member, and
// nothing is a refusal where there may be an id.
func FuzzSubmit(f *testing.F) {
	f.Add([]byte(chatter+"OAR_JOB_ID=11\n"), []byte(""), 0, 1)
	f.Add([]byte("OAR_JOB_ID=11\nOAR_JOB_ID=12\nOAR_ARRAY_ID=11\n"), []byte("Simple array job submission is used\n"), 0, 2)
	f.Add([]byte(chatter+"OAR_JOB_ID=-5\n"), []byte("There are not enough resources for your request\n"), 8, 1)
	f.Add([]byte(chatter), []byte("ERROR : The queue nope does not exist\n"), 248, 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit, size int) {
		size = max(1, min(size, 20))
		refs, err := parseSubmit(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit}, size)
		if err == nil && (exit != 0 || len(refs) != size) {
			t.Errorf("exit %d: got the ids %v", exit, refs)
		}
		for _, ref := range refs {
			if _, _, ok := split(ref.ID); !ok {
				t.Errorf("got the id %q", ref.ID)
			}
		}
		if r, ok := errors.AsType[*scheduler.Refused](err); ok && (exit == 0 || r.Message == "") {
			t.Errorf("exit %d, %q was taken for the refusal %q", exit, stderr, r.Message)
		}
	})
}
