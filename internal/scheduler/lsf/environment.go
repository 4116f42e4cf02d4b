package lsf

import "github.com/hpcsera/hpcsera/internal/scheduler"

// Environment names LSF's variables (Environment variables set for job
// execution). LSB_JOBINDEX is set for all jobs and 0 outside of arrays. LSF
// gives a job its GPUs by CUDA_VISIBLE_DEVICES.
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{
		ID: []string{"LSB_JOBID"}, Index: "LSB_JOBINDEX", First: 1, Member: "{id}[{index}]",
		Directory: []string{"LS_SUBCWD"},
		Pass:      []string{"LSB_", "LSF_", "LS_", "PMI_", "PMIX_", "CUDA_VISIBLE_DEVICES"},
		Drop: []string{
			"LSB_NTRIES", // was bsub's
			// That jobs of several users' requests came as one array is nothing to them.
			"LSB_JOBINDEX", "LSB_JOBINDEX_STEP", "LSB_JOBINDEX_END", "LSB_REMOTEINDEX",
		},
	}
}
