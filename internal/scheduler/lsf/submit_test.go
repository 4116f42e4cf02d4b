package lsf

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

func TestSubmitPassesOneArgumentPerOptionAndValue(t *testing.T) {
	plain := []string{"bsub", "-J", tag(1), "-cwd", "/w/job", "-o", "/w/wrapper.out", "-Jd", "cavity", "-rn", "/w/wrapper"}
	call := Driver{}.Submit(submission())
	if !slices.Equal(call.Argv, plain) || !slices.Equal(call.Env, []string{"LSB_NTRIES=1"}) {
		t.Errorf("got  %q with %q\nwant %q", call.Argv, call.Env, plain)
	}
	s := submission()
	s.Held, s.Requeue, s.Size = true, true, 1000
	s.Resources = hpcsera.Resources{NodeCount: 3, ProcessCount: 12, ProcessesPerNode: 4, CPUCoresPerProcess: 2, GPUCoresPerProcess: 1, Memory: 10 << 30, ExclusiveNodeUse: true}
	s.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(50*time.Hour + 3*time.Minute + 4*time.Second), QueueName: "q", Account: "a", ReservationID: "user1#0"}
	s.Custom = map[string]string{"app": "fluent", "R": "select[type==any && mem>100] order[-slots]"}
	want := []string{
		"bsub", "-J", tag(1) + "[1-1000]", "-cwd", "/w/job", "-o", "/w/wrapper.out", "-Jd", "cavity", "-r", "-H",
		"-n", "24", "-R", "span[ptile=8]", "-M", "10240MB", "-R", "rusage[mem=3414MB/host]", "-gpu", "num=4/host:j_exclusive=yes", "-x",
		"-W", "50:04", "-q", "q", "-P", "a", "-U", "user1#0", "-R", "select[type==any && mem>100] order[-slots]", "-app", "fluent", "/w/wrapper",
	}
	if got := (Driver{}).Submit(s).Argv; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestResourcesAreSpreadAsAsked(t *testing.T) {
	for name, c := range map[string]struct {
		r    hpcsera.Resources
		want string
	}{
		"nothing":                    {hpcsera.Resources{}, ""},
		"one process":                {hpcsera.Resources{ProcessCount: 1}, "-n 1"},
		"processes anywhere":         {hpcsera.Resources{ProcessCount: 64}, "-n 64"},
		"cores of one process":       {hpcsera.Resources{CPUCoresPerProcess: 8}, "-n 8 -R span[hosts=1]"},
		"cores of processes":         {hpcsera.Resources{ProcessCount: 4, CPUCoresPerProcess: 8}, "-n 32 -R span[block=8]"},
		"nodes":                      {hpcsera.Resources{NodeCount: 4}, "-n 4 -R span[ptile=1]"},
		"nodes and processes":        {hpcsera.Resources{NodeCount: 3, ProcessCount: 10}, "-n 10 -R span[ptile=4]"},
		"one node":                   {hpcsera.Resources{NodeCount: 1, ProcessCount: 10}, "-n 10 -R span[hosts=1]"},
		"processes per node":         {hpcsera.Resources{ProcessCount: 10, ProcessesPerNode: 4}, "-n 10 -R span[ptile=4]"},
		"all on one node":            {hpcsera.Resources{ProcessesPerNode: 4}, "-n 4 -R span[hosts=1]"},
		"memory":                     {hpcsera.Resources{Memory: 1}, "-M 1MB -R rusage[mem=1MB]"},
		"memory of several nodes":    {hpcsera.Resources{Memory: 64 << 30, NodeCount: 4}, "-n 4 -R span[ptile=1] -M 65536MB -R rusage[mem=16384MB/host]"},
		"GPUs of one process":        {hpcsera.Resources{CPUCoresPerProcess: 2, GPUCoresPerProcess: 2}, "-n 2 -R span[hosts=1] -gpu num=2/host:j_exclusive=yes"},
		"GPUs of processes":          {hpcsera.Resources{ProcessCount: 4, GPUCoresPerProcess: 1}, "-n 4 -gpu num=1/task:j_exclusive=yes"},
		"GPUs of a node's processes": {hpcsera.Resources{ProcessCount: 8, ProcessesPerNode: 4, CPUCoresPerProcess: 6, GPUCoresPerProcess: 1}, "-n 48 -R span[ptile=24] -gpu num=4/host:j_exclusive=yes"},
		"GPUs of few processes":      {hpcsera.Resources{ProcessCount: 2, ProcessesPerNode: 4, GPUCoresPerProcess: 1}, "-n 2 -R span[hosts=1] -gpu num=2/host:j_exclusive=yes"},
	} {
		got, err := resources(c.r)
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got, err, c.want)
		}
	}
	for field, r := range map[string]hpcsera.Resources{
		"resources.node_count":            {NodeCount: 4, ProcessCount: 9},
		"resources.gpu_cores_per_process": {ProcessCount: 4, CPUCoresPerProcess: 2, GPUCoresPerProcess: 1},
	} {
		s := submission()
		s.Resources = r
		if call := (Driver{}).Submit(s); call.Refusal == nil || !strings.HasPrefix(call.Refusal.Message, field+": ") || call.Refusal.Throttled {
			t.Errorf("%+v: got %q, %+v, want a refusal that names %s", r, call.Argv, call.Refusal, field)
		}
	}
}

