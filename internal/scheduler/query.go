package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// Statuses asks for all known jobs with one command, and with a second for
// those that have left the queue. The answer is by the references as given.
//
// With a nil error a reference that is missing from the map is absent: the
// batch system answered, and neither its queue nor its history knows that job.
// With an error nothing is absent, but what the map holds (after a failed
// history: what the queue told) is true. So an error never ends a job.
//
// Only a row of the same tag, and of the same ID and cluster where both are
// known, is a job's: ids are reused.
func (s *Scheduler) Statuses(ctx context.Context, known []Ref) (map[Ref]Status, error) {
	found := make(map[Ref]Status, len(known))
	if len(known) == 0 {
		return found, nil
	}
	rows, err := s.queue(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("statuses: %w", err)
	}
	var ask []Ref
	absent := 0
	for _, ref := range known {
		st, ok := pick(ref, rows[ref.Tag])
		if ok {
			found[ref] = st
		} else {
			absent++
		}
		if !ok || st.Incomplete {
			ask = append(ask, ref)
		}
	}
	past, err := s.history(ctx, ask)
	for _, ref := range ask {
		// A job that the history calls alive, but of which the queue knows
		// nothing, has no controller: the history tells of ends only.
		if st, ok := pick(ref, past[ref.Tag]); ok && st.Phase == PhaseEnded {
			st.Restarts = max(st.Restarts, found[ref].Restarts)
			found[ref] = st
		}
	}
	if err != nil && absent > 0 {
		return found, fmt.Errorf("statuses: %w", err)
	}
	return found, nil
}

// Find returns every job, live or ended, that carries one of the tags: what is
// left of submissions whose answer was lost. A job can appear later than the
// command that made it was killed, so an empty answer does not mean that none
// will come.
func (s *Scheduler) Find(ctx context.Context, tags ...string) ([]Status, error) {
	if len(tags) == 0 {
		return nil, nil
	}
	rows, err := s.queue(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	ask := make([]Ref, len(tags))
	for i, tag := range tags {
		ask[i] = Ref{Tag: tag}
	}
	past, err := s.history(ctx, ask)
	if err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	var found []Status
	for _, tag := range tags {
		live := rows[tag]
		known := map[string]bool{}
		for _, row := range live {
			known[row.ID] = true
		}
		found = append(found, live...)
		for _, row := range past[tag] {
			if known[row.ID] {
				continue // the queue told it, or an earlier run of it
			}
			known[row.ID] = true
			if st, ok := pick(row.Ref, past[tag]); ok && st.Phase == PhaseEnded {
				found = append(found, st)
			}
		}
	}
	return found, nil
}

// queue lists the user's jobs in the queue that can be ours, by tag: those of
// refs at least, and all where refs are nil.
func (s *Scheduler) queue(ctx context.Context, refs []Ref) (map[string][]Status, error) {
	call := s.driver.Queue()
	if n, ok := s.driver.(Narrower); ok && len(refs) > 0 && !slices.ContainsFunc(refs, func(r Ref) bool { return r.ID == "" }) {
		if narrow, ok := n.QueueOf(refs); ok {
			call = narrow
		}
	}
	rows, err := do(ctx, s, queueKind, call)
	if err != nil {
		return nil, fmt.Errorf("list the queue: %w", err)
	}
	return byTag(rows), nil
}

// history asks for jobs outside the queue. What it returns is true even with
// an error. A site without history gives an empty answer.
func (s *Scheduler) history(ctx context.Context, refs []Ref) (map[string][]Status, error) {
	s.mu.Lock()
	skip := !s.noHistory.IsZero() && s.now().Sub(s.noHistory) < historyRetry
	s.mu.Unlock()
	if skip {
		return nil, nil
	}
	var identified, tagged []Ref
	for _, ref := range refs {
		if ref.ID != "" {
			identified = append(identified, ref)
		} else {
			tagged = append(tagged, ref)
		}
	}
	var rows []Status
	for _, group := range [][]Ref{identified, tagged} {
		for len(group) > 0 {
			part := group[:min(len(group), batch)]
			group = group[len(part):]
			call, ok := s.driver.History(part)
			if !ok {
				return nil, nil
			}
			more, err := do(ctx, s, historyKind, call)
			if errors.Is(err, ErrNoHistory) {
				s.mu.Lock()
				s.noHistory = s.now()
				s.mu.Unlock()
				return nil, nil
			}
			if err != nil {
				return byTag(rows), fmt.Errorf("ask the history: %w", err)
			}
			rows = append(rows, more...)
		}
	}
	return byTag(rows), nil
}

// byTag drops the jobs that are not HPCSerA's.
func byTag(rows []Status) map[string][]Status {
	m := make(map[string][]Status, len(rows))
	for _, row := range rows {
		if hpcsera.ValidID("s", row.Tag) {
			m[row.Tag] = append(m[row.Tag], row)
		}
	}
	return m
}

// pick returns what rows tell of ref. Some histories have a row for each run of
// a requeued job; the latest counts, and the others are restarts.
func pick(ref Ref, rows []Status) (Status, bool) {
	var best Status
	found, runs := false, 0
	for _, row := range rows {
		if !ref.Is(row.Ref) {
			continue
		}
		if !found || !row.Submitted.Before(best.Submitted) {
			best, found = row, true
		}
		runs++
	}
	for _, row := range rows {
		if !found && row.All && row.Tag == ref.Tag && strings.HasPrefix(ref.ID, row.ID) && (row.Cluster == ref.Cluster || row.Cluster == "" || ref.Cluster == "") {
			best, found = row, true
			best.Ref = ref
		}
	}
	best.Restarts = max(best.Restarts, runs-1)
	return best, found
}
