package sge

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func submission() scheduler.Submission {
	return scheduler.Submission{Tag: tagOf(1), Script: "/w/wrapper", Directory: "/w/job", Output: "/w/wrapper.out", Comment: "cavity"}
}

var tail = []string{"/bin/sh", "-c", launch, "hpcsera", "/w/wrapper"}

func TestSubmitPassesOneArgumentPerOption(t *testing.T) {
	head := []string{"qsub", "-terse", "-b", "y", "-shell", "n", "-sync", "n", "-now", "n", "-N", tagOf(1), "-wd", "/w/job", "-o", ":/w/wrapper.out", "-j", "y", "-ac", "hpcsera=cavity"}
	if got, want := (Driver{}).Submit(submission()).Argv, slices.Concat(head, []string{"-r", "n"}, tail); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s := submission()
	s.Held, s.Requeue, s.Size = true, true, 5
	s.Resources = hpcsera.Resources{NodeCount: 1, ProcessCount: 4, CPUCoresPerProcess: 2, Memory: 14 << 30, ExclusiveNodeUse: true}
	s.Attributes = hpcsera.Attributes{Duration: hpcsera.Duration(time.Hour + time.Millisecond), QueueName: "long.q", Account: "cfd01", ReservationID: "77"}
	s.Custom = map[string]string{"soft": "arch=lx-amd64", "l": "mem_free=1G", "p": "-10"}
	want := slices.Concat(head, []string{"-r", "y", "-h", "-l", "mem_free=1G", "-p", "-10", "-soft", "-l", "arch=lx-amd64", "-hard",
		"-pe", "smp", "8", "-l", "h_vmem=2048M", "-l", "exclusive=true", "-l", "h_rt=3601", "-q", "long.q", "-P", "cfd01", "-ar", "77", "-t", "1-5"}, tail)
	if got := (Driver{}).Submit(s).Argv; !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestResourcesBecomeSlotsOrAreRefused(t *testing.T) {
	for _, c := range []struct {
		d    Driver
		r    hpcsera.Resources
		pe   string
		want string // arguments, or the field that a refusal names
	}{
		{Driver{}, hpcsera.Resources{}, "", ""},
		{Driver{}, hpcsera.Resources{NodeCount: 1, ProcessCount: 1, ProcessesPerNode: 1}, "", ""},
		{Driver{}, hpcsera.Resources{CPUCoresPerProcess: 8}, "", "-pe smp 8"},
		{Driver{PE: "threaded"}, hpcsera.Resources{ProcessesPerNode: 4}, "", "-pe threaded 4"},
		{Driver{}, hpcsera.Resources{ProcessCount: 64}, "", "-pe smp 64"},
		{Driver{}, hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 16}, "mpi-16", "-pe mpi-16 32"},
		{Driver{}, hpcsera.Resources{}, "mpi", "-pe mpi 1"},
		{Driver{}, hpcsera.Resources{NodeCount: 2}, "", "resources.node_count"},
		{Driver{}, hpcsera.Resources{ProcessCount: 8, ProcessesPerNode: 4}, "", "resources.processes_per_node"},
		{Driver{}, hpcsera.Resources{GPUCoresPerProcess: 1}, "", "resources.gpu_cores_per_process"},
		{Driver{}, hpcsera.Resources{}, "mpi*", "custom_attributes sge.pe"},
		{Driver{}, hpcsera.Resources{Memory: 1}, "", "-l h_vmem=2049M"},
		{Driver{}, hpcsera.Resources{Memory: 1 << 30, CPUCoresPerProcess: 3}, "", "-pe smp 3 -l h_vmem=1024M"},
		{Driver{Memory: "mem_free"}, hpcsera.Resources{Memory: 1<<30 + 1, CPUCoresPerProcess: 2}, "", "-pe smp 2 -l mem_free=513M"},
	} {
		got, err := c.d.options(c.r, hpcsera.Attributes{}, map[string]string{"pe": c.pe})
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
			if !strings.HasPrefix(text, c.want+":") || !strings.HasPrefix(c.want, "resources.") && !strings.HasPrefix(c.want, "custom") {
				t.Errorf("%+v: got the refusal %q, want %q", c.r, text, c.want)
			}
		} else if text != c.want {
			t.Errorf("%+v: got %q, want %q", c.r, text, c.want)
		}
	}
	for _, a := range []hpcsera.Attributes{
		{QueueName: "-h"}, {QueueName: "a,b"}, {QueueName: "*"}, {QueueName: "a b"}, {QueueName: "a.q\n"}, {Account: "-P"}, {Account: "a\x00"}, {ReservationID: "r1"}, {ReservationID: "-1"},
	} {
		if got, err := (Driver{}).options(hpcsera.Resources{}, a, nil); err == nil || !strings.HasPrefix(err.Error(), "attributes.") {
			t.Errorf("%+v: got %q, %v, want a refusal", a, got, err)
		}
	}
}

