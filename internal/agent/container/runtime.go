package container

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Where a program finds the job's directory, and the step's script and values,
// inside a container: the image need not have room for a path of the site's.
const (
	JobDir  = "/hpcsera/job"
	StepDir = "/hpcsera/step"
)

// Runtime is how a site runs containers: command templates, each a list of
// words that no shell sees. The zero value says that it runs none. Words may
// hold
//
//	{archive}  the image as docker-archive, for Prepare
//	{rootfs}   the image's file system as one tar file, for Prepare
//	{image}    what Prepare makes, and Run uses
//	{name}     a name of the image in a store that the tool keeps itself
//	{directory}  where the program is to start, for Run
//	{source} {target}  of one mount, for Mount and ReadOnly
//
// and the word {mounts} of Run stands for the words of all mounts. Run comes
// before the program, behind the launch line.
type Runtime struct {
	Runtime  string     `json:"runtime"`   // a preset, or own
	Prepare  [][]string `json:"prepare"`   // commands of the login node, one after another
	Run      []string   `json:"run"`       // on the compute node
	Mount    []string   `json:"mount"`     // for each mount
	ReadOnly []string   `json:"read_only"` // for each read-only one; none where the tool has none
}

// placeholders are what the words of each setting may hold: one that is misspelt
// would reach the tool as it stands.
var (
	placeholder  = regexp.MustCompile(`\{[a-z_]*\}`)
	placeholders = map[string][]string{
		"prepare": {"{archive}", "{rootfs}", "{image}", "{name}"}, "run": {"{image}", "{name}", "{directory}", "{mounts}"},
		"mount": {"{source}", "{target}"}, "read_only": {"{source}", "{target}"},
	}
)

// own is the runtime whose commands all stand in the settings.
const own = "own"

// presets are the runtimes whose commands are known.
var presets = map[string]Runtime{
	"apptainer":   sif("apptainer"),
	"singularity": sif("singularity"),
	// ch-run(1): the image is a folder and read-only; mounts are not.
	"charliecloud": {
		Prepare: [][]string{{"ch-convert", "-i", "tar", "-o", "dir", "{rootfs}", "{image}"}},
		Run:     []string{"ch-run", "--cd", "{directory}", "{mounts}", "{image}", "--"},
		Mount:   []string{"--bind", "{source}:{target}"},
	},
	// podman-hpc keeps images itself; migrate makes the squashed copy that the
	// nodes use.
	"podman-hpc": {
		Prepare:  [][]string{{"podman-hpc", "load", "-i", "{archive}"}, {"podman-hpc", "migrate", "localhost/{name}:latest"}},
		Run:      []string{"podman-hpc", "run", "--rm", "--env-host", "--workdir", "{directory}", "{mounts}", "localhost/{name}:latest"},
		Mount:    []string{"--volume", "{source}:{target}"},
		ReadOnly: []string{"--volume", "{source}:{target}:ro"},
	},
	// Sarus keeps images itself, below load/library.
	"sarus": {
		Prepare:  [][]string{{"sarus", "load", "{archive}", "{name}"}},
		Run:      []string{"sarus", "run", "--workdir={directory}", "{mounts}", "load/library/{name}"},
		Mount:    []string{"--mount=type=bind,source={source},destination={target}"},
		ReadOnly: []string{"--mount=type=bind,source={source},destination={target},readonly"},
	},
}

// sif is Apptainer under one of its names: the image is a file.
func sif(program string) Runtime {
	return Runtime{
		Prepare:  [][]string{{program, "build", "{image}", "docker-archive:{archive}"}},
		Run:      []string{program, "exec", "--no-home", "--pwd", "{directory}", "{mounts}", "{image}"},
		Mount:    []string{"--bind", "{source}:{target}"},
		ReadOnly: []string{"--bind", "{source}:{target}:ro"},
	}
}

