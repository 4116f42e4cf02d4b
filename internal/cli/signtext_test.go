package cli

import (
	"strings"
	"testing"

	"github.com/hpcsera/hpcsera"
)

// Whoever signs reads all that could run, at every site.
func TestWhatDiffersAtASiteIsShown(t *testing.T) {
	var out strings.Builder
	writeManifest(&out, hpcsera.Manifest{
		Name: "solver", Program: hpcsera.Program{Executable: "/opt/solver"}, Modules: []string{"gcc/14"},
		Sites: map[string]hpcsera.SiteCode{
			"hlrs": {
				Executable: "/sw/solver\x1b[2K", Launcher: "mpi", SpackEnvironment: "cfd", Environment: map[string]string{"A": "1"},
				Container: &hpcsera.Container{Image: "docker://host.example/x", Mounts: []string{"/data:/in"}},
			},
			"gwdg": {Modules: []string{"gcc/15", "mpt"}},
		},
	})
	at := 0
	for _, want := range []string{"/opt/solver", "modules gcc/14", "at gwdg:", "modules gcc/15 mpt", "at hlrs:", "runs /sw/solver", "launcher mpi", "Spack environment cfd", "docker://host.example/x", "mounts /data:/in", "environment A=1"} {
		i := strings.Index(out.String()[at:], want)
		if i < 0 {
			t.Fatalf("%q is not shown after the rest:\n%s", want, out.String())
		}
		at += i
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("an escape sequence reaches the terminal: %q", out.String())
	}
}
