package lsf

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// maxPath is how long LSF's paths may be.
const maxPath = 4094

var (
	// program is a path that a shell takes as one word whatever the site's
	// shell is: bsub joins its arguments to a command line for a shell.
	program = regexp.MustCompile(`^/[A-Za-z0-9_./+:=@,-]*$`)
	// folder is a path without LSF's own patterns (%J and the like), which
	// cannot be escaped, and without what would break lines.
	folder = regexp.MustCompile(`^/[^%\x00-\x1f\x7f]*$`)
)

// Submit builds the call of bsub. Every option is an argument of its own, and
// so is its value, which never begins with a dash. The command is the wrapper's
// path alone.
//
// The job gets the environment of the command, which is the Scheduler's short
// allow-list and what the site's LSF adds. LSF runs the wrapper as a child of a
// shell, so a signal that ends it is told as exit status.
//
// Since Fix Pack 14 a site may let bsub read #BSUB lines at the head of a
// script that is the command (LSB_BSUB_PARSE_SCRIPT), so the wrapper must hold
// no text of a user there.
func (Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	argv, err := options(s)
	if err != nil {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: err.Error()}}
	}
	parse := func(out scheduler.Output) ([]scheduler.Ref, error) {
		id, err := parseSubmit(out)
		if err != nil {
			return nil, err
		}
		if s.Size <= 1 {
			return []scheduler.Ref{{ID: id}}, nil
		}
		refs := make([]scheduler.Ref, s.Size)
		for i := range refs {
			refs[i].ID = fmt.Sprintf("%s[%d]", id, i+1)
		}
		return refs, nil
	}
	return scheduler.Call[[]scheduler.Ref]{Argv: append(append([]string{"bsub"}, argv...), s.Script), Env: []string{once}, Parse: parse}
}

func options(s scheduler.Submission) ([]string, error) {
	switch {
	case !hpcsera.ValidID("s", s.Tag):
		return nil, fmt.Errorf("%q is no name for a job", s.Tag)
	case !program.MatchString(s.Script) || len(s.Script) > maxPath:
		return nil, fmt.Errorf("LSF hands the path of the agent's script to a shell; the agent must keep its files in a folder whose path has only letters, digits and _ . / + : = @ , -: %q", s.Script)
	case !folder.MatchString(s.Directory) || !folder.MatchString(s.Output) || max(len(s.Directory), len(s.Output)) > maxPath:
		return nil, fmt.Errorf("LSF reads a percent sign in a path as a pattern of its own; the agent must keep its files elsewhere than in %q and %q", s.Directory, s.Output)
	}
	name := s.Tag
	if s.Size > 1 {
		name = fmt.Sprintf("%s[1-%d]", s.Tag, s.Size)
	}
	argv := []string{"-J", name, "-cwd", s.Directory, "-o", s.Output}
	if comment := strings.TrimLeft(scheduler.Printable(s.Comment, ""), " -"); comment != "" {
		argv = append(argv, "-Jd", comment)
	}
	if s.Requeue {
		argv = append(argv, "-r")
	} else {
		argv = append(argv, "-rn") // the site's default may be to run it again
	}
	if s.Held {
		argv = append(argv, "-H")
	}
	more, err := resources(s.Resources)
	if err != nil {
		return nil, err
	}
	argv = append(argv, more...)
	if more, err = attributes(s.Attributes); err != nil {
		return nil, err
	}
	argv = append(argv, more...)
	if more, err = customOptions(s.Custom); err != nil {
		return nil, err
	}
	return append(argv, more...), nil
}

var submitted = regexp.MustCompile(`(?m)^Job <([1-9]\d{0,17})> is submitted(?: to (?:default )?queue <[^<>\n]*>)?\.?\r?$`)

// parseSubmit reads the sentence with the id, which stands on a line of its
// own; the site's esub may print others. Nothing but one clear id is a
// success, and nothing is a refusal once there is an id.
func parseSubmit(out scheduler.Output) (string, error) {
	ids := submitted.FindAllSubmatch(out.Stdout, -1)
	switch {
	case len(ids) == 0 && out.Exit != 0 && !bytes.Contains(out.Stdout, []byte("is submitted")):
		return "", refusal(out)
	case out.Exit != 0:
		return "", product.Failed(out)
	case len(ids) != 1:
		return "", product.Garbled(fmt.Sprintf("with %d job ids", len(ids)), out.Stdout)
	}
	return string(ids[0][1]), nil
}

var (
	// not is how bsub ends each message of a submission that it gave up.
	not = regexp.MustCompile(`(?m)Job not submitted\.?\s*$`)
	// unsure are the ones of which nobody knows whether the controller had the
	// job already: sent, but no answer understood.
	unsure = regexp.MustCompile(`(?i)communication time ?out|time ?out.*(receiv|reply)|processing your request|cannot connect to LSF|` +
		`(send|receiv)ing|protocol error|XDR|internal error|system call failed|library call|cannot fork|allocate memory|` +
		`child process died|did not handle|unknown batch system error|operation is in progress`)
	// unreached are the ones of a controller that bsub did not get through to.
	unreached = regexp.MustCompile(`(?i)connection refused by server|timeout on connect call|batch service not registered|server is not connected|fail to bind`)
	// early is how bsub tells that it did not get as far as asking.
	early = regexp.MustCompile(`(?m)^lsb_init: `)
	// later are the refusals that can be another answer tomorrow.
	later = regexp.MustCompile(`(?i)pending job (slots )?threshold|no job id can be used now|reached its job limit|queue has been closed|` +
		`does not have enough (per-\w+ )?job slots|not enough host\(s\) currently eligible|(exceed|reach)\w* .*(submission|pending) .*(rate|limit|threshold)|try (again )?later`)
)

// refusal sorts a failed bsub. The words are the C locale's, which the
// Scheduler sets.
func refusal(out scheduler.Output) error {
	text := string(out.Stderr) + "\n" + string(out.Stdout)
	switch {
	case !not.MatchString(text):
		return product.Failed(out)
	case early.MatchString(text):
		return refused(text, true)
	case unsure.MatchString(text):
		return product.Failed(out)
	}
	return refused(text, unreached.MatchString(text))
}

// refused tells LSF's own sentences.
func refused(text string, unreached bool) *scheduler.Refused {
	message := scheduler.Sentences([]byte(text), func(line string) string { return not.ReplaceAllString(line, "") })
	if message == "" {
		message = "Job not submitted."
	}
	return &scheduler.Refused{Message: message, Throttled: unreached || later.MatchString(text), Unreached: unreached}
}
