package local

import (
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// Traits says what is special about processes on this host.
func (Driver) Traits() scheduler.Traits {
	return scheduler.Traits{
		Submit: Command, Queue: Command, Limit: hpcsera.Duration(2 * time.Second), BadQueue: "there is no queue nosuch",
	}
}
