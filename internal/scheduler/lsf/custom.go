package lsf

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// customNames are the options of bsub that a job may set by custom attributes.
// What is not here: whatever runs a command (E, Ep, a, L), names a file (i, o,
// e, f, Zs, pack, json), sets environment or the job's identity (env, J, Jd),
// sends mail (u, B, N), waits for others (w, K, I) or keeps bsub from being a
// submission.
var customNames = []string{
	"app", "G", "sla", "g", "Lp", "sp", "m", "R", "b", "t", "We", "ptl", "eptl",
	"c", "C", "D", "F", "S", "T", "p", "v", "network", "core_isolation", "smt",
}

// customOptions turns custom attributes into arguments, in a fixed order. bsub
// takes the argument after an option as its value, but none that begins with a
// dash.
func customOptions(custom map[string]string) ([]string, error) {
	names := make([]string, 0, len(custom))
	for name := range custom {
		names = append(names, name)
	}
	slices.Sort(names)
	var argv []string
	for _, name := range names {
		value := custom[name]
		if !slices.Contains(customNames, name) {
			return nil, fmt.Errorf("custom_attributes lsf.%s is not among those that can be set: %s", name, strings.Join(customNames, ", "))
		}
		if !plain(value) {
			return nil, fmt.Errorf("custom_attributes lsf.%s: the value must be 1 to 1024 printable bytes and not begin with a dash", name)
		}
		argv = append(argv, "-"+name, value)
	}
	return argv, nil
}

// plain reports whether bsub takes the text as one value and nothing else.
func plain(value string) bool {
	return value != "" && len(value) <= 1024 && strings.TrimSpace(value) == value && value[0] != '-' &&
		!scheduler.Unprintable(value)
}
