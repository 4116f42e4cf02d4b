package hpcsera_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
)

const someSHA = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func file(path string) hpcsera.File {
	return hpcsera.File{Path: path, Mode: "0644", SHA256: someSHA}
}

func TestPathsThatLeaveTheJobsDirectoryAreRefused(t *testing.T) {
	for _, p := range []string{
		"", ".", "..", "../a", "a/../../b", "a/../b", "/etc/passwd", "a//b", "a/", "./a", "a\\b", "a\nb", "a\x00b", "a\x7fb",
		".hpcsera", ".hpcsera/claim", "a/.hpcsera/x", "\ufffd", strings.Repeat("a", 1025),
	} {
		m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}, Files: []hpcsera.File{file(p)}}
		if err := m.Validate(); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("file %q: got %v, want invalid_field", p, err)
		}
		m = hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}, Artifacts: []hpcsera.ArtifactPattern{{Path: p}}}
		if err := m.Validate(); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("artifact %q: got %v, want invalid_field", p, err)
		}
	}
	for _, p := range []string{"a", "a/b", "..a", "a..", ".a", "é/ü", "a b", "-a", "~", "$HOME"} {
		if err := hpcsera.CheckPath(p); err != nil {
			t.Errorf("%q: got %v, want nil", p, err)
		}
	}
}

func TestFilesThatExcludeEachOtherAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []hpcsera.File
		field string
	}{
		{"twice", []hpcsera.File{file("a"), file("a")}, "files[1].path"},
		{"below a file", []hpcsera.File{file("a"), file("a/b/c")}, "files[1].path"},
		{"above a file", []hpcsera.File{file("a/b/c"), file("a/b")}, "files[1].path"},
		{"a link", []hpcsera.File{{Path: "a", Mode: "0777", SHA256: someSHA}}, "files[0].mode"},
		{"set-user-id", []hpcsera.File{{Path: "a", Mode: "4755", SHA256: someSHA}}, "files[0].mode"},
		{"upper-case digest", []hpcsera.File{{Path: "a", Mode: "0644", SHA256: strings.ToUpper(someSHA)}}, "files[0].sha256"},
		{"digest with prefix", []hpcsera.File{{Path: "a", Mode: "0644", SHA256: "sha256:" + someSHA}}, "files[0].sha256"},
		{"negative size", []hpcsera.File{{Path: "a", Mode: "0644", SHA256: someSHA, Size: -1}}, "files[0].size"},
	} {
		m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}, Files: c.files}
		expectField(t, c.name, m.Validate(), hpcsera.InvalidField, c.field)
	}
}

func expectField(t *testing.T, name string, err error, code hpcsera.Code, field string) {
	t.Helper()
	e, ok := err.(*hpcsera.Error)
	if !ok || e.Code != code || e.Field != field {
		t.Errorf("%s: got %v, want %s at %s", name, err, code, field)
	}
}

