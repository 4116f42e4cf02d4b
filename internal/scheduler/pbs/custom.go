package pbs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// customNames are the custom attributes that a job may set, and what PBS makes
// of them. What is not here: whatever runs a command, names a file, sets
// environment or the job's identity, sends mail, makes several jobs of one, or
// waits for others (-S, -v, -V, -W, -N, -M, -J, depend, stagein and the like).
var customNames = map[string]struct {
	option string
	form   *regexp.Regexp
}{
	"project":  {"-P", regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)},
	"begin":    {"-a", regexp.MustCompile(`^(\d{4})?\d{8}(\.\d{2})?$`)}, // [CCYY]MMDDhhmm[.SS], local time of the site
	"priority": {"-p", regexp.MustCompile(`^-?\d{1,4}$`)},
	// What each chunk asks for beside what resources say, such as model=bro:bigmem=true.
	"chunk": {"", regexp.MustCompile(`^` + assignment + `(:` + assignment + `)*$`)},
	// What the whole job asks for, such as filesystems=home:eagle.
	"resource": {"-l", regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9_.:/@-]{1,200}$`)},
}

const assignment = `[A-Za-z][A-Za-z0-9_-]*=[A-Za-z0-9_./@-]{1,100}`

// reserved are the resources that have fields of their own.
var reserved = []string{"ncpus", "mem", "mpiprocs", "ompthreads", "ngpus", "walltime", "select", "place", "nodes", "nodect", "cput", "vmem", "pmem", "host", "vnode"}

// customOptions turns custom attributes into arguments, in a fixed order, and
// into what is added to each chunk.
func customOptions(custom map[string]string) (argv []string, chunk string, err error) {
	names := make([]string, 0, len(custom))
	for name := range custom {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := custom[name]
		known, ok := customNames[name]
		if !ok {
			return nil, "", fmt.Errorf("custom_attributes pbs.%s is not among those that can be set: begin, chunk, priority, project, resource", name)
		}
		if !known.form.MatchString(value) || len(value) > 1024 {
			return nil, "", fmt.Errorf("custom_attributes pbs.%s: %q is not of the form that PBS takes", name, value)
		}
		if known.option == "" || known.option == "-l" {
			for part := range strings.SplitSeq(value, ":") {
				resource, _, set := strings.Cut(part, "=")
				if set && slices.Contains(reserved, strings.ToLower(resource)) {
					return nil, "", fmt.Errorf("custom_attributes pbs.%s: %s is set by resources and attributes", name, resource)
				}
			}
		}
		if known.option == "" {
			chunk = value
			continue
		}
		argv = append(argv, known.option, value)
	}
	return argv, chunk, nil
}
