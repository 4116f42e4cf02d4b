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
	"github.com/hpcsera/hpcsera/internal/agent/container/registrytest"
)

// TestAJobRunsInItsImage: a registry that asks who it is, an image by its digest,
// the agent's own credential, Slurm, and Charliecloud without any privilege.
func TestAJobRunsInItsImage(t *testing.T) {
	t.Parallel()
	registry := registrytest.New(t)
	handedOut.add("x." + registrytest.Password)
	d := newDeployment(t, "", "")
	l := newLogin(t, d, "slurm", "launcher: "+launchLines["mpirun"], "container: {runtime: charliecloud}")
	write(t, filepath.Join(l.home, "credentials.yaml"), fmt.Sprintf("lab: {host: '%s', username: %s, password: %s}\n", registry.Addr, registrytest.User, registrytest.Password), 0o600)
	data := filepath.Join(l.home, "data")
	if err := os.Mkdir(data, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(data, "in"), "of the site\n", 0o644)
	l.own(t)
	agent := l.startAgent(t, "")
	m := hpcsera.Manifest{
		Name: "contained", Limits: wide, Parameters: map[string]json.RawMessage{"greeting": json.RawMessage(`{"type":"string","maxLength":40}`)},
		Container: &hpcsera.Container{Image: registry.Image(), Mounts: []string{data + ":/data"}, Credential: "lab"},
		Steps: []hpcsera.Step{
			{Name: "look", Type: hpcsera.BatchStep, Program: hpcsera.Program{Script: "cat /etc/issue /data/in \"$HPCSERA_VALUES\"; echo; echo \"$greeting\" > said; pwd\n"}},
			{Name: "ranks", Type: hpcsera.BatchStep, Program: hpcsera.Program{
				Executable: "/bin/sh", Launcher: "mpi", Arguments: []string{"-c", "echo \"$OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE\" >> ranks"},
			}, Resources: &hpcsera.Resources{ProcessCount: 2}},
		},
		Artifacts: []hpcsera.ArtifactPattern{{Path: "said"}, {Path: "ranks"}},
	}
	code := l.approve(t, m)
	id := l.submit(t, code, withRun(func(r *hpcsera.RunPart) { r.Values = hpcsera.Values{"greeting": []byte(`"hello; exit 3"`)} }))
	j := d.await(id, 2*time.Minute)
	if j.State != hpcsera.Succeeded {
		t.Fatalf("job is %s (%s: %s)\n%s\nagent:\n%s", j.State, j.Reason, j.Message, d.get("/jobs/"+id+"/logs/stderr"), agent.log)
	}
	if got, want := d.get("/jobs/"+id+"/logs/stdout"), "HPCSerA test image\nof the site\n{\"greeting\":\"hello; exit 3\"}\n/hpcsera/job\n"; got != want {
		t.Errorf("it printed %q, want %q", got, want)
	}
	if got := d.get("/jobs/" + id + "/artifacts/said"); got != "hello; exit 3\n" {
		t.Errorf("it said %q", got)
	}
	if got := d.get("/jobs/" + id + "/artifacts/ranks"); strings.Count(got, " of 2\n") != 2 || !strings.Contains(got, "0 of 2") || !strings.Contains(got, "1 of 2") {
		t.Errorf("the ranks were %q, want both once", got)
	}
	imagesAreRefused(t, l, registry, m)
}

// imagesAreRefused: what the registry sends in place of what was signed, and an
// agent that may not have it; and a registry that comes back.
func imagesAreRefused(t *testing.T, l *login, registry *registrytest.Registry, m hpcsera.Manifest) {
	t.Helper()
	d := l.d
	run := func(change func(*hpcsera.Container)) string {
		c := *m.Container
		change(&c)
		m.Container = &c
		return l.submit(t, l.approve(t, m), withRun(func(r *hpcsera.RunPart) { r.Values = hpcsera.Values{"greeting": []byte(`"x"`)} }))
	}
	id := run(func(c *hpcsera.Container) { c.Credential = "other" })
	if j := d.await(id, 2*time.Minute); j.State != hpcsera.Failed || j.Reason != hpcsera.RejectedByPolicy || !strings.Contains(j.Message, "container.credential: ") {
		t.Errorf("without the credential: job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	if err := os.RemoveAll(filepath.Join(l.home, "work", ".images")); err != nil {
		t.Fatal(err)
	}
	layer := registry.Blob(registry.Parts()[2])
	whole := read(t, layer)
	write(t, layer, whole[:len(whole)/2]+"x"+whole[len(whole)/2+1:], 0o600)
	id = run(func(c *hpcsera.Container) { c.Credential = "lab" })
	if j := d.await(id, 2*time.Minute); j.State != hpcsera.Failed || j.Reason != hpcsera.StageInFailed || !strings.Contains(j.Message, "something else than was signed") {
		t.Errorf("with a changed layer: job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
	write(t, layer, whole, 0o600)
	registry.Stop()
	id = run(func(*hpcsera.Container) {})
	eventually(t, 2*time.Minute, "the job that waits for its registry", func() bool {
		j := d.job(id)
		return j.State == hpcsera.Staging && strings.Contains(j.Message, "does not answer")
	})
	registry.Start()
	if j := d.await(id, 3*time.Minute); j.State != hpcsera.Succeeded {
		t.Errorf("after the registry came back: job is %s (%s: %s)", j.State, j.Reason, j.Message)
	}
}
