package local

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// process is the identity of a process. A process id alone is none: it is
// reused, sooner on a busy login node than one thinks.
type process struct {
	Host  string `json:"host"`
	Boot  string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	PID   int    `json:"pid"`   // 0: no process was or will be started
	Start uint64 `json:"start"` // field 22 of /proc/PID/stat: ticks after the boot
}

// thisHost is the identity of this host, without a process.
func thisHost() (process, error) {
	host, err := os.Hostname()
	if err != nil {
		return process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, err
	}
	return process{Host: host, Boot: string(bytes.TrimSpace(boot))}, nil
}

// self is this very process.
func self() (process, error) {
	p, err := thisHost()
	if err != nil {
		return p, err
	}
	p.PID = os.Getpid()
	st, err := readStat(p.PID)
	p.Start = st.start
	return p, err
}

// alive reports whether p still runs, as seen from host here.
func (p process) alive(here process) bool {
	if p.PID == 0 || p.Host != here.Host || p.Boot != here.Boot {
		return false
	}
	st, err := readStat(p.PID)
	return err == nil && st.start == p.Start && st.state != 'Z' && st.state != 'X'
}

type stat struct {
	state   byte
	session int
	start   uint64
}

// readStat reads /proc/PID/stat. The program's name stands in parentheses and
// can hold blanks and parentheses itself.
func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 {
		return stat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	session, err1 := strconv.Atoi(fields[3])
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	return stat{state: fields[0][0], session: session, start: start}, errors.Join(err1, err2)
}

// terminate asks the script's process group to end. What the script put into
// groups of its own is the script's to end.
func terminate(leader int) { _ = syscall.Kill(-leader, syscall.SIGTERM) }

// killSession ends every process of a session, whatever groups they formed.
// It looks until it finds none, for a process may fork meanwhile.
func killSession(leader int) {
	for range 100 {
		stats, err := filepath.Glob("/proc/[0-9]*/stat")
		if err != nil {
			return
		}
		found := false
		for _, file := range stats {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				continue
			}
			if st, err := readStat(pid); err == nil && st.session == leader && st.state != 'Z' && st.state != 'X' {
				found = true
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if !found {
			return
		}
	}
}
