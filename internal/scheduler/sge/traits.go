package sge

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Traits says what is special about Grid Engine.
func (Driver) Traits() scheduler.Traits {
	return scheduler.Traits{
		Submit: "qsub", Queue: "qstat", History: "qacct", Limit: hpcsera.Duration(2 * time.Second), Arrays: 75000,
		Waits: map[string]string{"l": "mem_total=9999T"}, BadQueue: `unknown queue "nosuch"`, Leaves: true,
		Forgets: true, CancelIsKill: true, NoDefault: true,
	}
}
