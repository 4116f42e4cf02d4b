package pbs

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

func TestSubmitPassesOneArgumentPerValue(t *testing.T) {
	start := []string{"--", "/bin/sh", "-c", enter, "sh", "/w/job", "/w/wrapper"}
	plain := slices.Concat([]string{"qsub", "-f", "-N", tag(1), "-m", "n", "-j", "oe", "-o", "/w/wrapper.out", "-r", "n"}, start)
	if got := (Driver{}).Submit(submission()).Argv; !slices.Equal(got, plain) {
		t.Errorf("got  %q\nwant %q", got, plain)
	}
	s := submission()
	s.Held, s.Requeue, s.Size = true, true, 3
	s.Resources = hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 4, CPUCoresPerProcess: 2, GPUCoresPerProcess: 1, Memory: 10 << 30, ExclusiveNodeUse: true}
	s.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(50*time.Hour + 3*time.Minute + 4*time.Second), QueueName: "q", Account: "-W depend=x"}
	s.Custom = map[string]string{"project": "cfd", "begin": "202611221051.06", "priority": "-5", "chunk": "model=bro:big=true", "resource": "filesystems=home:eagle"}
	want := slices.Concat([]string{"-r", "y", "-h", "-q", "q", "-A", "-W depend=x",
		"-l", "select=2:ncpus=8:mpiprocs=4:ompthreads=2:ngpus=4:mem=5242880kb:model=bro:big=true", "-l", "place=scatter:exclhost",
		"-l", "walltime=50:03:04", "-a", "202611221051.06", "-p", "-5", "-P", "cfd", "-l", "filesystems=home:eagle", "-J", "1-3"}, start)
	if got := (Driver{}).Submit(s).Argv[10:]; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestAnArrayIsRerunnableForPBSTakesNoOther(t *testing.T) {
	s := submission()
	s.Size = 2
	argv := Driver{}.Submit(s).Argv
	if at := slices.Index(argv, "-r"); argv[at+1] != "y" {
		t.Errorf("got %q", argv)
	}
}

func TestTheTagIsAJobsNameAsItIs(t *testing.T) {
	// qsub takes up to 236 characters (15 before PBS Pro 13): letters, digits, - _ + .
	if id := hpcsera.NewID("s"); len(id) != 22 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		t.Errorf("%s has another form now", id)
	}
}

func TestResourcesBecomeChunks(t *testing.T) {
	for _, c := range []struct {
		r    hpcsera.Resources
		want string
	}{
		{hpcsera.Resources{}, ""},
		{hpcsera.Resources{ProcessCount: 1, CPUCoresPerProcess: 8, Memory: 32 << 30}, "select=1:ncpus=8:mpiprocs=1:ompthreads=8:mem=33554432kb place=free"},
		{hpcsera.Resources{ProcessCount: 6}, "select=6:ncpus=1:mpiprocs=1 place=free"},
		{hpcsera.Resources{ProcessCount: 3, Memory: 1}, "select=3:ncpus=1:mpiprocs=1:mem=1kb place=free"},
		{hpcsera.Resources{Memory: 1025}, "select=1:ncpus=1:mpiprocs=1:mem=2kb place=free"},
		{hpcsera.Resources{NodeCount: 4, ProcessCount: 256, ProcessesPerNode: 64}, "select=4:ncpus=64:mpiprocs=64 place=scatter"},
		{hpcsera.Resources{NodeCount: 3, ProcessCount: 10}, "select=1:ncpus=4:mpiprocs=4+2:ncpus=3:mpiprocs=3 place=scatter"},
		{hpcsera.Resources{ProcessCount: 10, ProcessesPerNode: 4, Memory: 3 << 20}, "select=2:ncpus=4:mpiprocs=4:mem=1024kb+1:ncpus=2:mpiprocs=2:mem=1024kb place=scatter"},
		{hpcsera.Resources{ProcessCount: 8, ProcessesPerNode: 4}, "select=2:ncpus=4:mpiprocs=4 place=scatter"},
		{hpcsera.Resources{ProcessCount: 3, ProcessesPerNode: 4}, "select=1:ncpus=3:mpiprocs=3 place=scatter"},
		{hpcsera.Resources{NodeCount: 5, ProcessCount: 2}, "select=5:ncpus=1:mpiprocs=1 place=scatter"},
		{hpcsera.Resources{GPUCoresPerProcess: 2}, "select=1:ncpus=1:mpiprocs=1:ngpus=2 place=free"},
		{hpcsera.Resources{ExclusiveNodeUse: true}, "select=1:ncpus=1:mpiprocs=1 place=scatter:exclhost"},
	} {
		got := resources(c.r, "")
		if text := strings.Join(slices.DeleteFunc(got, func(s string) bool { return s == "-l" }), " "); text != c.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", c.r, text, c.want)
		}
	}
}

