package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// SetAside puts the journal of an agent that its server has forgotten under
// another name and begins one for the agent that is enrolled in its place,
// where the state says that this is needed; kept is "" where it is not. The new
// journal keeps the runs of each approval, and that no job of the old one ever
// starts again. No instance may run meanwhile.
func SetAside(stateDir string, now time.Time) (kept string, err error) {
	s, alive, known, err := ReadStatus(stateDir)
	if err != nil || !known || !s.Restored {
		return "", err
	}
	if alive {
		return "", hpcsera.Errorf(hpcsera.Conflict, "the agent runs here as process %d.", s.PID).Hint("Stop it first.")
	}
	if host, _ := os.Hostname(); s.Host != host && s.Ended.IsZero() && now.Sub(s.At) < silentElsewhere {
		return "", hpcsera.Errorf(hpcsera.Conflict, "the agent runs on %s as process %d, or did so until %s.", s.Host, s.PID, s.At.UTC().Format(time.RFC3339)).
			Hint("Stop it first. Where it was killed, wait for two minutes.")
	}
	dir := filepath.Join(stateDir, "journal")
	if err := finishAside(dir); err != nil {
		return "", err
	}
	m := newMemory()
	m.remember = true
	if _, err := journal.Replay(dir, m.fold); err != nil {
		return "", err
	}
	next := dir + ".new"
	if err := os.RemoveAll(next); err != nil {
		return "", err
	}
	fresh, err := journal.Open(next, journal.Entry{Instance: hpcsera.NewID("i"), Host: s.Host, At: now}, func(journal.Entry) {})
	if err != nil {
		return "", err
	}
	if err := errors.Join(fresh.Append(m.remains(now)...), fresh.Close()); err != nil {
		return "", err
	}
	kept = dir + ".aside-" + now.UTC().Format("20060102T150405Z")
	if err := os.Rename(dir, kept); err != nil {
		return "", err
	}
	if err := finishAside(dir); err != nil {
		return kept, err
	}
	s.Restored, s.Server, s.Jobs, s.Unsent = false, "", 0, 0
	b := newBoard(stateDir)
	b.now = s
	return kept, b.write()
}

// silentElsewhere is how old the status of an agent on another host is that does
// not run any more: it is written every few seconds, but clocks differ.
const silentElsewhere = 2 * time.Minute

// finishAside puts the new journal in its place, also after a crash between the
// two renames: an agent that found none would know of nothing.
func finishAside(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(dir+".new", dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// remains are the entries by which another journal knows what must not be
// forgotten: which jobs are over, what stands of them, and how often each approval
// was used. What was under way is over too, with an end that nobody knows.
func (m *memory) remains(now time.Time) (list []journal.Entry) {
	over := func(id string, o ended) {
		list = append(list, journal.Entry{Kind: journal.KindOver, At: now, Fact: &hpcsera.Report{
			JobID: id, Step: o.step, Attempt: o.attempt, State: o.state, Reason: o.reason, At: o.at, Exit: o.exit,
		}, Over: &o.Over})
	}
	for _, ended := range []map[string]ended{m.ended, m.gone} {
		for id, o := range ended {
			over(id, o)
		}
	}
	for id, j := range m.jobs {
		o := ended{state: hpcsera.Failed, reason: hpcsera.OutcomeUnknown, at: now, step: j.step, attempt: j.attemptNow()}
		switch {
		case j.final:
			o = endOf(j.last)
		case j.outcome != nil:
			o.state, o.reason, o.at, o.exit = j.outcome.State, j.outcome.Reason, j.outcome.Ended, j.outcome.Exit
		}
		o.Over = j.over()
		over(id, o)
	}
	for approval, n := range m.runs {
		list = append(list, slices.Repeat([]journal.Entry{{Kind: journal.KindRun, At: now, Approval: approval}}, n)...)
	}
	return list
}
