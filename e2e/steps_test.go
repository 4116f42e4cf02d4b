package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// twoSteps is a job whose batch steps leave a line each.
func twoSteps(first string) hpcsera.Manifest {
	script := func(text string) hpcsera.Program { return hpcsera.Program{Script: "#!/bin/sh\n" + text + "\n"} }
	return hpcsera.Manifest{
		Name: "two", Limits: wide, Artifacts: []hpcsera.ArtifactPattern{{Path: "marker", Always: true}},
		Steps: []hpcsera.Step{
			{Name: "first", Type: hpcsera.BatchStep, Program: script("echo first $SLURM_JOB_NUM_NODES >> marker\n" + first)},
			{Name: "second", Type: hpcsera.BatchStep, Program: script("echo second $SLURM_JOB_NUM_NODES >> marker"), Resources: &hpcsera.Resources{NodeCount: 2}},
		},
	}
}

// marker is what the steps of a job left.
func (d *deployment) marker(id string) string {
	d.t.Helper()
	return d.get("/jobs/" + id + "/artifacts/marker")
}

// TestKillBetweenTwoBatchSteps: exactly once holds for each step, wherever
// between them the agent or the server dies.
func TestKillBetweenTwoBatchSteps(t *testing.T) {
	for _, at := range []string{
		"before-journal.step=kill", "after-journal.step=kill", "before-submit=kill@2", "after-submit=kill@2", "before-journal.submitted=kill@2",
		"before-journal.step=pause:", "after-journal.step=pause:",
	} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm")
			id := l.submit(t, l.approve(t, twoSteps("")))
			gate := filepath.Join(l.home, "gate")
			if strings.HasSuffix(at, ":") { // the server dies while the agent stands there
				l.startAgent(t, "agent."+at+gate)
				eventually(t, 2*time.Minute, "the agent at "+at, func() bool { return exists(gate + ".here") })
				d.killServer()
				d.startServer("")
				write(t, gate, "", 0o644)
			} else {
				first := l.startAgent(t, "agent."+at)
				eventually(t, 2*time.Minute, "the agent killed at "+at, first.dead)
				l.startAgent(t, "")
			}
			j := d.await(id, 2*time.Minute)
			if got := d.marker(id); j.State != hpcsera.Succeeded || got != "first 1\nsecond 2\n" || j.Attempt != 1 {
				t.Errorf("job is %s (%s: %s) in attempt %d and left %q, want each step once", j.State, j.Reason, j.Message, j.Attempt, got)
			}
			l.expectNothingLeft(t, id)
		})
	}
}

// TestStatesAreTheCurrentSteps: a job goes from running back to the queue with
// its second batch step.
func TestStatesAreTheCurrentSteps(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	m := twoSteps("")
	m.CustomAttributes = map[string]string{"slurm.begin": "now+3"} // long enough in the queue to be seen there
	id := l.submit(t, l.approve(t, m))
	if j := d.await(id, 2*time.Minute); j.State != hpcsera.Succeeded || j.Step != 1 {
		t.Fatalf("job is %s (%s: %s) at step %d, want it succeeded at 1", j.State, j.Reason, j.Message, j.Step)
	}
	l.expectStates(t, id, hpcsera.Queued, hpcsera.Running, hpcsera.Queued, hpcsera.Running, hpcsera.Succeeded)
}

// TestNoStepFollowsOneThatDidNotSucceed: neither after a failure nor after a
// cancel that arrives between two steps.
func TestNoStepFollowsOneThatDidNotSucceed(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm")
	gate := filepath.Join(l.home, "gate")
	l.startAgent(t, "agent.before-journal.step=pause:"+gate)
	failing := l.submit(t, l.approve(t, twoSteps("exit 3")))
	if j := d.await(failing, 2*time.Minute); j.State != hpcsera.Failed || j.Reason != hpcsera.ExitNonzero || j.Step != 0 || d.marker(failing) != "first 1\n" {
		t.Errorf("job is %s (%s: %s) at step %d and left %q, want it failed at its first", j.State, j.Reason, j.Message, j.Step, d.marker(failing))
	}
	cancelled := l.submit(t, l.approve(t, twoSteps("")))
	eventually(t, 2*time.Minute, "the agent between the steps", func() bool { return exists(gate + ".here") })
	if res := d.call("DELETE", "/jobs/"+cancelled, nil, nil); res.StatusCode/100 != 2 {
		t.Fatalf("cancel: %s", res.Status)
	}
	write(t, gate, "", 0o644)
	// The cancel may come before the second step is submitted, or later: then what
	// that left agrees with what is said.
	j, got := d.await(cancelled, 2*time.Minute), d.marker(cancelled)
	switch {
	case j.State == hpcsera.Cancelled && (got == "first 1\n" || j.Step == 1 && got == "first 1\nsecond 2\n"):
	case j.State == hpcsera.Succeeded && got == "first 1\nsecond 2\n":
	default:
		t.Errorf("job is %s (%s: %s) at step %d and left %q: what it says and what ran differ", j.State, j.Reason, j.Message, j.Step, got)
	}
}

// TestALoginStepThatPrintsWithoutEndIsEnded: the disk of the login node is
// everybody's.
func TestALoginStepThatPrintsWithoutEndIsEnded(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm", "login_output: 1MiB")
	l.startAgent(t, "")
	m := hpcsera.Manifest{Name: "yes", Steps: []hpcsera.Step{
		{Name: "print", Type: hpcsera.LoginStep, Program: hpcsera.Program{Executable: "/usr/bin/yes"}},
		{Name: "solve", Type: hpcsera.BatchStep, Program: hpcsera.Program{Script: "#!/bin/sh\necho second\n"}},
	}}
	id := l.submit(t, l.approve(t, m))
	j := d.await(id, 2*time.Minute)
	if j.State != hpcsera.Failed || j.Reason != hpcsera.Signalled || !strings.Contains(j.Message, "login_output") {
		t.Errorf("job is %s (%s: %s), want it ended for what it printed", j.State, j.Reason, j.Message)
	}
	if got := d.get("/jobs/" + id + "/logs/stdout"); len(got) != 1<<20 || strings.Contains(got, "second") {
		t.Errorf("the log has %d bytes, want the %d allowed", len(got), 1<<20)
	}
}
