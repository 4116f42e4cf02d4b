package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// launchLines are those of sites with Open MPI: its own starter, and Slurm's,
// which tells each process its rank by PMIx. The nodes here only pretend to have
// their processors, so nothing is bound to them.
var launchLines = map[string]string{
	"mpirun": "mpirun -n {process_count} --bind-to none --oversubscribe",
	"srun":   "srun --mpi=pmix",
}

// TestMPIProgramsGetEveryRank builds the example on the login node with Open
// MPI's compiler and runs it in Slurm: two steps of one job.
func TestMPIProgramsGetEveryRank(t *testing.T) {
	for name, line := range launchLines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDeployment(t, "", "")
			l := newLogin(t, d, "slurm", "launcher: "+line)
			agent := l.startAgent(t, "")
			out := filepath.Join(d.dir, "results")
			stdout, stderr, code := d.cli(nil, l.signing("run", "../examples/mpi/job.yaml", "--output-dir", out)...)
			if code != 0 {
				t.Fatalf("hpcsera run ended %d\n%s%s\nagent:\n%s", code, stdout, stderr, agent.log)
			}
			text, err := os.ReadFile(filepath.Join(out, "pi.txt"))
			if err != nil {
				t.Fatal(err)
			}
			for rank := range 4 {
				if want := fmt.Sprintf("rank %d of 4 adds 0.7853", rank); strings.Count(string(text), want) != 1 {
					t.Errorf("%q is not there once:\n%s", want, text)
				}
			}
			var result struct {
				Ranks int
				Pi    float64
			}
			if err := json.Unmarshal(d.job(jobIn(t, stdout+stderr)).Result, &result); err != nil || result.Ranks != 4 || result.Pi < 3.14159265 || result.Pi > 3.14159266 {
				t.Errorf("got %+v (%v), want pi of 4 ranks", result, err)
			}
		})
	}
}

// TestMPIProgramsComeFromModules: on two nodes, by an executable that the
// launcher starts, in an environment that Debian's module system made.
func TestMPIProgramsComeFromModules(t *testing.T) {
	t.Parallel()
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm", "launcher: "+launchLines["mpirun"])
	modules, init := filepath.Join(l.home, "modulefiles"), filepath.Join(l.home, "modules.sh")
	if err := os.MkdirAll(filepath.Join(modules, "lab"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(modules, "lab", "1.0"), "#%Module1.0\nsetenv LAB_GREETING \"of the lab\"\n", 0o644)
	write(t, init, ". /etc/profile\nmodule use "+modules+"\n", 0o644)
	rank := filepath.Join(l.home, "rank")
	write(t, rank, "#!/bin/sh\necho \"$OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE $LAB_GREETING $1\" >> marker\n", 0o755)
	l.configure(t, "modules_init: "+init)
	l.startAgent(t, "")
	m := hpcsera.Manifest{
		Name: "lab", Program: hpcsera.Program{Executable: rank, Launcher: "mpi", Arguments: []string{"a b"}}, Modules: []string{"lab"}, Limits: wide,
		Artifacts: []hpcsera.ArtifactPattern{{Path: "marker", Always: true}},
	}
	two := withRun(func(r *hpcsera.RunPart) { r.Resources = hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 1} })
	id := l.submit(t, l.approve(t, m), two)
	if j := d.await(id, 2*time.Minute); j.State != hpcsera.Succeeded {
		t.Fatalf("job is %s (%s: %s): %s", j.State, j.Reason, j.Message, d.get("/jobs/"+id+"/logs/stderr"))
	}
	text := d.get("/jobs/" + id + "/artifacts/marker")
	for rank := range 2 {
		if want := fmt.Sprintf("%d of 2 of the lab a b\n", rank); strings.Count(text, want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, text)
		}
	}
	m.Modules = []string{"lab", "gcc/99"}
	id = l.submit(t, l.approve(t, m), two)
	if j := d.await(id, 2*time.Minute); j.State != hpcsera.Failed || j.Reason != hpcsera.StageInFailed || !strings.Contains(j.Message, "Unable to locate a modulefile for 'gcc/99'") {
		t.Errorf("job is %s (%s: %s), want the module system's own words", j.State, j.Reason, j.Message)
	}
}
