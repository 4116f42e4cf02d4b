package jobfile

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sbatch runs Slurm's own sbatch over a script, up to the point where it would
// look for a controller, and returns what it says about it.
type sbatch struct {
	ctx          context.Context
	conf, script string
}

// failer is a *testing.T or a *rapid.T.
type failer interface{ Fatal(args ...any) }

// newSbatch needs no Slurm that answers, but its program. The test bed installs
// that, and scripts/test knows by the variable below that this package asks for
// the test bed.
func newSbatch(t *testing.T) sbatch {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "slurm.conf")
	// Nothing listens on port 1 of this host, so nothing can be submitted.
	text := "ClusterName=none\nSlurmctldHost=localhost\nSlurmctldPort=1\nAuthType=auth/munge\nMessageTimeout=1\nNodeName=localhost CPUs=1\nPartitionName=p Nodes=ALL\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("sbatch"); err != nil {
		t.Fatalf("Slurm's sbatch is needed to know how it reads a script: %v. Start the test bed, as `make test` does, which also sets HPCSERA_TEST_SLURM", err)
	}
	return sbatch{t.Context(), conf, filepath.Join(dir, "job")}
}

func (s sbatch) says(t failer, script string) string {
	if err := os.WriteFile(s.script, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(s.ctx, "sbatch", "-vvv", "--test-only", s.script)
	cmd.Env = []string{"SLURM_CONF=" + s.conf, "PATH=" + os.Getenv("PATH")}
	out, _ := cmd.CombinedOutput() // it always fails: there is no controller
	return string(out)
}

var found = regexp.MustCompile(`(?m)^sbatch: debug2: Found in script, argument "(.*)"$`)

func (s sbatch) words(t failer, script string) (words []string, unmatched bool) {
	out := s.says(t, script)
	for _, m := range found.FindAllStringSubmatch(out, -1) {
		words = append(words, m[1])
	}
	return words, strings.Contains(out, "Unmatched `")
}

func ourWords(script string) ([]string, error) {
	words, err := directiveWords("f", script)
	var texts []string
	for _, w := range words {
		texts = append(texts, w.text)
	}
	return texts, err
}

func TestDirectivesAreReadAsSbatchReadsThem(t *testing.T) {
	real := newSbatch(t)
	files, err := filepath.Glob("testdata/*.sbatch")
	if err != nil || len(files) < 3 {
		t.Fatalf("got %v, %v, want recorded scripts", files, err)
	}
	var scripts []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, string(text))
	}
	scripts = append(scripts,
		"#!/bin/sh\n# x\n\n  \n\t# y\n#SBATCH -N2\necho\n#SBATCH -n3\n",
		"#!/bin/sh\n##SBATCH -N1\n# SBATCH -N2\n #SBATCH -N3\n#SBATCH-N4\n#SBATCHx\n#SBATCH\t-N5\n#sbatch -N6\n",
		"#!/bin/sh\n#SBATCH --comment=\"a # b\" -J 'x y'z # rest\n#SBATCH -N 2#3\n",
		"#!/bin/sh\n#SBATCH --comment=a\\ b -J \"a\\\"b\" -p 'a\\'b' -q \\#x\n",
		"#!/bin/sh\n#SBATCH \"\" -N2\n#SBATCH -n3\n",
		"#!/bin/sh\n#SBATCH -J\n#SBATCH name\n:\n",
		"#!/bin/sh\n#SBATCH -N2",
		"#!/bin/sh\nset -e\n#SBATCH -N2\n",
		"#!/bin/sh\n#SBATCH -J x\\\n",
	)
	for _, script := range scripts {
		want, unmatched := real.words(t, script)
		got, err := ourWords(script)
		if (err != nil) != unmatched {
			t.Errorf("%q: got %v, want an error: %t", script, err, unmatched)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -sbatch +here:\n%s", script, diff)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.StringMatching(`[ab=\\"'# \t-]{0,14}`)
		script := "#!/bin/sh\n#SBATCH" + line.Draw(t, "one") + "\n#SBATCH " + line.Draw(t, "two") + "\n"
		want, unmatched := real.words(t, script)
		got, err := ourWords(script)
		if unmatched != (err != nil) {
			t.Fatalf("%q: got %v, want an error: %t", script, err, unmatched)
		}
		if diff := cmp.Diff(want, got); err == nil && diff != "" {
			t.Fatalf("%q: -sbatch +here:\n%s", script, diff)
		}
	})
}

