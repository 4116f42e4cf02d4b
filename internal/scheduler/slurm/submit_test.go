package slurm

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
	plain := []string{"sbatch", "--parsable", "--export=ALL", "--job-name=" + tag(1), "--chdir=/w/job", "--output=/w/wrapper.out",
		"--error=/w/wrapper.out", "--open-mode=append", "--comment=cavity", "--no-requeue", "/w/wrapper"}
	if got := (Driver{}).Submit(submission()).Argv; !slices.Equal(got, plain) {
		t.Errorf("got  %q\nwant %q", got, plain)
	}
	s := submission()
	s.Held, s.Requeue = true, true
	s.Resources = hpcsera.Resources{NodeCount: 3, ProcessCount: 12, ProcessesPerNode: 4, CPUCoresPerProcess: 2, GPUCoresPerProcess: 1, Memory: 10 << 30, ExclusiveNodeUse: true}
	s.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(50*time.Hour + 3*time.Minute + 4*time.Second), QueueName: "q", Account: "a", ReservationID: "r"}
	s.Custom = map[string]string{"qos": "high", "constraint": "a&b --wrap=id"}
	want := []string{"--comment=cavity", "--requeue", "--hold", "--nodes=3", "--ntasks=12", "--ntasks-per-node=4", "--cpus-per-task=2", "--gpus-per-task=1",
		"--mem=3414M", "--exclusive", "--time=2-02:03:04", "--partition=q", "--account=a", "--reservation=r",
		"--constraint=a&b --wrap=id", "--qos=high", "/w/wrapper"}
	if got := (Driver{}).Submit(s).Argv[8:]; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestMemoryIsDividedByNodesAndRoundedUp(t *testing.T) {
	for _, c := range []struct {
		r    hpcsera.Resources
		want string
	}{
		{hpcsera.Resources{Memory: 1}, "--mem=1M"},
		{hpcsera.Resources{Memory: 1<<20 + 1}, "--mem=2M"},
		{hpcsera.Resources{Memory: 64 << 30, NodeCount: 4}, "--mem=16384M"},
		{hpcsera.Resources{Memory: 10 << 20, ProcessCount: 9, ProcessesPerNode: 3}, "--mem=4M"},
	} {
		if got := resources(c.r); !slices.Contains(got, c.want) {
			t.Errorf("%+v: got %q, want %s", c.r, got, c.want)
		}
	}
}

func TestNoValueCanBecomeAnOptionOrASecondLine(t *testing.T) {
	s := submission()
	s.Comment = "a\nb\x00--wrap=id" + strings.Repeat("é", 600)
	s.Output = "/w/100%j/out"
	call := Driver{}.Submit(s)
	for _, arg := range call.Argv[1 : len(call.Argv)-1] {
		if !strings.HasPrefix(arg, "--") || strings.ContainsAny(arg, "\n\x00") || len(arg) > 300 {
			t.Errorf("got the argument %q", arg)
		}
	}
	if !slices.Contains(call.Argv, "--output=/w/100%%j/out") {
		t.Errorf("a percent sign in a path is a pattern to Slurm: got %q", call.Argv)
	}
	s.Output = `/w/a\b/out`
	if got := (Driver{}).Submit(s); got.Refusal == nil {
		t.Errorf("a backslash in the output's path: got %q, want a refusal", got.Argv)
	}
}

func TestCustomAttributesOutsideTheListAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"wrap": "id", "export": "ALL", "output": "/etc/passwd", "error": "x", "input": "x", "chdir": "/", "job-name": "x", "array": "0-9",
		"dependency": "after:1", "mail-user": "a@b", "uid": "0", "get-user-env": "1", "export-file": "f", "container": "x", "bb": "x", "bbf": "x",
		"nodefile": "f", "clusters": "x", "wait": "", "parsable": "", "propagate": "ALL", "C": "x", "": "x", "constraint=x --wrap": "id",
		"constraint": "a\nb", "qos": "", "nice": "1\x00", "nodelist": "/etc/shadow", "exclude": "./x", "licenses": strings.Repeat("a", 1025),
	} {
		s := submission()
		s.Custom = map[string]string{name: value}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("%s=%q: got %q, want a refusal", name, value, call.Argv)
		}
	}
}

