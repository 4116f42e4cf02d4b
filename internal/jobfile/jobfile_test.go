package jobfile_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/jobfile"
)

// load reads text as job.yaml in a directory with the given files.
func load(t *testing.T, text string, files map[string]string) (*jobfile.File, error) {
	t.Helper()
	all := map[string]string{"job.yaml": text}
	for name, content := range files {
		all[name] = content
	}
	return jobfile.Open(filepath.Join(dir(t, all), "job.yaml"))
}

// wantError checks code, the field behind the directory, and the sentence.
func wantError(t *testing.T, err error, code hpcsera.Code, field, say string) {
	t.Helper()
	var e *hpcsera.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an error with code %s", err, code)
	}
	place := e.Field[strings.LastIndex(e.Field, "/job.yaml")+1:]
	if e.Code != code || place != field || !strings.Contains(err.Error(), say) {
		t.Errorf("got %s at %q: %v, want %s at %q with %q", e.Code, place, err, code, field, say)
	}
}

func TestTheFormatsExamples(t *testing.T) {
	files := map[string]string{"analyse.py": "print()\n", "in.melt": "x\n", "plot.sh": "x\n"}
	values := map[string][]string{"2": {"case=wing"}}
	for example, want := range map[string]struct{ field, key string }{
		"1": {},
		"2": {},
		"3": {"job.yaml:9 inputs", "inputs"},
		"4": {"job.yaml:16 sweep", "sweep"},
		"5": {"job.yaml:9 inputs", "inputs"},
	} {
		t.Run(example, func(t *testing.T) {
			text, err := os.ReadFile("testdata/examples/" + example + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			f, err := load(t, string(text), files)
			if want.field != "" {
				wantError(t, err, hpcsera.NotSupportedYet, want.field, want.key)
				return
			}
			if err != nil {
				t.Fatalf("got %v, want no error", err)
			}
			if err := errors.Join(f.SetValues(values[example]), f.Check()); err != nil {
				t.Errorf("Check: got %v, want no error", err)
			}
		})
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	f, err := load(t, `
name: all
script_file: run.sh
arguments: ["-c", "{case}"]
files: ["*.nml"]
environment: {OMP_NUM_THREADS: "8"}
parameters:
  case: {type: string, pattern: "^[a-z]+$"}
  viscosity: {type: number, default: 1e-2}
artifacts: ["*.png", {path: log, always: true}]
result: result.json
custom_attributes: {slurm.constraint: skylake}
limits: {node_count: 16, duration: 12h, memory: 64GiB, queue_names: [medium], accounts: [cfd01], reservation_ids: [], requeue: true}
site: gwdg
resources: {node_count: 4, process_count: 256, processes_per_node: 64, cpu_cores_per_process: 1, gpu_cores_per_process: 0, memory: 64GiB, exclusive_node_use: false}
attributes: {duration: 2h30m, queue_name: medium, account: cfd01, reservation_id: r1}
values: {viscosity: 0.02, case: duct}
dependencies: [{job: j_0123456789abcdefghjk, state: succeeded}]
labels: {paper: melt2027, 2024: "1"}
annotations: {orcid: 0000-0000-0000-0000}
keep: {succeeded: 3d, failed: 14d}
requeue: true
hold: true
`, map[string]string{"run.sh": "#!/bin/sh\n", "a.nml": "a", "b.nml": "b"})
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	hour := hpcsera.Duration(time.Hour)
	want := hpcsera.RunPart{
		Site:         "gwdg",
		Resources:    hpcsera.Resources{NodeCount: 4, ProcessCount: 256, ProcessesPerNode: 64, CPUCoresPerProcess: 1, Memory: 64 << 30},
		Attributes:   hpcsera.Attributes{Duration: 5 * hour / 2, QueueName: "medium", Account: "cfd01", ReservationID: "r1"},
		Values:       hpcsera.Values{"viscosity": json.RawMessage("0.02"), "case": json.RawMessage(`"duct"`)},
		Dependencies: []hpcsera.Dependency{{Job: "j_0123456789abcdefghjk", State: hpcsera.Succeeded}},
		Labels:       map[string]string{"paper": "melt2027", "2024": "1"},
		Annotations:  map[string]string{"orcid": "0000-0000-0000-0000"},
		Keep:         hpcsera.Keep{Succeeded: 72 * hour, Failed: 14 * 24 * hour},
		Requeue:      true, Hold: true,
	}
	if diff := cmp.Diff(want, f.Spec.RunPart); diff != "" {
		t.Errorf("run part: -want +got:\n%s", diff)
	}
	if got := paths(f); got != "a.nml b.nml run.sh" {
		t.Errorf("files: got %s, want the patterns' and the script, by path", got)
	}
	wantLimits := &hpcsera.Limits{NodeCount: 16, Duration: 12 * hour, Memory: 64 << 30, QueueNames: []string{"medium"}, Accounts: []string{"cfd01"}, ReservationIDs: []string{}, Requeue: true}
	if diff := cmp.Diff(wantLimits, f.Spec.Limits); diff != "" {
		t.Errorf("limits: -want +got:\n%s", diff)
	}
	if f.Spec.Result != "result.json" || len(f.Spec.Artifacts) != 2 || !f.Spec.Artifacts[1].Always || f.Spec.Arguments[1] != "{case}" {
		t.Errorf("got %+v", f.Spec.Manifest)
	}
}

func paths(f *jobfile.File) string {
	var all []string
	for _, file := range f.Spec.Files {
		all = append(all, file.Path)
	}
	return strings.Join(all, " ")
}

func TestWhatIsWrongInAJobYAMLIsRefusedWithItsLine(t *testing.T) {
	base := "name: x\nscript: |\n  true\n"
	for _, c := range []struct {
		name, text string
		code       hpcsera.Code
		field, say string
	}{
		{"a misspelt key", base + "resuorces: {}\n", hpcsera.UnknownField, "job.yaml:4 resuorces", `Did you mean "resources"?`},
		{"a misspelt key below", base + "resources:\n  memory: 1GiB\n  nodecount: 1\n", hpcsera.UnknownField, "job.yaml:6 resources.nodecount", `"node_count"`},
		{"a key twice", base + "name: y\n", hpcsera.InvalidField, "job.yaml:4 name", "twice"},
		{"two documents", base + "---\n" + base, hpcsera.InvalidField, "job.yaml:4", "second document"},
		{"text for a number", base + "resources: {node_count: four}\n", hpcsera.InvalidField, "job.yaml:4 resources.node_count", "whole number"},
		{"a number for text", base + "environment:\n  A: x\n  OMP_NUM_THREADS: 8\n", hpcsera.InvalidField, "job.yaml:6 environment.OMP_NUM_THREADS", `"8"`},
		{"no unit", base + "attributes: {duration: 30}\n", hpcsera.InvalidField, "job.yaml:4 attributes.duration", "units"},
		{"another unit", base + "resources: {memory: 32GB}\n", hpcsera.InvalidField, "job.yaml:4 resources.memory", "GiB"},
		{"nothing behind a key", base + "resources:\n", hpcsera.InvalidField, "job.yaml:4 resources", "null"},
		{"no name", "script: x\n", hpcsera.InvalidField, "job.yaml name", "not a name"},
		{"a name in capitals", "name: Cavity\nscript: x\n", hpcsera.InvalidField, "job.yaml:1 name", "a-z"},
		{"no script", "name: x\n", hpcsera.InvalidField, "job.yaml script", "Give exactly one"},
		{"two scripts", base + "executable: /bin/true\n", hpcsera.InvalidField, "job.yaml:2 script", "Give exactly one"},
		{"code and a script", base + "code: cavity\n", hpcsera.InvalidField, "job.yaml:4 code", "beside it"},
		{"no site in a list", base + "site: []\n", hpcsera.InvalidField, "job.yaml:4 site", "at least one"},
		{"a site twice", base + "site: [gwdg, gwdg]\n", hpcsera.InvalidField, "job.yaml:4 site", "twice"},
		{"another program for a script", base + "sites:\n  hlrs:\n    executable: /bin/true\n", hpcsera.InvalidField, "job.yaml:6 sites.hlrs.executable", "$HPCSERA_SITE"},
		{"a bad module in an overlay", base + "sites:\n  hlrs:\n    modules: [mpt, --force]\n", hpcsera.InvalidField, "job.yaml:6 sites.hlrs.modules[1]", "module avail"},
		{"files in an overlay", base + "sites:\n  hlrs:\n    files: [x]\n", hpcsera.UnknownField, "job.yaml:6 sites.hlrs.files", "files"},
		{"code's own part beside code", "code: cavity\nsites:\n  hlrs:\n    modules: [mpt]\n", hpcsera.InvalidField, "job.yaml:1 code", "beside it"},
		{"a misspelt key in an overlay", base + "sites:\n  hlrs: {atributes: {queue_name: x}}\n", hpcsera.UnknownField, "job.yaml:5 sites.hlrs.atributes", "attributes"},
		{"a bad queue in an overlay", base + "sites:\n  hlrs:\n    attributes: {queue_name: a b}\n", hpcsera.InvalidField, "job.yaml:6 sites.hlrs.attributes.queue_name", "a b"},
		{"a sweep", base + "sweep: {grid: {x: [1]}}\n", hpcsera.NotSupportedYet, "job.yaml:4 sweep", "sweep"},
		{"inputs", base + "inputs:\n  - {from: a, to: b}\n", hpcsera.NotSupportedYet, "job.yaml:4 inputs", "inputs"},
		{"an image without a digest", base + "container:\n  image: docker://host.example/x:latest\n", hpcsera.InvalidField, "job.yaml:5 container.image", "@sha256:"},
		{"a transfer of an artifact", base + "artifacts:\n  - path: a\n    to: s3://x\n", hpcsera.NotSupportedYet, "job.yaml:6 artifacts[0].to", "to"},
		{"a transfer step", "name: x\nsteps:\n  - {name: a, type: transfer, script: x}\n", hpcsera.NotSupportedYet, "job.yaml:3 steps[0].type", "transfer"},
		{"directives in a script", "name: x\nscript: |\n  #!/bin/sh\n  #SBATCH -N 2\n  echo\n", hpcsera.InvalidField, "job.yaml:2 script", "hpcsera convert"},
		{"directives in a script file", "name: x\nscript_file: s.sbatch\n", hpcsera.InvalidField, "job.yaml:2 script_file", "hpcsera convert s.sbatch"},
		{"a label that is none", base + "labels: {a=b: c}\n", hpcsera.InvalidField, "job.yaml:4 labels", "key"},
		{"a queue that is an option", base + "attributes:\n  queue_name: --wrap\n", hpcsera.InvalidField, "job.yaml:5 attributes.queue_name", "characters"},
		{"a parameter that programs obey", base + "parameters: {http_proxy: {type: string}}\n", hpcsera.InvalidField, "job.yaml:4 parameters.http_proxy", "parameter"},
		{"a schema from elsewhere", base + "parameters: {a: {$ref: \"https://example.org/x\"}}\n", hpcsera.InvalidField, "job.yaml:4 parameters.a", "example.org"},
		{"no YAML", "name: [\n", hpcsera.MalformedRequest, "job.yaml:1", "not YAML"},
		{"a missing script file", "name: x\nscript_file: none.sh\n", hpcsera.InvalidField, "job.yaml:2 script_file", "no file"},
		{"a file outside", base + "files:\n  - a\n  - ../b\n", hpcsera.InvalidField, "job.yaml:6 files[1]", "not a path inside"},
		{"an absolute file", base + "files: [/etc/passwd]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "not a path inside"},
		{"a pattern outside", base + "files: [\"../*\"]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "not a path inside"},
		{"a pattern that matches nothing", base + "files: [\"*.f90\"]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "matches no file"},
		{"a pattern that is none", base + "files: [\"[\"]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "not a pattern"},
		{"a directory", base + "files: [d]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "d/*"},
		{"a link", base + "files: [link]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "links are not followed"},
		{"a link by pattern", base + "files: [\"li*\"]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "links are not followed"},
		{"a link to a directory on the way", base + "files: [dlink/f]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "links are not followed"},
		{"a pipe", base + "files: [pipe]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "no plain file"},
		{"the agent's own directory", base + "files: [.hpcsera/x]\n", hpcsera.InvalidField, "job.yaml:4 files[0]", "not a path inside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := dir(t, map[string]string{
				"job.yaml": c.text, "s.sbatch": "#!/bin/sh\n#SBATCH -N 2\necho\n", "a": "a", "d/f": "f", ".hpcsera/x": "x",
			})
			for link, target := range map[string]string{"link": "a", "dlink": "d"} {
				if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := jobfile.Open(filepath.Join(root, "job.yaml"))
			wantError(t, err, c.code, c.field, c.say)
		})
	}
}

func TestFilesAreFoundDigestedAndMapped(t *testing.T) {
	root := dir(t, map[string]string{
		"job.yaml": "", "a.nml": "a", "b.nml": "b", ".hidden": "h", "src/m.f90": "m", "src/deep/n.f90": "n", "src/.git/x": "x", "src/deep/o.txt": "o", "odd[1].txt": "odd",
	})
	job := filepath.Join(root, "job.yaml")
	if err := os.Chmod(filepath.Join(root, "a.nml"), 0o750); err != nil {
		t.Fatal(err)
	}
	for patterns, want := range map[string]string{
		`["*.nml"]`:                       "a.nml b.nml",
		`[b.nml, "a.*", "*.nml"]`:         "a.nml b.nml",
		`["./a.nml"]`:                     "a.nml",
		`["*"]`:                           "a.nml b.nml odd[1].txt", // neither job.yaml nor what is hidden
		`["[ab].nml"]`:                    "a.nml b.nml",
		`["odd[1].txt"]`:                  "odd[1].txt",
		`[".hidden"]`:                     ".hidden",
		`[".*"]`:                          ".hidden",
		`["src/*"]`:                       "src/m.f90",
		`["src/*/*"]`:                     "src/deep/n.f90 src/deep/o.txt",
		`["src/**"]`:                      "src/deep/n.f90 src/deep/o.txt src/m.f90",
		`["**/*.f90"]`:                    "src/deep/n.f90 src/m.f90",
		`["src/**/*.txt"]`:                "src/deep/o.txt",
		`["job.yaml"]`:                    "job.yaml",
		`["src/?.f90", "src/deep/n.f90"]`: "src/deep/n.f90 src/m.f90",
	} {
		if err := os.WriteFile(job, []byte("name: x\nscript: echo\nfiles: "+patterns+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := jobfile.Open(job)
		if err != nil {
			t.Errorf("%s: got %v, want no error", patterns, err)
			continue
		}
		if got := paths(f); got != want {
			t.Errorf("%s: got %s, want %s", patterns, got, want)
		}
		for _, file := range f.Spec.Files {
			text, err := os.ReadFile(f.Blobs["sha256:"+file.SHA256])
			if err != nil || hpcsera.DigestOf(text) != "sha256:"+file.SHA256 || int64(len(text)) != file.Size {
				t.Errorf("%s: got %q, %v for %+v, want the bytes that were digested", patterns, text, err, file)
			}
			if want := map[bool]string{true: "0755", false: "0644"}[file.Path == "a.nml"]; file.Mode != want {
				t.Errorf("%s: got mode %s, want %s", file.Path, file.Mode, want)
			}
		}
	}
}

func TestTheDigestFollowsTheCodeAlone(t *testing.T) {
	digest := func(text string, files map[string]string) string {
		f, err := load(t, text, files)
		if err != nil {
			t.Fatalf("got %v, want no error", err)
		}
		d, err := f.Spec.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	files := map[string]string{"a": "1", "b": "2"}
	base := digest("name: x\nscript: |\n  echo\nfiles: [a, b]\nparameters: {n: {type: number, default: 1}}\n", files)
	for name, got := range map[string]string{
		"another order": digest("files: [b, a]\nparameters:\n  n:\n    default: 1.0\n    type: number\nscript: \"echo\\n\"\nname: x\n", files),
		"a run part":    digest("name: x\nscript: |\n  echo\nfiles: [\"*\"]\nparameters: {n: {type: number, default: 1}}\nlabels: {a: b}\nvalues: {n: 2}\nsite: gwdg\n", files),
	} {
		if got != base {
			t.Errorf("%s: got %s, want the same digest %s", name, got, base)
		}
	}
	for name, got := range map[string]string{
		"a changed byte of a file": digest("name: x\nscript: |\n  echo\nfiles: [a, b]\nparameters: {n: {type: number, default: 1}}\n", map[string]string{"a": "1", "b": "3"}),
		"a changed script":         digest("name: x\nscript: |\n  echo \nfiles: [a, b]\nparameters: {n: {type: number, default: 1}}\n", files),
		"a changed default":        digest("name: x\nscript: |\n  echo\nfiles: [a, b]\nparameters: {n: {type: number, default: 2}}\n", files),
	} {
		if got == base {
			t.Errorf("%s: got the same digest", name)
		}
	}
}

func TestValuesFromTheCommandLineFollowTheirSchemas(t *testing.T) {
	parameters := map[string]json.RawMessage{
		"text": json.RawMessage(`{"type":"string"}`), "number": json.RawMessage(`{"type":"number"}`), "count": json.RawMessage(`{"type":"integer"}`),
		"yes": json.RawMessage(`{"type":"boolean"}`), "list": json.RawMessage(`{"type":"array"}`), "both": json.RawMessage(`{"type":["string","number"]}`),
		"enum": json.RawMessage(`{"enum":["1","2"]}`), "any": json.RawMessage(`{}`),
	}
	for argument, want := range map[string]string{
		"text=5": `"5"`, "text=": `""`, "text=a=b": `"a=b"`, "text=null": `"null"`, "text=$(rm -rf ~)": `"$(rm -rf ~)"`, "text='; id #\n": `"'; id #\n"`,
		"text=<a>": `"\u003ca\u003e"`, "number=0.02": "0.02", "number=1e-3": "1e-3", "number=abc": `"abc"`, "number=007": `"007"`, "count=5": "5", "yes=true": "true", "yes=ja": `"ja"`,
		"list=[1,2]": "[1,2]", "list=1,2": `"1,2"`, "both=5": "5", "both=x": `"x"`, "enum=1": `"1"`, "any=5": "5", "any=x": `"x"`, "unknown=5": "5", "unknown=x": `"x"`,
	} {
		got, err := jobfile.ParseValues(parameters, []string{argument})
		name, _, _ := strings.Cut(argument, "=")
		if err != nil || string(got[name]) != want {
			t.Errorf("%s: got %s, %v, want %s", argument, got[name], err, want)
		}
	}
	for _, argument := range []string{"x", "=5", ""} {
		if got, err := jobfile.ParseValues(parameters, []string{argument}); hpcsera.CodeOf(err) != hpcsera.InvalidValue {
			t.Errorf("%q: got %v, %v, want %s", argument, got, err, hpcsera.InvalidValue)
		}
	}
}

func TestSetValuesWinOverTheFileAndCheckJudgesThem(t *testing.T) {
	text := "name: x\nscript: echo\nparameters:\n  n: {type: number, minimum: 1}\nvalues:\n  n: 2\n"
	f, err := load(t, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.SetValues([]string{"n=3", "n=4"}); err != nil || string(f.Spec.Values["n"]) != "4" {
		t.Errorf("got %s, %v, want 4", f.Spec.Values["n"], err)
	}
	if err := f.Check(); err != nil {
		t.Errorf("Check: got %v, want no error", err)
	}
	_ = f.SetValues([]string{"n=0"})
	wantError(t, f.Check(), hpcsera.InvalidValue, "job.yaml:6 values.n", "minimum")
	_ = f.SetValues([]string{"n=4", "m=1"})
	wantError(t, f.Check(), hpcsera.InvalidValue, "job.yaml:5 values.m", "not a parameter")
	delete(f.Spec.Values, "m")
	delete(f.Spec.Values, "n")
	wantError(t, f.Check(), hpcsera.InvalidValue, "job.yaml:6 values.n", "no default")
}

func TestCheckHoldsTheRunPartAgainstTheCodesLimits(t *testing.T) {
	f, err := load(t, "name: x\nscript: echo\nlimits: {node_count: 2, queue_names: [medium]}\nresources:\n  node_count: 4\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, f.Check(), hpcsera.LimitExceeded, "job.yaml:5 resources.node_count", "4 exceeds")
	f.Spec.Resources.NodeCount = 2
	f.Spec.Attributes.QueueName = "gpu"
	wantError(t, f.Check(), hpcsera.LimitExceeded, "job.yaml attributes.queue_name", "medium")
	f.Spec.Attributes.QueueName = "medium"
	if err := f.Check(); err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

func TestAServersRefusalIsShownWithTheFilesLine(t *testing.T) {
	f, err := load(t, "name: x\nscript: echo\nresources:\n  node_count: 400\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	refusal := hpcsera.Errorf(hpcsera.LimitExceeded, "400 exceeds 128 of queue medium at gwdg.").At("resources.node_count").Hint("Queue large takes 512. Nothing was submitted.")
	got := f.Locate(refusal).Error()
	want := "job.yaml:4 resources.node_count: 400 exceeds 128 of queue medium at gwdg. Queue large takes 512. Nothing was submitted."
	if got[strings.LastIndex(got, "/")+1:] != want {
		t.Errorf("got  %s\nwant …/%s", got, want)
	}
	if f.Locate(nil) != nil {
		t.Error("no error: got one")
	}
}

func TestExistingCodeIsTriggeredWithoutFiles(t *testing.T) {
	f, err := load(t, "code: cavity\nsite: gwdg\nvalues: {viscosity: 0.02}\n", nil)
	if err != nil {
		t.Fatalf("got %v, want no error", err)
	}
	if err := f.Check(); err != nil || f.Spec.Code != "cavity" || len(f.Blobs) != 0 {
		t.Errorf("got %+v, %v, want the code's name and no files", f, err)
	}
}

func TestYAMLReadsBackAsTheSameJob(t *testing.T) {
	root := dir(t, map[string]string{"a b.sh": "#!/bin/sh\n", "odd[1].txt": "x", "sub/c": "c"})
	source, target := filepath.Join(root, "job.yaml"), filepath.Join(root, "again.yaml")
	text := rapid.StringMatching(`[ -~é\n\t]{1,40}`)
	rapid.Check(t, func(t *rapid.T) {
		in := map[string]any{
			"name":        rapid.StringMatching(`[a-z0-9-]{1,63}`).Draw(t, "name"),
			"files":       []string{"a b.sh", "odd[1].txt", "sub/c"},
			"environment": rapid.MapOf(rapid.StringMatching(`[A-Z_]{1,9}`), text).Draw(t, "environment"),
			"labels":      rapid.MapOfN(rapid.StringMatching(`[!-<>-~]{1,20}`), text, 0, 5).Draw(t, "labels"),
			"parameters":  map[string]any{"p": map[string]any{"default": text.Draw(t, "default"), "maximum": rapid.Float64Range(-1e9, 1e9).Draw(t, "maximum")}},
			"values":      map[string]any{"p": []any{text.Draw(t, "value"), rapid.Int().Draw(t, "int"), rapid.Bool().Draw(t, "bool"), nil}},
			"requeue":     rapid.Bool().Draw(t, "requeue"),
		}
		if rapid.Bool().Draw(t, "inline") {
			in["script"] = text.Draw(t, "script")
		} else {
			in["script_file"] = "a b.sh"
			in["arguments"] = []string{text.Filter(func(s string) bool { return !strings.Contains(s, "{") }).Draw(t, "argument")}
		}
		asJSON, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(source, asJSON, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := jobfile.Open(source)
		if err != nil {
			t.Fatalf("Load: got %v for %s", err, asJSON)
		}
		out, err := f.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, out, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := jobfile.Open(target)
		if err != nil {
			t.Fatalf("Load of\n%s: got %v", out, err)
		}
		first, _ := f.Spec.Digest()
		second, _ := again.Spec.Digest()
		if diff := cmp.Diff(f.Spec.RunPart, again.Spec.RunPart, cmpopts.EquateEmpty()); first != second || diff != "" {
			t.Fatalf("got %s and %s; -first +second:\n%s\n%s", first, second, diff, out)
		}
	})
}

func TestTheProjectsOwnExamplesLoad(t *testing.T) {
	examples, err := filepath.Glob("../../examples/*/job.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("got %v, %v, want examples", examples, err)
	}
	scripts, _ := filepath.Glob("../../examples/*/*.sbatch")
	for _, path := range append(examples, scripts...) {
		f, err := jobfile.Open(path)
		if err != nil {
			t.Errorf("%s: got %v, want no error", path, err)
			continue
		}
		if err := f.Check(); err != nil {
			t.Errorf("%s: Check: got %v, want no error", path, err)
		}
	}
}

func TestOverlaysAreCheckedWhereTheyStand(t *testing.T) {
	for name, c := range map[string]struct {
		text, field, say string
		code             hpcsera.Code
	}{
		"beyond the code's limits": {"limits: {duration: 1h}\nsites:\n  hlrs: {attributes: {duration: 2h}}\n", "job.yaml:6 sites.hlrs.attributes.duration", "2h", hpcsera.LimitExceeded},
		"no parameter":             {"site: [gwdg, hlrs]\nsites:\n  hlrs:\n    values: {n: 1}\n", "job.yaml:7 sites.hlrs.values.n", "not a parameter", hpcsera.InvalidValue},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := load(t, "name: a\nscript: |\n  true\n"+c.text, nil)
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, f.Check(), c.code, c.field, c.say)
		})
	}
}

func TestAJobMayNameSeveralSites(t *testing.T) {
	f, err := load(t, "name: a\nscript: 'true'\nparameters: {n: {type: integer}}\nsite: [gwdg, hlrs]\nresources: {node_count: 2}\nvalues: {n: 1}\n"+
		"sites: {gwdg: {modules: [gcc/14]}, hlrs: {resources: {node_count: 4}, attributes: {queue_name: normal}, values: {n: 2}, environment: {A: b}}}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Check(); err != nil || f.Spec.Site != "gwdg,hlrs" {
		t.Fatalf("got %q, %v", f.Spec.Site, err)
	}
	text, err := f.YAML()
	again, loadErr := load(t, string(text), nil)
	if err != nil || loadErr != nil || !reflect.DeepEqual(again.Spec, f.Spec) {
		t.Errorf("its YAML means another job (%v, %v):\n%s", err, loadErr, text)
	}
	if err := f.SetValues([]string{"n=3"}); err != nil {
		t.Fatal(err)
	}
	for _, run := range f.Spec.Everywhere() {
		if string(run.Values["n"]) != "3" {
			t.Errorf("at %s n is %s: an argument wins everywhere", run.Site, run.Values["n"])
		}
	}
}