func TestAShortDurationIsRoundedUpToASecond(t *testing.T) {
	s := submission()
	s.Attributes.Duration = hpcsera.Duration(1500 * time.Millisecond)
	if got := (Driver{}).Submit(s).Argv; !slices.Contains(got, "walltime=00:00:02") {
		t.Errorf("got %q", got)
	}
}

func TestAReservationIsAQueue(t *testing.T) {
	got, err := destination(hpcsera.Attributes{ReservationID: "R123.server"})
	if want := []string{"-q", "R123"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestWhatPBSCannotHonourIsRefusedByItsField(t *testing.T) {
	for field, change := range map[string]func(*scheduler.Submission){
		"/w/a:b":                        func(s *scheduler.Submission) { s.Output = "/w/a:b" },
		"/w/a,b":                        func(s *scheduler.Submission) { s.Output = "/w/a,b" },
		"attributes.queue_name":         func(s *scheduler.Submission) { s.Attributes.QueueName = "q@elsewhere" },
		"attributes.queue_name: \"-W\"": func(s *scheduler.Submission) { s.Attributes.QueueName = "-W" },
		"attributes.reservation_id":     func(s *scheduler.Submission) { s.Attributes.ReservationID = "workq" },
		"attributes.queue_name: a reservation": func(s *scheduler.Submission) {
			s.Attributes = hpcsera.Attributes{QueueName: "workq", ReservationID: "R1"}
		},
		"attributes.account": func(s *scheduler.Submission) { s.Attributes.Account = "a\nb" },
	} {
		s := submission()
		change(&s)
		if got := (Driver{}).Submit(s); got.Refusal == nil || !strings.Contains(got.Refusal.Message, field) || got.Refusal.Throttled {
			t.Errorf("%s: got %q, %+v", field, got.Argv, got.Refusal)
		}
	}
}

func TestNoValueIsReadByAShell(t *testing.T) {
	s := submission()
	s.Directory, s.Script = "/w/$(id); '\"", "/w/-x `id`\n#PBS -N other"
	argv := (Driver{}).Submit(s).Argv
	at := slices.Index(argv, "--")
	if got := argv[at+1:]; !slices.Equal(got, []string{"/bin/sh", "-c", enter, "sh", s.Directory, s.Script}) {
		t.Errorf("got %q", got)
	}
	if strings.ContainsAny(enter, "`;$(") && enter != `cd "$1" && exec "$2"` {
		t.Errorf("got the program %q", enter)
	}
}

func TestCustomAttributesOutsideTheListAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"W": "depend=afterok:1", "S": "/bin/sh", "v": "A=b", "V": "", "N": "x", "M": "a@b", "J": "1-9", "depend": "x", "stagein": "x", "o": "/etc/passwd", "": "x",
		"project": "", "begin": "tomorrow", "priority": "high", "chunk": "ncpus=99", "resource": "walltime=99:00:00",
	} {
		s := submission()
		s.Custom = map[string]string{name: value}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("%s=%q: got %q, want a refusal", name, value, call.Argv)
		}
	}
	for _, value := range []string{"a=b,walltime=9", "a=b+1:ncpus=9", "a=b:mem=9gb", "a", "a=b:c", "A=b\n", "NCPUS=2", "host=n1", "a=b c", strings.Repeat("a=b:", 400) + "a=b"} {
		s := submission()
		s.Custom = map[string]string{"chunk": value}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("chunk %q: got %q, want a refusal", value, call.Argv)
		}
	}
	for _, value := range []string{"a=b,walltime=9", "select=1:ncpus=9", "a=b:walltime=9", "place=free", "-x=1", "a=\n"} {
		s := submission()
		s.Custom = map[string]string{"resource": value}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("resource %q: got %q, want a refusal", value, call.Argv)
		}
	}
}

