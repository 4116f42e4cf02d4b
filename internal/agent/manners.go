package agent

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Use is what an agent takes of a login node, which belongs to others as well,
// and how far it may go.
type Use struct {
	Nice       int           `json:"nice"`
	Cores      int           `json:"cpu_cores"`                   // that it computes on at once
	CPU        time.Duration `json:"cpu"`                         // used by the agent itself
	CPULimit   time.Duration `json:"cpu_limit,omitempty"`         // the host's, after which it ends the agent; 0 is none
	Commands   time.Duration `json:"cpu_of_commands"`             // used by commands of the batch system
	Memory     int64         `json:"memory_bytes"`                // resident
	MemoryGoal int64         `json:"memory_goal_bytes"`           // from which on it prefers computing to growing
	Files      int           `json:"files"`                       // open ones
	FilesLimit uint64        `json:"files_limit"`                 // the host's
	LoginSteps int           `json:"login_steps"`                 // that run now
	LoginLimit int           `json:"login_steps_limit,omitempty"` // at once
}

// checkManners refuses bounds that are none, or that nothing can be done in.
func (c Config) checkManners() error {
	if c.Nice != nil && (*c.Nice < 0 || *c.Nice > 19) {
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is no niceness.", *c.Nice).At("nice").Hint("Write 0 to 19; 19 is the nicest.")
	}
	if c.Memory != 0 && c.Memory < 32<<20 {
		return hpcsera.Errorf(hpcsera.InvalidField, "in %s the agent would do nothing but tidy up.", c.Memory).At("memory").Hint("Write 32MiB or more.")
	}
	for field, n := range map[string]int{"cpu_cores": c.CPUCores, "max_commands": c.MaxCommands, "login_steps": c.LoginSteps} {
		if n < 0 {
			return hpcsera.Errorf(hpcsera.InvalidField, "with %d of them nothing would happen.", n).At(field).Hint("Write 1 or more.")
		}
	}
	return nil
}

// Behave bounds what this process takes. It is for its start: threads that come
// later take after those that are there, and so do commands and login steps.
func (c Config) Behave() error {
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), c.CPUCores))
	if debug.SetMemoryLimit(-1) == math.MaxInt64 { // else GOMEMLIMIT is set
		debug.SetMemoryLimit(int64(c.Memory))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // memory is scarcer on a login node than the time of an agent that waits
	}
	return yield(*c.Nice)
}

// yield gives every thread of this process a niceness, unless it is nicer
// already. setpriority(2) knows threads only, whatever POSIX says.
func yield(nice int) error {
	for {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("nice: %w", err)
		}
		changed := false
		for _, thread := range threads {
			id, err := strconv.Atoi(thread.Name())
			if err != nil || niceness(id) >= nice {
				continue
			}
			if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, nice); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("nice: %w", err)
			}
			changed = true // another may have begun by one that was not nice yet
		}
		if !changed {
			return nil
		}
	}
}

// niceness returns that of a thread; one that is gone is as nice as can be. The
// system call gives 20 less it, so that no answer is below 0.
func niceness(thread int) int {
	raw, err := syscall.Getpriority(syscall.PRIO_PROCESS, thread)
	if err != nil {
		return 19
	}
	return 20 - raw
}

// measure returns what this process takes now; what cannot be read is 0.
func measure() Use {
	u := Use{Nice: niceness(0), Cores: runtime.GOMAXPROCS(0)}
	u.CPU, u.Commands = used(syscall.RUSAGE_SELF), used(syscall.RUSAGE_CHILDREN)
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			pages, _ := strconv.ParseInt(fields[1], 10, 64)
			u.Memory = pages * int64(os.Getpagesize())
		}
	}
	if goal := debug.SetMemoryLimit(-1); goal != math.MaxInt64 {
		u.MemoryGoal = goal
	}
	if open, err := filepath.Glob("/proc/self/fd/*"); err == nil {
		u.Files = len(open)
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		u.FilesLimit = limit.Cur // the runtime has raised it to the hard one
	}
	if syscall.Getrlimit(syscall.RLIMIT_CPU, &limit) == nil && limit.Cur < math.MaxInt64/uint64(time.Second) {
		u.CPULimit = time.Duration(limit.Cur) * time.Second
	}
	return u
}

func used(who int) time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(who, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
