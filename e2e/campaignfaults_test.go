package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fault is something that breaks: strike breaks it and returns what mends it,
// nil where there was nothing to break. Of faults that begin with the same word
// one lasts at a time.
type fault struct {
	kind   string
	weight int
	fits   func(c *campaign) bool // nil: always
	strike func(c *campaign, b blow, h *hit) (mend func())
}

func faultOf(kind string) fault {
	return faults[slices.IndexFunc(faults, func(f fault) bool { return f.kind == kind })]
}

// faults are all that a campaign may meet. What a kind may truly do to a job is
// told in test/chaoscheck.
var faults = slices.Concat(processFaults, networkFaults, batchFaults, diskFaults, clockFaults, restoreFaults)

var processFaults = []fault{
	{"agent killed", 6, nil, func(c *campaign, _ blow, _ *hit) func() {
		p := c.current()
		p.kill()
		<-p.done
		return c.keepAgent
	}},
	{"agent stopped", 3, nil, func(c *campaign, _ blow, _ *hit) func() { return freeze(c.current()) }},
	{"agent doubled", 1, nil, doubleAgent},
	{"agent with yesterday's journal", 2, nil, yesterday},
	{"server killed", 6, nil, func(c *campaign, b blow, _ *hit) func() {
		s := c.servers[b.dice%uint64(len(c.servers))]
		s.kill()
		return func() { c.revive(s) }
	}},
	{"server stopped", 3, nil, func(c *campaign, b blow, _ *hit) func() {
		return freeze(c.servers[b.dice%uint64(len(c.servers))].process())
	}},
	{"database crashed", 3, func(c *campaign) bool { return c.database != nil }, func(c *campaign, _ blow, _ *hit) func() {
		c.database.do("crash")
		return func() { c.database.mend("up") }
	}},
	{"wrapper killed", 2, nil, func(c *campaign, b blow, h *hit) func() { return c.signalOne(b, h, c.isWrapper, syscall.SIGKILL) }},
	{"wrapper stopped", 2, nil, func(c *campaign, b blow, h *hit) func() { return c.signalOne(b, h, c.isWrapper, syscall.SIGSTOP) }},
	{"program killed", 2, nil, func(c *campaign, b blow, h *hit) func() { return c.signalOne(b, h, c.isProgram, syscall.SIGKILL) }},
	{"program stopped", 2, nil, func(c *campaign, b blow, h *hit) func() { return c.signalOne(b, h, c.isProgram, syscall.SIGSTOP) }},
}

var networkFaults = []fault{
	{"network cut", 4, nil, func(c *campaign, _ blow, _ *hit) func() {
		c.front.change(func(w *weather) { w.cut = true })
		return func() { c.front.change(func(w *weather) { w.cut = false }) }
	}},
	{"weather bad", 6, nil, func(c *campaign, b blow, _ *hit) func() {
		rate := func(n uint) int { return int(b.dice >> (8 * n) % 30) }
		c.front.change(func(w *weather) {
			*w = weather{lostRequest: rate(0), lostAnswer: rate(1), truncated: rate(2), doubled: rate(3), delayed: rate(4), applied: w.applied, cut: w.cut}
		})
		return func() { c.front.change(func(w *weather) { *w = weather{applied: w.applied, cut: w.cut} }) }
	}},
	{"writes failed but applied", 4, nil, func(c *campaign, _ blow, _ *hit) func() {
		c.front.change(func(w *weather) { w.applied = true })
		return func() { c.front.change(func(w *weather) { w.applied = false }) }
	}},
}

var batchFaults = []fault{
	{"controller crashed", 3, nil, func(c *campaign, _ blow, _ *hit) func() {
		c.batch.do("kill-controller")
		return func() { c.batch.mend("start-controller") }
	}},
	{"controller stopped", 3, nil, func(c *campaign, _ blow, _ *hit) func() { return c.freezeDaemon("slurmctld", "sge_qmaster") }},
	{"controller put back from a snapshot", 1, large, func(c *campaign, _ blow, _ *hit) func() {
		c.batch.do("kill-controller", "--snapshot")
		c.batch.mend("start-controller")
		return func() {
			c.batch.do("kill-controller")
			c.batch.mend("start-controller", "--rollback")
		}
	}},
	{"node killed", 2, nil, func(c *campaign, _ blow, _ *hit) func() {
		c.batch.do("kill-node")
		return func() { c.batch.mend("start-node") }
	}},
	{"node stopped", 2, nil, func(c *campaign, _ blow, _ *hit) func() { return c.freezeDaemon("slurmd-n1", "sge_execd") }},
	{"submit command hangs, queues later", 3, nil, func(c *campaign, _ blow, _ *hit) func() { return c.bend("hangs") }},
	{"submit command answers late", 2, nil, func(c *campaign, _ blow, _ *hit) func() { return c.bend("late") }},
	{"submit command fails but has queued", 3, nil, func(c *campaign, _ blow, _ *hit) func() { return c.bend("queues") }},
	{"command of the batch system killed", 3, nil, killCommand},
	{"submit command fails", 2, nil, func(c *campaign, _ blow, _ *hit) func() { return c.bend("fails") }},
}

