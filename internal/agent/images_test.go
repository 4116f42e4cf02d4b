package agent

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

const imageDigest = "sha256:9f2c000000000000000000000000000000000000000000000000000000000000"

// contained is code of one step that runs in an image. Nobody listens at its
// registry.
func contained(s hpcsera.Program, mounts ...string) hpcsera.Manifest {
	return hpcsera.Manifest{Name: "regrid", Steps: []hpcsera.Step{{Name: "main", Type: hpcsera.BatchStep, Program: s}},
		Container: &hpcsera.Container{Image: "docker://localhost:1/regrid@" + imageDigest, Mounts: mounts}}
}

// tool is a runtime that needs no program, with an image that is there already.
func (w *world) tool(c *Config) {
	w.t.Helper()
	c.Container = container.Runtime{Runtime: "own", Run: []string{"tool", "{mounts}", "{image}"}, Mount: []string{"-v", "{source}={target}"}}
	key := strings.TrimPrefix(imageDigest, "sha256:") + "-74234e98" // of no commands
	dir := filepath.Join(c.WorkRoot, ".images", key)
	if err := os.MkdirAll(filepath.Join(dir, "image"), 0o700); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ready"), nil, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestAContainerSeesWhatWasSigned: the launch line stands outside, the site's
// words come next, and the program has the paths of the inside.
func TestAContainerSeesWhatWasSigned(t *testing.T) {
	for name, c := range map[string]struct {
		program hpcsera.Program
		want    string
	}{
		"executable": {hpcsera.Program{Executable: "/bin/regrid", Arguments: []string{"in", "a b"}}, "tool|MOUNTS|/bin/regrid|in|a b"},
		"mpi":        {hpcsera.Program{Executable: "/bin/regrid", Launcher: "mpi"}, "mpirun|-n|2|tool|MOUNTS|/bin/regrid"},
		"script":     {hpcsera.Program{Script: "true"}, "tool|MOUNTS|/bin/sh|/hpcsera/step/script"},
		"its own":    {hpcsera.Program{Script: "#!/bin/ash\n"}, "tool|MOUNTS|/hpcsera/step/script"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				var config Config
				list := tasks(t, w, contained(c.program, "/data:/in"), func(r *hpcsera.RunPart) { r.Resources.ProcessCount = 2 }, func(c *Config) {
					w.tool(c)
					c.Launcher = "mpirun -n {process_count}"
					config = *c
				})
				task := list[0]
				image, step := filepath.Join(config.WorkRoot, ".images", strings.TrimPrefix(imageDigest, "sha256:")+"-74234e98", "image"), filepath.Join(config.SpoolDir, task.Job, "0")
				mounts := "-v|" + task.Directory + "=/hpcsera/job|-v|" + step + "=/hpcsera/step|-v|/data=/in|" + image
				if got, want := strings.Join(task.Argv, "|"), strings.Replace(c.want, "MOUNTS", mounts, 1); got != want {
					t.Errorf("got\n%s, want\n%s", got, want)
				}
				if env := task.Environment; env["HPCSERA_DIR"] != "/hpcsera/job" || env["HPCSERA_VALUES"] != "/hpcsera/step/values.json" || env["HPCSERA_LAUNCH"] != "" {
					t.Errorf("got %v, want the paths of the inside", env)
				}
				if want := []spool.Present{{Field: "container.image", Path: image}, {Field: "container.mounts[0]", Path: "/data"}}; !slices.Equal(task.Present, want) {
					t.Errorf("got %v, want %v looked for on the node", task.Present, want)
				}
			})
		})
	}
}

func TestContainersThatCannotRunHereAreRefused(t *testing.T) {
	executable := hpcsera.Program{Executable: "/bin/regrid"}
	credential := contained(executable)
	credential.Container.Credential = "registry"
	for name, c := range map[string]struct {
		manifest hpcsera.Manifest
		runtime  bool
		reason   hpcsera.Reason
		say      string
	}{
		"no runtime":                 {contained(executable), false, hpcsera.RejectedByPolicy, "container: this agent runs no containers"},
		"no read-only mounts":        {contained(executable, "/a:/b:ro"), true, hpcsera.RejectedByPolicy, "container.mounts[0]: "},
		"no credential":              {credential, true, hpcsera.RejectedByPolicy, "container.credential: this agent has no credential registry"},
		"a launch line in the image": {contained(hpcsera.Program{Script: "$HPCSERA_LAUNCH x"}), true, hpcsera.StageInFailed, "container: the launch line"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 1, func(t *testing.T, w *world) {
				job := w.server.submit(w.signed(c.manifest, 1), false)
				w.start(func(config *Config, _ *instance) {
					if c.runtime {
						w.tool(config)
					}
				})
				last := w.ends(job, hpcsera.Failed, c.reason)
				if !strings.Contains(last.Message, c.say) || len(w.ran(job)) != 0 {
					t.Errorf("got %q after %d runs, want %q and none", last.Message, len(w.ran(job)), c.say)
				}
			})
		})
	}
}