func TestTimeLimitsAreRoundedUpToMinutes(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Second: "0:01", time.Minute: "0:01", 61 * time.Second: "0:02", 24 * time.Hour: "24:00", 100*time.Hour + time.Nanosecond: "100:01"} {
		got, err := attributes(hpcsera.Attributes{Duration: hpcsera.Duration(d)})
		if err != nil || !slices.Equal(got, []string{"-W", want}) {
			t.Errorf("%v: got %q, %v, want %s", d, got, err, want)
		}
	}
}

func TestNoTextCanBecomeAnOptionOrACommand(t *testing.T) {
	s := submission()
	s.Comment = "--\t-a\nb\x00 -Ep id" + strings.Repeat("é", 600)
	argv := Driver{}.Submit(s).Argv
	at := slices.Index(argv, "-Jd") + 1
	if c := argv[at]; strings.HasPrefix(c, "-") || strings.ContainsAny(c, "\n\x00\t") || len(c) > 250 || !strings.HasPrefix(c, "a b") {
		t.Errorf("got the description %q", c)
	}
	if s.Comment = " - \n"; slices.Contains((Driver{}).Submit(s).Argv, "-Jd") {
		t.Error("got an empty description")
	}
	for name, change := range map[string]func(*scheduler.Submission){
		"a blank in the script's path": func(s *scheduler.Submission) { s.Script = "/w/a b/wrapper" },
		"a command in it":              func(s *scheduler.Submission) { s.Script = "/w/$(id)/wrapper" },
		"a second command":             func(s *scheduler.Submission) { s.Script = "/w/wrapper;id" },
		"a quote in it":                func(s *scheduler.Submission) { s.Script = "/w/o'brien/wrapper" },
		"a home in it":                 func(s *scheduler.Submission) { s.Script = "/w/~bob/wrapper" },
		"a newline in it":              func(s *scheduler.Submission) { s.Script = "/w/wrapper\nid" },
		"a pattern in it":              func(s *scheduler.Submission) { s.Script = "/w/%J/wrapper" },
		"a very long path":             func(s *scheduler.Submission) { s.Script = "/" + strings.Repeat("a", 4094) },
		"a pattern in the output":      func(s *scheduler.Submission) { s.Output = "/w/100%I/out" },
		"a pattern in the folder":      func(s *scheduler.Submission) { s.Directory = "/w/%U" },
		"a newline in the folder":      func(s *scheduler.Submission) { s.Directory = "/w/a\nb" },
		"a tag with an index":          func(s *scheduler.Submission) { s.Tag += "[1-9]" },
		"a queue that is an option":    func(s *scheduler.Submission) { s.Attributes.QueueName = "-I" },
		"an account with a newline":    func(s *scheduler.Submission) { s.Attributes.Account = "a\nb" },
		"a reservation with a blank":   func(s *scheduler.Submission) { s.Attributes.ReservationID = " r" },
	} {
		s := submission()
		change(&s)
		if call := (Driver{}).Submit(s); call.Refusal == nil || call.Refusal.Message == "" {
			t.Errorf("%s: got %q, want a refusal", name, call.Argv)
		}
	}
	s = submission()
	s.Output, s.Directory = "/w/a b/$x/out", "/w/a b" // no shell sees these
	if call := (Driver{}).Submit(s); call.Refusal != nil {
		t.Errorf("blanks in output and folder: got %v", call.Refusal)
	}
}

func TestCustomAttributesOutsideTheListAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"E": "id", "Ep": "id", "a": "x", "L": "/bin/sh", "env": "all", "o": "/etc/passwd", "oo": "x", "e": "x", "eo": "x", "i": "x", "is": "x", "f": "a > b",
		"J": "x", "Jd": "x", "cwd": "/", "outdir": "/", "w": "done(1)", "u": "a@b", "N": "", "B": "", "K": "", "I": "", "Is": "", "Zs": "", "pack": "f",
		"json": "f", "yaml": "f", "jsdl": "f", "hostfile": "f", "data": "f", "notify": "x", "k": "d", "q": "x", "P": "x", "U": "x", "n": "1", "W": "1", "M": "1", "x": "",
		"r": "", "rn": "", "H": "", "-app": "x", "": "x", "app -E": "id", "app": "-E id", "G": "a\nb", "sla": "", "b": " 1:00", "R": strings.Repeat("a", 1025), "g": "a\xff",
	} {
		s := submission()
		s.Custom = map[string]string{name: value}
		if call := (Driver{}).Submit(s); call.Refusal == nil || !strings.HasPrefix(call.Refusal.Message, "custom_attributes lsf."+name) {
			t.Errorf("%s=%q: got %q, %v, want a refusal", name, value, call.Argv, call.Refusal)
		}
	}
}

func TestSubmitTakesOnlyAClearJobID(t *testing.T) {
	for out, want := range map[string]string{
		"Job <6> is submitted to default queue <normal>.\n":                            "6",
		"Job <6> is submitted to queue <short>.\n":                                     "6",
		"Job <6> is submitted.\n":                                                      "6",
		"esub: 3 hours left\nJob <1234567> is submitted to queue <q>.\r\nGood luck!\n": "1234567",
	} {
		got, err := parseSubmit(scheduler.Output{Stdout: []byte(out)})
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %s", out, got, err, want)
		}
	}
	for _, out := range []string{
		"", "\n", "6\n", "Job <6> is submitted to default queue <nor", "Job <0> is submitted to queue <q>.\n", "Job <-1> is submitted to queue <q>.\n",
		"Job <6> is submitted to queue <q>.\nJob <7> is submitted to queue <q>.\n", " Job <6> is submitted to queue <q>.\n", "Job <99999999999999999999> is submitted.\n", "\x00",
	} {
		_, err := parseSubmit(scheduler.Output{Stdout: []byte(out)})
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", out, err)
		}
	}
	s := submission()
	s.Size = 3
	refs, err := Driver{}.Submit(s).Parse(scheduler.Output{Stdout: []byte("Job <6> is submitted to default queue <normal>.\n")})
	if want := []scheduler.Ref{{ID: "6[1]"}, {ID: "6[2]"}, {ID: "6[3]"}}; err != nil || !slices.Equal(refs, want) {
		t.Errorf("an array: got %+v, %v, want %+v", refs, err, want)
	}
}