func TestSubmitTakesOnlyAClearJobID(t *testing.T) {
	for out, want := range map[string]string{"18.vm\n": "18.vm", "18.pbs-1.example.org\n": "18.pbs-1.example.org", "Welcome to 1 of 2!\n\n18.vm\nbye\n": "18.vm"} {
		got, err := parseSubmit(scheduler.Output{Stdout: []byte(out)}, 1)
		if err != nil || len(got) != 1 || got[0] != (scheduler.Ref{ID: want}) {
			t.Errorf("%q: got %+v, %v, want %s", out, got, err, want)
		}
	}
	got, err := parseSubmit(scheduler.Output{Stdout: []byte("24[].vm\n")}, 2)
	if want := []scheduler.Ref{{ID: "24[1].vm"}, {ID: "24[2].vm"}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("an array: got %+v, %v, want %+v", got, err, want)
	}
	for _, out := range []string{"", "\n", "18\n", "18.vm\n19.vm\n", "24[].vm\n", "24[1].vm\n", "-5.vm\n", "18.vm x\n", "99999999999999999999.vm\n", "\x00\x00"} {
		_, err := parseSubmit(scheduler.Output{Stdout: []byte(out)}, 1)
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", out, err)
		}
	}
	for _, out := range []string{"18.vm\n", "24[3].vm\n"} {
		if got, err := parseSubmit(scheduler.Output{Stdout: []byte(out)}, 2); err == nil {
			t.Errorf("%q for an array: got %+v", out, got)
		}
	}
	_, err = parseSubmit(scheduler.Output{Stdout: []byte("18.vm\n"), Stderr: []byte("qsub: the site's hook could not write its log\n"), Exit: 1}, 1)
	if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
		t.Errorf("an id beside a failure: got %v, want an ambiguous error", err)
	}
}

func TestRefusalsAreCertainOrElseAmbiguous(t *testing.T) {
	for text, want := range map[string]scheduler.Refused{
		"qsub: Unknown queue\n":                                                            {Message: "Unknown queue"},
		"qsub: Unknown resource Resource_List.nope\n":                                      {Message: "Unknown resource Resource_List.nope"},
		"qsub: Array job exceeds server or queue size limit\n":                             {Message: "Array job exceeds server or queue size limit"},
		"qsub: Job violates queue and/or server resource limits\n":                         {Message: "Job violates queue and/or server resource limits"},
		"qsub: Invalid Account\n":                                                          {Message: "Invalid Account"},
		"Your project has no hours left (rule 7)\nqsub: hook rejected request\n":           {Message: "Your project has no hours left (rule 7); hook rejected request"},
		"qsub: Queue is not enabled\n":                                                     {Message: "Queue is not enabled", Throttled: true},
		"qsub: would exceed complex's per-user limit\n":                                    {Message: "would exceed complex's per-user limit", Throttled: true},
		"qsub: would exceed queue workq's per-user limit of jobs in 'Q' state\n":           {Message: "would exceed queue workq's per-user limit of jobs in 'Q' state", Throttled: true},
		"qsub: would exceed group xg25's limit on resource njobs-g\n":                      {Message: "would exceed group xg25's limit on resource njobs-g", Throttled: true},
		"qsub: would exceed per-user limit on resource ncpus in complex\n":                 {Message: "would exceed per-user limit on resource ncpus in complex", Throttled: true},
		"qsub: Maximum number of jobs already in complex\n":                                {Message: "Maximum number of jobs already in complex", Throttled: true},
		"qsub: Maximum number of jobs in 'Q' state for user alice already in complex\n":    {Message: "Maximum number of jobs in 'Q' state for user alice already in complex", Throttled: true},
		"qsub: Request not allowed: Server shutting down\n":                                {Message: "Request not allowed: Server shutting down", Throttled: true},
		"Connection refused\nqsub: cannot connect to server vm (errno=15010)\n":            {Message: "Connection refused; cannot connect to server vm (errno=15010)", Throttled: true, Unreached: true},
		"Unknown Host.\nqsub: cannot connect to server aqua (errno=15008)\n":               {Message: "Unknown Host.; cannot connect to server aqua (errno=15008)", Throttled: true, Unreached: true},
		"usage: qsub [-a date_time] [-A account_string]\n":                                 {Message: "usage: qsub [-a date_time] [-A account_string]"},
		"munge: down\nSystem call failure.\nqsub: cannot connect to server vm (errno=1)\n": {Message: "munge: down; System call failure.; cannot connect to server vm (errno=1)", Throttled: true, Unreached: true},
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 1}, 1)
		got, ok := errors.AsType[*scheduler.Refused](err)
		if !ok {
			t.Errorf("%q: got %v, want a refusal", text, err)
		} else if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", text, diff)
		}
	}
	for _, text := range []string{
		"qsub: Batch protocol error\n", "qsub: End of File\n", "qsub: System error\n", "qsub: Error (15031) submitting job\n", "qsub: Connection timed out\n",
		"qsub: Failed to save job/resv, refer server logs for details\n", "qsub: Internal server error\n",
		"Killed\n", "", "sh: qsub: Input/output error\n", "Ihre Anfrage wurde abgelehnt.\n",
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 1}, 1)
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", text, err)
		}
	}
}

