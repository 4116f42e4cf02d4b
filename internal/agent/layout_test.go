package agent

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// tasks lets an agent with some settings prepare a job, and returns the tasks
// of its steps as the wrapper reads them.
func tasks(t *testing.T, w *world, m hpcsera.Manifest, run func(*hpcsera.RunPart), tune func(*Config)) (list []spool.Task) {
	t.Helper()
	code := w.signed(m, 1)
	if run != nil {
		run(&code.spec.Run)
	}
	job := w.server.submit(code, false)
	w.planned(job, program{})
	i := w.start(func(c *Config, _ *instance) { tune(c) })
	w.ends(job, hpcsera.Succeeded, "")
	i.stop() // its memory can be read now
	for _, tag := range i.agent.engine.ended[job].tags {
		sub, err := w.spool.Submission(tag)
		if err != nil {
			t.Fatal(err)
		}
		task, err := w.spool.Task(tag, sub.Members[0])
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, task)
	}
	if len(list) != len(m.Plan()) {
		t.Fatalf("got %d tasks, want one for each of %d steps", len(list), len(m.Plan()))
	}
	return list
}

// TestTheSiteSaysHowAndTheUserWhat: names come from the signed code, files and
// hooks from the agent's settings.
func TestTheSiteSaysHowAndTheUserWhat(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		m := w.plan(hpcsera.LoginStep, hpcsera.BatchStep)
		m.Modules = []string{"gcc/14", "openmpi"}
		hooks := Hooks{Before: "/site/before", After: "/site/after", Timeout: hpcsera.Duration(60e9)}
		for i, task := range tasks(t, w, m, nil, func(c *Config) { c.ModulesInit, c.Hooks, c.LoginOutput = "/site/modules.sh", hooks, 1<<20 }) {
			if s := task.Setup; s == nil || s.Command != "module" || s.Init != "/site/modules.sh" || strings.Join(s.Names, " ") != "gcc/14 openmpi" {
				t.Errorf("step %d: got %+v", i, s)
			}
			if task.Hooks != spool.Hooks(hooks) {
				t.Errorf("step %d: got hooks %+v", i, task.Hooks)
			}
			if limited := task.Output == 1<<20 && task.Timeout > 0; limited != (i == 0) {
				t.Errorf("step %d: got limits %v and %v, want them for login steps alone", i, task.Output, task.Timeout)
			}
		}
	})
}

func TestASpackEnvironmentNeedsASpack(t *testing.T) {
	m := hpcsera.Manifest{Name: "solver", Program: hpcsera.Program{Script: "true"}, SpackEnvironment: "cfd"}
	inWorld(t, 1, func(t *testing.T, w *world) {
		job := w.server.submit(w.signed(m, 1), false)
		w.start()
		last := w.ends(job, hpcsera.Failed, hpcsera.RejectedByPolicy)
		if !strings.Contains(last.Message, "spack_environment: ") || !strings.Contains(last.Message, "spack_init: ") || len(w.ran(job)) != 0 {
			t.Errorf("got %q after %d runs, want the field, the setting, and none", last.Message, len(w.ran(job)))
		}
	})
	inWorld(t, 2, func(t *testing.T, w *world) {
		list := tasks(t, w, m, nil, func(c *Config) { c.SpackInit = "/opt/spack/share/spack/setup-env.sh" })
		if s := list[0].Setup; s == nil || s.Command != "spack" || s.Init != "/opt/spack/share/spack/setup-env.sh" || len(s.Names) != 1 || s.Names[0] != "cfd" {
			t.Errorf("got %+v", s)
		}
	})
}