func TestRefusalsAreCertainOrElseAmbiguous(t *testing.T) {
	for text, want := range map[string]scheduler.Refused{
		"nope: No such queue. Job not submitted.\n":                                              {Message: "nope: No such queue."},
		"Too many processors requested. Job not submitted.\n":                                    {Message: "Too many processors requested."},
		"Bad job name. Job not submitted.\n":                                                     {Message: "Bad job name."},
		"Job array index too large. Job not submitted.\n":                                        {Message: "Job array index too large."},
		"RUNLIMIT: Cannot exceed queue's hard limit(s). Job not submitted.\n":                    {Message: "RUNLIMIT: Cannot exceed queue's hard limit(s)."},
		"Your project has no hours left (rule 7)\nRequest aborted by esub. Job not submitted.\n": {Message: "Your project has no hours left (rule 7); Request aborted by esub."},
		"User <alice>: Pending job threshold reached. Job not submitted.\n":                      {Message: "User <alice>: Pending job threshold reached.", Throttled: true},
		"Group <g>: Pending job slots threshold reached. Job not submitted.\n":                   {Message: "Group <g>: Pending job slots threshold reached.", Throttled: true},
		"q: The destination queue has reached its job limit. Job not submitted.\n":               {Message: "q: The destination queue has reached its job limit.", Throttled: true},
		"q: Queue has been closed. Job not submitted.\n":                                         {Message: "q: Queue has been closed.", Throttled: true},
		"No job Id can be used now. Job not submitted.\n":                                        {Message: "No job Id can be used now.", Throttled: true},
		"Connection refused by server. Job not submitted.\n":                                     {Message: "Connection refused by server.", Throttled: true, Unreached: true},
		"LSF is down. Please wait ...\nTimeout on connect call to server. Job not submitted.\n":  {Message: "LSF is down. Please wait ...; Timeout on connect call to server.", Throttled: true, Unreached: true},
		"lsb_init: Failed in an LSF library call: LIM is down; try later. Job not submitted.\n":  {Message: "lsb_init: Failed in an LSF library call: LIM is down; try later.", Throttled: true, Unreached: true},
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 255})
		got, ok := errors.AsType[*scheduler.Refused](err)
		if !ok {
			t.Errorf("%q: got %v, want a refusal", text, err)
		} else if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", text, diff)
		}
	}
	for _, text := range []string{
		"Contacting batch daemon: Communication timeout. Job not submitted.\n",
		"Failed in an LSF library call: Failed in sending/receiving a message: Connection reset by peer. Job not submitted.\n",
		"LSF is processing your request. Please wait ...\nConnection refused by server. Job not submitted.\n",
		"Cannot connect to LSF. Please wait ...\nServer is not connected. Job not submitted.\n",
		"Batch protocol error. Job not submitted.\n", "XDR encode/decode error. Job not submitted.\n", "Master batch daemon internal error. Job not submitted.\n",
		"Batch library internal error. Job not submitted.\n", "System call failed: Interrupted system call. Job not submitted.\n",
		"Unknown batch system error number 200. Job not submitted.\n", "mbatchd did not handled this job. Job not submitted.\n", "Child process died. Job not submitted.\n",
		"User <alice>: Pending job threshold reached. Retrying in 60 seconds...\n",
		"Killed\n", "", "bash: /usr/bin/bsub: Input/output error\n", "Ihr Auftrag wurde nicht angenommen.\n",
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 255})
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", text, err)
		}
	}
	for _, stdout := range []string{"Job <6> is submitted to queue <q>.\n", "Job <6> is submitted to que"} {
		_, err := parseSubmit(scheduler.Output{Stdout: []byte(stdout), Stderr: []byte("epsub: failed. Job not submitted.\n"), Exit: 255})
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("a refusal beside the id %q: got %v, want an ambiguous error", stdout, err)
		}
	}
}

