package jobfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/jobfile"
)

// dir is a directory with the given files.
func dir(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func convert(t *testing.T, directives string) (*jobfile.File, error) {
	t.Helper()
	return jobfile.Open(filepath.Join(dir(t, map[string]string{"run me.sbatch": "#!/bin/bash\n" + directives + "\necho\n"}), "run me.sbatch"))
}

func TestRealScriptsConvertAndReadBackToTheSameCode(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.sbatch")
	if err != nil || len(scripts) < 3 {
		t.Fatalf("got %v, %v, want scripts", scripts, err)
	}
	for _, script := range scripts {
		t.Run(script, func(t *testing.T) {
			f, err := jobfile.Open(script)
			if err != nil {
				t.Fatalf("Open: got %v, want no error", err)
			}
			if err := f.Check(); err != nil {
				t.Errorf("Check: got %v, want no error", err)
			}
			got, err := f.YAML()
			if err != nil {
				t.Fatalf("YAML: got %v, want no error", err)
			}
			want, err := os.ReadFile(strings.TrimSuffix(script, ".sbatch") + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			text, _ := os.ReadFile(script)
			root := dir(t, map[string]string{filepath.Base(script): string(text), "job.yaml": string(got)})
			again, err := jobfile.Open(filepath.Join(root, "job.yaml"))
			if err != nil {
				t.Fatalf("Load of what YAML wrote: got %v, want no error", err)
			}
			if diff := cmp.Diff(f.Spec, again.Spec); diff != "" {
				t.Errorf("-converted +loaded:\n%s", diff)
			}
			first, _ := f.Spec.Digest()
			if second, _ := again.Spec.Digest(); first != second {
				t.Errorf("digest: got %s, want %s", second, first)
			}
			if sent, err := os.ReadFile(f.Blobs["sha256:"+f.Spec.Files[0].SHA256]); err != nil || string(sent) != string(text) {
				t.Errorf("the script's bytes: got %q, %v, want them as they are", sent, err)
			}
		})
	}
}

func TestDirectivesBecomeFields(t *testing.T) {
	r := func(r hpcsera.Resources) func(*hpcsera.JobSpec) {
		return func(s *hpcsera.JobSpec) { s.Resources = r }
	}
	a := func(a hpcsera.Attributes) func(*hpcsera.JobSpec) {
		return func(s *hpcsera.JobSpec) { s.Attributes = a }
	}
	custom := func(name, value string) func(*hpcsera.JobSpec) {
		return func(s *hpcsera.JobSpec) { s.CustomAttributes = map[string]string{"slurm." + name: value} }
	}
	hour := hpcsera.Duration(time.Hour)
	for directives, want := range map[string]func(*hpcsera.JobSpec){
		"":                                      func(*hpcsera.JobSpec) {},
		"#SBATCH -J Melt":                       func(s *hpcsera.JobSpec) { s.Name = "melt" },
		"#SBATCH --job-name='Ärger & Co. 2'":    func(s *hpcsera.JobSpec) { s.Name = "rger-co-2" },
		"#SBATCH -J ++":                         func(s *hpcsera.JobSpec) { s.Name = "job" },
		"#SBATCH -J " + strings.Repeat("a", 70): func(s *hpcsera.JobSpec) { s.Name = strings.Repeat("a", 63) },
		"#SBATCH -N 2":                          r(hpcsera.Resources{NodeCount: 2}),
		"#SBATCH -N3-3":                         r(hpcsera.Resources{NodeCount: 3}),
		"#SBATCH --nodes=+02":                   r(hpcsera.Resources{NodeCount: 2}),
		"#SBATCH -N1\n#SBATCH -N 5":             r(hpcsera.Resources{NodeCount: 5}),
		"#SBATCH --ntasks 8":                    r(hpcsera.Resources{ProcessCount: 8}),
		"#SBATCH -N2 --ntasks-per-node=4":       r(hpcsera.Resources{NodeCount: 2, ProcessesPerNode: 4}),
		"#SBATCH --tasks-per-n=4":               r(hpcsera.Resources{ProcessesPerNode: 4}),
		"#SBATCH -c16":                          r(hpcsera.Resources{CPUCoresPerProcess: 16}),
		"#SBATCH --gpus-per-task=2":             r(hpcsera.Resources{GPUCoresPerProcess: 2}),
		"#SBATCH -G 8 -n 4":                     r(hpcsera.Resources{ProcessCount: 4, GPUCoresPerProcess: 2}),
		"#SBATCH --gpus=1":                      r(hpcsera.Resources{GPUCoresPerProcess: 1}),
		"#SBATCH --mem=4G":                      r(hpcsera.Resources{Memory: 4 << 30}),
		"#SBATCH --mem=4G -N 2":                 r(hpcsera.Resources{NodeCount: 2, Memory: 8 << 30}),
		"#SBATCH --mem=500":                     r(hpcsera.Resources{Memory: 500 << 20}),
		"#SBATCH --mem-per-cpu=1G -n 4 -c 2":    r(hpcsera.Resources{ProcessCount: 4, CPUCoresPerProcess: 2, Memory: 8 << 30}),
		"#SBATCH --mem-per-cpu=1G -N2":          r(hpcsera.Resources{NodeCount: 2, Memory: 2 << 30}),
		"#SBATCH --exclusive":                   r(hpcsera.Resources{ExclusiveNodeUse: true}),
		"#SBATCH -t 60":                         a(hpcsera.Attributes{Duration: hour}),
		"#SBATCH --time=1-0":                    a(hpcsera.Attributes{Duration: 24 * hour}),
		"#SBATCH -p medium -A cfd01":            a(hpcsera.Attributes{QueueName: "medium", Account: "cfd01"}),
		"#SBATCH --reservation=r1":              a(hpcsera.Attributes{ReservationID: "r1"}),
		"#SBATCH --requeue":                     func(s *hpcsera.JobSpec) { s.Requeue = true },
		"#SBATCH --requeue --no-requeue":        func(*hpcsera.JobSpec) {},
		"#SBATCH -H":                            func(s *hpcsera.JobSpec) { s.Hold = true },
		"#SBATCH -HQv --parsable":               func(s *hpcsera.JobSpec) { s.Hold = true },
		"#SBATCH --comment='a b'":               func(s *hpcsera.JobSpec) { s.Annotations = map[string]string{"comment": "a b"} },
		"#SBATCH --export=NONE":                 func(*hpcsera.JobSpec) {},
		"#SBATCH -C skylake":                    custom("constraint", "skylake"),
		"#SBATCH --qos=long":                    custom("qos", "long"),
		"#SBATCH --gres=gpu:2":                  custom("gres", "gpu:2"),
		"#SBATCH -L matlab:2":                   custom("licenses", "matlab:2"),
		"#SBATCH --nice":                        custom("nice", "100"),
		"#SBATCH --nice=5":                      custom("nice", "5"),
		"#SBATCH -w node[1-3]":                  custom("nodelist", "node[1-3]"),
		"##SBATCH -N2\n# SBATCH -N3":            func(*hpcsera.JobSpec) {},
	} {
		f, err := convert(t, directives)
		if err != nil {
			t.Errorf("%s: got %v, want no error", directives, err)
			continue
		}
		spec := hpcsera.JobSpec{Manifest: hpcsera.Manifest{
			Name: "run-me", Program: hpcsera.Program{ScriptFile: "run me.sbatch"}, Files: f.Spec.Files, Directives: "converted",
		}}
		want(&spec)
		if diff := cmp.Diff(spec, f.Spec); diff != "" {
			t.Errorf("%s: -want +got:\n%s", directives, diff)
		}
	}
}

func TestWhatCannotBeMappedIsRefusedWithItsLine(t *testing.T) {
	yet, invalid := hpcsera.NotSupportedYet, hpcsera.InvalidField
	for directive, want := range map[string]struct {
		code hpcsera.Code
		say  string
	}{
		"--array=1-10":                  {yet, "not supported by this version"},
		"-a 1-10%2":                     {yet, "not supported by this version"},
		"--mail-type=END":               {yet, "not supported by this version"},
		"--mail-user=a@example.org":     {yet, "not supported by this version"},
		"hetjob":                        {yet, "heterogeneous jobs"},
		"--dependency=afterok:4711":     {invalid, "--after JOB"},
		"-d singleton":                  {invalid, "--after JOB"},
		"--wait":                        {invalid, "hpcsera run waits"},
		"-D /scratch/x":                 {invalid, "cd in the script"},
		"--chdir=/scratch":              {invalid, "cd in the script"},
		"--export=ALL":                  {invalid, "environment:"},
		"--export=A=1":                  {invalid, "environment:"},
		"-i in.txt":                     {invalid, "redirect"},
		"-N 2-4":                        {invalid, "range"},
		"-N 0":                          {invalid, "positive"},
		"-n four":                       {invalid, "positive"},
		"-t 0":                          {invalid, "no limit"},
		"--time=UNLIMITED":              {invalid, "no limit"},
		"-t 2h":                         {invalid, "Slurm's forms of a time"},
		"-t 99999999":                   {invalid, "ten years"},
		"--mem=0":                       {invalid, "all memory"},
		"--mem=4GiB":                    {invalid, "amount of memory"},
		"--mem=4G --mem-per-cpu=1G":     {invalid, "exclude each other"},
		"--exclusive=user":              {invalid, "alone or shared"},
		"-p a,b":                        {invalid, "several partitions"},
		"-p 'a b'":                      {invalid, "no batch system's name"},
		"-G 3 -n 2":                     {invalid, "--gpus-per-task"},
		"-G a100:2":                     {invalid, "--gres"},
		"-x /home/a/bad":                {invalid, "name of a file"},
		"-x ./bad":                      {invalid, "name of a file"},
		"--oversubscribe":               {invalid, "cannot be mapped"},
		"--propagate":                   {invalid, "cannot be mapped"},
		"--nosuch=1":                    {invalid, "not an option of sbatch"},
		"-I":                            {invalid, "not an option of sbatch"},
		"--exclu":                       {invalid, "can mean --exclu"},
		"--hold=yes":                    {invalid, "takes no value"},
		"-N":                            {invalid, "needs a value"},
		"--nodes":                       {invalid, "needs a value"},
		"--qos=":                        {invalid, "empty"},
		"-J a b":                        {invalid, `"b" is no option`},
		"-- -N2":                        {invalid, "no option"},
		"--comment='x":                  {invalid, "opened and not closed"},
		"--comment=\x01":                {hpcsera.Code(""), ""}, // data; the server shows it escaped
		"--constraint=\x01":             {invalid, "control character"},
		"-N 2 --ntasks-per-node=1 -n 9": {invalid, "do not fit"},
	} {
		f, err := convert(t, "# comment\n#SBATCH "+directive)
		if want.code == "" {
			if err != nil {
				t.Errorf("%s: got %v, want no error", directive, err)
			}
			continue
		}
		var e *hpcsera.Error
		if !errors.As(err, &e) || e.Code != want.code || !strings.Contains(err.Error(), want.say) {
			t.Errorf("%s: got %+v, %v, want %s with %q", directive, f, err, want.code, want.say)
			continue
		}
		if !strings.Contains(e.Field, "run me.sbatch:3") {
			t.Errorf("%s: got the place %q, want line 3", directive, e.Field)
		}
	}
}

func TestScriptsThatSbatchRefusesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no interpreter": "#SBATCH -N1\necho\n", "DOS line ends": "#!/bin/sh\r\n#SBATCH -N1\r\n", "NUL": "#!/bin/sh\necho \x00\n",
		"an old form": "#!/bin/sh\n#SLURM -N1\n", "PBS directives beside": "#!/bin/sh\n#SBATCH -N1\n#PBS -N x\n",
		"LSF directives beside": "#!/bin/sh\n#BSUB -J x\n#SBATCH -N1\n", "nothing": "",
	} {
		root := dir(t, map[string]string{"x.sbatch": text})
		if f, err := jobfile.Open(filepath.Join(root, "x.sbatch")); hpcsera.CodeOf(err) != hpcsera.InvalidField {
			t.Errorf("%s: got %+v, %v, want %s", name, f, err, hpcsera.InvalidField)
		}
	}
}