func TestProgramsSayOneThing(t *testing.T) {
	script := func(text string) hpcsera.Manifest {
		return hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: text}}
	}
	step := func(s hpcsera.Step) hpcsera.Manifest { return hpcsera.Manifest{Name: "a", Steps: []hpcsera.Step{s}} }
	for _, c := range []struct {
		name  string
		m     hpcsera.Manifest
		code  hpcsera.Code
		field string
	}{
		{"no name", hpcsera.Manifest{Program: hpcsera.Program{Script: "true"}}, hpcsera.InvalidField, "name"},
		{"nothing to run", hpcsera.Manifest{Name: "a"}, hpcsera.InvalidField, "script"},
		{"two things to run", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true", Executable: "/bin/true"}}, hpcsera.InvalidField, "script"},
		{"a NUL in the script", script("a\x00b"), hpcsera.InvalidField, "script"},
		{"inert directives", script("#!/bin/sh\n#SBATCH --array=1-9\ntrue"), hpcsera.InvalidField, "script"},
		{"inert directives of PBS", script("#PBS -l walltime=1:00:00\ntrue"), hpcsera.InvalidField, "script"},
		{"a file that is not there", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{ScriptFile: "run.sh"}}, hpcsera.InvalidField, "script_file"},
		{"a relative executable", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Executable: "bin/true"}}, hpcsera.InvalidField, "executable"},
		{"an unknown launcher", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Executable: "/bin/true", Launcher: "srun"}}, hpcsera.InvalidField, "launcher"},
		{"a launcher for a script", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true", Launcher: "mpi"}}, hpcsera.InvalidField, "launcher"},
		{"arguments for a script", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true", Arguments: []string{"x"}}}, hpcsera.InvalidField, "arguments"},
		{"an argument of no parameter", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Executable: "/bin/true", Arguments: []string{"{x}"}}}, hpcsera.InvalidField, "arguments[0]"},
		{"steps beside a script", hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}, Steps: []hpcsera.Step{{Name: "b", Type: hpcsera.BatchStep, Program: hpcsera.Program{Script: "true"}}}}, hpcsera.InvalidField, "steps"},
		{"a transfer", step(hpcsera.Step{Name: "b", Type: hpcsera.TransferStep}), hpcsera.NotSupportedYet, "steps[0].type"},
		{"an unknown step", step(hpcsera.Step{Name: "b", Type: "cron"}), hpcsera.InvalidField, "steps[0].type"},
		{"a login step with resources", step(hpcsera.Step{Name: "b", Type: hpcsera.LoginStep, Resources: &hpcsera.Resources{}, Program: hpcsera.Program{Script: "true"}}), hpcsera.InvalidField, "steps[0].resources"},
		{"a batch step with a timeout", step(hpcsera.Step{Name: "b", Type: hpcsera.BatchStep, Timeout: hpcsera.Duration(time.Hour), Program: hpcsera.Program{Script: "true"}}), hpcsera.InvalidField, "steps[0].timeout"},
	} {
		expectField(t, c.name, c.m.Validate(), c.code, c.field)
	}
	converted := script("#!/bin/sh\n#SBATCH --array=1-9\ntrue")
	converted.Directives = "converted"
	late := script("true\n#SBATCH -n 1\n")
	for _, m := range []hpcsera.Manifest{script("true"), converted, late, script("#!/bin/sh\n# SBATCH is spelled so\ntrue")} {
		if err := m.Validate(); err != nil {
			t.Errorf("%q: got %v, want nil", m.Script, err)
		}
	}
}

func TestEnvironmentCannotTakeOurNames(t *testing.T) {
	for _, name := range []string{"HPCSERA_JOB", "A=B", "", "1A", "A B", "A\n", "viscosity"} {
		m := parameterised()
		m.Environment = map[string]string{name: "x"}
		if err := m.Validate(); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%q: got %v, want invalid_field", name, err)
		}
	}
	m := parameterised()
	m.Environment = map[string]string{"A": "x\x00y"}
	expectField(t, "a NUL", m.Validate(), hpcsera.InvalidField, "environment.A")
}