func TestActingOnAGoneJobIsNoError(t *testing.T) {
	for name, out := range map[string]scheduler.Output{
		"done":             {Stdout: []byte("Job <41> is being terminated\n")},
		"finished":         {Stderr: []byte("Job <27>: Job has already finished\n"), Exit: 255},
		"unknown":          {Stderr: []byte("Job <999999>: No matching job found\n"), Exit: 255},
		"a member":         {Stderr: []byte("Job <6[3]>: Job has already finished\n"), Exit: 255},
		"one of two gone":  {Stdout: []byte("Job <41> is being terminated\n"), Stderr: []byte("Job <27>: Job has already finished\n"), Exit: 255},
		"stopped twice":    {Stderr: []byte("Job <33>: Job has already been suspended\n"), Exit: 255},
		"a warning and it": {Stdout: []byte("Welcome!\nJob <41> is being resumed\n")},
	} {
		if _, err := parseAct(out); err != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, out := range map[string]scheduler.Output{
		"nothing":        {Exit: 255},
		"not allowed":    {Stderr: []byte("Job <12>: User permission denied\n"), Exit: 255},
		"one of two":     {Stderr: []byte("Job <27>: Job has already finished\nJob <12>: User permission denied\n"), Exit: 255},
		"down":           {Stderr: []byte("Connection refused by server\n"), Exit: 255},
		"done, but down": {Stdout: []byte("Job <41> is being terminated\n"), Stderr: []byte("LSF is down. Please wait ...\n"), Exit: 255},
	} {
		if _, err := parseAct(out); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestQueriesAndActionsNameJobsAsLSFDoes(t *testing.T) {
	single, member := scheduler.Ref{ID: "7", Tag: tag(1)}, scheduler.Ref{ID: "6[3]", Tag: tag(2), Member: 2}
	for _, c := range []struct {
		action scheduler.Action
		want   []string
	}{
		{scheduler.Cancel, []string{"bkill", "7", "6[3]"}}, {scheduler.Hold, []string{"bstop", "7", "6[3]"}}, {scheduler.Release, []string{"bresume", "7", "6[3]"}},
	} {
		if got := (Driver{}).Act(c.action, []scheduler.Ref{single, member}).Argv; !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.action, got, c.want)
		}
	}
	for _, id := range []string{"0", "", "-r", "6[0]", "6[1-3]", "6_3", "6 7"} {
		if call := (Driver{}).Act(scheduler.Cancel, []scheduler.Ref{{ID: id}}); call.Refusal == nil {
			t.Errorf("cancel %q: got %q, want a refusal", id, call.Argv)
		}
	}
	for _, c := range []struct {
		refs []scheduler.Ref
		want string
	}{
		{[]scheduler.Ref{single, member, {ID: "9_3"}, {ID: "-t"}}, "bhist -l -n 0 7 6[3]"},
		{[]scheduler.Ref{{Tag: tag(1)}}, "bhist -l -n 0 -a -J " + tag(1) + "*"},
		{[]scheduler.Ref{{Tag: tag(1)}, {Tag: tag(2)}}, "bhist -l -n 0 -a -J s_*"},
		{[]scheduler.Ref{{Tag: "-t"}}, "bhist -l -n 0 -a -J s_*"},
		{[]scheduler.Ref{{ID: "9_3", Tag: tag(3)}}, "bhist -l -n 0 -a -J " + tag(3) + "*"},
	} {
		call, ok := Driver{}.History(c.refs)
		if got := strings.Join(call.Argv, " "); !ok || got != c.want {
			t.Errorf("%+v: got %q, want %q", c.refs, got, c.want)
		}
	}
}

// FuzzSubmit: whatever bsub prints, a success has an id, and a failure that
// does not say so is never taken for a refusal.
func FuzzSubmit(f *testing.F) {
	f.Add([]byte("Job <6> is submitted to default queue <normal>.\n"), []byte(""), 0)
	f.Add([]byte(""), []byte("nope: No such queue. Job not submitted.\n"), 255)
	f.Add([]byte(""), []byte("Contacting batch daemon: Communication timeout. Job not submitted.\n"), 255)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit int) {
		id, err := parseSubmit(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit})
		if err == nil && (exit != 0 || !address.MatchString(id)) {
			t.Errorf("exit %d: got the id %q", exit, id)
		}
		if r, ok := errors.AsType[*scheduler.Refused](err); ok && (exit == 0 || r.Message == "" || !strings.Contains(string(stdout)+string(stderr), "Job not submitted")) {
			t.Errorf("exit %d, %q was taken for the refusal %q", exit, stderr, r.Message)
		}
	})
}

// FuzzAct: a command that failed has done its work only where it says so.
func FuzzAct(f *testing.F) {
	f.Add([]byte("Job <41> is being terminated\n"), []byte("Job <27>: Job has already finished\n"), 255)
	f.Add([]byte(""), []byte("Job <12>: User permission denied\n"), 255)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit int) {
		if _, err := parseAct(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit}); err == nil && exit != 0 && !strings.Contains(string(stdout)+string(stderr), "Job <") {
			t.Errorf("exit %d, %q, %q was taken for done", exit, stdout, stderr)
		}
	})
}
