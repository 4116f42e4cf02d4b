package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// ready is a deployment with one agent on Slurm that is running.
func ready(t *testing.T, settings ...string) (*deployment, *login) {
	t.Helper()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm", settings...)
	l.startAgent(t, "")
	return d, l
}

func withRun(change func(*hpcsera.RunPart)) func(*hpcsera.JobSpec) {
	return func(s *hpcsera.JobSpec) { change(&s.RunPart) }
}

func (l *login) approveWide(t *testing.T, name, script string) string {
	t.Helper()
	m := manifest(name, script)
	m.Limits = wide
	return l.approve(t, m)
}

// TestJobComesBackWithItsResults is the main job: script, files, values,
// artifacts, result, log, native identity.
func TestJobComesBackWithItsResults(t *testing.T) {
	t.Parallel()
	d, l := ready(t, "log_level: debug") // that it keeps its credential to itself is checked at the end of each test
	input := []byte("3\n4\n")
	d.putBlob(input)
	m := manifest("sum", `#!/bin/bash
echo "adding with factor $factor"
echo "note: $remark" >&2
sum=$(awk '{s+=$1} END {print s}' in.txt)
echo "$((sum * factor))" > out.txt
echo "{\"sum\": $((sum * factor))}" > result.json
cat "$HPCSERA_VALUES" > values.json
`)
	m.Files = []hpcsera.File{{Path: "in.txt", Mode: "0644", Size: int64(len(input)), SHA256: digestHex(input)}}
	m.Parameters = map[string]json.RawMessage{"factor": json.RawMessage(`{"type":"integer","default":2}`), "remark": json.RawMessage(`{"type":"string"}`)}
	m.Artifacts = []hpcsera.ArtifactPattern{{Path: "out.txt"}, {Path: "values.json"}}
	m.Result = "result.json"
	remark := "$(rm -rf ~) '; id #\nsecond line"
	text, _ := json.Marshal(remark)
	id := l.submit(t, l.approve(t, m), withRun(func(r *hpcsera.RunPart) {
		r.Values = hpcsera.Values{"factor": json.RawMessage("6"), "remark": text}
	}))
	j := d.await(id, 60*time.Second)
	if j.State != hpcsera.Succeeded || string(j.Result) != `{"sum":42}` || j.Exit == nil || j.Exit.Code != 0 {
		t.Fatalf("job is %s (%s: %s), result %s, exit %v", j.State, j.Reason, j.Message, j.Result, j.Exit)
	}
	if j.Native == nil || j.Native.System != "slurm" || j.Native.ID == "" || j.Times.Queued == nil || j.Times.Running == nil || j.Times.Ended == nil {
		t.Errorf("native %+v, times %+v: want Slurm's id and every transition", j.Native, j.Times)
	}
	if got := d.get("/jobs/" + id + "/artifacts/out.txt"); got != "42\n" {
		t.Errorf("artifact out.txt is %q, want 42", got)
	}
	var values map[string]any
	if err := json.Unmarshal([]byte(d.get("/jobs/"+id+"/artifacts/values.json")), &values); err != nil || values["remark"] != remark {
		t.Errorf("values.json has %q (%v), want %q", values["remark"], err, remark)
	}
	if got := d.get("/jobs/" + id + "/logs/stdout"); got != "adding with factor 6\n" {
		t.Errorf("stdout is %q", got)
	}
	if got := d.get("/jobs/" + id + "/logs/stderr"); got != "note: "+remark+"\n" {
		t.Errorf("stderr is %q", got)
	}
	l.expectStates(t, id, hpcsera.Queued, hpcsera.Running, hpcsera.Succeeded)
}

