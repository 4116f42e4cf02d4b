// A part of package time, for the fault campaign alone: what it is built into
// has a wall clock that can be put forward and back, as that of a host whose
// administrator, or whose NTP daemon, corrects it. The monotonic clock goes on.
// Nothing outside a program can do this to it: Go asks the kernel itself.

package time

import (
	"sync/atomic"
	"syscall"
)

// stepped is the seconds by which the clock is wrong, as was read at steppedAt
// of the monotonic clock.
var stepped, steppedAt atomic.Int64

// step returns what the file says that HPCSERA_CLOCK names, read again 20 times
// a second.
func step(mono int64) int64 {
	last := steppedAt.Load()
	if last != 0 && mono-last < 50e6 || !steppedAt.CompareAndSwap(last, mono) {
		return stepped.Load()
	}
	name, ok := syscall.Getenv("HPCSERA_CLOCK")
	if !ok {
		return 0
	}
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
	stepped.Store(sign * sum)
	return sign * sum
}
