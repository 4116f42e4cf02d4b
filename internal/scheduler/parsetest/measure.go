package parsetest

import (
	"syscall"
	"testing"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// MeasureListing measures how long a driver takes to read a listing of 10 000 jobs.
// Beside the clock's time it reports the processor's, cpu-ns/op, which a busy
// machine does not lengthen.
func MeasureListing(b *testing.B, text []byte, parse func(scheduler.Output) ([]scheduler.Status, error)) {
	b.Helper()
	b.SetBytes(int64(len(text)))
	before := processor(b)
	for b.Loop() {
		if list, err := parse(scheduler.Output{Stdout: text}); err != nil || len(list) != 10000 {
			b.Fatalf("got %d jobs, %v, want 10000", len(list), err)
		}
	}
	b.ReportMetric(float64(processor(b)-before)/float64(b.N), "cpu-ns/op")
}

// processor is the CPU time of this process so far.
func processor(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
