package schedulertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

func (b *bench) touch(name string) {
	b.Helper()
	if err := os.WriteFile(b.file(name), nil, 0o600); err != nil {
		b.Fatal(err)
	}
}

// gone reports whether a process has ended. PID 1 may be slow to reap, so a
// zombie has ended.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}

func refusedQueue(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exit 0")
	sub.Attributes.QueueName = "nosuch"
	ref, err := b.s.Submit(t.Context(), sub)
	refused, ok := errors.AsType[*scheduler.Refused](err)
	if !ok || refused.Throttled || refused.Unreached || !strings.Contains(refused.Message, h.BadQueue) {
		t.Fatalf("got %+v, %#v, want it refused with %q", ref, err, h.BadQueue)
	}
	if found, err := b.s.Find(t.Context(), sub.Tag); err != nil || len(found) != 0 {
		t.Errorf("got %+v, %v, want nothing queued", found, err)
	}
}

func manyJobs(t T, h Harness) {
	b := newBench(t, h, nil)
	var refs []scheduler.Ref
	for range h.many() {
		sub := b.job("exit 0")
		sub.Held = true
		refs = append(refs, b.submit(sub))
	}
	before := b.s.Stats()
	answer, err := b.s.Statuses(t.Context(), refs)
	if err != nil || len(answer) != len(refs) {
		t.Fatalf("got %d jobs, %v, want %d", len(answer), err, len(refs))
	}
	after := b.s.Stats()
	if got := after.Total().Runs - before.Total().Runs; got != 1 {
		t.Errorf("commands: got %d, want 1: %+v", got, after)
	}
	b.act(scheduler.Cancel, refs...)
	if got := b.s.Stats().Act.Runs - after.Act.Runs; got != 1 {
		t.Errorf("commands to cancel: got %d, want 1", got)
	}
}

func identity(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exit 0")
	sub.Held = true
	ref := b.submit(sub)
	listed := b.await(ref, scheduler.PhaseHeld).Ref
	same := []scheduler.Ref{ref, listed, {Tag: ref.Tag}, {Tag: ref.Tag, ID: ref.ID}}
	others := []scheduler.Ref{
		{Tag: hpcsera.NewID("s"), ID: ref.ID},            // its id, another tag: reused
		{Tag: ref.Tag, ID: "999999"},                     // its tag, another id
		{Tag: hpcsera.NewID("s")},                        // unknown
		{Tag: hpcsera.NewID("s"), ID: "999998"},          // unknown
		{Tag: strings.ToUpper(ref.Tag), ID: ref.ID},      // no tag of ours
		{Tag: ref.Tag[:len(ref.Tag)-1], ID: ref.ID},      // a part of it
		{Tag: "", ID: ref.ID},                            // an id is no identity
		{Tag: hpcsera.NewID("s"), ID: "999997_3"},        // a task of an array
		{Tag: hpcsera.NewID("s"), ID: "1", Cluster: "x"}, //
	}
	if listed.Cluster != "" {
		others = append(others, scheduler.Ref{Tag: ref.Tag, ID: ref.ID, Cluster: "elsewhere"})
	}
	answer, err := b.s.Statuses(t.Context(), append(append([]scheduler.Ref{}, same...), others...))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range same {
		if st := answer[r]; st.ID != ref.ID || st.Phase != scheduler.PhaseHeld {
			t.Errorf("%+v: got %+v, want job %s", r, st, ref.ID)
		}
	}
	for _, r := range others {
		if st, found := answer[r]; found {
			t.Errorf("%+v: got %+v, want it absent", r, st)
		}
	}
	found, err := b.s.Find(t.Context(), ref.Tag, hpcsera.NewID("s"))
	if err != nil || len(found) != 1 || found[0].Ref != listed {
		t.Errorf("find: got %+v, %v, want %+v", found, err, listed)
	}
}

func actOnOthers(t T, h Harness) {
	b := newBench(t, h, nil)
	ref := b.submit(b.job("while [ ! -e go ]; do sleep 0.1; done; exit 5"))
	b.await(ref, scheduler.PhaseRunning)
	for _, a := range []scheduler.Action{scheduler.Cancel, scheduler.Hold, scheduler.Release} {
		b.act(a, scheduler.Ref{ID: ref.ID, Tag: hpcsera.NewID("s")}, scheduler.Ref{ID: "999999", Tag: ref.Tag})
	}
	b.touch("go")
	b.ended(ref, "", &hpcsera.Exit{Code: 5})
}

