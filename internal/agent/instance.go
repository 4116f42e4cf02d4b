package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// instanceFile says which process ran last, so that a new one on the same
// host can show the server that its predecessor is dead.
type instanceFile struct {
	Instance string `json:"instance"`
	Host     string `json:"host"`
	Boot     string `json:"boot"`
	PID      int    `json:"pid"`
	Started  string `json:"started"` // field 22 of /proc/PID/stat (proc(5))
}

func instancePath(dir string) string { return filepath.Join(dir, "instance.json") }

func writeInstance(dir, instance, host string) error {
	b, err := json.Marshal(instanceFile{Instance: instance, Host: host, Boot: bootID(), PID: os.Getpid(), Started: processStart(os.Getpid())})
	if err != nil {
		return err
	}
	return replaceFile(instancePath(dir), b, 0o600)
}

// endInstance says that an instance runs no more, so that the next one on this
// host need not wait for its silence.
func endInstance(dir, instance string) {
	f, ok := readInstance(dir)
	if !ok || f.Instance != instance {
		return
	}
	f.PID = 0
	if b, err := json.Marshal(f); err == nil {
		_ = replaceFile(instancePath(dir), b, 0o600) // else the server waits
	}
}

func readInstance(dir string) (instanceFile, bool) {
	var f instanceFile
	b, err := os.ReadFile(instancePath(dir))
	return f, err == nil && json.Unmarshal(b, &f) == nil
}

// deadInstance returns the instance that ran last on this host when its
// process is certainly gone, and "" otherwise.
func deadInstance(dir, host string) string {
	f, ok := readInstance(dir)
	if !ok || f.Host != host || f.Boot == "" || f.Boot == bootID() && f.alive() {
		return ""
	}
	return f.Instance
}

func (f instanceFile) alive() bool {
	return f.PID != 0 && syscall.Kill(f.PID, 0) != syscall.ESRCH && processStart(f.PID) == f.Started
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// processStart returns when a process started, in clock ticks since boot; ""
// for none, and for a zombie, which does nothing any more.
func processStart(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" {
		return ""
	}
	return fields[19]
}
