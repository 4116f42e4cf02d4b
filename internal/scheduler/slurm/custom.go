package slurm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// customNames are the options of sbatch that a job may set by custom
// attributes. What is not here: whatever runs a command, names a file, sets
// environment or the job's identity, sends mail, makes several jobs of one, or
// waits for others (wrap, export, output, chdir, job-name, mail-user, array,
// dependency and the like).
var customNames = []string{
	"constraint", "prefer", "cluster-constraint", "qos", "licenses", "wckey",
	"gres", "gres-flags", "gpus-per-node", "gpu-bind", "gpu-freq", "mem-per-cpu", "mem-per-gpu", "tmp",
	"begin", "deadline", "time-min", "nice", "signal", "switches",
	"distribution", "hint", "mincpus", "threads-per-core", "cores-per-socket", "sockets-per-node",
	"ntasks-per-core", "ntasks-per-socket", "ntasks-per-gpu", "core-spec", "thread-spec", "cpu-freq", "mem-bind", "network",
	"nodelist", "exclude",
}

// customOptions turns custom attributes into arguments, in a fixed order.
func customOptions(custom map[string]string) ([]string, error) {
	var argv []string
	for name, value := range custom {
		switch {
		case !slices.Contains(customNames, name):
			return nil, fmt.Errorf("custom_attributes slurm.%s is not among those that can be set: %s", name, strings.Join(customNames, ", "))
		case value == "" || len(value) > 1024 || scheduler.Unprintable(value):
			return nil, fmt.Errorf("custom_attributes slurm.%s: the value must be 1 to 1024 printable bytes", name)
		case (name == "nodelist" || name == "exclude") && strings.Contains(value, "/"):
			return nil, fmt.Errorf("custom_attributes slurm.%s: with a slash the value would be a file's name", name)
		}
		argv = append(argv, "--"+name+"="+value)
	}
	slices.Sort(argv)
	return argv, nil
}