func actOnGone(t T, h Harness) {
	b := newBench(t, h, nil)
	ref := b.submit(b.job("exit 0"))
	b.ended(ref, "", &hpcsera.Exit{})
	for _, a := range []scheduler.Action{scheduler.Cancel, scheduler.Hold, scheduler.Release} {
		b.act(a, ref, scheduler.Ref{ID: "999999", Tag: hpcsera.NewID("s")})
	}
	if st, found := b.status(ref); found && st.Reason != "" {
		t.Errorf("after cancel, hold and release: got %+v, want the end it had", st)
	}
}

func brokenQueries(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exit 0")
	sub.Held = true
	ref := b.submit(sub)
	real := h.path(t, h.Queue)
	for name, text := range map[string]string{
		"fails":                 "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1",
		"fails after its work":  real + ` "$@"; exit 1`,
		"breaks off":            real + ` "$@" | head -c 40`,
		"loses its last byte":   real + ` "$@" | head -c -2`,
		"hangs with its output": real + ` "$@"; sleep 600`,
	} {
		broken := h.New(t, func(c *scheduler.Config) {
			c.Commands[h.Queue] = b.script(text)
			c.QueryTimeout = 3 * time.Second
		})
		answer, err := broken.Statuses(t.Context(), []scheduler.Ref{ref})
		if err == nil || len(answer) != 0 {
			t.Errorf("%s: statuses: got %+v, %v, want an error", name, answer, err)
		}
		if found, err := broken.Find(t.Context(), ref.Tag); err == nil {
			t.Errorf("%s: find: got %+v, want an error", name, found)
		}
		if err := broken.Act(t.Context(), scheduler.Cancel, []scheduler.Ref{ref}); err == nil {
			t.Errorf("%s: cancel: got no error", name)
		}
	}
	b.await(ref, scheduler.PhaseHeld)
}

func brokenHistory(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exit 0")
	sub.Held = true
	live := b.submit(sub)
	unknown := scheduler.Ref{Tag: hpcsera.NewID("s"), ID: "999999"}
	for name, text := range map[string]string{"fails": "echo 'sacct: error: Problem talking to the database' >&2; exit 1", "prints nothing": "exit 0", "hangs": "sleep 600"} {
		broken := h.New(t, func(c *scheduler.Config) {
			c.Commands[h.History] = b.history(h, text)
			if name == "hangs" { // and the queue's command must not
				c.QueryTimeout = 5 * time.Second
				if h.Site != nil {
					c.QueryTimeout = 20 * time.Second
				}
			}
		})
		answer, err := broken.Statuses(t.Context(), []scheduler.Ref{live, unknown})
		if err == nil || answer[live].Phase != scheduler.PhaseHeld {
			t.Errorf("%s: got %+v, %v, want the live job and an error", name, answer, err)
		}
		answer, err = broken.Statuses(t.Context(), []scheduler.Ref{live})
		if err != nil || answer[live].Phase != scheduler.PhaseHeld {
			t.Errorf("%s, and there is nothing to ask the history for: got %+v, %v, want the live job", name, answer, err)
		}
	}
}

func leftQueue(t T, h Harness) {
	b := newBench(t, h, nil)
	ref, cut := b.submit(b.job("exit 6")), b.submit(b.job("exec sleep 600"))
	b.ended(ref, "", &hpcsera.Exit{Code: 6})
	b.await(cut, scheduler.PhaseRunning)
	b.act(scheduler.Cancel, cut)
	b.cancelledRunning(h, cut)
	// A Scheduler whose history is a silent failure shows when the jobs are gone from the queue.
	if h.History == "" {
		b.until("the job leaves the queue", func() bool { _, found := b.status(ref); return !found })
		return
	}
	blind := h.New(t, func(c *scheduler.Config) { c.Commands[h.History] = b.history(h, "exit 1") })
	b.until("the jobs leave the queue", func() bool {
		answer, err := blind.Statuses(t.Context(), []scheduler.Ref{ref, cut})
		return err != nil && len(answer) == 0
	})
	b.ended(ref, "", &hpcsera.Exit{Code: 6})
	b.ended(scheduler.Ref{Tag: ref.Tag}, "", &hpcsera.Exit{Code: 6})
	if st := b.cancelledRunning(h, cut); st.Incomplete {
		t.Errorf("got %+v, want what the history knows", st)
	}
	if found, err := b.s.Find(t.Context(), ref.Tag); err != nil || len(found) != 1 || found[0].ID != ref.ID {
		t.Errorf("find: got %+v, %v, want job %s", found, err, ref.ID)
	}
}

