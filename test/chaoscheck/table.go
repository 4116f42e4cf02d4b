package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
)

// tally is the sum over all deployments.
type tally struct {
	jobs, attempts, cancelled, requeue, lost, doubled, unknown, gone, breaches int
	states, faults                                                             map[string]int
}

func newTally() *tally { return &tally{states: map[string]int{}, faults: map[string]int{}} }

func (t *tally) add(e *evidence, v *verdict) {
	t.jobs += len(e.asked)
	t.attempts += v.attempts
	t.lost += v.lost
	t.doubled += v.doubled
	t.unknown += v.unknown
	t.gone += v.gone
	t.breaches += len(v.breaches)
	for _, a := range e.asked {
		if a.Cancelled {
			t.cancelled++
		}
		if a.Requeue {
			t.requeue++
		}
	}
	for name, n := range v.byStateAndWord {
		t.states[name] += n
	}
	for _, h := range e.hits {
		t.faults[h.Kind]++
	}
}

// print writes the table; "| " is by what test/verdict knows lines to show.
func (t *tally) print(out io.Writer) {
	line := func(name string, n int) { fmt.Fprintf(out, "| %-40s %5d\n", name, n) }
	line("jobs accepted", t.jobs)
	line("  of them cancelled by their users", t.cancelled)
	line("  of them with requeue", t.requeue)
	line("programs begun", t.attempts)
	line("lost", t.lost)
	line("doubled", t.doubled)
	line("outcome unknown, in truth", t.unknown)
	line("lost by the batch system, in truth", t.gone)
	line("breaches", t.breaches)
	for _, name := range slices.Sorted(maps.Keys(t.states)) {
		line("ended as "+name, t.states[name])
	}
	for _, name := range slices.Sorted(maps.Keys(t.faults)) {
		line("fault: "+name, t.faults[name])
	}
}
