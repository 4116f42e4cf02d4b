package lsf

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Traits says what is special about LSF; when ended jobs leave the queue is a
// site's setting (CLEAN_PERIOD).
func (Driver) Traits() scheduler.Traits {
	return scheduler.Traits{
		Submit: "bsub", Queue: "bjobs", History: "bhist", Limit: hpcsera.Duration(time.Minute), Arrays: 1000,
		Waits: map[string]string{"b": "2037:1:1:0:0"}, BadQueue: "No such queue",
	}
}
