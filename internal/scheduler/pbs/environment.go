package pbs

import "github.com/hpcsera/hpcsera/internal/scheduler"

// firstIndex is the index of an array's first member.
const firstIndex = 1

// Environment names PBS's variables (qsub(1B), ENVIRONMENT VARIABLES). A
// member's PBS_JOBID is its own: 24[3].server.
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{
		ID: []string{"PBS_JOBID"}, Index: "PBS_ARRAY_INDEX", First: firstIndex,
		Directory: []string{"PBS_O_WORKDIR"}, Pass: []string{"PBS_", "PMI_", "PMIX_"}, Drop: []string{"PBS_ARRAY_INDEX", "PBS_ARRAY_ID"},
	}
}