func lateSubmission(t T, h Harness) {
	b := newBench(t, h, nil)
	late := h.New(t, func(c *scheduler.Config) {
		c.Commands[h.Submit] = b.script("setsid sh -c 'sleep 3; exec " + h.path(t, h.Submit) + ` "$@"' - "$@" >/dev/null 2>&1 &` + "\nsleep 600")
		c.SubmitTimeout = time.Second
	})
	sub := b.job("exit 0")
	sub.Held = true
	_, err := late.Submit(t.Context(), sub)
	if _, refused := errors.AsType[*scheduler.Refused](err); err == nil || refused {
		t.Fatalf("got %v, want an ambiguous error", err)
	}
	known := scheduler.Ref{Tag: sub.Tag}
	b.cancelLater(known)
	var found []scheduler.Status
	b.until("the job appears", func() bool {
		if found, err = b.s.Find(t.Context(), sub.Tag); err != nil {
			t.Fatal(err)
		}
		return len(found) > 0
	})
	if len(found) != 1 || found[0].Tag != sub.Tag || found[0].ID == "" {
		t.Errorf("find: got %+v, want one job with an id", found)
	}
	b.await(known, scheduler.PhaseHeld)
	b.act(scheduler.Cancel, known)
	b.cancelledWaiting(h, known)
}

// probe: what a site tells can be sent, and holds. What it does not tell is not
// checked: zero is "not told".
func probe(t T, h Harness) {
	s := h.New(t, nil)
	facts, err := s.Probe(t.Context())
	if err != nil || facts.System != s.System() || len(facts.Queues) == 0 {
		t.Fatalf("got %+v, %v, want the system and its queues", facts, err)
	}
	text, err := json.Marshal(facts)
	var read hpcsera.Facts
	if err == nil {
		err = hpcsera.Decode(text, &read)
	}
	if err != nil || !cmp.Equal(facts, read) {
		t.Errorf("the facts do not survive their way: %v\n%s", err, text)
	}
	if n := facts.Nodes; n != nil && (n.Total < 1 || n.Up < 1 || n.Up > n.Total || n.Idle < 0 || n.Idle > n.Up) {
		t.Errorf("got the nodes %+v, want at least one, that is up", n)
	}
	if l := facts.Jobs; l != nil && (l.Queued < 0 || l.Running < 0) {
		t.Errorf("got the load %+v", l)
	}
	if h.Site == nil && facts.LargestArray != h.Arrays { // a site has its own
		t.Errorf("largest array: got %d, want %d", facts.LargestArray, h.Arrays)
	}
	defaults, open := 0, 0
	for _, q := range facts.Queues {
		if q.Name == "" || q.Nodes < 0 || facts.Nodes != nil && q.Nodes > facts.Nodes.Total || q.Idle != nil && (*q.Idle < 0 || *q.Idle > q.Nodes) {
			t.Errorf("got the queue %+v, want a name, and as many nodes as there are", q)
		}
		if q.MaxDuration != 0 && q.DefaultDuration > q.MaxDuration || q.MaxNodes < 0 || q.CoresPerNode < 0 || q.MemoryPerNode < 0 || q.GPUsPerNode < 0 {
			t.Errorf("got the queue %+v, want limits that make sense", q)
		}
		if q.Default {
			defaults++
		}
		if !q.Closed {
			open++
		}
	}
	if want := map[bool]int{false: 1, true: 0}[h.NoDefault]; defaults != want || open == 0 {
		t.Errorf("default queues: got %d, want %d; open ones: %d", defaults, want, open)
	}
}

// path returns where a command really is.
func (h Harness) path(t T, name string) string {
	t.Helper()
	path, err := h.New(t, nil).Command(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
