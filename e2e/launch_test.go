package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

// TestEveryRankIsStarted asks for several processes and counts those that
// Slurm started, by the lines that each left itself.
func TestEveryRankIsStarted(t *testing.T) {
	t.Parallel()
	_, l := ready(t)
	rank := filepath.Join(l.home, "rank")
	// Both write one short line by one call, so that no two of them mix.
	write(t, rank, "#!/bin/sh\necho \"$SLURM_PROCID of $SLURM_NTASKS, $1\" >> marker\n", 0o755)
	l.own(t)
	four := hpcsera.Resources{ProcessCount: 4}
	for _, c := range []struct {
		name      string
		program   hpcsera.Program
		resources hpcsera.Resources
		want      int
	}{
		{"executable", hpcsera.Program{Executable: rank, Launcher: "mpi", Arguments: []string{"a b"}}, four, 4},
		{"script", hpcsera.Program{Script: "#!/bin/sh\n$HPCSERA_LAUNCH " + rank + " 'a b'\n"}, four, 4},
		{"two nodes", hpcsera.Program{Script: "#!/bin/sh\n$HPCSERA_LAUNCH " + rank + " 'a b'\n"},
			hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 2, CPUCoresPerProcess: 2}, 4},
		{"without launcher", hpcsera.Program{Executable: rank, Arguments: []string{"a b"}}, four, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, l := l.in(t)
			m := hpcsera.Manifest{Name: "ranks", Program: c.program, Limits: wide, Artifacts: []hpcsera.ArtifactPattern{{Path: "marker", Always: true}}}
			id := l.submit(t, l.approve(t, m), withRun(func(r *hpcsera.RunPart) { r.Resources = c.resources }))
			if j := d.await(id, 2*time.Minute); j.State != hpcsera.Succeeded {
				t.Fatalf("job is %s (%s: %s): %s", j.State, j.Reason, j.Message, d.get("/jobs/"+id+"/logs/stderr"))
			}
			ranks := strings.Split(strings.TrimSpace(d.get("/jobs/"+id+"/artifacts/marker")), "\n")
			if len(ranks) != c.want {
				t.Errorf("%d processes ran, want %d:\n%s", len(ranks), c.want, strings.Join(ranks, "\n"))
			}
			slices.Sort(ranks)
			if len(slices.Compact(ranks)) != c.want || !strings.HasSuffix(ranks[0], "a b") {
				t.Errorf("want each rank once, with its argument:\n%s", strings.Join(ranks, "\n"))
			}
		})
	}
}
