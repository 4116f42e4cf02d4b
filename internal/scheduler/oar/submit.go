package oar

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// maxArray is the largest array that is submitted. OAR knows no limit of its
// own, but oarsub makes an array's jobs step by step, all held, and is not to
// be killed on its way: a thousand take it a fifth of a second.
const maxArray = 1000

// What these paths are made of: OAR puts them, unquoted, into the text of a
// Perl program, and the script into a command line of the user's shell. For
// output files it refuses more than that itself, and fills in %jobid%.
var (
	plainPath   = regexp.MustCompile(`^/[A-Za-z0-9_./@+=,:-]*$`)
	plainOutput = regexp.MustCompile(`^/[A-Za-z0-9_./-]*$`)
)

// Submit builds the call of oarsub. Every option is one argument of the form
// --option=value, so that no value can become an option. The job gets nothing
// of the command's environment. oarsub looks for #OAR lines in a script only
// when it is asked to.
//
// A job that OAR submits again, since its nodes failed before it ran, cannot be
// forbidden: the wrapper finds out whether it may run.
func (d Driver) Submit(s scheduler.Submission) scheduler.Call[[]scheduler.Ref] {
	argv := []string{"oarsub", "--name=" + s.Tag, "--directory=" + s.Directory, "--stdout=" + s.Output, "--stderr=" + s.Output}
	if s.Held {
		argv = append(argv, "--hold")
	}
	options, err := options(s)
	switch {
	case err != nil:
	case !plainTag.MatchString(s.Tag):
		err = fmt.Errorf("the tag %q cannot be a job's name", s.Tag)
	case !plainPath.MatchString(s.Script) || !plainPath.MatchString(s.Directory):
		err = fmt.Errorf("OAR passes the paths %s and %s through a shell, so they can have letters, digits and _./@+=,:- only; choose another spool folder", s.Script, s.Directory)
	case !plainOutput.MatchString(s.Output):
		err = fmt.Errorf("OAR writes only to files whose path has letters, digits and _./- alone, unlike %s; choose another spool folder", s.Output)
	case s.Size > maxArray:
		err = fmt.Errorf("an array of %d jobs is too large; submit at most %d at once", s.Size, maxArray)
	}
	if err != nil {
		return scheduler.Call[[]scheduler.Ref]{Refusal: &scheduler.Refused{Message: err.Error()}}
	}
	argv = append(argv, options...)
	size := max(s.Size, 1)
	if size > 1 { // last, where arrayRequest looks for it
		argv = append(argv, "--array="+strconv.Itoa(size))
	}
	return scheduler.Call[[]scheduler.Ref]{
		Argv: append(argv, "--", s.Script),
		Env:  []string{"PWD=" + s.Directory}, // without it oarsub complains
		Parse: func(out scheduler.Output) ([]scheduler.Ref, error) {
			return parseSubmit(out, size)
		},
	}
}

// options are those of resources, attributes and custom attributes.
func options(s scheduler.Submission) ([]string, error) {
	resources, err := resources(s.Resources)
	if err != nil {
		return nil, err
	}
	custom, err := customOptions(&s, &resources)
	if err != nil {
		return nil, err
	}
	attributes, err := attributes(s.Attributes, resources)
	if err != nil {
		return nil, err
	}
	return slices.Concat(attributes, custom), nil
}

var (
	// idLine is a line of the answer: the id of a job, or a refusal as a negative one.
	idLine    = regexp.MustCompile(`(?m)^OAR_JOB_ID=(.*)$`)
	arrayLine = regexp.MustCompile(`(?m)^OAR_ARRAY_ID=(.*)$`)
	positive  = regexp.MustCompile(`^[1-9]\d{0,17}$`)
	negative  = regexp.MustCompile(`^-[1-9]\d*$`)
)

// parseSubmit reads the ids of a job or of an array's members, which stand on
// lines of their own among what the site's rules print. Nothing but one clear
// id for each member is a success, and nothing is a refusal once there is an id.
func parseSubmit(out scheduler.Output, size int) ([]scheduler.Ref, error) {
	var ids []string
	refused := false
	for _, m := range idLine.FindAllSubmatch(out.Stdout, -1) {
		switch id := strings.TrimSpace(string(m[1])); {
		case negative.MatchString(id):
			refused = true
		default:
			ids = append(ids, id)
		}
	}
	switch {
	case len(ids) == 0 && out.Exit != 0:
		return nil, refusal(out, refused)
	case out.Exit != 0:
		return nil, product.Failed(out)
	case refused || len(ids) != size || slices.ContainsFunc(ids, func(id string) bool { return !positive.MatchString(id) }):
		return nil, product.Garbled(fmt.Sprintf("with the ids %.200q for %d jobs", ids, size), out.Stdout)
	}
	array := ids[0]
	if m := arrayLine.FindAllSubmatch(out.Stdout, -1); len(m) > 0 {
		array = strings.TrimSpace(string(m[0][1]))
	} else if size > 1 {
		array = ""
	}
	n, err := strconv.ParseInt(array, 10, 64)
	if err != nil || n <= 0 {
		return nil, product.Garbled("without the array's id", out.Stdout)
	}
	refs := make([]scheduler.Ref, size)
	for i := range refs {
		refs[i] = scheduler.Ref{ID: memberID(n, int64(i)+1, size == 1), Member: i}
	}
	return refs, nil
}

var (
	// own is how oarsub tells that it does not even ask the database.
	own = regexp.MustCompile(`(?m)^(Unknown option: |Option .* requires|Value .* invalid for option|/!\\ Cannot recognize )`)
	// unreached is how OAR's setuid programs tell that they could not start the command.
	unreached = regexp.MustCompile(`(?m)^\[OARDO\] ERROR: `)
	// later are the words, of sites' own rules for the most part, for a limit that can be another tomorrow.
	later = regexp.MustCompile(`(?i)cannot have more than|too many|maximum (number|allowed)|\blimit (of|is|reached|exceeded)|already (have|has|submitted)|quota|try again|server closed the connection|terminating connection|connection to server`)
	// noise says nothing about the refusal.
	noise = regexp.MustCompile(`(?i)^(\[ERROR\] Oarsub failed, please verify your request syntax\.|Simple array job submission is used|\[ADMISSION RULE\] (Set default walltime|Modify resource description|Automatically ).*)$`)
)

// refusal sorts an oarsub that ended without an id. A refusal is certain where
// OAR gave a negative id, as answer or (in a byte) as its status: it does so
// before it makes any job, save -14, which is about keys of jobs that are made
// by then. Or where oarsub found a mistake before it asked.
func refusal(out scheduler.Output, certain bool) error {
	const first, keys, last = 256 - 13, 256 - 14, 256 - 2
	certain = certain || out.Exit >= first && out.Exit <= last && out.Exit != keys
	message := said(out)
	switch {
	case unreached.Match(out.Stderr):
		return &scheduler.Refused{Message: message, Throttled: true, Unreached: true}
	case certain && message != "", own.Match(out.Stderr):
		return &scheduler.Refused{Message: message, Throttled: later.MatchString(message)}
	}
	return product.Failed(out)
}

// said tells OAR's own sentences: what stands on standard error, or else the
// site's rules on standard output.
func said(out scheduler.Output) string {
	own := func(line string) string {
		if noise.MatchString(line) || strings.HasPrefix(line, "OAR_JOB_ID=") {
			return ""
		}
		return line
	}
	return cmp.Or(scheduler.Sentences(out.Stderr, own), scheduler.Sentences(out.Stdout, own))
}
