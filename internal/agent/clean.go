package agent

import (
	"context"
	"os"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// How long a job's directory stays when its spec does not say.
const (
	keepSucceeded = 3 * 24 * time.Hour
	keepFailed    = 14 * 24 * time.Hour
	// The longest life of an approval, whose runs stand in the journal, and a day
	// for clocks that differ.
	keepJournal = 91 * 24 * time.Hour
)

// cleanLoop removes the directories of jobs whose time has come, now and then
// until ctx ends.
func (a *Agent) cleanLoop(ctx context.Context) error {
	for {
		if err := a.clean(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("clean-up not complete", "error", err)
		}
		sleep(ctx, 10*time.Minute)
		if ctx.Err() != nil {
			return nil
		}
	}
}

func (a *Agent) clean(ctx context.Context) error {
	due := map[string]ended{}
	needed := map[string]bool{} // submissions that others are members of
	now := time.Now()
	granted := false
	err := a.engine.read(ctx, func() {
		granted = a.engine.granted
		for id, j := range a.engine.ended {
			if now.After(j.at.Add(keepFor(j))) {
				due[id] = j
			}
		}
		for _, j := range a.engine.jobs {
			for _, tag := range j.tags {
				needed[tag] = true
			}
		}
	})
	if err != nil || !granted {
		return err // before its term this instance knows too little to remove anything
	}
	for id, j := range due {
		if err := os.RemoveAll(a.jobDir(id)); err != nil {
			return err
		}
		// The wrapper of a member that comes late, or that the site queues once more,
		// finds its task as long as the submission stands, so its claim stands, too.
		if slices.ContainsFunc(j.tags, func(tag string) bool { return needed[tag] }) {
			continue
		}
		if err := a.spool.Remove(id, j.tags); err != nil {
			return err
		}
		if err := a.engine.call(ctx, func() { a.engine.write(journal.Entry{Kind: journal.KindForgotten, Job: id}) }); err != nil {
			return err
		}
	}
	live := map[string]bool{}
	if err := a.engine.call(ctx, func() {
		for id := range a.engine.jobs {
			live[id] = true
		}
		for id := range a.engine.ended {
			live[id] = true
		}
	}); err != nil {
		return err
	}
	if err := a.images.Clean(ctx, now.Add(-keepImages)); err != nil {
		return err
	}
	return journal.Prune(a.journalDir(), a.instance, now.Add(-keepJournal), func(job string) bool { return live[job] })
}

func keepFor(j ended) time.Duration {
	was := j.was.Value()
	keep, standard := was.keep.Failed, keepFailed
	if was.state == hpcsera.Succeeded {
		keep, standard = was.keep.Succeeded, keepSucceeded
	}
	if keep > 0 {
		return time.Duration(keep)
	}
	return standard
}