func TestWhatBecomesSomethingElseIsSaid(t *testing.T) {
	f, err := convert(t, "#SBATCH -o out.%j -J Big_Run\n#SBATCH --error=err.%j")
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(f.Notices, "\n")
	for _, want := range []string{":2: -o out.%j makes no file", ":3: --error=err.%j makes no file", "called big-run", "directory of its own"} {
		if !strings.Contains(said, want) {
			t.Errorf("got %q, want it to say %q", said, want)
		}
	}
}

func TestOpenTellsFilesApart(t *testing.T) {
	root := dir(t, map[string]string{
		"a.sbatch": "#!/bin/sh\necho\n", "b.sh": "#!/bin/sh\n# x\n#SBATCH -N1\necho\n", "c.sh": "#!/bin/sh\necho\n#SBATCH -N1\n",
		"d.pbs": "#!/bin/sh\n", "e.lsf": "#!/bin/sh\n", "f.sge": "#!/bin/sh\n", "g.oar": "#!/bin/sh\n", "h.sh": "#!/bin/sh\n#PBS -N x\n",
		"i.yaml": "name: i\nscript: echo\n", "j.json": `{"name": "j", "script": "echo"}`, "k": "name: k\nscript: echo\n",
		"sub/job.yaml": "name: sub\nscript: echo\n",
	})
	for name, want := range map[string]string{"a.sbatch": "a", "b.sh": "b", "i.yaml": "i", "j.json": "j", "k": "k", "sub": "sub"} {
		f, err := jobfile.Open(filepath.Join(root, name))
		if err != nil || f.Spec.Name != want {
			t.Errorf("%s: got %+v, %v, want the job %s", name, f, err, want)
		}
	}
	for name, want := range map[string]hpcsera.Code{
		"c.sh": hpcsera.InvalidField, "missing.yaml": hpcsera.InvalidField,
		"d.pbs": hpcsera.NotSupportedYet, "e.lsf": hpcsera.NotSupportedYet, "f.sge": hpcsera.NotSupportedYet, "g.oar": hpcsera.NotSupportedYet, "h.sh": hpcsera.NotSupportedYet,
	} {
		if f, err := jobfile.Open(filepath.Join(root, name)); hpcsera.CodeOf(err) != want {
			t.Errorf("%s: got %+v, %v, want %s", name, f, err, want)
		}
	}
}