// get reads a path as text.
func (d *deployment) get(path string) string {
	d.t.Helper()
	res, text, err := d.try("GET", path, nil, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	if res.StatusCode != 200 {
		d.t.Fatalf("GET %s: %s %s", path, res.Status, text)
	}
	return string(text)
}

// expectStates checks that the job's events show these states in this order.
func (l *login) expectStates(t *testing.T, id string, want ...hpcsera.State) {
	t.Helper()
	var page struct {
		Events []hpcsera.Event `json:"events"`
	}
	l.d.call("GET", "/jobs/"+id+"/events", nil, &page)
	var got []hpcsera.State
	for _, e := range page.Events {
		if len(got) == 0 || got[len(got)-1] != e.State {
			got = append(got, e.State)
		}
	}
	rest := got
	for _, w := range want {
		i := slices.Index(rest, w)
		if i < 0 {
			t.Errorf("states of %s are %v, want %v in this order", id, got, want)
			return
		}
		rest = rest[i+1:]
	}
}

func TestEndsAreToldApart(t *testing.T) {
	t.Parallel()
	_, l := ready(t)
	for _, c := range []struct {
		name, script string
		change       func(*hpcsera.RunPart)
		state        hpcsera.State
		reason       hpcsera.Reason
		exit         *hpcsera.Exit
	}{
		{"exit", marking("exit 3"), nil, hpcsera.Failed, hpcsera.ExitNonzero, &hpcsera.Exit{Code: 3}},
		{"signal", marking("kill -SEGV $$"), nil, hpcsera.Failed, hpcsera.Signalled, &hpcsera.Exit{Signal: 11}},
		{"timeout", marking("sleep 600"), func(r *hpcsera.RunPart) { r.Attributes.Duration = hpcsera.Duration(time.Minute) }, hpcsera.Failed, hpcsera.Timeout, nil},
		{"noreservation", marking("exit 0"), func(r *hpcsera.RunPart) { r.Attributes.ReservationID = "nope" }, hpcsera.Failed, hpcsera.RejectedByScheduler, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, l := l.in(t)
			code := l.approveWide(t, "end-"+c.name, c.script)
			id := l.submit(t, code, withRun(func(r *hpcsera.RunPart) {
				if c.change != nil {
					c.change(r)
				}
			}))
			j := d.await(id, 3*time.Minute)
			if j.State != c.state || j.Reason != c.reason {
				t.Errorf("job is %s (%s: %s), want %s (%s)", j.State, j.Reason, j.Message, c.state, c.reason)
			}
			if c.exit != nil && (j.Exit == nil || *j.Exit != *c.exit) {
				t.Errorf("exit is %+v, want %+v", j.Exit, c.exit)
			}
			if c.name == "noreservation" && !strings.Contains(j.Message, "reservation is invalid") {
				t.Errorf("message is %q, want Slurm's own sentence", j.Message)
			}
		})
	}
}

func TestCancelEverywhere(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	code := l.approveWide(t, "cancel", marking("sleep 300"))
	running := l.submit(t, code)
	held := l.submit(t, code, withRun(func(r *hpcsera.RunPart) { r.Hold = true }))
	queued := l.submit(t, l.approveLater(t, "later", "now+1hour", "#!/bin/sh\ntouch marker\n"))
	waiting := l.submitUnapproved(t)
	d.await(running, 60*time.Second, hpcsera.Running)
	d.await(held, 60*time.Second, hpcsera.Held)
	d.await(queued, 60*time.Second, hpcsera.Queued)
	for name, id := range map[string]string{"running": running, "held": held, "queued": queued, "waiting for approval": waiting} {
		for range 2 {
			if res := d.call("DELETE", "/jobs/"+id, nil, nil); res.StatusCode/100 != 2 {
				t.Errorf("cancel of the %s job: %s", name, res.Status)
			}
		}
	}
	for name, id := range map[string]string{"running": running, "held": held, "queued": queued, "waiting for approval": waiting} {
		j := d.await(id, 60*time.Second)
		want := map[string]int{"running": 1}[name]
		if runs := l.runs(t, id); j.State != hpcsera.Cancelled || j.Reason != hpcsera.CancelledByUser || runs != want {
			t.Errorf("%s job is %s (%s: %s) and ran %d times, want cancelled by user, %d", name, j.State, j.Reason, j.Message, runs, want)
		}
	}
}

