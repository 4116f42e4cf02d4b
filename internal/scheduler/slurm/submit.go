package slurm

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Submit builds the call of sbatch. Every option is one argument of the form
// --option=value, so that no value can become an option.
//
// The job gets the environment of the command (--export=ALL), which is the
// Scheduler's short allow-list: PATH, HOME, USER, LOGNAME, LANG, LC_ALL, TZ,
// SLURM_CONF, and what Slurm adds. Neither NONE nor, in 22.05, NIL would give
// less: both run the user's login scripts on the node and set SLURM_EXPORT_ENV,
// after which srun inside the job passes nothing on. The rest of the job's
// environment is the wrapper's work.
//
// Slurm obeys #SBATCH lines before the first command of a script, so the
// wrapper must hold no text of a user there.
func (d Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	refuse := func(format string, args ...any) scheduler.Call[[]scheduler.Ref] {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: fmt.Sprintf(format, args...)}}
	}
	// A backslash turns the other patterns of this option off, and goes missing itself.
	if strings.ContainsRune(s.Output, '\\') {
		return refuse("Slurm cannot write to a file with a backslash in its name: %s", s.Output)
	}
	output := strings.ReplaceAll(s.Output, "%", "%%")
	argv := d.command("sbatch", "--parsable", "--export=ALL", "--job-name="+s.Tag, "--chdir="+s.Directory,
		"--output="+output, "--error="+output, "--open-mode=append")
	if comment := scheduler.Printable(s.Comment, ""); comment != "" {
		argv = append(argv, "--comment="+comment)
	}
	if s.Requeue {
		argv = append(argv, "--requeue")
	} else {
		argv = append(argv, "--no-requeue") // the site's default may be to requeue
	}
	if s.Held {
		argv = append(argv, "--hold")
	}
	argv = append(argv, resources(s.Resources)...)
	argv = append(argv, attributes(s.Attributes)...)
	custom, err := customOptions(s.Custom)
	if err != nil {
		return refuse("%v", err)
	}
	argv = append(argv, custom...)
	if s.Size > 1 {
		argv = append(argv, fmt.Sprintf("--array=0-%d", s.Size-1))
	}
	return scheduler.Call[[]scheduler.Ref]{Argv: append(argv, s.Script), Parse: func(out scheduler.Output) ([]scheduler.Ref, error) {
		ref, err := parseSubmit(out)
		if err != nil || s.Size <= 1 {
			return []scheduler.Ref{ref}, err
		}
		refs := make([]scheduler.Ref, s.Size)
		for i := range refs {
			refs[i] = scheduler.Ref{Cluster: ref.Cluster, ID: fmt.Sprintf("%s_%d", ref.ID, i)}
		}
		return refs, nil
	}}
}

func resources(r hpcsera.Resources) []string {
	var argv []string
	number := func(option string, n int) {
		if n > 0 {
			argv = append(argv, "--"+option+"="+strconv.Itoa(n))
		}
	}
	number("nodes", r.NodeCount)
	if r.GPUCoresPerProcess > 0 {
		number("ntasks", r.Processes()) // GPUs per task need the number of tasks
	} else {
		number("ntasks", r.ProcessCount)
	}
	number("ntasks-per-node", r.ProcessesPerNode)
	number("cpus-per-task", r.CPUCoresPerProcess)
	number("gpus-per-task", r.GPUCoresPerProcess)
	if r.Memory > 0 { // Slurm's is per node, in MiB
		share := int64(r.Nodes()) << 20
		argv = append(argv, fmt.Sprintf("--mem=%dM", (int64(r.Memory)+share-1)/share))
	}
	if r.ExclusiveNodeUse {
		argv = append(argv, "--exclusive")
	}
	return argv
}

func attributes(a hpcsera.Attributes) []string {
	var argv []string
	if a.Duration > 0 { // Slurm rounds up to minutes
		d := time.Duration(a.Duration)
		argv = append(argv, fmt.Sprintf("--time=%d-%02d:%02d:%02d", int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60, int(d.Seconds())%60))
	}
	for _, o := range [][2]string{{"partition", a.QueueName}, {"account", a.Account}, {"reservation", a.ReservationID}} {
		if o[1] != "" {
			argv = append(argv, "--"+o[0]+"="+o[1])
		}
	}
	return argv
}

