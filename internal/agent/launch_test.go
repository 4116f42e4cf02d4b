package agent

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

func TestALaunchLineHasTheJobsNumbers(t *testing.T) {
	wide := hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 4, CPUCoresPerProcess: 8}
	for _, c := range []struct {
		name, launcher string
		step           hpcsera.StepType
		resources      hpcsera.Resources
		want           string
	}{
		{"none", "", hpcsera.BatchStep, wide, ""},
		{"plain", "srun", hpcsera.BatchStep, wide, "srun"},
		{"numbers", "mpirun -n {process_count} -hosts {node_count}", hpcsera.BatchStep, wide, "mpirun -n 8 -hosts 2"},
		{"cores", "srun --cpus-per-task={cpu_cores_per_process} --exact", hpcsera.BatchStep, wide, "srun --cpus-per-task=8 --exact"},
		{"cores not asked for", "srun --cpus-per-task={cpu_cores_per_process} --exact", hpcsera.BatchStep, hpcsera.Resources{ProcessCount: 3}, "srun --exact"},
		{"login step", "srun", hpcsera.LoginStep, wide, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &Agent{config: Config{Launcher: c.launcher}}
			if got := a.launchLine(hpcsera.Step{Type: c.step}, c.resources); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAProgramNobodyCanLaunchIsRefused(t *testing.T) {
	mpi, script := hpcsera.Program{Executable: "/bin/true", Launcher: "mpi"}, hpcsera.Program{Script: "$HPCSERA_LAUNCH ./solver"}
	for _, c := range []struct {
		name, launcher string
		program        hpcsera.Program
		step           hpcsera.StepType
		processes      int
		want           string // "" where it runs
	}{
		{"no launch line", "", mpi, hpcsera.BatchStep, 1, "agent.yaml, such as launcher:"},
		{"login step", "srun", mpi, hpcsera.LoginStep, 1, "Make it a batch step"},
		{"no launch line for a script", "", script, hpcsera.BatchStep, 4, "one process of 4"},
		{"a script of one process", "", script, hpcsera.BatchStep, 1, ""},
		{"a script that launches nothing", "", hpcsera.Program{Script: "./solver"}, hpcsera.BatchStep, 4, ""},
		{"launch lines", "srun", script, hpcsera.BatchStep, 4, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				code := w.signed(hpcsera.Manifest{Name: "solver", Steps: []hpcsera.Step{{Name: "solve", Type: c.step, Program: c.program}}}, 1)
				code.spec.Run.Resources.ProcessCount = c.processes
				job := w.server.submit(code, false)
				w.planned(job, program{})
				w.start(func(config *Config, _ *instance) { config.Launcher = c.launcher })
				if c.want == "" {
					w.ends(job, hpcsera.Succeeded, "")
					return
				}
				last := w.ends(job, hpcsera.Failed, hpcsera.RejectedByPolicy)
				if !strings.Contains(last.Message, "launcher: ") || !strings.Contains(last.Message, c.want) {
					t.Errorf("got the message %q, want the field and %q", last.Message, c.want)
				}
				if len(w.ran(job)) != 0 {
					t.Error("it ran")
				}
			})
		})
	}
}