// submitUnapproved submits code that nobody signed.
func (l *login) submitUnapproved(t *testing.T) string {
	t.Helper()
	var j hpcsera.Job
	body := map[string]any{"name": "unsigned", "script": "#!/bin/sh\ntouch marker\n", "site": "lab"}
	l.d.call("POST", "/jobs", body, &j, "Idempotency-Key", hpcsera.NewID("k"))
	if j.State != hpcsera.Pending || j.Reason != hpcsera.WaitingForApproval {
		t.Fatalf("unsigned job is %s (%s), want pending, waiting_for_approval", j.State, j.Reason)
	}
	return j.ID
}

func TestHoldAndRelease(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	code := l.approveWide(t, "hold", marking("exit 0"))
	id := l.submit(t, code, withRun(func(r *hpcsera.RunPart) { r.Hold = true }))
	d.await(id, 30*time.Second, hpcsera.Held)
	d.call("PATCH", "/jobs/"+id, map[string]any{"hold": false}, nil)
	if j := d.await(id, 60*time.Second); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 {
		t.Errorf("released job is %s (%s), ran %d times", j.State, j.Reason, l.runs(t, id))
	}
	// One that stands in Slurm's queue already.
	late := l.submit(t, l.approveLater(t, "late", "now+20", marking("exit 0")))
	d.await(late, 60*time.Second, hpcsera.Queued)
	d.call("PATCH", "/jobs/"+late, map[string]any{"hold": true}, nil)
	d.await(late, 60*time.Second, hpcsera.Held)
	if state := strings.TrimSpace(slurm(t, "squeue", "--noheader", "--jobs="+d.job(late).Native.ID, "--Format=Reason:40")); state != "JobHeldUser" {
		t.Errorf("Slurm says %q, want JobHeldUser", state)
	}
	d.call("PATCH", "/jobs/"+late, map[string]any{"hold": false}, nil)
	if j := d.await(late, 90*time.Second); j.State != hpcsera.Succeeded || l.runs(t, late) != 1 {
		t.Errorf("released job is %s (%s: %s), ran %d times", j.State, j.Reason, j.Message, l.runs(t, late))
	}
}

// approveLater signs code that Slurm starts only after a while.
func (l *login) approveLater(t *testing.T, name, begin, script string) string {
	t.Helper()
	m := manifest(name, script)
	m.Limits = wide
	m.CustomAttributes = map[string]string{"slurm.begin": begin}
	return l.approve(t, m)
}

func TestRequeueIsANewAttemptOnlyWhereAllowed(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	for name, first := range map[string]string{
		"killed":               "exec sleep 300",
		"which saved its work": "trap 'sleep 1; exit 0' TERM; while :; do sleep 0.1; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code := l.approveWide(t, "requeue", marking(`if [ "$HPCSERA_ATTEMPT" = 1 ]; then `+first+`; fi; echo "attempt $HPCSERA_ATTEMPT"`))
			id := l.submit(t, code, withRun(func(r *hpcsera.RunPart) { r.Requeue = true }))
			j := d.await(id, 60*time.Second, hpcsera.Running)
			slurm(t, "scontrol", "requeue", j.Native.ID)
			j = d.await(id, 4*time.Minute)
			if runs := l.runs(t, id); j.State != hpcsera.Succeeded || j.Attempt != 2 || runs != 2 {
				t.Errorf("requeued job is %s (%s: %s) in attempt %d, ran %d times; want succeeded, 2, 2", j.State, j.Reason, j.Message, j.Attempt, runs)
			}
			if got := d.get("/jobs/" + id + "/logs/stdout?attempt=2"); got != "attempt 2\n" {
				t.Errorf("stdout of attempt 2 is %q", got)
			}
			if len(j.Attempts) != 1 || j.Attempts[0].Attempt != 1 {
				t.Errorf("earlier attempts are %+v, want the first", j.Attempts)
			}
		})
	}
}

