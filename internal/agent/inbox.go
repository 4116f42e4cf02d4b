package agent

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera/internal/failpoint"
)

// inboxLoop lists the spool's inbox every second, one listing however many
// jobs there are, and has the engine look at the jobs whose doorbell rang.
func (a *Agent) inboxLoop(ctx context.Context) error {
	tick := time.NewTicker(a.config.SpoolInterval.Std())
	defer tick.Stop()
	for {
		a.answerRings(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ring is a doorbell's job as it stood when the inbox was listed.
type ring struct {
	job, tag string
	step, n  int
	names    []string
}

// answerRings makes one listing and looks at what it names. A doorbell is
// removed only after its job was looked at, or is of no interest any more.
func (a *Agent) answerRings(ctx context.Context) {
	failpoint.Hit("agent.before-listing")
	names, err := a.spool.Rings(a.instance)
	a.spoolTrouble(err)
	if err != nil || len(names) == 0 {
		return
	}
	var rings []ring
	var done []string
	if a.engine.read(ctx, func() { rings, done = a.engine.sortRings(names) }) != nil {
		return
	}
	for _, r := range rings {
		before := time.Now()
		start, _, _, err := a.spool.Latest(r.job, r.step, r.n)
		a.spoolTrouble(err)
		if err != nil {
			continue
		}
		err = a.engine.call(ctx, func() {
			if j := a.engine.jobs[r.job]; j != nil && j.tag == r.tag && start != nil {
				j.looked = before
				a.engine.started(j, start)
				a.engine.touch(j)
			}
		})
		if err == nil {
			done = append(done, r.names...)
		}
	}
	a.spool.Answer(done)
}

// sortRings tells which jobs to look at, and which doorbells are old.
func (e *engine) sortRings(names map[string][]string) (rings []ring, old []string) {
	if !e.granted {
		return nil, nil // they may be for the instance that has the term
	}
	for id, list := range names {
		j := e.jobs[id]
		switch {
		case j == nil || j.outcome != nil:
			old = append(old, list...)
		case j.tag != "":
			rings = append(rings, ring{job: id, tag: j.tag, step: j.step, n: j.n, names: list})
		}
	}
	return rings, old
}
