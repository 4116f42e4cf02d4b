package trial

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera/internal/scheduler/schedulertest"
)

// reporter is a schedulertest.T that keeps what is said. It is used by one
// goroutine at a time.
type reporter struct {
	ctx      context.Context
	end      context.CancelFunc
	cleanups []func()
	failed   bool
	seen     []string
}

func newReporter(ctx context.Context) *reporter {
	t := &reporter{}
	t.ctx, t.end = context.WithCancel(ctx)
	return t
}

// judge runs a case and its clean-up, and returns after both.
func (t *reporter) judge(run func(schedulertest.T)) {
	t.contain(func() { run(t) })
	t.end()
	for _, f := range slices.Backward(t.cleanups) {
		t.contain(f)
	}
}

// contain runs f to its end, of whichever kind that is. A panic is a failure of
// the case and of nothing else: the jobs must be cancelled.
func (t *reporter) contain(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		f()
	}()
	<-done
}

// The methods of schedulertest.T.

func (t *reporter) Helper()                           {}
func (t *reporter) Context() context.Context          { return t.ctx }
func (t *reporter) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *reporter) Logf(format string, args ...any)   { t.say(fmt.Sprintf(format, args...)) }
func (t *reporter) Error(args ...any)                 { t.failed = true; t.say(fmt.Sprintln(args...)) }
func (t *reporter) Errorf(format string, args ...any) { t.Error(fmt.Sprintf(format, args...)) }
func (t *reporter) Fatal(args ...any)                 { t.Error(args...); runtime.Goexit() }
func (t *reporter) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }

func (t *reporter) say(text string) { t.seen = append(t.seen, strings.TrimSpace(text)) }
