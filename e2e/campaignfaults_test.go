package e2e

import (
	"fmt"
	"os"
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

var faults = []fault{
	{"agent killed", 6, nil, func(c *campaign, _ blow, _ *hit) func() {
		p := c.current()
		p.kill()
		<-p.done
		return c.keepAgent
	}},
	{"agent stopped", 3, nil, func(c *campaign, _ blow, _ *hit) func() { return freeze(c.current()) }},
	{"agent doubled", 2, nil, doubleAgent},
	{"server killed", 6, nil, func(c *campaign, b blow, _ *hit) func() {
		s := c.servers[b.dice%uint64(len(c.servers))]
		s.kill()
		return func() { c.revive(s) }
	}},
	{"server stopped", 3, nil, func(c *campaign, b blow, _ *hit) func() {
		return freeze(c.servers[b.dice%uint64(len(c.servers))].process())
	}},
}

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

// revive starts the server where none lives.
func (c *campaign) revive(s *deployment) {
	if s.process().dead() {
		s.restartQuietly()
		c.mu.Lock()
		c.ran["server"] = append(c.ran["server"], s.process())
		c.mu.Unlock()
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
	return fmt.Sprintf(`#!/bin/bash
real=/usr/bin/%[2]s
[ -x /usr/lib/gridengine/%[2]s ] && real=/usr/lib/gridengine/%[2]s
case $(cat %[1]s 2>/dev/null) in
hangs) setsid -f bash -c 'sleep 8; exec "$@"' late "$real" "$@" >/dev/null 2>&1 </dev/null; sleep 600 ;;
late) sleep 3; exec "$real" "$@" ;;
queues) "$real" "$@" >/dev/null; echo '%[2]s: error: Unable to contact the controller: Socket timed out on send/recv operation' >&2; exit 1 ;;
fails) echo '%[2]s: error: Unable to contact the controller: Connection refused' >&2; exit 1 ;;
*) exec "$real" "$@" ;;
esac
`, file, command)
}

var _ = time.Second
