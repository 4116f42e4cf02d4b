package oar

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Traits says what is special about OAR.
func (Driver) Traits() scheduler.Traits {
	return scheduler.Traits{
		Submit: "oarsub", Queue: "oarstat", History: "oarstat", HistoryOption: "IN", // of the condition
		Limit: hpcsera.Duration(10 * time.Second), Arrays: 1000,
		Waits: map[string]string{"type": "postpone=2037-01-01"}, BadQueue: "The queue nosuch does not exist", Leaves: true,
	}
}
