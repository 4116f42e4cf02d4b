package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
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
