package schedulertest

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func exitCodes(t T, h Harness) {
	b := newBench(t, h, nil)
	good, bad := b.submit(b.job("exit 0")), b.submit(b.job("exit 3"))
	st := b.ended(good, "", &hpcsera.Exit{})
	if st.Submitted.IsZero() || st.ID != good.ID {
		t.Errorf("got %+v, want the time of its submission and the id %s", st, good.ID)
	}
	b.ended(bad, "", &hpcsera.Exit{Code: 3})
}

// jobEnvironment: exactly what is allow-listed reaches the command and so the
// job, whatever stands in the agent's own environment.
func jobEnvironment(t T, h Harness) {
	foreign := []string{"LD_PRELOAD=/nonexistent.so", "BASH_ENV=/nonexistent", "ENV=/nonexistent", "SBATCH_PARTITION=nosuch", "SLURM_HINT=x", "SECRET=1", "http_proxy=x"}
	b := newBench(t, h, h.New(t, func(c *scheduler.Config) { c.Environment = append(foreign, c.Environment...) }))
	sub := b.job("echo in:$PWD; env")
	ref := b.submit(sub)
	b.ended(ref, "", &hpcsera.Exit{})
	out := b.read(sub.Tag + ".out")
	if !strings.Contains(out, "in:"+sub.Directory+"\n") {
		t.Errorf("the job did not start in %s:\n%s", sub.Directory, out)
	}
	for _, pair := range foreign { // of the same names a batch system may have its own
		if strings.Contains("\n"+out+"\n", "\n"+pair+"\n") {
			t.Errorf("%s reached the job", pair)
		}
	}
	for _, name := range b.s.Environment().ID {
		if _, after, ok := strings.Cut("\n"+out, "\n"+name+"="); ok {
			if got, _, _ := strings.Cut(after, "\n"); got != ref.ID {
				t.Errorf("%s: got %q, want %s", name, got, ref.ID)
			}
			return
		}
	}
	t.Errorf("none of %v was set", b.s.Environment().ID)
}

func signalled(t T, h Harness) {
	b := newBench(t, h, nil)
	b.ended(b.submit(b.job("kill -SEGV $$")), "", &hpcsera.Exit{Signal: int(syscall.SIGSEGV)})
}

func timeLimit(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exec sleep 600")
	sub.Attributes.Duration = h.Limit
	b.ended(b.submit(sub), hpcsera.Timeout, nil)
}

func cancelQueued(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("echo ran > ran")
	b.waiting(&sub)
	ref := b.submit(sub)
	if st := b.await(ref, scheduler.PhaseQueued); st.Reason == "" || st.Message == "" {
		t.Errorf("got %+v, want why it waits", st)
	}
	b.act(scheduler.Cancel, ref)
	b.cancelledWaiting(h, ref)
	if b.exists("ran") {
		t.Error("the cancelled job ran")
	}
}

func heldAtSubmission(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("echo ran > ran")
	sub.Held = true
	ref := b.submit(sub)
	marker := b.submit(b.job("exit 0")) // when this one has run, the held one could have
	b.ended(marker, "", &hpcsera.Exit{})
	b.await(ref, scheduler.PhaseHeld)
	if b.exists("ran") {
		t.Error("the held job ran")
	}
	b.act(scheduler.Release, ref)
	b.ended(ref, "", &hpcsera.Exit{})
	b.until("it is seen that the released job ran", func() bool { return b.exists("ran") })
}

func holdAndRelease(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exit 0")
	b.waiting(&sub)
	ref := b.submit(sub)
	b.await(ref, scheduler.PhaseQueued)
	b.act(scheduler.Hold, ref)
	b.await(ref, scheduler.PhaseHeld)
	b.act(scheduler.Hold, ref) // twice is once
	b.await(ref, scheduler.PhaseHeld)
	b.act(scheduler.Release, ref)
	b.await(ref, scheduler.PhaseQueued)
}

func holdRunning(t T, h Harness) {
	b := newBench(t, h, nil)
	ref := b.submit(b.job("while [ ! -e go ]; do sleep 0.1; done; exit 4"))
	b.await(ref, scheduler.PhaseRunning)
	b.act(scheduler.Hold, ref)
	if st := b.await(ref, scheduler.PhaseRunning); st.Phase != scheduler.PhaseRunning {
		t.Errorf("got %+v, want it running", st)
	}
	b.touch("go")
	b.ended(ref, "", &hpcsera.Exit{Code: 4})
}

func cancelRunning(t T, h Harness) {
	b := newBench(t, h, nil)
	ref := b.submit(b.job("uname -n > host; sleep 600 & echo $! > child; echo $$ > pid; wait"))
	b.await(ref, scheduler.PhaseRunning)
	b.until("the job writes its process ids", func() bool { return b.exists("pid") && b.read("pid") != "" })
	b.act(scheduler.Cancel, ref)
	b.cancelledRunning(h, ref)
	if here, err := os.Hostname(); err != nil || b.read("host") != here {
		t.Logf("the job ran on another host, so whether its processes are gone was not looked at")
		return
	}
	for _, name := range []string{"pid", "child"} {
		pid, err := strconv.Atoi(b.read(name))
		if err != nil {
			t.Fatal(err)
		}
		b.until("the job's "+name+" is gone", func() bool { return gone(pid) })
	}
}

func requeued(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("echo run >> runs; exec sleep 600")
	sub.Requeue = true
	ref := b.submit(sub)
	b.await(ref, scheduler.PhaseRunning)
	b.until("the job says that it runs", func() bool { return b.exists("runs") })
	if err := h.Requeue(ref.ID); err != nil {
		t.Fatal(err)
	}
	var st scheduler.Status
	b.until("a restart is counted", func() bool { st, _ = b.status(ref); return st.Restarts == 1 })
	b.await(ref, scheduler.PhaseQueued)
	b.act(scheduler.Cancel, ref)
	b.cancelledWaiting(h, ref)
}

func notRequeued(t T, h Harness) {
	b := newBench(t, h, nil)
	ref := b.submit(b.job("while [ ! -e go ]; do sleep 0.1; done"))
	b.await(ref, scheduler.PhaseRunning)
	if err := h.Requeue(ref.ID); err == nil {
		t.Error("the system requeued a job that was submitted without requeue")
	}
	if st := b.await(ref, scheduler.PhaseRunning); st.Restarts != 0 {
		t.Errorf("got %+v, want no restart", st)
	}
	b.touch("go")
	b.ended(ref, "", &hpcsera.Exit{})
}
