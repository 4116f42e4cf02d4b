package wrapper

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// write makes a file of the site's.
func (s *site) write(name, text string, mode os.FileMode) string {
	s.t.Helper()
	path := s.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	syscall.ForkLock.RLock() // a script that is open for writing cannot be run
	err := os.WriteFile(path, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

// modules is Debian's own module system with modules of this site.
func (s *site) modules(names ...string) *spool.Setup {
	s.t.Helper()
	s.write("modulefiles/solver/1.2", "#%Module1.0\nprepend-path PATH "+s.path("solver/bin")+"\nsetenv SOLVER_HOME "+s.path("solver")+"\nsetenv greeting module\n", 0o644)
	s.write("modulefiles/hangs", "#%Module1.0\nexec touch "+s.path("loading")+"\nafter 600000\n", 0o644)
	s.write("modulefiles/leaves", "#%Module1.0\nputs stdout {exit 0;}\n", 0o644)
	s.write("solver/bin/solve", "#!/bin/sh\necho \"$SOLVER_HOME $1\"\n", 0o755)
	init := s.write("modules.sh", ". /etc/profile\nmodule use "+s.path("modulefiles")+"\n", 0o644)
	return &spool.Setup{Field: "modules", Command: "module", Init: init, Names: names}
}

// output is what the first start printed.
func (s *site) output(stream string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.OutputPath(s.job, 0, 1, stream))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func TestModulesAreLoadedBeforeTheProgram(t *testing.T) {
	s := newSite(t)
	s.task("", func(task *spool.Task) {
		task.Setup = s.modules("null", "solver/1.2")
		task.Argv = []string{"solve", "a b"} // found where the module says
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 {
		t.Fatalf("got status %d, want 0: %+v", got, s.end())
	}
	if got, want := s.output("stdout"), s.path("solver")+" a b\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAScriptCanAskForFurtherModules(t *testing.T) {
	s := newSite(t)
	s.task("", func(task *spool.Task) {
		task.Setup = s.modules("null")
		task.Argv = []string{"/bin/bash", "-c", "module load solver && solve x && module list -t 2>&1"}
	})
	_, script := s.submission(1)
	s.run(script, "4711")
	if got := s.output("stdout"); !strings.Contains(got, s.path("solver")+" x\n") || !strings.Contains(got, "null\nsolver/1.2") {
		t.Errorf("got %q, want both modules", got)
	}
}

func TestModulesStandAboveWhatWasSignedAndBelowValues(t *testing.T) {
	s := newSite(t)
	s.task("", func(task *spool.Task) {
		task.Setup = s.modules("solver")
		task.Argv = []string{"/usr/bin/env", "-0"}
		task.Environment = map[string]string{"PATH": "/signed/bin", "SOLVER_HOME": "/signed", "OTHER": "$(touch evil) `touch evil`\n\"'"}
		task.Values = map[string]string{"greeting": "value", "init": "; touch evil"}
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711", hostile(s)...); got != 0 {
		t.Fatalf("got status %d, want 0: %+v", got, s.end())
	}
	got := variables(t, s)
	for name, want := range map[string]string{
		"PATH": s.path("solver/bin") + ":/signed/bin", "SOLVER_HOME": s.path("solver"), "greeting": "value", "init": "; touch evil",
		"OTHER": "$(touch evil) `touch evil`\n\"'", "LD_LIBRARY_PATH": "", "PYTHONPATH": "", "HPCSERA_TOKEN": "", "SSH_AUTH_SOCK": "",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if s.exists("evil") {
		t.Error("a shell obeyed data")
	}
	if entries, _ := filepath.Glob(filepath.Join(s.Dir(), s.job, "0", "1", "environment")); len(entries) > 0 {
		t.Errorf("%s was left behind", entries)
	}
}

// TestWhatCannotBeLoadedEndsTheJob: the user's program never runs without its
// software, and the end has the module system's own words.
func TestWhatCannotBeLoadedEndsTheJob(t *testing.T) {
	evil := []string{"; touch evil", "$(touch evil)", "`touch evil`", "[exec touch evil]", "x\ntouch evil", "--help", "", "*", "~", "a'b", `a"b`, "{", "$HOME"}
	for name, c := range map[string]struct {
		change func(*site, *spool.Setup)
		want   string
	}{
		"an unknown module":   {func(_ *site, p *spool.Setup) { p.Names = []string{"null", "gcc/14"} }, "Unable to locate a modulefile for 'gcc/14'"},
		"no such file":        {func(s *site, p *spool.Setup) { p.Init = s.path("nowhere") }, "nowhere cannot be read"},
		"no module command":   {func(s *site, p *spool.Setup) { p.Init = s.write("empty.sh", "", 0o644) }, "does not define the command module"},
		"a file that exits":   {func(s *site, p *spool.Setup) { p.Init = s.write("exits.sh", "exit 0\n", 0o644) }, "ended the shell"},
		"a module that exits": {func(_ *site, p *spool.Setup) { p.Names = []string{"leaves"} }, "ended the shell"},
		"no Spack":            {func(_ *site, p *spool.Setup) { p.Command, p.Field = "spack", "spack_environment" }, "does not define the command spack"},
	} {
		t.Run(name, func(t *testing.T) { couldNotLoad(t, c.change, c.want) })
	}
	for _, name := range evil {
		t.Run(name, func(t *testing.T) {
			couldNotLoad(t, func(_ *site, p *spool.Setup) { p.Names = []string{name} }, "modules: ")
		})
	}
}

func couldNotLoad(t *testing.T, change func(*site, *spool.Setup), want string) {
	s := newSite(t)
	s.task(count, func(task *spool.Task) {
		task.Setup = s.modules("solver")
		change(s, task.Setup)
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 126 {
		t.Errorf("got status %d, want 126", got)
	}
	if end := s.end(); !strings.Contains(end.Failure, want) || !strings.HasPrefix(end.Failure, "modules: ") && !strings.HasPrefix(end.Failure, "spack_environment: ") {
		t.Errorf("got %q, want the field and %q", end.Failure, want)
	}
	if s.marks() != 0 || s.exists("evil") {
		t.Error("something ran")
	}
}

func TestAJobThatIsToldToEndWhileItLoadsRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count, func(task *spool.Task) { task.Setup = s.modules("hangs") })
	_, script := s.submission(1)
	p := s.start(script, "4711")
	s.await("the module", func() bool { return s.exists("loading") })
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := p.status(); got != 128+15 {
		t.Errorf("got status %d, want 143", got)
	}
	if end := s.end(); !end.Told || end.Failure != "" || end.Exit.Signal != 15 || s.marks() != 0 {
		t.Errorf("got %+v after %d runs, want it told, and the batch system's word awaited", end, s.marks())
	}
}

// TestSpackIsActivatedByItsOwnCommand has no Spack to ask: the file defines a
// function that takes what Spack's own takes and does what that does.
func TestSpackIsActivatedByItsOwnCommand(t *testing.T) {
	s := newSite(t)
	init := s.write("share/spack/setup-env.sh", `spack() {
	[ "$SPACK_COLOR" = never ] && [ "$1 $2" = "env activate" ] && [ $# = 3 ] && [ "$3" = cfd ] || { echo "==> Error: no such environment '$3'" >&2; return 1; }
	export SPACK_ENV=/spack/cfd PATH=/spack/cfd/bin:$PATH
}
`, 0o644)
	s.task("echo $SPACK_ENV $PATH", func(task *spool.Task) {
		task.Setup = &spool.Setup{Field: "spack_environment", Command: "spack", Init: init, Names: []string{"cfd"}}
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 0 || s.output("stdout") != "/spack/cfd /spack/cfd/bin:"+defaultPath+"\n" {
		t.Errorf("got status %d and %q", got, s.output("stdout"))
	}
	other := newSite(t)
	other.task(count, func(task *spool.Task) {
		task.Setup = &spool.Setup{Field: "spack_environment", Command: "spack", Init: init, Names: []string{"gone"}}
	})
	_, script = other.submission(1)
	other.run(script, "4711")
	if end := other.end(); !strings.Contains(end.Failure, "no such environment 'gone'") || other.marks() != 0 {
		t.Errorf("got %+v, want Spack's own words and no run", end)
	}
}

func TestHooksStandAroundTheProgram(t *testing.T) {
	s := newSite(t)
	s.task("echo program >> order; exit 3", func(task *spool.Task) {
		task.Environment = map[string]string{"HPCSERA_JOB_ID": s.job, "SIGNED": "x", "PATH": s.path("evil")}
		task.Values = map[string]string{"value": "x"}
		task.Hooks = spool.Hooks{
			Before:  s.write("before", "#!/bin/sh\necho before $HPCSERA_JOB_ID $SLURM_JOB_ID$SIGNED$value $HPCSERA_EXIT_CODE >> order\n", 0o755),
			After:   s.write("after", "#!/bin/sh\necho after $HPCSERA_EXIT_CODE $HPCSERA_EXIT_SIGNAL >> order\nexit 9\n", 0o755),
			Timeout: hpcsera.Duration(time.Minute),
		}
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 3 {
		t.Errorf("got status %d, want the program's 3", got)
	}
	b, err := os.ReadFile(s.path("order"))
	if want := "before " + s.job + " 4711\nprogram\nafter 3 0\n"; err != nil || string(b) != want {
		t.Errorf("got %q (%v), want %q", b, err, want)
	}
	if end := s.end(); end.Exit.Code != 3 || end.Failure != "" || !strings.Contains(s.output("stderr"), "hooks.after of this site ended with") {
		t.Errorf("got %+v and %q, want the program's own end, and the hook's in the log", end, s.output("stderr"))
	}
}

func TestAHookThatFailsKeepsTheProgramFromRunning(t *testing.T) {
	for name, c := range map[string]struct{ script, want string }{
		// Only what hangs has a short time: the others may run on a slow machine.
		"it fails":      {"#!/bin/sh\necho 'scratch is full on node7' >&2\nexit 4\n", "hooks.before of this site ended with 4. scratch is full on node7"},
		"it hangs":      {"#!/bin/sh\nexec sleep 600\n", "did not end within 1s"},
		"it is killed":  {"#!/bin/sh\nkill -9 $$\n", "killed"},
		"no program":    {"#!/nowhere\n", "no such file"},
		"not to be run": {"", "exec format error"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			timeout := time.Minute
			if name == "it hangs" {
				timeout = time.Second
			}
			s.task(count, func(task *spool.Task) {
				task.Hooks = spool.Hooks{Before: s.write("before", c.script, 0o755), Timeout: hpcsera.Duration(timeout)}
			})
			_, script := s.submission(1)
			if got := s.run(script, "4711"); got != 126 {
				t.Errorf("got status %d, want 126", got)
			}
			if end := s.end(); !strings.Contains(end.Failure, c.want) || s.marks() != 0 {
				t.Errorf("got %q after %d runs, want %q and none", end.Failure, s.marks(), c.want)
			}
		})
	}
}

// TestTheSiteCleansUpAfterWhatItRefused: what hooks.before has made may need it.
func TestTheSiteCleansUpAfterWhatItRefused(t *testing.T) {
	s := newSite(t)
	s.task(count, func(task *spool.Task) {
		task.Hooks = spool.Hooks{Before: "/bin/false", After: s.write("after", "#!/bin/sh\necho $HPCSERA_EXIT_CODE > cleaned\n", 0o755), Timeout: hpcsera.Duration(time.Minute)}
	})
	_, script := s.submission(1)
	s.run(script, "4711")
	if b, err := os.ReadFile(s.path("cleaned")); err != nil || string(b) != "126\n" || s.marks() != 0 {
		t.Errorf("got %q, %v after %d runs, want hooks.after told of 126", b, err, s.marks())
	}
}

// TestAStepThatPrintsWithoutEndIsEnded: neither stream may fill the disk, and
// what was printed until then is kept.
func TestAStepThatPrintsWithoutEndIsEnded(t *testing.T) {
	for name, line := range map[string]string{
		"stdout":          "exec yes",
		"stderr":          "exec yes >&2",
		"both":            "yes & exec yes >&2",
		"deaf to signals": "trap '' TERM; while :; do echo y; done",
		"once too much":   "head -c 200000 /dev/zero",
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.task(line, func(task *spool.Task) { task.Output = 100 << 10 })
			_, script := s.submission(1)
			s.run(script, "4711")
			if end := s.end(); !end.Output || end.Success() {
				t.Errorf("got %+v, want it ended for its output", end)
			}
			if got := len(s.output("stdout")) + len(s.output("stderr")); got != 100<<10 {
				t.Errorf("got %d bytes, want the %d allowed", got, 100<<10)
			}
		})
	}
	s := newSite(t)
	s.task("head -c 512 /dev/zero; head -c 512 /dev/zero >&2; exit 4", func(task *spool.Task) { task.Output = 1 << 10 })
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 4 || s.end().Output {
		t.Errorf("got status %d and %+v, want 4: it printed what it may", got, s.end())
	}
}

// TestANodeThatLacksSomethingRunsNothing: an image or a mount that the login node
// has may be missing here.
func TestANodeThatLacksSomethingRunsNothing(t *testing.T) {
	s := newSite(t)
	s.task(count, func(task *spool.Task) {
		task.Present = []spool.Present{{Field: "container.image", Path: s.root}, {Field: "container.mounts[0]", Path: s.path("scratch")}}
	})
	_, script := s.submission(1)
	if got := s.run(script, "4711"); got != 126 {
		t.Errorf("got status %d, want 126", got)
	}
	if end := s.end(); !strings.HasPrefix(end.Failure, "container.mounts[0]: this is not on ") || s.marks() != 0 {
		t.Errorf("got %+v after %d runs, want the field and none", end, s.marks())
	}
}
