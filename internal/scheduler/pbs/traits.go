package pbs

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Traits says what is special about PBS.
func (Driver) Traits() scheduler.Traits {
	return scheduler.Traits{
		Submit: "qsub", Queue: "qstat", History: "qstat", HistoryOption: "-x", Limit: hpcsera.Duration(2 * time.Second), Arrays: 10000,
		Waits: map[string]string{"begin": "203701010000"}, BadQueue: "Unknown queue", Leaves: true,
	}
}
