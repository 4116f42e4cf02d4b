package oar

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// customNames are the options of oarsub that a job may set by custom
// attributes. What is not here: whatever runs a command, names a file, makes or
// imports keys, sends mail, makes several jobs of one, or waits for others
// (notify, stagein, array-param-file, use-job-key, anterior and the like).
var customNames = []string{"checkpoint", "property", "resource", "signal", "type"}

// customTypes are the types a job may have. Others start nothing on the nodes
// (noop, cosystem, deploy), hold nodes for other jobs (container, placeholder),
// or let it run again (idempotent).
var customTypes = regexp.MustCompile(`^(besteffort|timesharing=[\w*]+,[\w*]+|token:\w+=\d+|allowed=\w+|` +
	`(postpone|deadline|expire)=\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?|state=permissive)$`)

// customOptions turns custom attributes into arguments, in a fixed order. The
// site's own hierarchy of resources takes the place of ours.
func customOptions(s *scheduler.Submission, resources *string) ([]string, error) {
	var argv []string
	for name, value := range s.Custom {
		switch {
		case !slices.Contains(customNames, name):
			return nil, fmt.Errorf("custom_attributes oar.%s is not among those that can be set: %s", name, strings.Join(customNames, ", "))
		case value == "" || len(value) > 1024 || scheduler.Unprintable(value):
			return nil, fmt.Errorf("custom_attributes oar.%s: the value must be 1 to 1024 printable bytes", name)
		case (name == "checkpoint" || name == "signal") && !number.MatchString(value):
			return nil, fmt.Errorf("custom_attributes oar.%s: the value must be a number", name)
		case name == "type" && !customTypes.MatchString(value):
			return nil, fmt.Errorf("custom_attributes oar.type: %q is not among those that can be set: besteffort, timesharing, token, allowed, postpone, deadline, expire, state", value)
		case name == "resource" && s.Resources != (hpcsera.Resources{}):
			return nil, fmt.Errorf("custom_attributes oar.resource cannot stand beside resources; leave one of them out")
		case name == "resource" && strings.Contains(value, "walltime"):
			return nil, fmt.Errorf("custom_attributes oar.resource: give the time as attributes.duration")
		case name == "resource":
			*resources = value
			continue
		}
		argv = append(argv, "--"+name+"="+value)
	}
	// OAR takes a preempted job up again only when it is told that it may.
	if s.Requeue && s.Custom["type"] == "besteffort" {
		argv = append(argv, "--type=idempotent")
	}
	slices.Sort(argv)
	return argv, nil
}