func TestSubmitTakesOnlyAClearJobID(t *testing.T) {
	for out, want := range map[string]scheduler.Ref{
		"2\n": {ID: "2"}, "24;lab\n": {ID: "24", Cluster: "lab"}, "Welcome to 1 of 2 clusters!\n\n24;lab-1.x\nbye\n": {ID: "24", Cluster: "lab-1.x"},
	} {
		got, err := parseSubmit(scheduler.Output{Stdout: []byte(out)})
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", out, got, err, want)
		}
	}
	for _, out := range []string{"", "\n", "Submitted batch job 2\n", "1\n2\n", "-5\n", "1;\n", "1 2\n", "99999999999999999999\n", "\x00\x00"} {
		_, err := parseSubmit(scheduler.Output{Stdout: []byte(out)})
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", out, err)
		}
	}
}

func TestNothingIsARefusalOnceThereIsAnID(t *testing.T) {
	out := scheduler.Output{Stdout: []byte("24\n"), Stderr: []byte("sbatch: error: the site's wrapper could not write its log\n"), Exit: 1}
	_, err := parseSubmit(out)
	if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
		t.Errorf("got %v, want an ambiguous error", err)
	}
}

func TestRefusalsAreCertainOrElseAmbiguous(t *testing.T) {
	failed := "sbatch: error: Batch job submission failed: "
	for text, want := range map[string]scheduler.Refused{
		"sbatch: error: invalid partition specified: nope\n" + failed + "Invalid partition name specified\n":                                                           {Message: "invalid partition specified: nope; Invalid partition name specified"},
		failed + "Invalid account or account/partition combination specified\n":                                                                                        {Message: "Invalid account or account/partition combination specified"},
		failed + "Requested node configuration is not available\n":                                                                                                     {Message: "Requested node configuration is not available"},
		"sbatch: error: Your project has no hours left (rule 7)\n" + failed + "Unspecified error\n":                                                                    {Message: "Your project has no hours left (rule 7); Unspecified error"},
		"sbatch: error: Invalid --time specification\n":                                                                                                                {Message: "Invalid --time specification"},
		"sbatch: unrecognized option '--foo=1'\nTry \"sbatch --help\" for more information\n":                                                                          {Message: "unrecognized option '--foo=1'"},
		"sbatch: error: Unable to open file /w/wrapper\n":                                                                                                              {Message: "Unable to open file /w/wrapper"},
		failed + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n":                                                             {Message: "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"},
		"sbatch: error: AssocMaxSubmitJobLimit\n" + failed + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n":                 {Message: "AssocMaxSubmitJobLimit; Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", Throttled: true},
		"sbatch: error: QOSMaxSubmitJobPerUserLimit\n" + failed + "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n":            {Message: "QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", Throttled: true},
		"sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n" + failed + "Resource temporarily unavailable\n":                               {Message: "Slurm temporarily unable to accept job, sleeping and retrying; Resource temporarily unavailable", Throttled: true},
		failed + "Unable to contact slurm controller (connect failure)\n":                                                                                              {Message: "Unable to contact slurm controller (connect failure)", Throttled: true, Unreached: true},
		"sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\nsbatch: fatal: Could not establish a configuration source\n":                       {Message: "resolve_ctls_from_dns_srv: res_nsearch error: Unknown host; Could not establish a configuration source", Throttled: true, Unreached: true},
		"sbatch: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory\n" + failed + "Protocol authentication error\n": {Message: "Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory; Protocol authentication error", Throttled: true, Unreached: true},
		"sbatch: error: 'annex' can't be reached now, or it is an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see available clusters.\n": {
			Message: "'annex' can't be reached now, or it is an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see available clusters.", Throttled: true, Unreached: true},
		"sbatch: error: DBD_GET_CLUSTERS failure: Connection refused\nsbatch: error: There is a problem talking to the database: Connection refused.  Only local cluster communication is available, remove --cluster from your command line or contact your admin to resolve the problem.\n": {
			Message: "DBD_GET_CLUSTERS failure: Connection refused; There is a problem talking to the database: Connection refused.  Only local cluster communication is available, remove --cluster from your command line or contact your admin to resolve the problem.", Throttled: true, Unreached: true},
		"sbatch: error: cli_filter: use --account, please\nsbatch: error: cli_filter plugin terminated with error\n": {Message: "cli_filter: use --account, please; cli_filter plugin terminated with error"},
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 1})
		got, ok := errors.AsType[*scheduler.Refused](err)
		if !ok {
			t.Errorf("%q: got %v, want a refusal", text, err)
		} else if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", text, diff)
		}
	}
	for _, text := range []string{
		failed + "Socket timed out on send/recv operation\n",
		failed + "Zero Bytes were transmitted or received\n",
		failed + "Unable to contact slurm controller (send failure)\n",
		failed + "Unable to contact slurm controller (receive failure)\n",
		failed + "Unable to contact slurm controller (shutdown failure)\n",
		failed + "Unexpected message received\n",
		failed + "Protocol authentication error\n", // of the answer, for all we know
		failed + "Connection reset by peer\n",
		failed + "Interrupted system call\n",
		"sbatch: error: slurm_receive_msg: Socket timed out on send/recv operation\n",
		"Killed\n", "", "bash: /usr/bin/sbatch: Input/output error\n",
		"Ihre Anfrage wurde abgelehnt.\n",
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 1})
		if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", text, err)
		}
	}
}

