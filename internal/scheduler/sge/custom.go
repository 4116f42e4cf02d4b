package sge

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// customNames are the options of qsub that a job may set by custom attributes;
// soft is a list of resources that are wished for. What is not here: whatever
// runs a command, names a file, sets environment or the job's identity, sends
// mail, makes several jobs of one, makes it wait for a time or for others (it
// could not be told from a held one), or lets it run again.
var customNames = []string{"l", "soft", "pe", "masterq", "p", "js", "R", "A", "binding", "notify", "dl"}

// ownResources are asked for by fields, which have limits.
var ownResources = regexp.MustCompile(`(^|,)\s*(h_rt|s_rt|qname|q)\s*(,|$|[<>!=])`)

// customOptions turns custom attributes into arguments, in a fixed order.
func customOptions(custom map[string]string) ([]string, error) {
	var names []string
	for name, value := range custom {
		switch {
		case !slices.Contains(customNames, name):
			return nil, fmt.Errorf("custom_attributes sge.%s is not among those that can be set: %s", name, strings.Join(customNames, ", "))
		case value == "" || len(value) > 1024 || value[0] == '-' && name != "p" || scheduler.Unprintable(value):
			return nil, fmt.Errorf("custom_attributes sge.%s: the value must be 1 to 1024 printable bytes, and no option", name)
		case (name == "l" || name == "soft") && ownResources.MatchString(value):
			return nil, fmt.Errorf("custom_attributes sge.%s: set attributes.duration and attributes.queue_name instead of h_rt, s_rt and qname", name)
		case (name == "notify" || name == "R") && value != "y" && value != "n":
			return nil, fmt.Errorf("custom_attributes sge.%s: the value must be y or n", name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var argv []string
	for _, name := range names {
		switch value := custom[name]; name {
		case "pe": // with the number of slots, see options
		case "soft":
			argv = append(argv, "-soft", "-l", value, "-hard")
		case "notify":
			if value == "y" {
				argv = append(argv, "-notify")
			}
		default:
			argv = append(argv, "-"+name, value)
		}
	}
	return argv, nil
}
