package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// signing returns the arguments with which the client signs for this account.
func (l *login) signing(args ...string) []string {
	return append(args, "--site", "lab", "--sign-key", l.key, "--agent", l.thumbprint)
}

// jobIn finds the job's id in what the client said.
func jobIn(t *testing.T, text string) string {
	t.Helper()
	id := regexp.MustCompile(`j_[0-9a-z]{20}`).FindString(text)
	if id == "" {
		t.Fatalf("no job id in %q", text)
	}
	return id
}

// TestOpenFOAMRunsWithTheUsersViscosity: a real code, through the client, the
// API, the agent and Slurm, and its results fetched.
func TestOpenFOAMRunsWithTheUsersViscosity(t *testing.T) {
	t.Parallel()
	if !exists("/usr/bin/icoFoam") {
		t.Fatal("OpenFOAM is not installed (Debian's package openfoam): run `make test`, which installs it")
	}
	d, l := ready(t)
	out := filepath.Join(d.dir, "results")
	stdout, stderr, code := d.cli(nil, l.signing("run", "../examples/openfoam-cavity/job.yaml", "-p", "viscosity=0.02", "--output-dir", out)...)
	if code != 0 {
		t.Fatalf("hpcsera run ended %d\n%s%s\nagent:\n%s", code, stdout, stderr, l.agent.log)
	}
	j := d.job(jobIn(t, stdout+stderr))
	var result map[string]any
	if err := json.Unmarshal(j.Result, &result); err != nil || len(result) == 0 {
		t.Errorf("result is %s (%v), want an object with figures", j.Result, err)
	}
	if j.Native == nil || j.Native.System != "slurm" {
		t.Errorf("native is %+v, want Slurm's", j.Native)
	}
	line, err := os.ReadFile(filepath.Join(out, "centreline.csv"))
	if err != nil || strings.Count(string(line), "\n") < 10 {
		t.Errorf("centreline.csv has %q (%v), want a line of the flow", line, err)
	}
	solver, err := os.ReadFile(filepath.Join(out, "log.icoFoam"))
	if err != nil || !strings.Contains(string(solver), "Courant Number") {
		t.Errorf("log.icoFoam is not the solver's (%v)", err)
	}
	if got := string(j.Values["viscosity"]); got != "0.02" {
		t.Errorf("viscosity is %s, want 0.02", got)
	}
}

func TestPlainBatchScriptRuns(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	stdout, stderr, code := d.cli(nil, l.signing("run", "../examples/sbatch/hello.sbatch", "--output-dir", filepath.Join(d.dir, "out"))...)
	if code != 0 || !strings.Contains(strings.ToLower(stdout), "hello") {
		t.Fatalf("hpcsera run ended %d, printed %q\n%s\nagent:\n%s", code, stdout, stderr, l.agent.log)
	}
	refused := filepath.Join(d.dir, "array.sbatch")
	write(t, refused, "#!/bin/sh\n#SBATCH --array=1-10\necho hello\n", 0o644)
	_, stderr, code = d.cli(nil, l.signing("run", refused)...)
	if code != 12 && code != 2 || !strings.Contains(stderr, "array") || !strings.Contains(stderr, ":2") {
		t.Errorf("--array ended %d with %q, want it refused by name and line", code, stderr)
	}
}