func TestActingOnAGoneJobIsNoError(t *testing.T) {
	for _, text := range []string{
		"Invalid job id specified for job 777\nslurm_suspend error: Invalid job id specified\n",
		"Job has already finished for job 4\nslurm_suspend error: Job has already finished\n",
		"scancel: error: Kill job error on job id 99999: Invalid job id specified\n",
		"Job is no longer pending execution for job 4\nslurm_suspend error: Job is no longer pending execution\n",
		"scancel: error: Kill job error on job id 5: Job/step already completing or completed\n",
	} {
		if _, err := parseAct(scheduler.Output{Stderr: []byte(text), Exit: 1}); err != nil {
			t.Errorf("%q: got %v", text, err)
		}
	}
	for _, text := range []string{
		"", "Access/permission denied for job 12\nslurm_suspend error: Access/permission denied\n",
		"Invalid job id specified for job 777\nAccess/permission denied for job 12\n",
		"slurm_suspend error: Unable to contact slurm controller (connect failure)\n",
	} {
		if _, err := parseAct(scheduler.Output{Stderr: []byte(text), Exit: 1}); err == nil {
			t.Errorf("%q: got no error", text)
		}
	}
}

func TestCancelOfOneJobNamesItsTag(t *testing.T) {
	one, two := scheduler.Ref{ID: "1", Tag: tag(1)}, scheduler.Ref{ID: "2", Tag: tag(2)}
	for _, c := range []struct {
		action scheduler.Action
		refs   []scheduler.Ref
		want   []string
	}{
		{scheduler.Cancel, []scheduler.Ref{one}, []string{"scancel", "--name=" + tag(1), "1"}},
		{scheduler.Cancel, []scheduler.Ref{one, two}, []string{"scancel", "1", "2"}},
		{scheduler.Hold, []scheduler.Ref{one, two}, []string{"scontrol", "uhold", "1,2"}},
		{scheduler.Release, []scheduler.Ref{one, two}, []string{"scontrol", "release", "1,2"}},
	} {
		if got := (Driver{}).Act(c.action, c.refs).Argv; !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.action, got, c.want)
		}
	}
}

// FuzzSubmit: whatever sbatch prints, a success has an id, and a failure that
// names no reason is never taken for a refusal.
func FuzzSubmit(f *testing.F) {
	f.Add([]byte("24;lab\n"), []byte(""), 0)
	f.Add([]byte(""), []byte("sbatch: error: Batch job submission failed: Invalid partition name specified\n"), 1)
	f.Add([]byte(""), []byte("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n"), 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit int) {
		ref, err := parseSubmit(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit})
		if err == nil && (exit != 0 || !submitted.MatchString(ref.ID)) {
			t.Errorf("exit %d: got the id %q", exit, ref.ID)
		}
		if r, ok := errors.AsType[*scheduler.Refused](err); ok && (exit == 0 || r.Message == "" || !strings.Contains(string(stderr), "sbatch: ")) {
			t.Errorf("exit %d, %q was taken for the refusal %q", exit, stderr, r.Message)
		}
	})
}
