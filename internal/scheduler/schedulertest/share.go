package schedulertest

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// Share waits until the test may use a system that a machine has only once, and
// that tests in other processes use too: beside them, or alone because it does
// what would end their jobs. The lock on the file, which flock(2) describes,
// lasts until the test ends, or its process does.
func Share(t T, file string, alone bool) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatalf("the lock of the system that tests share: %v", err)
	}
	t.Cleanup(func() { f.Close() })
	how := syscall.LOCK_SH
	if alone {
		how = syscall.LOCK_EX
	}
	for again := time.NewTicker(200 * time.Millisecond); ; {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case err == nil:
			again.Stop()
			return
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			t.Fatalf("lock %s: %v", file, err)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("interrupted while others use the system of %s", file)
		case <-again.C:
		}
	}
}
