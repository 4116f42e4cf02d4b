package slurm_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
	"github.com/hpcsera/hpcsera/internal/scheduler/slurm"
)

// annex is a second cluster of an installation, whose ids are also those of
// jobs in the first. It is driven with the configuration of the first.
type annex struct {
	controller
	driver slurm.Driver
	first  string // SLURM_CONF
}

func startAnnex(t *testing.T) annex {
	t.Helper()
	first := lab(t, "HPCSERA_TEST_SLURM", "--dir /tmp/hpcsera-testbed/slurm --dbd")
	c := newController(t, "--join", filepath.Dir(filepath.Dir(first)), "--min-job-age", "5", "--cgroup", "--preempt")
	return annex{c, slurm.Driver{Cluster: "annex"}, first}
}

// What only whoever runs a Slurm can do to jobs is told apart, and the suite
// holds on the other cluster.
func TestAnotherClusterOfAnInstallation(t *testing.T) {
	t.Parallel()
	a := startAnnex(t)
	t.Run("a job that wants more memory than it asked for is told as out_of_memory", a.memory)
	t.Run("a job whose place another took is told as preempted", a.preempted)
	t.Run("a job that may be requeued waits again when another takes its place", a.preemptedAndRequeued)
	t.Run("a probe tells of that cluster", a.probe)
	t.Run("a job whose node failed is told as node_failure", a.nodeFailed) // last: the node stays down
	h := harness(t, a.driver, a.first)
	schedulertest.Run(t, h)
}

// submit submits a script that runs on one node alone.
func (a annex) submit(t *testing.T, script string, change func(*scheduler.Submission)) (*scheduler.Scheduler, scheduler.Ref) {
	t.Helper()
	s, dir, tag := newScheduler(a.driver, a.first, nil), schedulertest.Folder(t), hpcsera.NewID("s")
	sub := scheduler.Submission{Tag: tag, Script: dir + "/job", Directory: dir, Output: dir + "/out"}
	if err := os.WriteFile(sub.Script, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&sub)
	}
	refs, err := s.Submit(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	if refs[0].Cluster != "annex" {
		t.Errorf("got %+v, want the cluster's name", refs[0])
	}
	t.Cleanup(func() { _ = s.Act(context.Background(), scheduler.Cancel, refs) })
	return s, refs[0]
}

func whole(node, queue string, requeue bool) func(*scheduler.Submission) {
	return func(s *scheduler.Submission) {
		s.Requeue, s.Resources.ExclusiveNodeUse, s.Attributes.QueueName, s.Custom = requeue, true, queue, map[string]string{"nodelist": node}
	}
}

// await asks for the job until it is as wanted.
func await(t *testing.T, s *scheduler.Scheduler, ref scheduler.Ref, done func(scheduler.Status) bool) scheduler.Status {
	t.Helper()
	deadline := time.After(3 * time.Minute)
	for {
		answer, err := s.Statuses(t.Context(), []scheduler.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		st, found := answer[ref] // what left the queue may be in the history a moment later
		if found && done(st) {
			return st
		}
		select {
		case <-deadline:
			t.Fatalf("waited in vain; the job is %+v (found: %v)", st, found)
		case <-time.After(300 * time.Millisecond):
		}
	}
}

func running(st scheduler.Status) bool { return st.Phase == scheduler.PhaseRunning }
func over(st scheduler.Status) bool    { return st.Phase == scheduler.PhaseEnded }

func wantEnd(t *testing.T, st scheduler.Status, reason hpcsera.Reason) {
	t.Helper()
	if st.Reason != reason || st.Exit != nil {
		t.Errorf("got %+v with exit %+v, want %s and no exit", st, st.Exit, reason)
	}
}

func (a annex) memory(t *testing.T) {
	text, err := os.ReadFile(a.conf())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "TaskPlugin=task/cgroup") {
		fmt.Println("| Slurm was not seen to hold a job to its memory: no control group of cgroup v1 can be made here")
		return
	}
	s, ref := a.submit(t, "head -c 500000000 /dev/zero | tail >/dev/null; exit 5", func(s *scheduler.Submission) { s.Resources.Memory = 64 << 20 })
	wantEnd(t, await(t, s, ref, over), hpcsera.OutOfMemory)
}

func (a annex) preempted(t *testing.T) {
	s, ref := a.submit(t, "exec sleep 600", whole("n1", "debug", false))
	await(t, s, ref, running)
	s, urgent := a.submit(t, "exec sleep 600", whole("n1", "urgent", false))
	wantEnd(t, await(t, s, ref, over), hpcsera.Preempted)
	await(t, s, urgent, running)
}

func (a annex) preemptedAndRequeued(t *testing.T) {
	s, ref := a.submit(t, "exec sleep 600", whole("n1", "debug", true))
	await(t, s, ref, running)
	s, urgent := a.submit(t, "exec sleep 600", whole("n1", "urgent", false))
	st := await(t, s, ref, func(st scheduler.Status) bool {
		if st.Phase == scheduler.PhaseEnded {
			t.Fatalf("got the end %+v, want it to wait again", st)
		}
		// Why it waits is told a moment later.
		return st.Phase == scheduler.PhaseQueued && st.Restarts == 1 && st.Reason != ""
	})
	if st.Reason != hpcsera.WaitingForResources && st.Reason != hpcsera.WaitingForPriority {
		t.Errorf("got %+v, want why it waits", st)
	}
	await(t, s, urgent, running)
}

func (a annex) nodeFailed(t *testing.T) {
	s, ref := a.submit(t, "exec sleep 600", whole("n2", "debug", false))
	await(t, s, ref, running)
	if err := asRoot(a.driver, a.first, "update", "nodename=n2", "state=down", "reason=test"); err != nil {
		t.Fatal(err)
	}
	wantEnd(t, await(t, s, ref, over), hpcsera.NodeFailure)
}

func (a annex) probe(t *testing.T) {
	f, err := newScheduler(a.driver, a.first, nil).Probe(t.Context())
	if err != nil || f.Cluster != "annex" || f.Nodes == nil || f.Nodes.Total != 2 || len(f.Queues) != 3 || f.Jobs == nil {
		t.Errorf("got %+v, %v", f, err)
	}
}