func TestActions(t *testing.T) {
	one, member := scheduler.Ref{ID: "18.vm", Tag: tag(1)}, scheduler.Ref{ID: "24[3].vm", Tag: tag(2)}
	for _, c := range []struct {
		action scheduler.Action
		refs   []scheduler.Ref
		want   []string // nil: a refusal
	}{
		{scheduler.Cancel, []scheduler.Ref{one}, []string{"qdel", "18.vm"}},
		{scheduler.Cancel, []scheduler.Ref{one, member}, []string{"qdel", "18.vm", "24[3].vm"}},
		{scheduler.Hold, []scheduler.Ref{one}, []string{"qhold", "-h", "u", "18.vm"}},
		{scheduler.Release, []scheduler.Ref{one}, []string{"qrls", "-h", "u", "18.vm"}},
		{scheduler.Hold, []scheduler.Ref{one, member}, nil},
		{scheduler.Release, []scheduler.Ref{member}, nil},
		{scheduler.Cancel, []scheduler.Ref{{ID: "-x", Tag: tag(1)}}, nil},
	} {
		call := Driver{}.Act(c.action, c.refs)
		if !slices.Equal(call.Argv, c.want) || (call.Refusal != nil) != (c.want == nil) {
			t.Errorf("%s: got %q, %+v, want %q", c.action, call.Argv, call.Refusal, c.want)
		}
		if slices.Contains(call.Argv, "-x") {
			t.Errorf("%q would delete the history", call.Argv)
		}
	}
	for text, fails := range map[string]bool{
		"qdel: Job has finished 18.vm\n": false, "qdel: Unknown Job Id 999999.vm\n": false,
		"qdel: Request invalid for finished array subjob 24[3].vm\n":                       false,
		"qhold: Request invalid for state of job 18.vm\nqhold: Unknown Job Id 999999.vm\n": false,
		"": true, "qdel: Unauthorized Request  21.vm\n": true,
		"qdel: Unknown Job Id 999999.vm\nqdel: Unauthorized Request  21.vm\n": true,
		"qdel: cannot connect to server vm (errno=15010)\n":                   true,
	} {
		if _, err := parseAct(scheduler.Output{Stderr: []byte(text), Exit: 35}); (err != nil) != fails {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestOperandsAreJobsAndEachArrayOnce(t *testing.T) {
	refs := []scheduler.Ref{{ID: "18.vm"}, {ID: "24[1].vm"}, {ID: "24[9].vm"}, {ID: "999997_3"}, {ID: "-x"}, {ID: "999999"}, {ID: "18.vm"}, {ID: "workq"}, {ID: "1.-vm"}}
	if got, want := operands(refs), []string{"18.vm", "24[].vm", "999999"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, ok := (Driver{}).QueueOf([]scheduler.Ref{{ID: "workq"}}); ok {
		t.Error("a queue was asked for as a job")
	}
	var many []scheduler.Ref
	for i := range maxOperands + 1 {
		many = append(many, scheduler.Ref{ID: strings.Repeat("1", i%9+1) + string(rune('0'+i%10)) + "." + strings.Repeat("v", i+1)})
	}
	if _, ok := (Driver{}).QueueOf(many); ok {
		t.Errorf("%d jobs: want the listing of all", len(many))
	}
}
