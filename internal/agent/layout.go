package agent

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
)

// sights is where a program sees its job's folder and its step's, and the shell
// that runs a script without a first line of its own.
type sights struct{ job, step, shell string }

// task makes what the job's current step runs, with its script and values.
func (a *Agent) task(j *job) (spool.Task, error) {
	s, v, image, dir := j.current(), j.verdict, j.image, a.jobDir(j.id)
	folder := filepath.Dir(a.spool.FilePath(j.id, j.step, valuesFile))
	seen := sights{dir, folder, "/bin/bash"}
	if image != nil {
		seen = sights{container.JobDir, container.StepDir, "/bin/sh"} // which every image has that runs scripts at all
	}
	t := spool.Task{
		Job: j.id, Step: j.step, Directory: dir, Requeue: j.spec.Run.Requeue,
		Setup: a.setup(v.Manifest), Hooks: spool.Hooks(a.config.Hooks),
	}
	resources := j.spec.Run.Resources
	if s.Resources != nil {
		resources = *s.Resources
	}
	a.program(&t, s, v, folder, seen)
	for _, f := range v.Manifest.Files {
		if j.step == 0 || f.Path == s.ScriptFile {
			t.Check = append(t.Check, spool.Check{Path: filepath.Join(dir, f.Path), SHA256: f.SHA256})
		}
	}
	if err := putValues(&t, v.Values); err != nil {
		return spool.Task{}, err
	}
	launch := a.launchLine(s, resources)
	t.Environment = a.variables(j, s, v, seen, resources)
	var words []string // before the program
	if s.Launcher == "mpi" {
		words = strings.Fields(launch)
	}
	if image != nil {
		a.contain(&t, *image, *v.Manifest.Container, folder)
	} else {
		t.Environment["HPCSERA_LAUNCH"] = launch // it stands outside of an image
	}
	t.Argv = append(words, t.Argv...)
	if s.Type == hpcsera.LoginStep {
		t.Timeout, t.Output = cmp.Or(s.Timeout, hpcsera.Duration(time.Hour)), a.config.LoginOutput
	}
	return t, nil
}

// The names of what a task brings, in its step's folder: values as JSON, and a
// script that is not one of the code's files.
const (
	valuesFile = "values.json"
	scriptFile = "script"
)

// putValues gives a task its values as variables and as a file.
func putValues(t *spool.Task, values hpcsera.Values) error {
	text, err := json.Marshal(values)
	if err != nil {
		return err
	}
	t.Values = map[string]string{}
	for name, value := range values {
		t.Values[name] = hpcsera.EnvironmentText(value)
	}
	t.Files = append(t.Files, spool.File{Name: valuesFile, Text: string(text)})
	return nil
}

// program says what a task runs, and brings a script that is not one of the
// code's files.
func (a *Agent) program(t *spool.Task, s hpcsera.Step, v *policy.Verdict, folder string, seen sights) {
	switch {
	case s.Script != "":
		t.Files = append(t.Files, spool.File{Name: scriptFile, Text: s.Script, Program: true})
		t.Argv = []string{filepath.Join(seen.step, scriptFile)}
		if !strings.HasPrefix(s.Script, "#!") {
			t.Argv = append([]string{seen.shell}, t.Argv...)
		}
		sum := sha256.Sum256([]byte(s.Script))
		t.Check = append(t.Check, spool.Check{Path: filepath.Join(folder, scriptFile), SHA256: hex.EncodeToString(sum[:])})
	case s.ScriptFile != "":
		t.Argv = []string{filepath.Join(seen.job, s.ScriptFile)}
		if !runsItself(filepath.Join(t.Directory, s.ScriptFile), a.cached(v.Manifest, s.ScriptFile)) {
			t.Argv = append([]string{seen.shell}, t.Argv...)
		}
	default:
		t.Argv = []string{s.Executable}
	}
	for _, argument := range s.Arguments {
		t.Argv = append(t.Argv, v.Values.Expand(argument))
	}
}

// variables are those of a step: what was signed, and what the agent says.
func (a *Agent) variables(j *job, s hpcsera.Step, v *policy.Verdict, seen sights, r hpcsera.Resources) map[string]string {
	env := map[string]string{}
	maps.Copy(env, v.Manifest.Environment)
	maps.Copy(env, map[string]string{
		"HPCSERA_JOB_ID": j.id, "HPCSERA_STEP": s.Name, "HPCSERA_DIR": seen.job, "HPCSERA_VALUES": filepath.Join(seen.step, valuesFile),
		"HPCSERA_SITE": j.spec.Site, "HPCSERA_PROJECT": j.spec.Project, "HPCSERA_LAUNCH": "",
		"HPCSERA_NODE_COUNT": strconv.Itoa(r.Nodes()), "HPCSERA_PROCESS_COUNT": strconv.Itoa(r.Processes()),
	})
	return env
}