// Check refuses settings by which no container could run.
func (r Runtime) Check() error {
	if r.Runtime == "" {
		if len(r.Prepare)+len(r.Run)+len(r.Mount)+len(r.ReadOnly) > 0 {
			return hpcsera.Errorf(hpcsera.InvalidField, "the commands are of no runtime.").At("container.runtime").
				Hint("Write the one that they change, or runtime: %s.", own)
		}
		return nil
	}
	if _, known := presets[r.Runtime]; !known && r.Runtime != own {
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not a runtime this agent knows.", r.Runtime).At("container.runtime").
			Hint("Use one of %s, or %s with the commands prepare, run and mount.", strings.Join(slices.Sorted(maps.Keys(presets)), ", "), own)
	}
	full := r.complete()
	for _, command := range full.Prepare {
		if len(command) == 0 {
			return hpcsera.Errorf(hpcsera.InvalidField, "a command has at least one word.").At("container.prepare")
		}
	}
	for field, words := range map[string][]string{"prepare": slices.Concat(full.Prepare...), "run": full.Run, "mount": full.Mount, "read_only": full.ReadOnly} {
		for _, found := range placeholder.FindAllString(strings.Join(words, " "), -1) {
			if !slices.Contains(placeholders[field], found) {
				return hpcsera.Errorf(hpcsera.InvalidField, "nothing stands for %s.", found).At("container."+field).
					Hint("Use %s.", strings.Join(placeholders[field], ", "))
			}
		}
	}
	if !slices.Contains(full.Run, "{mounts}") {
		return hpcsera.Errorf(hpcsera.InvalidField, "without the job's directory no program would find anything.").At("container.run").
			Hint("Write {mounts} as a word of its own where the options stand.")
	}
	for field, words := range map[string][]string{"mount": full.Mount, "read_only": full.ReadOnly} {
		text := strings.Join(words, " ")
		if field == "read_only" && text == "" {
			continue
		}
		if !strings.Contains(text, "{source}") || !strings.Contains(text, "{target}") {
			return hpcsera.Errorf(hpcsera.InvalidField, "it names no {source} and {target}.").At("container." + field)
		}
	}
	return nil
}

// complete lays the settings over those of the preset.
func (r Runtime) complete() Runtime {
	p := presets[r.Runtime]
	if len(r.Prepare) > 0 {
		p.Prepare = r.Prepare
	}
	for _, c := range []struct{ to, from *[]string }{{&p.Run, &r.Run}, {&p.Mount, &r.Mount}, {&p.ReadOnly, &r.ReadOnly}} {
		if len(*c.from) > 0 {
			*c.to = *c.from
		}
	}
	p.Runtime = r.Runtime
	return p
}

// Accepts refuses a container that this site cannot run as it was signed.
func (r Runtime) Accepts(c hpcsera.Container) error {
	if r.Runtime == "" {
		return hpcsera.Errorf(hpcsera.NotSupportedBySite, "this agent runs no containers.").At("container").
			Hint("Write the site's runtime into agent.yaml, such as container: {runtime: apptainer}, and start the agent again.")
	}
	full := r.complete()
	for i, m := range c.Binds() {
		if m.ReadOnly && len(full.ReadOnly) == 0 {
			return hpcsera.Errorf(hpcsera.NotSupportedBySite, "%s cannot mount anything read-only.", r.Runtime).At(hpcsera.MountField(i)).
				Hint("Leave :ro out, where the program may write to %s.", m.Source)
		}
	}
	return nil
}

// Command returns the words that run a program in an image. job and step are
// the folders that every container gets.
func (r Runtime) Command(image Image, c hpcsera.Container, job, step string) []string {
	full := r.complete()
	binds := []hpcsera.Bind{{Source: job, Target: JobDir}, {Source: step, Target: StepDir, ReadOnly: len(full.ReadOnly) > 0}}
	var argv []string
	for _, word := range full.Run {
		if word != "{mounts}" {
			argv = append(argv, strings.NewReplacer("{image}", image.Path, "{name}", image.Name, "{directory}", JobDir).Replace(word))
			continue
		}
		for _, b := range append(binds, c.Binds()...) {
			template := full.Mount
			if b.ReadOnly {
				template = full.ReadOnly
			}
			for _, word := range template {
				argv = append(argv, strings.NewReplacer("{source}", b.Source, "{target}", b.Target).Replace(word))
			}
		}
	}
	return argv
}

// uses reports whether a command that prepares images asks for something.
func (r Runtime) uses(placeholder string) bool {
	return slices.ContainsFunc(r.Prepare, func(command []string) bool {
		return strings.Contains(strings.Join(command, " "), placeholder)
	})
}

// named is the image's own name for tools that keep images themselves.
func named(digest string) string {
	return "hpcsera-" + cmp.Or(strings.TrimPrefix(digest, "sha256:"), digest)[:32]
}