func TestDigestChangesWithEveryByteOfCodeAndWithNothingElse(t *testing.T) {
	spec := func() hpcsera.JobSpec {
		s := hpcsera.JobSpec{Manifest: parameterised()}
		s.Files = []hpcsera.File{file("a.dat")}
		s.Environment = map[string]string{"OMP_NUM_THREADS": "8"}
		return s
	}
	base := digest(t, spec())
	for name, edit := range map[string]func(*hpcsera.JobSpec){
		"name":        func(s *hpcsera.JobSpec) { s.Name = "other" },
		"script":      func(s *hpcsera.JobSpec) { s.Script += " " },
		"file path":   func(s *hpcsera.JobSpec) { s.Files[0].Path = "b.dat" },
		"file mode":   func(s *hpcsera.JobSpec) { s.Files[0].Mode = "0755" },
		"file bytes":  func(s *hpcsera.JobSpec) { s.Files[0].SHA256 = strings.Repeat("0", 64) },
		"environment": func(s *hpcsera.JobSpec) { s.Environment["OMP_NUM_THREADS"] = "9" },
		"schema":      func(s *hpcsera.JobSpec) { s.Parameters["year"] = json.RawMessage(`{"type": "integer"}`) },
		"attributes":  func(s *hpcsera.JobSpec) { s.CustomAttributes = map[string]string{"slurm.constraint": "x"} },
		"limits":      func(s *hpcsera.JobSpec) { s.Limits = &hpcsera.Limits{NodeCount: 2} },
		"artifacts":   func(s *hpcsera.JobSpec) { s.Artifacts = []hpcsera.ArtifactPattern{{Path: "x"}} },
	} {
		s := spec()
		if edit(&s); digest(t, s) == base {
			t.Errorf("another %s: got the same digest", name)
		}
	}
	for name, edit := range map[string]func(*hpcsera.JobSpec){
		"site":          func(s *hpcsera.JobSpec) { s.Site = "hlrs" },
		"resources":     func(s *hpcsera.JobSpec) { s.Resources.NodeCount = 9 },
		"values":        func(s *hpcsera.JobSpec) { s.Values = values("year", "2001") },
		"labels":        func(s *hpcsera.JobSpec) { s.Labels = map[string]string{"a": "b"} },
		"schema's text": func(s *hpcsera.JobSpec) { s.Parameters["case_name"] = json.RawMessage("{ \"type\":\n\"string\" }") },
	} {
		s := spec()
		if edit(&s); digest(t, s) != base {
			t.Errorf("other %s: got another digest", name)
		}
	}
}

func digest(t *testing.T, s hpcsera.JobSpec) string {
	t.Helper()
	d, err := s.Manifest.Digest()
	if err != nil || !hpcsera.ValidDigest(d) {
		t.Fatalf("digest: got %q, %v", d, err)
	}
	return d
}

// Signed digests outlive releases.
func TestDigestIsStable(t *testing.T) {
	const want = "sha256:ec18140a0fba27c820a2b6eab95e5476faaf7bb6a33b1d86f9e9d2a63b05a1d4"
	m := hpcsera.Manifest{Name: "hello", Program: hpcsera.Program{Script: "echo hello\n"}, Files: []hpcsera.File{file("a.dat")}}
	if got, err := m.Digest(); got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}

func TestAManifestSurvivesItsJSON(t *testing.T) {
	m := parameterised()
	m.Artifacts = []hpcsera.ArtifactPattern{{Path: "*.png"}, {Path: "junit.xml", Always: true}}
	part, err := m.Check()
	if err != nil {
		t.Fatal(err)
	}
	var again hpcsera.Manifest
	if err := hpcsera.Decode(part.Canonical, &again); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Digest(); err != nil || got != part.Digest {
		t.Errorf("got %s (%v), want %s", got, err, part.Digest)
	}
}

func TestManyFilesAreCheckedInReasonableTime(t *testing.T) {
	m := hpcsera.Manifest{Name: "a", Program: hpcsera.Program{Script: "true"}}
	for i := range 200_000 {
		m.Files = append(m.Files, file(fmt.Sprintf("d%d/f%d", i%100, i)))
	}
	// With every file compared to every other this would run for hours.
	if err := m.Validate(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestKeysOfLaterVersionsAreRefusedByName(t *testing.T) {
	for _, key := range []string{"inputs", "gather", "provenance", "sweep", "notify"} {
		if got := hpcsera.UnknownKey(key, key).Code; got != hpcsera.NotSupportedYet {
			t.Errorf("%s: got %s, want %s", key, got, hpcsera.NotSupportedYet)
		}
	}
	if got := hpcsera.UnknownKey("resource", "resource").Code; got != hpcsera.UnknownField {
		t.Errorf("resource: got %s, want %s", got, hpcsera.UnknownField)
	}
}
