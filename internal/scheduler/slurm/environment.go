package slurm

import "github.com/hpcsera/hpcsera/internal/scheduler"

// Environment names Slurm's variables (sbatch(1), OUTPUT ENVIRONMENT
// VARIABLES). Programs started by srun need the SLURM_ ones, but for
// SLURM_EXPORT_ENV and SLURM_GET_USER_ENV, which a site may set and which
// decide what srun passes on.
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{
		ID: []string{"SLURM_ARRAY_JOB_ID", "SLURM_JOB_ID"}, Index: "SLURM_ARRAY_TASK_ID", Cluster: "SLURM_CLUSTER_NAME",
		Pass: []string{"SLURM_", "SLURMD_", "PMI_", "PMIX_"}, Drop: []string{"SLURM_EXPORT_ENV", "SLURM_GET_USER_ENV"},
	}
}