var submitted = regexp.MustCompile(`^(\d{1,18})(?:;([A-Za-z0-9_.-]+))?$`)

// parseSubmit reads ID or ID;CLUSTER, which stands on a line of its own; a
// site's wrapper may print others. Nothing but one clear id is a success, and
// nothing is a refusal once there is an id.
func parseSubmit(out scheduler.Output) (scheduler.Ref, error) {
	var refs []scheduler.Ref
	for line := range bytes.Lines(out.Stdout) {
		if m := submitted.FindSubmatch(bytes.TrimSpace(line)); m != nil {
			refs = append(refs, scheduler.Ref{ID: string(m[1]), Cluster: string(m[2])})
		}
	}
	switch {
	case len(refs) == 0 && out.Exit != 0:
		return scheduler.Ref{}, refusal(out)
	case out.Exit != 0:
		return scheduler.Ref{}, product.Failed(out)
	case len(refs) != 1:
		return scheduler.Ref{}, product.Garbled(fmt.Sprintf("with %d job ids", len(refs)), out.Stdout)
	}
	return refs[0], nil
}

var (
	// asked is how sbatch tells what the controller answered, or that it did not.
	asked = regexp.MustCompile(`(?m)^sbatch: error: Batch job submission failed: (.+)$`)
	// own is how sbatch tells that it does not even ask.
	own = regexp.MustCompile(`(?m)^sbatch: (?:error: |fatal: |unrecognized |invalid |option )`)
	// unsure are the answers of which nobody knows whether the controller had
	// the job already: sent, but no answer understood.
	unsure = regexp.MustCompile(`(?i)timed out|zero bytes|(send|receive|shutdown) failure|unexpected message|message (receive|send)|insane message|message length|header lengths|` +
		`connection (failure|reset|closed|aborted)|broken pipe|transport endpoint|operation now in progress|interrupted system call|` +
		`authentication|internal error|incompatible versions`)
	// unreached are the ones of a controller, or of an authentication service on this
	// host, that sbatch did not get through to, or of a cluster that it did not find.
	unreached = regexp.MustCompile(`(?i)\(connect failure\)|standby mode|could not establish a configuration source|can't find an address|munge encode failed|` +
		`can't be reached now, or it is an invalid entry for --cluster|only local cluster communication is available`)
	// later are the refusals that can be another answer tomorrow.
	later = regexp.MustCompile(`(?i)(qos|assoc)\w*submit\w*|MaxSubmit\w*|unable to create job record, try again|resource temporarily unavailable|` +
		`i/o error writing|job queue full|temporarily (unable|disabled)|system submissions disabled|try again later|partition in down state|required partition not available`)
)

// refusal sorts a failed sbatch. The words are the C locale's, which the
// Scheduler sets. A refusal is certain when the controller gave its reason, or
// when sbatch found a mistake before it asked; else the job may be queued.
func refusal(out scheduler.Output) error {
	text := out.Stderr
	if m := asked.FindSubmatch(text); m != nil {
		switch reason := m[1]; {
		case unreached.Match(text):
			return refused(text, true)
		case unsure.Match(reason):
			return product.Failed(scheduler.Output{Stderr: reason, Exit: out.Exit})
		}
		return refused(text, false)
	}
	switch {
	case unsure.Match(text) || !own.Match(text):
		return product.Failed(out)
	case unreached.Match(text):
		return refused(text, true)
	}
	return refused(text, false)
}

// refused tells Slurm's own sentences, without what precedes each line.
func refused(text []byte, unreached bool) *scheduler.Refused {
	message := scheduler.Sentences(text, func(line string) string {
		for _, prefix := range []string{"sbatch: ", "error: ", "fatal: ", "Batch job submission failed: "} {
			line = strings.TrimPrefix(line, prefix)
		}
		if strings.HasPrefix(line, `Try "sbatch --help"`) {
			return ""
		}
		return line
	})
	return &scheduler.Refused{Message: message, Throttled: unreached || later.Match(text), Unreached: unreached}
}