var diskFaults = []fault{
	{"home full", 2, nil, func(c *campaign, _ blow, _ *hit) func() { return c.fill(c.disk) }},
	{"store full", 2, nil, func(c *campaign, _ blow, _ *hit) func() { return c.fill(c.store) }},
	{"listing of the spool late", 3, nil, lateListing},
}

// large says whether a campaign may take its time: what the batch system has
// forgotten is given up after minutes only.
func large(c *campaign) bool { return c.many >= manyJobs }

const manyJobs = 100

// freeze stops a process until it is mended.
func freeze(p *process) func() {
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	return func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
}

// doubleAgent starts another instance beside the one that lives, and later
// kills that one, as a user does who forgot that one was running.
func doubleAgent(c *campaign, _ blow, _ *hit) func() {
	old := c.current()
	c.startAgent()
	return func() {
		old.kill()
		c.keepAgent()
	}
}

// yesterday starts the agent with a journal that is older than it thinks. It
// must notice, or do no harm; where it has noticed, the right one is put back as
// it says, beside what was written meanwhile.
func yesterday(c *campaign, _ blow, _ *hit) func() {
	journal := filepath.Join(c.l.home, "journal")
	older, right := filepath.Join(c.open, "older"), filepath.Join(c.open, "right")
	shell := func(script string) {
		if out, err := exec.Command("sh", "-ec", script, "sh", journal, older, right).CombinedOutput(); err != nil {
			c.t.Errorf("%s: %v %s", script, err, out)
		}
	}
	shell(`rm -rf "$2"; cp -a "$1" "$2"`)
	return func() {
		p := c.current()
		p.kill()
		<-p.done
		shell(`rm -rf "$3"; mv "$1" "$3"; cp -a "$2" "$1"`)
		p = c.startAgent()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			if strings.Contains(p.log.String(), "msg=connected") {
				return // it knows from the spool what was tried
			}
			if p.dead() {
				break
			}
		}
		p.kill()
		<-p.done
		shell(`cp -a "$3"/. "$1"; rm -rf "$3"`)
		c.keepAgent()
	}
}

// ours reports whether a process works for this account's agent.
func (c *campaign) ours(environ string) bool { return strings.Contains(environ, c.batch.dir) }

// killCommand kills the next command that the agent calls.
func killCommand(c *campaign, _ blow, _ *hit) func() {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", c.current().cmd.Process.Pid))
		if err != nil {
			c.t.Error(err)
		}
		for _, list := range lists {
			children, _ := os.ReadFile(list) // a thread may have ended
			for _, child := range strings.Fields(string(children)) {
				if pid, _ := strconv.Atoi(child); signalIf(pid, syscall.SIGKILL, c.ours) {
					return func() {}
				}
			}
		}
	}
	return nil
}

func (d *deployment) process() *process {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.server
}

func (d *deployment) kill() {
	p := d.process()
	p.kill()
	<-p.done
}