// TestClientEndsAsTheJobDoes: what a pipeline sees.
func TestClientEndsAsTheJobDoes(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	for _, c := range []struct {
		name, script string
		env          []string
		args         []string
		code         int
		says         string
	}{
		{"ok", "echo fine", nil, nil, 0, ""},
		{"failed", "echo broken >&2; exit 3", nil, nil, 10, "directory"},
		{"unreachable", "true", []string{"HPCSERA_SERVER=http://127.0.0.1:1"}, []string{"--retry-for", "0"}, 20, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, l := l.in(t)
			file := filepath.Join(d.dir, c.name+".yaml")
			write(t, file, "name: "+c.name+"\nsite: lab\nscript: |\n  #!/bin/sh\n  "+c.script+"\n", 0o644)
			stdout, stderr, code := d.cli(c.env, append(l.signing("run", file, "--no-fetch"), c.args...)...)
			if code != c.code || !strings.Contains(strings.ToLower(stderr), c.says) {
				t.Errorf("ended %d, want %d and %q\n%s%s", code, c.code, c.says, stdout, stderr)
			}
			if strings.Contains(stdout+stderr, d.token) {
				t.Error("the token was printed")
			}
		})
	}
	// Unsigned code off a terminal is refused at once.
	file := filepath.Join(d.dir, "unsigned.yaml")
	write(t, file, "name: unsigned\nsite: lab\nscript: |\n  echo hello\n", 0o644)
	if stdout, stderr, code := d.cli(nil, "run", file, "--site", "lab"); code != 12 || !strings.Contains(stderr, "approv") {
		t.Errorf("unsigned code ended %d\n%s%s\nwant 12 and what to do", code, stdout, stderr)
	}
}

// TestLogIsSeenWhileTheJobRuns follows the output of a job that waits for the
// reader.
func TestLogIsSeenWhileTheJobRuns(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	gate := filepath.Join(l.home, "gate")
	id := l.submit(t, l.approve(t, manifest("live", "#!/bin/sh\necho first\nwhile ! [ -e "+gate+" ]; do sleep 0.2; done\necho second\n")))
	d.await(id, time.Minute, hpcsera.Running)
	eventually(t, 30*time.Second, "the first line while the job runs", func() bool {
		res, text, err := d.try("GET", "/jobs/"+id+"/logs/stdout", nil, nil)
		return err == nil && res.StatusCode == 200 && string(text) == "first\n"
	})
	write(t, gate, "", 0o644)
	d.await(id, time.Minute)
	if got := d.get("/jobs/" + id + "/logs/stdout"); got != "first\nsecond\n" {
		t.Errorf("stdout is %q", got)
	}
}

// gated is a job file whose program waits for a file, and that file.
func (l *login) gated(t *testing.T, name string) (file, gate string) {
	t.Helper()
	file, gate = filepath.Join(l.d.dir, name+".yaml"), filepath.Join(l.home, name+".gate")
	script := "  #!/bin/sh\n  echo \"$HPCSERA_ATTEMPT $$\" >> marker\n  echo before\n  until [ -e " + gate + " ]; do sleep 0.2; done\n  echo after\n"
	write(t, file, "name: "+name+"\nsite: lab\nscript: |\n"+script, 0o644)
	return file, gate
}

// watch starts `hpcsera run` on a job file and waits until the job's first
// line is shown.
func (l *login) watch(t *testing.T, file string, env []string, args ...string) (p *process, id string) {
	t.Helper()
	p = start(t, nil, append(l.d.clientEnv(), env...), "hpcsera", append(l.signing("run", file, "--no-fetch"), args...)...)
	eventually(t, time.Minute, "the job's first line at the client", func() bool {
		if p.dead() {
			t.Fatalf("hpcsera run ended: %v\n%s", p.err, p.log)
		}
		return strings.Contains(p.log.String(), "before\n")
	})
	return p, jobIn(t, p.log.String())
}

// TestSIGTERMCancelsTheWatchedJob: what a CI system sends when a pipeline is
// stopped reaches the batch system.
func TestSIGTERMCancelsTheWatchedJob(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	file, _ := l.gated(t, "stopped")
	p, id := l.watch(t, file, nil)
	native := d.job(id).Native.ID
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := p.exits(t, time.Minute); code != 11 {
		t.Errorf("hpcsera run ended %d, want 11\n%s", code, p.log)
	}
	if j := d.job(id); j.State != hpcsera.Cancelled || j.Reason != hpcsera.CancelledByUser || l.runs(t, id) != 1 {
		t.Errorf("job is %s (%s: %s), ran %d times, want cancelled by user, once", j.State, j.Reason, j.Message, l.runs(t, id))
	}
	eventually(t, 30*time.Second, "Slurm's own word that job "+native+" was cancelled", func() bool {
		return strings.HasPrefix(slurm(t, "sacct", "--noheader", "--allocations", "--jobs="+native, "--format=State", "--parsable2"), "CANCELLED")
	})
}

