package sge

import "github.com/hpcsera/hpcsera/internal/scheduler"

// Environment names Grid Engine's variables (qsub(1), ENVIRONMENTAL VARIABLES).
// MPI libraries find the job's nodes by PE_HOSTFILE, ARC, SGE_ROOT and JOB_ID.
// A job that is no array has the index "undefined".
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{
		ID: []string{"JOB_ID"}, Index: "SGE_TASK_ID", First: 1, Member: "{id}.{index}",
		Directory: []string{"SGE_O_WORKDIR", "SGE_CWD_PATH"},
		Pass:      []string{"SGE_", "JOB_", "PE_", "NSLOTS", "NHOSTS", "NQUEUES", "QUEUE", "ARC", "RESTARTED"},
		// That jobs of several users' requests came as one array is nothing to them.
		Drop: []string{"SGE_TASK_ID", "SGE_TASK_FIRST", "SGE_TASK_LAST", "SGE_TASK_STEPSIZE"},
	}
}
