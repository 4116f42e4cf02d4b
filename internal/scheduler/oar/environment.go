package oar

import "github.com/hpcsera/hpcsera/internal/scheduler"

// Environment names OAR's variables. The array's id is the same for a job that
// OAR submits again under another job id; a single job has one too. Programs
// find their nodes by the OAR_ ones, and oarsh needs them; OAR_KEY only marks the
// sessions of OAR itself.
func (Driver) Environment() scheduler.Environment {
	return scheduler.Environment{
		ID: []string{"OAR_ARRAY_ID"}, Index: "OAR_ARRAY_INDEX", First: 1, Member: "{id}_{index}",
		Directory: []string{"OAR_WORKDIR", "OAR_WORKING_DIRECTORY", "OAR_O_WORKDIR"},
		Pass:      []string{"OAR_"},
		Drop: []string{
			"OAR_KEY",
			// That jobs of several users' requests came as one array is nothing to them.
			"OAR_ARRAY_ID", "OAR_ARRAYID", "OAR_ARRAY_INDEX", "OAR_ARRAYINDEX",
		},
	}
}