// TestWaitMayEndBeforeItsJob: the job goes on, and is waited for again.
func TestWaitMayEndBeforeItsJob(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	gate := filepath.Join(l.home, "gate")
	id := l.submit(t, l.approve(t, manifest("waited", marking("until [ -e "+gate+" ]; do sleep 0.2; done"))))
	d.await(id, time.Minute, hpcsera.Running)
	if _, stderr, code := d.cli(nil, "wait", id, "--timeout", "1s"); code != 13 || !strings.Contains(stderr, "hpcsera wait "+id) {
		t.Errorf("hpcsera wait ended %d with %q, want 13 and how to come back", code, stderr)
	}
	if j := d.job(id); j.State != hpcsera.Running {
		t.Errorf("job is %s (%s), want it running", j.State, j.Reason)
	}
	write(t, gate, "", 0o644)
	if _, stderr, code := d.cli(nil, "wait", id); code != 0 || l.runs(t, id) != 1 {
		t.Errorf("hpcsera wait ended %d, the job ran %d times, want 0, once\n%s", code, l.runs(t, id), stderr)
	}
}

// TestClientComesBackAfterALostNetwork: a client that watches a job loses the
// network, goes on where it was, loses it for longer than it is patient, and is
// followed by another one. The job runs once, and no line is shown twice.
func TestClientComesBackAfterALostNetwork(t *testing.T) {
	t.Parallel()
	d, l := ready(t)
	n := newNetwork(t, d.addr)
	far := []string{"HPCSERA_SERVER=" + n.url()}
	file, gate := l.gated(t, "patient")
	p, id := l.watch(t, file, far, "--deployment", d.url)
	n.cut(true)
	eventually(t, 30*time.Second, "the client tells of the loss", func() bool { return strings.Contains(p.log.String(), "The job goes on.") })
	write(t, gate, "", 0o644)
	d.await(id, time.Minute)
	n.cut(false)
	if code := p.exits(t, time.Minute); code != 0 {
		t.Errorf("hpcsera run ended %d, want 0\n%s", code, p.log)
	}
	if got := p.log.String(); strings.Count(got, "before\n") != 1 || strings.Count(got, "after\n") != 1 {
		t.Errorf("hpcsera run showed\n%s\nwant each line of the job once", got)
	}

	file, gate = l.gated(t, "impatient")
	p, second := l.watch(t, file, far, "--deployment", d.url, "--retry-for", "2s")
	n.cut(true)
	if code := p.exits(t, time.Minute); code != 20 || !strings.Contains(p.log.String(), "hpcsera wait "+second) {
		t.Errorf("hpcsera run ended %d, want 20 and how to come back\n%s", code, p.log)
	}
	n.cut(false)
	if j := d.job(second); j.State != hpcsera.Running {
		t.Errorf("without its client the job is %s (%s), want running", j.State, j.Reason)
	}
	write(t, gate, "", 0o644)
	if _, stderr, code := d.cli(far, "wait", second); code != 0 {
		t.Errorf("hpcsera wait ended %d, want 0\n%s", code, stderr)
	}
	for _, id := range []string{id, second} {
		if j := d.job(id); j.State != hpcsera.Succeeded || l.runs(t, id) != 1 {
			t.Errorf("job %s is %s (%s: %s), ran %d times, want succeeded, once", id, j.State, j.Reason, j.Message, l.runs(t, id))
		}
	}
}
