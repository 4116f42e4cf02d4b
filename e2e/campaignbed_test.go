package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bed is a batch system, or a database, of a campaign's own: it may be broken.
type bed struct {
	t      *testing.T
	script string
	dir    string
	start  []string // its options
	env    []string // what it printed
}

// newBed starts one, and ends it with the test.
func newBed(t *testing.T, script string, options ...string) *bed {
	t.Helper()
	dir, err := os.MkdirTemp("", "hpcsera-bed-") // its sockets have short paths
	if err != nil {
		t.Fatal(err)
	}
	b := &bed{t: t, script: script, dir: dir, start: options}
	t.Cleanup(func() {
		if _, err := b.run("down", "--purge"); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := b.run("up", options...)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(out, "\n") {
		if pair, ok := strings.CutPrefix(line, "export "); ok {
			b.env = append(b.env, strings.ReplaceAll(pair, "'", ""))
		}
	}
	return b
}

// run runs the bed's script.
func (b *bed) run(verb string, options ...string) (string, error) {
	cmd := exec.Command("../test/testbed/"+b.script, append([]string{verb, "--dir", b.dir}, options...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("test/testbed/%s %s: %w\n%s", b.script, verb, err, &errs)
	}
	return out.String(), nil
}

// do breaks something.
func (b *bed) do(verb string, options ...string) {
	if _, err := b.run(verb, options...); err != nil {
		b.t.Error(err)
	}
}

// mend starts what was broken. A daemon that is slow to come, on a busy machine,
// is waited for again.
func (b *bed) mend(verb string, options ...string) {
	_, err := b.run(verb, options...)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
		b.t.Log(err)
		_, err = b.run("up", b.start...)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// value is a variable that the bed printed.
func (b *bed) value(name string) string {
	for _, pair := range b.env {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			return value
		}
	}
	b.t.Errorf("test/testbed/%s printed no %s", b.script, name)
	return ""
}

// signal sends a signal to one of the bed's daemons, if it runs.
func (b *bed) signal(daemon string, s syscall.Signal) bool {
	text, err := os.ReadFile(filepath.Join(b.dir, "run", daemon+".pid"))
	if err != nil {
		return false
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return signalIf(pid, s, func(environ string) bool { return strings.Contains(environ, b.dir) })
}

// signalIf sends a signal to a process that is still the one that is meant, by
// its environment: an id may be another's by now, a handle may not.
func signalIf(pid int, s syscall.Signal, ours func(environ string) bool) bool {
	if pid <= 1 {
		return false
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && ours(string(environ)) && p.Signal(s) == nil
}

// resume takes nodes back that Slurm has set aside, as its administrator does:
// after a crash it may think that two jobs have one id.
func (b *bed) resume() {
	if b.script != "slurm" {
		return
	}
	cmd := exec.Command("scontrol", "update", "nodename=ALL", "state=resume")
	cmd.Env = append(os.Environ(), "SLURM_CONF="+b.value("SLURM_CONF"))
	_ = cmd.Run() // it refuses where nothing is set aside, and is asked again
}

// accounting is what the batch system itself keeps of its jobs.
func (b *bed) accounting() (name string, text []byte, err error) {
	if b.script == "gridengine" {
		text, err = os.ReadFile(filepath.Join(b.dir, "root", "default", "common", "accounting"))
		return "accounting.sge", text, err
	}
	cmd := exec.Command("sacct", "-n", "-X", "-D", "-P", "--allusers", "--starttime=now-6hours", "--format=JobID,JobIDRaw,JobName,State,ExitCode")
	cmd.Env = append(os.Environ(), "SLURM_CONF="+b.value("SLURM_CONF"))
	text, err = cmd.Output()
	return "accounting.slurm", text, err
}