// revive starts the server where none lives, again and again, as its host would:
// it ends at once while its database is down.
func (c *campaign) revive(s *deployment) {
	for deadline := time.Now().Add(patience); s.process().dead() && time.Now().Before(deadline); {
		s.restartQuietly()
		c.mu.Lock()
		c.ran["server"] = append(c.ran["server"], s.process())
		c.mu.Unlock()
		for settled := time.Now().Add(3 * time.Second); !s.process().dead() && time.Now().Before(settled); {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// processes lists those of the account whose environment and program fit.
func (c *campaign) processes(fits func(environ map[string]string, program string) bool) (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.t.Error(err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err != nil {
			continue // it ended
		}
		program, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err == nil && fits(variables(string(text)), program) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func variables(environ string) map[string]string {
	m := map[string]string{}
	for _, pair := range strings.Split(environ, "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		m[name] = value
	}
	return m
}

// shim is a submit command that does what a file says: hang and queue the job
// all the same, later; be late; fail and have queued it; fail.
func shim(file, command string) string {
	real, timeout, refused := "/usr/bin/sbatch",
		"sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
		"sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
	if command == "qsub" {
		real, timeout, refused = "/usr/lib/gridengine/qsub",
			"Unable to run job: failed receiving gdi request response for mid=1 (got syncron message receive timeout error).",
			"error: commlib error: got select error (Connection refused)"
	}
	return fmt.Sprintf(`#!/bin/bash
case $(cat %s 2>/dev/null) in
hangs) setsid -f bash -c 'sleep 8; exec "$@"' late %[2]s "$@" >/dev/null 2>&1 </dev/null; sleep 600 ;;
late) sleep 3; exec %[2]s "$@" ;;
queues) %[2]s "$@" >/dev/null; echo '%[3]s' >&2; exit 1 ;;
fails) echo '%[4]s' >&2; exit 1 ;;
*) exec %[2]s "$@" ;;
esac
`, file, real, timeout, refused)
}

// bend has the submit command misbehave.
func (c *campaign) bend(how string) func() {
	if err := os.WriteFile(c.shim, []byte(how), 0o644); err != nil {
		c.t.Error(err)
	}
	return func() {
		if err := os.Remove(c.shim); err != nil {
			c.t.Error(err)
		}
	}
}

// freezeDaemon stops one of the batch system's daemons.
func (c *campaign) freezeDaemon(slurm, gridengine string) func() {
	daemon := map[string]string{"slurm": slurm, "gridengine": gridengine}[c.batch.script]
	if !c.batch.signal(daemon, syscall.SIGSTOP) {
		return nil
	}
	return func() { c.batch.signal(daemon, syscall.SIGCONT) }
}

// fill takes all room of a disk.
func (c *campaign) fill(disk string) func() {
	ballast := filepath.Join(disk, "ballast")
	fill(c.t, ballast)
	return func() {
		if err := os.Remove(ballast); err != nil {
			c.t.Error(err)
		}
	}
}

// lateListing keeps the agent from seeing its inbox, as the cache of a network
// file system does; half a minute, whatever the plan says.
func lateListing(c *campaign, _ blow, _ *hit) func() {
	file := filepath.Join(c.programs, "failpoints")
	gate := filepath.Join(c.open, fmt.Sprintf("listing-%d", time.Now().UnixNano()))
	if err := os.WriteFile(file, []byte("agent.before-listing=pause:"+gate), 0o644); err != nil {
		c.t.Error(err)
	}
	return func() {
		time.Sleep(lateness)
		if err := errors.Join(os.Remove(file), os.WriteFile(gate, nil, 0o644)); err != nil {
			c.t.Error(err)
		}
	}
}

// lateness is how long a listing is late.
const lateness = 25 * time.Second

// isWrapper reports whether a process is a wrapper, which runs from the spool
// of its own account, and isProgram whether it is a job's program.
func (c *campaign) isWrapper(_ map[string]string, program string) bool {
	return strings.HasPrefix(program, filepath.Join(c.l.spool, "bin")+"/")
}

func (c *campaign) isProgram(environ map[string]string, _ string) bool {
	return environ["HPCSERA_JOB_ID"] != "" && strings.HasPrefix(environ["HPCSERA_DIR"], c.l.home+"/")
}

// signalOne sends a signal to one process of the account. What it stops is let
// go on later.
func (c *campaign) signalOne(b blow, h *hit, fits func(map[string]string, string) bool, s syscall.Signal) func() {
	pids := c.processes(fits)
	if len(pids) == 0 {
		return nil
	}
	pid := pids[b.dice%uint64(len(pids))]
	h.Job = c.jobOf(pid)
	still := func(text string) bool {
		program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err == nil && fits(variables(text), program)
	}
	if !signalIf(pid, s, still) {
		return nil
	}
	return func() {
		if s == syscall.SIGSTOP {
			signalIf(pid, syscall.SIGCONT, still)
		}
	}
}

// jobOf is the job that a program or its wrapper works for; "" where the
// wrapper has not begun it.
func (c *campaign) jobOf(pid int) (job string) {
	for _, p := range c.processes(c.isProgram) {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		environ, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p))
		if p == pid || strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", pid)) {
			job = variables(string(environ))["HPCSERA_JOB_ID"]
		}
	}
	return job
}