func TestSilentQueueNeverEndsAJob(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, script string }{
		{"empty", "exit 0"}, {"failing", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"}, {"hanging", "sleep 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm", "query_timeout: 2s")
			broken := filepath.Join(l.home, "broken")
			for _, name := range []string{"squeue", "sacct"} {
				write(t, filepath.Join(l.home, name), "#!/bin/sh\nif [ -e "+broken+" ]; then "+c.script+"; exit; fi\nexec /usr/bin/"+name+" \"$@\"\n", 0o755)
			}
			l.configure(t, "commands: {squeue: "+filepath.Join(l.home, "squeue")+", sacct: "+filepath.Join(l.home, "sacct")+"}")
			gate := filepath.Join(l.home, "gate")
			id := l.submit(t, l.approveWide(t, "silent", marking("while ! [ -e "+gate+" ]; do sleep 0.2; done; exit 3")))
			l.startAgent(t, "")
			d.await(id, 60*time.Second, hpcsera.Running)
			write(t, broken, "", 0o644)
			write(t, gate, "", 0o644)
			// The program has failed; without the batch system's word the job stays open.
			eventually(t, 60*time.Second, "the end record", func() bool {
				found, _ := filepath.Glob(filepath.Join(l.spool, id, "0", "1", "end"))
				return len(found) == 1
			})
			for until := time.Now().Add(8 * time.Second); time.Now().Before(until); time.Sleep(500 * time.Millisecond) {
				if j := d.job(id); j.State.Final() {
					t.Fatalf("a %s queue ended the job as %s (%s: %s)", c.name, j.State, j.Reason, j.Message)
				}
			}
			if err := os.Remove(broken); err != nil {
				t.Fatal(err)
			}
			if j := d.await(id, 2*time.Minute); j.Reason != hpcsera.ExitNonzero || l.runs(t, id) != 1 {
				t.Errorf("job is %s (%s: %s), ran %d times; want exit_nonzero, 1", j.State, j.Reason, j.Message, l.runs(t, id))
			}
		})
	}
}

func TestLoginAndBatchSteps(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	m := hpcsera.Manifest{Name: "steps", Steps: []hpcsera.Step{
		{Name: "build", Type: hpcsera.LoginStep, Program: hpcsera.Program{Script: "#!/bin/sh\necho build >> marker; echo building\n"}},
		{Name: "solve", Type: hpcsera.BatchStep, Program: hpcsera.Program{Script: "#!/bin/sh\necho solve >> marker; echo solving in $SLURM_JOB_ID\n"}},
		{Name: "again", Type: hpcsera.BatchStep, Program: hpcsera.Program{Script: "#!/bin/sh\necho again >> marker; echo again\n"}},
		{Name: "pack", Type: hpcsera.LoginStep, Program: hpcsera.Program{Script: "#!/bin/sh\necho pack >> marker; tar cf all.tar marker; echo packed\n"}},
	}, Artifacts: []hpcsera.ArtifactPattern{{Path: "marker"}}}
	id := l.submit(t, l.approve(t, m))
	j := d.await(id, 2*time.Minute)
	if j.State != hpcsera.Succeeded {
		t.Fatalf("job is %s (%s: %s)\n%s", j.State, j.Reason, j.Message, l.agent.log)
	}
	if got := d.get("/jobs/" + id + "/artifacts/marker"); got != "build\nsolve\nagain\npack\n" {
		t.Errorf("steps left %q", got)
	}
	if got := d.get("/jobs/" + id + "/logs/stdout"); !strings.HasPrefix(got, "building\nsolving in ") || !strings.HasSuffix(got, "again\npacked\n") {
		t.Errorf("stdout is %q", got)
	}
}