func TestNoValueCanBecomeAnOptionOrASecondLine(t *testing.T) {
	s := submission()
	s.Comment = "-h a\nb\x00,x=y --é" + strings.Repeat("é", 600)
	s.Directory, s.Output, s.Script = "/w/a b", "/w/a:b/o", "/w/-x $(id) ' \"/wrapper"
	argv := Driver{}.Submit(s).Argv
	at := slices.Index(argv, "-ac")
	if value := argv[at+1]; !strings.HasPrefix(value, "hpcsera=-h a b  x y --é") || strings.ContainsAny(value, "\n\x00,") || len(value) > 300 {
		t.Errorf("got the comment %q", value)
	}
	if got := argv[len(argv)-1]; got != s.Script || argv[len(argv)-3] != launch {
		t.Errorf("got %q, want the script as an argument of its own", argv[len(argv)-5:])
	}
	for _, output := range []string{"/w/$JOB_ID", "/w/a,b"} {
		s.Output = output
		if got := (Driver{}).Submit(s); got.Refusal == nil {
			t.Errorf("%s: got %q, want a refusal", output, got.Argv)
		}
	}
	s.Output, s.Directory = "/w/o", "/w/$HOME"
	if got := (Driver{}).Submit(s); got.Refusal == nil {
		t.Errorf("got %q, want a refusal", got.Argv)
	}
}

