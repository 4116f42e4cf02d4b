package wrapper

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// variables reads what `env -0` printed.
func variables(t *testing.T, s *site) map[string]string {
	t.Helper()
	b, err := os.ReadFile(s.OutputPath(s.job, 0, 1, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, pair := range strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00") {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return env
}

// hostile is an environment that a batch system, a login shell or the agent
// itself might bring along.
func hostile(s *site) []string {
	return []string{
		"BASH_ENV=" + s.path("evil"), "ENV=" + s.path("evil"), "LD_PRELOAD=", "LD_LIBRARY_PATH=/evil", "LD_AUDIT=", "SBATCH_EXPORT=ALL", "SBATCH_GET_USER_ENV=1",
		"SLURM_EXPORT_ENV=ALL", "SSH_AUTH_SOCK=/tmp/agent.1", "HPCSERA_TOKEN=hpcsera_t1_secret", "HPCSERA_AGENT_SERVER=https://evil",
		"HPCSERA_AGENT_STATE_DIR=/evil", "PYTHONPATH=/evil", "PERL5OPT=-Mevil", "PROMPT_COMMAND=evil", "BASH_FUNC_ls%%=() { evil; }", "http_proxy=http://evil",
		"GIT_SSH_COMMAND=evil", "KRB5CCNAME=FILE:/tmp/krb5", "XDG_RUNTIME_DIR=/run/user/0", "IFS=x",
	}
}

func TestOnlyNamedVariablesReachTheProgram(t *testing.T) {
	s := newSite(t)
	s.task("", func(task *spool.Task) {
		task.Argv = []string{"/usr/bin/env", "-0"}
		task.Environment = map[string]string{"OMP_NUM_THREADS": "4"}
	})
	_, script := s.submission(1)
	env := append(hostile(s), "SLURM_NTASKS=4", "USER=alice", "LOGNAME=alice", "TZ=UTC", "TMPDIR=/tmp/job")
	if got := s.run(script, "4711", env...); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	got := variables(t, s)
	want := map[string]string{
		"PATH": defaultPath, "LANG": "C.UTF-8", "HOME": s.root, "USER": "alice", "LOGNAME": "alice", "TZ": "UTC", "TMPDIR": "/tmp/job",
		"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "4", "HPCSERA_ATTEMPT": "1", "OMP_NUM_THREADS": "4",
	}
	for name, value := range got {
		if want[name] != value || want[name] == "" {
			t.Errorf("%s=%q reached the program, want %q", name, value, want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s did not reach the program", name)
		}
	}
}

func TestSignedVariablesReachTheProgramAndWin(t *testing.T) {
	s := newSite(t)
	signed := map[string]string{"BASH_ENV": "/signed", "PATH": "/signed/bin", "SLURM_EXPORT_ENV": "NONE", "HOME": "/signed/home", "SLURM_JOB_ID": "signed"}
	s.task("", func(task *spool.Task) {
		task.Argv, task.Environment = []string{"/usr/bin/env", "-0"}, signed
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711", hostile(s)...); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	got := variables(t, s)
	for name, want := range signed {
		if got[name] != want {
			t.Errorf("%s: got %q, want the signed %q", name, got[name], want)
		}
	}
}

// BASH_ENV is a file that bash obeys before its script.
func TestNothingFromTheEnvironmentRunsBesideTheScript(t *testing.T) {
	s := newSite(t)
	if err := os.WriteFile(s.path("evil"), []byte("touch "+s.path("hacked")+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	script := s.path("script.sh")
	if err := os.WriteFile(script, []byte(count), 0o700); err != nil {
		t.Fatal(err)
	}
	s.task("", func(task *spool.Task) { task.Argv = []string{"/bin/bash", script} })
	_, submission := s.submission(1)
	if got := s.run(submission, "4711", hostile(s)...); got != 0 || s.marks() != 1 {
		t.Errorf("got status %d and %d runs, want 0 and 1", got, s.marks())
	}
	if s.exists("hacked") {
		t.Error("BASH_ENV was obeyed")
	}
}

func TestValuesArriveAsData(t *testing.T) {
	s := newSite(t)
	env := map[string]string{}
	for i, v := range nasty {
		env[fmt.Sprintf("value_%d", i)] = v
	}
	s.task("", func(task *spool.Task) {
		task.Argv = append([]string{"/bin/sh", "-c", `printf '%s\0' "$@"; env -0 >&2`, "sh"}, nasty...)
		task.Environment = env
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 {
		t.Fatalf("got status %d, want 0", got)
	}
	out, err := os.ReadFile(s.OutputPath(s.job, 0, 1, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Join(nasty, "\x00") + "\x00"; string(out) != want {
		t.Errorf("arguments: got %.500q, want %.500q", out, want)
	}
	seen, err := os.ReadFile(s.OutputPath(s.job, 0, 1, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range env {
		if !bytes.Contains(append([]byte{0}, seen...), []byte("\x00"+name+"="+value+"\x00")) {
			t.Errorf("variable %s: got another value than %.500q", name, value)
		}
	}
	if s.exists("hacked") {
		t.Error("a value was obeyed by a shell")
	}
}