// setup is how the wrapper loads what a code part needs of the site's software.
func (a *Agent) setup(m hpcsera.Manifest) *spool.Setup {
	switch {
	case len(m.Modules) > 0:
		return &spool.Setup{Field: "modules", Command: "module", Init: a.config.ModulesInit, Names: m.Modules}
	case m.SpackEnvironment != "":
		return &spool.Setup{Field: "spack_environment", Command: "spack", Init: a.config.SpackInit, Names: []string{m.SpackEnvironment}}
	}
	return nil
}

// provided refuses what this site does not have.
func (a *Agent) provided(m hpcsera.Manifest) error {
	if m.Container != nil {
		if err := a.config.Container.Accepts(*m.Container); err != nil {
			return err
		}
	}
	if m.SpackEnvironment != "" && a.config.SpackInit == "" {
		return hpcsera.Errorf(hpcsera.NotSupportedBySite, "this agent does not know of Spack.").At("spack_environment").
			Hint("Write the site's into agent.yaml, such as spack_init: /opt/spack/share/spack/setup-env.sh, and start the agent again.")
	}
	return nil
}

// runsItself reports whether a script names who runs it and may be executed;
// source is a copy of it that is known to be right.
func runsItself(script, source string) bool {
	head := make([]byte, 2)
	f, err := os.Open(source)
	if err == nil {
		_, err = io.ReadFull(f, head)
		f.Close()
	}
	if err != nil || string(head) != "#!" {
		return false
	}
	info, err := os.Stat(script)
	return err == nil && info.Mode()&0o100 != 0
}

func (a *Agent) cached(m hpcsera.Manifest, name string) string {
	f, _ := m.File(name)
	return filepath.Join(a.config.StateDir, "blobs", f.SHA256)
}

// launchable refuses a program whose processes nobody would start: alone it
// would run once, and seem to succeed. The job's files are here already.
func (a *Agent) launchable(m hpcsera.Manifest, r hpcsera.Resources) error {
	for _, s := range m.Plan() {
		asked := r
		if s.Resources != nil {
			asked = *s.Resources
		}
		if m.Container != nil && s.Executable == "" && a.callsLauncher(m, s) {
			return hpcsera.Errorf(hpcsera.InvalidField, "the launch line of step %s starts containers, so it cannot be called inside of one.", s.Name).At("container").
				Hint("Write the program as executable, with launcher: mpi.")
		}
		many := s.Type == hpcsera.BatchStep && asked.Processes() > 1 && a.callsLauncher(m, s)
		if s.Launcher != "mpi" && !many || a.launchLine(s, asked) != "" {
			continue
		}
		if s.Type == hpcsera.LoginStep {
			return hpcsera.Errorf(hpcsera.NotSupportedBySite, "step %s runs on a login node, where there are no processes to launch.", s.Name).At("launcher").
				Hint("Make it a batch step, or leave the launcher out.")
		}
		return hpcsera.Errorf(hpcsera.NotSupportedBySite, "this agent has no launch line for MPI programs, so step %s would run one process of %d.", s.Name, asked.Processes()).At("launcher").
			Hint("Write the site's into agent.yaml, such as launcher: mpirun -n {process_count}, and start the agent again.")
	}
	return nil
}

// callsLauncher reports whether a step's script speaks of the launch line.
func (a *Agent) callsLauncher(m hpcsera.Manifest, s hpcsera.Step) bool {
	text := []byte(s.Script)
	if s.ScriptFile != "" {
		text, _ = os.ReadFile(a.cached(m, s.ScriptFile)) // it was laid out from there a moment ago
	}
	return bytes.Contains(text, []byte("HPCSERA_LAUNCH"))
}

// launchLine is the site's MPI launch line for a step, with the job's numbers
// for {process_count}, {node_count} and {cpu_cores_per_process}. A word with
// the last one is left out where the job does not say how many.
func (a *Agent) launchLine(s hpcsera.Step, r hpcsera.Resources) string {
	if s.Type == hpcsera.LoginStep {
		return ""
	}
	const cores = "{cpu_cores_per_process}"
	words := slices.DeleteFunc(strings.Fields(a.config.Launcher), func(word string) bool {
		return r.CPUCoresPerProcess == 0 && strings.Contains(word, cores)
	})
	line := strings.Join(words, " ")
	for name, n := range map[string]int{"{process_count}": r.Processes(), "{node_count}": r.Nodes(), cores: r.CPUCoresPerProcess} {
		line = strings.ReplaceAll(line, name, strconv.Itoa(n))
	}
	return line
}
