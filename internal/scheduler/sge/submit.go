package sge

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// launch runs the script, its argument, and ends with its exit status. Grid
// Engine takes 99 and 100 for orders (run it again; keep it in an error state),
// so these are told as 227 and 228. Signals go to the whole job: the ones that
// a site sends before it kills must not end this shell before the script.
const launch = `trap : USR1 USR2 XCPU TERM; "$1"; s=$?; case $s in 99|100) s=$((s+128));; esac; exit $s`

// Submit builds the call of qsub. All options take their value from the next
// argument, whatever it looks like, so no value becomes an option.
//
// The command is a program (-b y) that is run without a shell of the site's
// choice (-shell n): so nobody looks for options in the script, and no login
// script runs. A site's and a user's own default options (sge_request) hold,
// but for those given here.
func (d Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	refuse := func(err error) scheduler.Call[[]scheduler.Ref] {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: err.Error()}}
	}
	// Paths may have variables, and that of the output is a list of [HOST]:PATH;
	// there are no quotes.
	if strings.ContainsAny(s.Output, ",$") || strings.Contains(s.Directory, "$") {
		return refuse(fmt.Errorf("Grid Engine cannot use a path with a dollar, or write to one with a comma: %s, %s", s.Directory, s.Output))
	}
	argv := []string{"qsub", "-terse", "-b", "y", "-shell", "n", "-sync", "n", "-now", "n", "-N", s.Tag, "-wd", s.Directory, "-o", ":" + s.Output, "-j", "y"}
	if comment := scheduler.Printable(s.Comment, ",="); comment != "" {
		argv = append(argv, "-ac", "hpcsera="+comment)
	}
	if s.Requeue {
		argv = append(argv, "-r", "y")
	} else {
		argv = append(argv, "-r", "n") // the queue's default may be to run it again
	}
	if s.Held {
		argv = append(argv, "-h")
	}
	custom, err := customOptions(s.Custom)
	if err != nil {
		return refuse(err)
	}
	own, err := d.options(s.Resources, s.Attributes, s.Custom)
	if err != nil {
		return refuse(err)
	}
	argv = append(append(argv, custom...), own...) // of two values for one resource the last counts
	if s.Size > 1 {
		argv = append(argv, "-t", fmt.Sprintf("1-%d", s.Size))
	}
	return scheduler.Call[[]scheduler.Ref]{
		Argv:  append(argv, "/bin/sh", "-c", launch, "hpcsera", s.Script),
		Parse: func(out scheduler.Output) ([]scheduler.Ref, error) { return parseSubmit(out, s.Size) },
	}
}

var submitted = regexp.MustCompile(`^(\d{1,18})(?:\.1-(\d{1,9}):1)?$`)

// parseSubmit reads ID or ID.1-SIZE:1, which stands on a line of its own;
// warnings may precede it. Nothing but one clear id is a success, and nothing
// is a refusal once there is an id.
func parseSubmit(out scheduler.Output, size int) ([]scheduler.Ref, error) {
	var found [][][]byte
	for line := range bytes.Lines(out.Stdout) {
		if m := submitted.FindSubmatch(bytes.TrimSpace(line)); m != nil {
			found = append(found, m)
		}
	}
	switch {
	case len(found) == 0 && out.Exit != 0:
		return nil, refusal(out)
	case out.Exit != 0:
		return nil, product.Failed(out)
	case len(found) != 1:
		return nil, product.Garbled(fmt.Sprintf("with %d job ids", len(found)), out.Stdout)
	}
	id, members := string(found[0][1]), string(found[0][2])
	switch {
	case size <= 1 && members == "":
		return []scheduler.Ref{{ID: id}}, nil
	case size <= 1 || members != strconv.Itoa(size):
		return nil, product.Garbled(fmt.Sprintf("with an array that is not of %d members", size), found[0][0])
	}
	refs := make([]scheduler.Ref, size)
	for i := range refs {
		refs[i].ID = id + "." + strconv.Itoa(i+1)
	}
	return refs, nil
}

var (
	// asked is how qsub tells what the controller answered, or that it did not.
	asked = regexp.MustCompile(`(?m)^Unable to run job: +\S`)
	// own is how qsub tells that it does not even ask.
	own = regexp.MustCompile(`(?m)^(qsub: |Unable to initialize environment because of error)`)
	// unsure are the answers of which nobody knows whether the controller had
	// the job already: sent, but no answer understood.
	unsure = regexp.MustCompile(`(?i)unable to (send|receive|contact)|commlib|\bgdi\b|got (send|read|select|syncron\w*|message)|time(d )?out|` +
		`answer list|failed receiving|communication|connection|no answer|internal error|not enough memory|malloc`)
	// unreached are the ones of a controller that qsub did not get through to.
	unreached = regexp.MustCompile(`(?i)got select error \((connection refused|no route to host|network is unreachable)\)|` +
		`SGE_ROOT directory "[^"]*" doesn't exist|set the environment variable SGE_ROOT|Unable to initialize environment because of error`)
	// later are the refusals that can be another answer tomorrow.
	later = regexp.MustCompile(`(?i)only \d+ jobs are allowed|try again|temporar|maintenance|shutting down`)
)

// doAgain is the exit status of a refusal that may be another answer tomorrow.
const doAgain = 25

// refusal sorts a failed qsub. A refusal is certain when the controller gave
// its reason, or when qsub found a mistake before it asked; else the job may be
// queued.
func refusal(out scheduler.Output) error {
	text := out.Stderr
	switch {
	case !asked.Match(text) && !own.Match(text):
		return product.Failed(out)
	case unreached.Match(text):
		return refused(text, true, true)
	case unsure.Match(text):
		return product.Failed(out)
	}
	r := refused(text, later.Match(text) || out.Exit == doAgain, false)
	if r.Message == "" { // no reason was given after all
		return product.Failed(out)
	}
	return r
}

// refused tells Grid Engine's own sentences.
func refused(text []byte, throttled, unreached bool) *scheduler.Refused {
	message := scheduler.Sentences(text, func(line string) string {
		for _, prefix := range []string{"Unable to run job: ", "qsub: ", "error: "} {
			line = strings.TrimPrefix(line, prefix)
		}
		return strings.TrimSuffix(line, "Exiting.")
	})
	return &scheduler.Refused{Message: message, Throttled: throttled, Unreached: unreached}
}
