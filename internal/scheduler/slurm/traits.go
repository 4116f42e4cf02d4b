package slurm

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Traits says what is special about Slurm; when ended jobs leave the queue is a
// site's setting (MinJobAge).
func (Driver) Traits() scheduler.Traits {
	return scheduler.Traits{
		Submit: "sbatch", Queue: "squeue", History: "sacct", Limit: hpcsera.Duration(time.Minute), Arrays: 1001,
		Waits: map[string]string{"begin": "now+1hour"}, BadQueue: "Invalid partition name specified",
	}
}
