package slurm

import "github.com/hpcsera/hpcsera/internal/scheduler"

// Environment names Slurm's variables (sbatch(1), OUTPUT ENVIRONMENT
// VARIABLES). Programs started by srun need the SLURM_ ones, but for
// SLURM_EXPORT_ENV and SLURM_GET_USER_ENV, which a site may set and which
// decide what srun passes on.
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{
		ID: []string{"SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"}, Index: "SLURM_ARRAY_TASK_ID", Member: "{id}_{index}", Cluster: "SLURM_CLUSTER_NAME",
		Directory: []string{"SLURM_SUBMIT_DIR"},
		Pass:      []string{"SLURM_", "SLURMD_", "PMI_", "PMIX_"},
		Drop: []string{
			"SLURM_EXPORT_ENV", "SLURM_GET_USER_ENV",
			// That jobs of several users' requests came as one array is nothing to them.
			"SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP",
		},
	}
}
