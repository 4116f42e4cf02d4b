//go:build failpoint

package failpoint

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	mu     sync.Mutex
	passed = map[string]int{}
)

// Hit stops the process here when the environment asks for it. what, where
// given, ends the point's name.
func Hit(name string, what ...string) {
	name = strings.Join(append([]string{name}, what...), ".")
	for _, item := range strings.Split(os.Getenv("HPCSERA_FAILPOINT")+","+beside(), ",") {
		point, verdict, _ := strings.Cut(item, "=")
		if point != name {
			continue
		}
		mu.Lock()
		passed[name]++
		count := passed[name]
		mu.Unlock()
		if file, ok := strings.CutPrefix(verdict, "pause:"); ok {
			pause(file)
			continue
		}
		verb, at, counted := strings.Cut(verdict, "@")
		n, _ := strconv.Atoi(at)
		if verb == "kill" && (!counted || n == count) {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal arrives before anything else happens
		}
	}
}

// beside reads the file of failpoints in the program's own folder: a batch
// system hands no environment of the tests to a wrapper.
func beside() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	b, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "failpoints"))
	return strings.TrimSpace(string(b))
}

func pause(file string) {
	_ = os.WriteFile(file+".here", nil, 0o600)
	for range time.Tick(20 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			return
		}
	}
}