func TestEveryOptionTakesAValueAsInSbatch(t *testing.T) {
	real := newSbatch(t)
	for _, o := range sbatchOptions {
		bare := real.says(t, "#!/bin/sh\n#SBATCH --"+o.name+"\n")
		valued := real.says(t, "#!/bin/sh\n#SBATCH --"+o.name+"=1\n")
		want := optional
		switch {
		case strings.Contains(bare, "unrecognized option"):
			t.Errorf("--%s: sbatch does not know it", o.name)
			continue
		case strings.Contains(bare, "requires an argument"):
			want = required
		case strings.Contains(valued, "doesn't allow an argument"):
			want = nothing
		}
		if o.takes != want {
			t.Errorf("--%s: got %d, want %d", o.name, o.takes, want)
		}
		if o.letter == 0 {
			continue
		}
		short := real.says(t, "#!/bin/sh\n#SBATCH -"+string(o.letter)+"\n")
		if strings.Contains(short, "invalid option") || strings.Contains(short, "requires an argument") != (want == required) {
			t.Errorf("-%c: sbatch says %s", o.letter, short)
		}
	}
}

func TestTimesMeanWhatTheyMeanToSlurm(t *testing.T) {
	real := newSbatch(t)
	shown := regexp.MustCompile(`(?m)^sbatch: time +: (?:(\d+)-)?(\d+):(\d+):(\d+)$`)
	for _, form := range []string{"1", "60", "90:30", "00:30", "1:2:3", "60:00:00", "0:00:01", "2-0", "1-", "1-25", "2-3:4", "1-2:3:4", "0-06:00:00", "5:90"} {
		m := shown.FindStringSubmatch(real.says(t, "#!/bin/sh\n#SBATCH --time="+form+"\n"))
		if m == nil {
			t.Errorf("%s: sbatch shows no time", form)
			continue
		}
		var parts [4]int // days, hours, minutes, seconds
		for i := range parts {
			parts[i], _ = strconv.Atoi("0" + m[i+1])
		}
		want := time.Duration(((parts[0]*24+parts[1])*60+parts[2])*60+parts[3]) * time.Second
		c := &conversion{lines: map[string]int{}}
		if err := c.time(directive{value: form}); err != nil {
			t.Errorf("%s: got %v, want %v", form, err, want)
			continue
		}
		// Slurm counts whole minutes; here seconds stay until the driver hands them on.
		got := time.Duration(c.spec.Attributes.Duration)
		if rounded := (got + time.Minute - 1).Truncate(time.Minute); rounded != want {
			t.Errorf("%s: got %v (%v), want %v", form, got, rounded, want)
		}
	}
}

func TestAmountsOfMemoryMeanWhatTheyMeanToSlurm(t *testing.T) {
	real := newSbatch(t)
	for form, want := range map[string]int64{
		"1": 1, "2000": 2000, "1K": 1, "1025k": 2, "1M": 1, "3mb": 3, "1G": 1024, "2GB": 2048, "1t": 1 << 20, "0": -1, "1.5G": -1, "1GiB": -1, "x": -1, "-1": -1, "1P": -1,
	} {
		refused := strings.Contains(real.says(t, "#!/bin/sh\n#SBATCH --mem="+form+"\n"), "Invalid --mem")
		got, err := megabytes(form)
		if want < 0 {
			if err == nil || !refused && form != "0" { // 0 is Slurm's "all", which cannot be mapped
				t.Errorf("%s: got %d, %v, refused by sbatch: %t", form, got, err, refused)
			}
			continue
		}
		if err != nil || got != want || refused {
			t.Errorf("%s: got %d, %v, want %d; refused by sbatch: %t", form, got, err, want, refused)
		}
	}
}
