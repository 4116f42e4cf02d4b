// A part of package time, for the fault campaign alone: what it is built into
// has a wall clock that can be put forward and back, as that of a host whose
// administrator, or whose NTP daemon, corrects it. The monotonic clock goes on.
// Nothing outside a program can do this to it: Go asks the kernel itself.

package time

import (
	"sync/atomic"
	"syscall"
)

// step is the seconds by which the clock is wrong. Now may be called where no
// system call may be made, so somebody else reads them.
var step atomic.Int64

func init() {
	if name, ok := syscall.Getenv("HPCSERA_CLOCK"); ok {
		step.Store(readStep(name))
		go func() {
			for ; ; Sleep(50 * Millisecond) {
				step.Store(readStep(name))
			}
		}()
	}
}

// readStep reads a number with a sign; no file, or an empty one, is 0.
func readStep(name string) int64 {
	fd, err := open(name)
	if err != nil {
		return 0
	}
	defer closefd(fd)
	var text [24]byte
	n, _ := read(fd, text[:])
	sum, sign := int64(0), int64(1)
	for _, c := range text[:max(n, 0)] {
		switch {
		case c == '-':
			sign = -1
		case '0' <= c && c <= '9':
			sum = sum*10 + int64(c-'0')
		}
	}
	return sign * sum
}
