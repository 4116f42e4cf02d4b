package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera/internal/agent"
	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// typed runs the program in a home without anything.
func typed(t *testing.T, args ...string) (code int, printed, home string) {
	t.Helper()
	var out bytes.Buffer
	home = t.TempDir()
	code = run(t.Context(), args, []string{"HOME=" + home}, strings.NewReader(""), &out, &out)
	return code, out.String(), home
}

func TestAWrongCommandLineIsAUsageError(t *testing.T) {
	for _, c := range []struct{ line, say string }{
		{"foo", `hpcsera-agent has no command "foo". See: hpcsera-agent --help`},
		{"statsu", "Did you mean status?"},
		{"trust ad x", `hpcsera-agent trust has no command "ad". Did you mean add?`},
		{"run now", "usage: hpcsera-agent run"},
		{"status a", "usage: hpcsera-agent status"},
		{"trust add a b", "usage: hpcsera-agent trust add FILE|-"},
		{"trust remove", "usage: hpcsera-agent trust remove NAME|FINGERPRINT"},
		{"trust pin x", "usage: hpcsera-agent trust pin AUTH-APP-URL FILE|-"},
		{"doctor --case exit", "--case chooses among the cases of --jobs"},
		{"install now", "usage: hpcsera-agent install"},
		{"install --cron --systemd", "--systemd and --cron exclude each other"},
		{"run --fast", "unknown flag: --fast. See: hpcsera-agent run --help"},
	} {
		code, printed, _ := typed(t, strings.Fields(c.line)...)
		if code != 2 || !strings.Contains(printed, c.say) {
			t.Errorf("%s: got %d %s, want 2 and %q", c.line, code, printed, c.say)
		}
	}
	for _, line := range []string{"", "trust", "help trust", "trust add --help"} {
		if code, printed, _ := typed(t, strings.Fields(line)...); code != 0 || !strings.Contains(printed, "Usage:") {
			t.Errorf("%q: got %d %s, want help", line, code, printed)
		}
	}
}

func TestWithoutSettingsItIsSaidHowTheyComeToBe(t *testing.T) {
	for _, command := range []string{"enroll", "run", "once", "doctor"} {
		code, printed, home := typed(t, command)
		file := filepath.Join(home, ".hpcsera", "agent.yaml")
		if code != 1 || !strings.Contains(printed, file) || !strings.Contains(printed, "hpcsera-agent enroll --server https://… --user YOU --site SITE --project PROJECT") {
			t.Errorf("%s: got %d %s, want the path and the line that writes it", command, code, printed)
		}
	}
}

func TestAMistakeInASchedulerFileIsToldWithItsLine(t *testing.T) {
	home := t.TempDir()
	for name, text := range map[string]string{
		".hpcsera/agent.yaml": "server: https://hpc.example.org\nuser: alice\nsite: gwdg\nscheduler: " + home + "/mine.yaml\n",
		"mine.yaml":           "system: mine\nenvironment: {id: [ID]}\nsubmit: {command: [put, \"{nonsense}\"]}\n",
	} {
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	code := run(t.Context(), []string{"doctor"}, []string{"HOME=" + home}, strings.NewReader(""), &out, &out)
	if code != 1 || !strings.Contains(out.String(), "mine.yaml:3 submit.command[1]: there is no {nonsense} here") {
		t.Errorf("got %d %s, want the line and what is wrong", code, out.String())
	}
}

func TestTheClusterOfTheSettingsIsTheOneThatIsAsked(t *testing.T) {
	dir := t.TempDir()
	asked := filepath.Join(dir, "asked")
	scontrol := schedulertest.WriteScript(t, filepath.Join(dir, "scontrol"), `echo "$@" >`+asked+"; exit 1")
	p := &program{environ: []string{"HOME=" + dir}}
	batch, _, err := p.systems(agent.Config{Scheduler: "slurm", Cluster: "annex", StateDir: dir, Commands: map[string]string{"scontrol": scontrol}}, "/nonexistent", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := batch.Probe(t.Context()); err == nil {
		t.Error("a probe of nothing succeeded")
	}
	if got, err := os.ReadFile(asked); err != nil || string(got) != "--clusters=annex show config\n" {
		t.Errorf("got %q, %v", got, err)
	}
}