func TestCustomAttributesOutsideTheListAreRefused(t *testing.T) {
	for name, value := range map[string]string{
		"hold_jid": "1", "S": "/bin/x", "v": "A=b", "V": "y", "o": "/etc/passwd", "e": "x", "i": "x", "wd": "/", "N": "x", "t": "1-9", "m": "e", "M": "a@b", "jsv": "/x",
		"a": "202601010000", "h": "u", "r": "y", "ckpt": "x", "sync": "y", "C": "#", "@": "f", "b": "n", "u": "root", "w": "v", "q": "x", "P": "x", "": "x", "l -b": "x",
		"l": "a\nb", "soft": "", "pe": "-pe", "A": "x\x00", "masterq": "-h", "R": "maybe", "notify": "1", "js": strings.Repeat("1", 1025),
	} {
		s := submission()
		s.Custom = map[string]string{name: value}
		if call := (Driver{}).Submit(s); call.Refusal == nil {
			t.Errorf("%s=%q: got %q, want a refusal", name, value, call.Argv)
		}
	}
	for _, value := range []string{"h_rt=1", "mem_free=1G,h_rt=9:0:0", "q=x", "s_rt=3", "qname=all.q", "a=1, h_rt=1", "q!=x"} {
		if got, err := customOptions(map[string]string{"l": value}); err == nil {
			t.Errorf("l %q: got %q, want a refusal", value, got)
		}
	}
	if got, err := customOptions(map[string]string{"l": "h_rtx=1,gpu=2", "notify": "n", "R": "y"}); err != nil || !slices.Equal(got, []string{"-R", "y", "-l", "h_rtx=1,gpu=2"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// What Grid Engine takes for orders must never reach it, all else must.
func TestLaunchTellsEveryStatusButTheTwoOrders(t *testing.T) {
	script := t.TempDir() + "/a 'b"
	for body, want := range map[string]int{
		"exit 0": 0, "exit 3": 3, "exit 98": 98, "exit 99": 227, "exit 100": 228, "exit 101": 101, "exit 255": 255, "kill -SEGV $$": 139,
		`[ $# = 0 ] && [ "$0" = "` + script + `" ]`: 0, "kill -USR2 $PPID; exit 5": 5, "kill -TERM $PPID; kill -TERM $$": 143,
	} {
		if err := os.WriteFile(script, []byte("#!/bin/sh\n"+body+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", launch, "hpcsera", script)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%s: got %d, want %d", body, got, want)
		}
	}
	for status := range 256 {
		got := *exitOf(status)
		if status <= 128 && got != (hpcsera.Exit{Code: status}) || got == (hpcsera.Exit{}) && status != 0 {
			t.Errorf("%d: got %+v", status, got)
		}
	}
}

func TestSubmitTakesOnlyAClearJobID(t *testing.T) {
	for out, want := range map[string][]scheduler.Ref{
		"2\n": {{ID: "2"}},
		"qsub: warning: \"-r\" option has already been set, overriding previous setting\n24\n\n": {{ID: "24"}},
	} {
		if got, err := parseSubmit(scheduler.Output{Stdout: []byte(out)}, 0); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %+v, %v, want %+v", out, got, err, want)
		}
	}
	if got, err := parseSubmit(scheduler.Output{Stdout: []byte("9.1-3:1\n")}, 3); err != nil || !slices.Equal(got, []scheduler.Ref{{ID: "9.1"}, {ID: "9.2"}, {ID: "9.3"}}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for out, size := range map[string]int{
		"": 1, "\n": 1, "Your job 2 (\"x\") has been submitted\n": 1, "1\n2\n": 1, "-5\n": 1, "9.1-3:1\n": 1, "7.1\n": 1, "1 2\n": 1, "99999999999999999999\n": 1, "\x00\x00": 1,
		"9\n": 3, "9.1-4:1\n": 3, "9.0-2:1\n": 3, "9.1-3:2\n": 3, "9.1-3:1\n9.1-3:1\n": 3,
	} {
		if got, err := parseSubmit(scheduler.Output{Stdout: []byte(out)}, size); err == nil || isRefusal(err) {
			t.Errorf("%q: got %v, %v, want an ambiguous error: the job may be queued", out, got, err)
		}
	}
	out := scheduler.Output{Stdout: []byte("24\n"), Stderr: []byte("Unable to run job: the site's wrapper is broken\nExiting.\n"), Exit: 1}
	if _, err := parseSubmit(out, 1); err == nil || isRefusal(err) {
		t.Errorf("got %v, want an ambiguous error: there is an id", err)
	}
}

func TestRefusalsAreCertainOrElseAmbiguous(t *testing.T) {
	down := "error: commlib error: got select error (Connection refused)\nUnable to run job: unable to send message to qmaster using port 1 on host \"vm\": got send error\nExiting.\n"
	for _, c := range []struct {
		text string
		exit int
		want scheduler.Refused
	}{
		{"Unable to run job: Job was rejected because job requests unknown queue \"nope.q\"\nExiting.\n", 1, scheduler.Refused{Message: `Job was rejected because job requests unknown queue "nope.q"`}},
		{"Unable to run job: job rejected: the requested parallel environment \"nosuch\" does not exist\nExiting.\n", 1, scheduler.Refused{Message: `job rejected: the requested parallel environment "nosuch" does not exist`}},
		{"Unable to run job: unknown resource \"exclusive\"\nExiting.\n", 1, scheduler.Refused{Message: `unknown resource "exclusive"`}},
		{"Unable to run job: job rejected: you tried to submit a job with more than 75000 tasks\nExiting.\n", 1, scheduler.Refused{Message: "job rejected: you tried to submit a job with more than 75000 tasks"}},
		{"qsub: invalid option argument \"-nosuch\"\n", 2, scheduler.Refused{Message: `invalid option argument "-nosuch"`}},
		{"Unable to run job: job rejected: only 3 jobs are allowed per user (current job count: 3)\nExiting.\n", 25, scheduler.Refused{Message: "job rejected: only 3 jobs are allowed per user (current job count: 3)", Throttled: true}},
		{"Unable to run job: the site's words\nExiting.\n", 25, scheduler.Refused{Message: "the site's words", Throttled: true}},
		{down, 1, scheduler.Refused{Message: "commlib error: got select error (Connection refused); unable to send message to qmaster using port 1 on host \"vm\": got send error", Throttled: true, Unreached: true}},
		{"error: SGE_ROOT directory \"/nonexistent\" doesn't exist\n\nUnable to initialize environment because of error: Please set the environment variable SGE_ROOT.\nExiting.\n", 1,
			scheduler.Refused{Message: `SGE_ROOT directory "/nonexistent" doesn't exist; Unable to initialize environment because of error: Please set the environment variable SGE_ROOT.`, Throttled: true, Unreached: true}},
	} {
		_, err := parseSubmit(scheduler.Output{Stderr: []byte(c.text), Exit: c.exit}, 1)
		if got, _ := err.(*scheduler.Refused); got == nil {
			t.Errorf("%q: got %v, want a refusal", c.text, err)
		} else if diff := cmp.Diff(c.want, *got); diff != "" {
			t.Errorf("%q: want -, got +:\n%s", c.text, diff)
		}
	}
	for _, text := range []string{
		"Unable to run job: Error reading answer list from qmaster\nExiting.\n",
		"Unable to run job: failed receiving gdi request response for mid=1 (got syncron message receive timeout error).\nExiting.\n",
		"Unable to run job: unable to send message to qmaster using port 1 on host \"vm\": got send error\nExiting.\n",
		"error: commlib error: got read error (closing \"vm/qmaster/1\")\nUnable to run job: unable to contact qmaster using port 6444 on host \"vm\"\nExiting.\n",
		"Unable to run job: got no connection\nExiting.\n",
		"Killed\n", "", "bash: /usr/bin/qsub: Input/output error\n", "Ihr Auftrag wurde abgelehnt.\n", "Unable to run job:\n", "Unable to run job: Exiting.\n",
	} {
		if _, err := parseSubmit(scheduler.Output{Stderr: []byte(text), Exit: 1}, 1); err == nil || isRefusal(err) {
			t.Errorf("%q: got %v, want an ambiguous error: the job may be queued", text, err)
		}
	}
}

func TestActingOnAGoneJobIsNoError(t *testing.T) {
	for _, out := range []scheduler.Output{
		{Stdout: []byte("alice has registered the job 18 for deletion\n")},
		{Stdout: []byte("denied: job \"999999\" does not exist\n"), Exit: 1},
		{Stdout: []byte("alice has deleted job-array task 16.1\nalice has deleted job 35\ndenied: job \"999998\" does not exist\n"), Exit: 1},
		{Stdout: []byte("modified hold of job-array task 16.3\ndenied: job \"888888\" does not exist\n"), Exit: 3},
		{Stdout: []byte("job 23 is already in deletion\n"), Exit: 1},
	} {
		if _, err := parseAct(out); err != nil {
			t.Errorf("%q: got %v", out.Stdout, err)
		}
	}
	for _, out := range []scheduler.Output{
		{Exit: 1}, {Stdout: []byte("alice - you do not have the necessary privileges to delete the job \"9\"\n"), Exit: 1},
		{Stdout: []byte("denied: job \"9\" does not exist\ndenied: \"alice\" must be operator to remove operator hold\n"), Exit: 10},
		{Stderr: []byte("error: commlib error: got select error (Connection refused)\nunable to send message to qmaster\n"), Exit: 1},
		{Stdout: []byte("alice has deleted job 35\n"), Stderr: []byte("Segmentation fault"), Exit: 139},
	} {
		if _, err := parseAct(out); err == nil {
			t.Errorf("%q %q: got no error", out.Stdout, out.Stderr)
		}
	}
}

func TestActsNameMembersByRanges(t *testing.T) {
	var refs []scheduler.Ref
	for _, id := range []string{"7", "9.1", "9.2", "9.3", "9.5", "8.6", "8.7", "12"} {
		refs = append(refs, scheduler.Ref{ID: id, Tag: tagOf(1)})
	}
	for action, want := range map[scheduler.Action]string{
		scheduler.Cancel: "qdel 7 9.1-3 9.5 8.6-7 12", scheduler.Hold: "qhold -h u 7 9.1-3 9.5 8.6-7 12", scheduler.Release: "qrls -h u 7 9.1-3 9.5 8.6-7 12",
	} {
		if got := strings.Join((Driver{}).Act(action, refs).Argv, " "); got != want {
			t.Errorf("%s: got %q, want %q", action, got, want)
		}
	}
	if got := fmt.Sprint((Driver{User: "alice"}).Queue().Argv, (Driver{}).Queue().Argv); got != "[qstat -xml -u alice] [qstat -xml]" {
		t.Errorf("got %s", got)
	}
}

// FuzzSubmit: whatever qsub prints, a success has an id for each member, and a
// failure that names no reason is never taken for a refusal.
func FuzzSubmit(f *testing.F) {
	f.Add([]byte("24\n"), []byte(""), 0, 1)
	f.Add([]byte("24.1-3:1\n"), []byte(""), 0, 3)
	f.Add([]byte(""), []byte("Unable to run job: unknown resource \"nope\"\nExiting.\n"), 1, 1)
	f.Add([]byte(""), []byte("Unable to run job: Exiting. "), 1, 1)
	f.Add([]byte(""), []byte("Unable to run job: Error reading answer list from qmaster\nExiting.\n"), 1, 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit, size int) {
		size = min(max(size, 1), 1000)
		refs, err := parseSubmit(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit}, size)
		if err == nil && (exit != 0 || len(refs) != size || refs[0].ID == "") {
			t.Errorf("exit %d: got the ids %+v", exit, refs)
		}
		if r, ok := err.(*scheduler.Refused); ok && (exit == 0 || r.Message == "" || !strings.Contains(string(stderr), "Unable to ") && !strings.Contains(string(stderr), "qsub: ")) {
			t.Errorf("exit %d, %q was taken for the refusal %q", exit, stderr, r.Message)
		}
	})
}

// FuzzAct: a failure of which nothing is known is an error.
func FuzzAct(f *testing.F) {
	f.Add([]byte("denied: job \"999999\" does not exist\n"), []byte(""), 1)
	f.Add([]byte("alice has deleted job 35\n"), []byte("x"), 1)
	f.Fuzz(func(t *testing.T, stdout, stderr []byte, exit int) {
		if _, err := parseAct(scheduler.Output{Stdout: stdout, Stderr: stderr, Exit: exit}); err == nil && exit != 0 && !strings.Contains(string(stdout)+string(stderr), "job") {
			t.Errorf("exit %d: %q %q was taken for a success", exit, stdout, stderr)
		}
	})
}
