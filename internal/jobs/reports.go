package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Bounds of what a report may bring. What exceeds them is shortened or left
// out with a warning, never refused: a fact must not be stuck at the agent.
const (
	maxReports   = 1000
	maxWarnings  = 20
	maxArtifacts = 10_000
	maxResult    = 64 << 10
)

// Reports applies an agent's facts in one transaction and says what became of
// each. An error (stale_term) applies none.
func (s *Service) Reports(ctx context.Context, p *auth.Principal, agent string, r hpcsera.ReportRequest) (hpcsera.ReportAnswer, error) {
	var answer hpcsera.ReportAnswer
	if err := auth.Allow(p, auth.PostReports, auth.Target{Agent: agent}); err != nil {
		return answer, err
	}
	if len(r.Reports) > maxReports {
		return answer, hpcsera.Errorf(hpcsera.InvalidField, "%d reports in one request.", len(r.Reports)).At("reports").Hint("Send at most %d.", maxReports)
	}
	now, acked := s.now(), s.acked(agent, r.Acked)
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		if err := s.current(tx, agent, acked, r.Epoch); err != nil {
			return err
		}
		ledger, err := store.NewLedger(tx, now)
		if err != nil {
			return err
		}
		row, err := tx.Agent(agent)
		if err != nil {
			return err
		}
		if err := fence(row, r.Instance, r.Term); err != nil {
			return err
		}
		highest := row.AppliedSeq
		outcomes := make([]hpcsera.Outcome, len(r.Reports))
		for i, report := range r.Reports {
			if outcomes[i], err = s.report(tx, ledger, row, report); err != nil {
				return fmt.Errorf("apply a report about %s: %w", report.JobID, err)
			}
			highest = max(highest, report.Seq) // whatever became of it, it was heard
		}
		answer.Outcomes = outcomes
		if highest == row.AppliedSeq {
			return nil
		}
		row.AppliedSeq = highest
		return tx.UpdateAgent(*row)
	})
	if errors.Is(err, errPutBack) {
		err = s.begin(ctx, agent, acked)
	}
	if err == nil {
		s.cfg.Sightings.Seen(agent)
	}
	return answer, store.Failed("apply reports of "+agent, err)
}

// report applies one fact.
func (s *Service) report(tx store.Tx, ledger *store.Ledger, agent *store.Agent, r hpcsera.Report) (hpcsera.Outcome, error) {
	if r.Spec != nil {
		return s.adopt(tx, ledger, agent, r)
	}
	j, err := tx.Job(r.JobID)
	if errors.Is(err, store.ErrNotFound) {
		return hpcsera.UnknownJob, nil
	} else if err != nil {
		return "", err
	}
	return s.fact(tx, ledger, agent.ID, j, r)
}

// fact applies one to its job, if it is news.
func (s *Service) fact(tx store.Tx, ledger *store.Ledger, agent string, j *store.Job, r hpcsera.Report) (hpcsera.Outcome, error) {
	if outcome := judge(j, agent, r); outcome != hpcsera.Applied {
		if outcome == hpcsera.Illegal {
			s.cfg.Log.Warn("an agent's report was illegal", "agent", agent, "job", r.JobID, "was", j.State, "reported", r.State)
		}
		return outcome, nil
	}
	ran := j.Times.Running != nil
	if err := apply(tx, j, r, ledger.At()); err != nil {
		return "", err
	}
	if err := ledger.Update(j, store.StateEvent); err != nil {
		return "", err
	}
	if j.State.Final() || !ran && j.Times.Running != nil {
		return hpcsera.Applied, s.ripple(tx, ledger, j.ID)
	}
	return hpcsera.Applied, nil
}

// judge says what becomes of a fact. (Attempt, Seq) orders the facts of a job;
// the revision never makes one stale.
func judge(j *store.Job, agent string, r hpcsera.Report) hpcsera.Outcome {
	from := hpcsera.Position{State: j.State, Step: j.Step, Attempt: j.Attempt}
	to := hpcsera.Position{State: r.State, Step: r.Step, Attempt: r.Attempt}
	switch {
	case j.Agent != agent || r.Seq < 1 || r.Step < 0 || r.Step > 64 || r.Attempt < 1 || r.Attempt > maxAttempts:
		return hpcsera.Illegal
	case r.Reason != "" && !slices.Contains(hpcsera.Reasons, r.Reason):
		return hpcsera.Illegal
	case r.Seq == j.ReportSeq && r.Attempt == j.Attempt:
		return hpcsera.Duplicate
	case r.Attempt < j.Attempt || r.Attempt == j.Attempt && r.Seq < j.ReportSeq:
		return hpcsera.Stale
	case !hpcsera.CanFollow(from, to, j.Requeue):
		return hpcsera.Illegal
	}
	return hpcsera.Applied
}

// apply sets a fact. Times are filled for the states that were reported; those
// that were skipped stay null.
func apply(tx store.Tx, j *store.Job, r hpcsera.Report, now time.Time) error {
	if r.Attempt > j.Attempt {
		archive(j)
	}
	if r.Step > j.Step || r.Attempt > j.Attempt {
		j.Native, j.Exit, j.Nodes = nil, nil, ""
	}
	j.State, j.Step, j.Attempt, j.ReportSeq = r.State, r.Step, r.Attempt, r.Seq
	j.Reason, j.Message, j.Estimated = r.Reason, shorten(r.Message), r.Estimated
	if r.AsOf != nil {
		j.AsOf = r.AsOf
	}
	if r.Native != nil {
		j.Native = r.Native
	}
	if r.Exit != nil {
		j.Exit = r.Exit
	}
	if r.Nodes != "" {
		j.Nodes = shorten(r.Nodes)
	}
	if r.Directory != "" {
		j.Directory = j.Site + ":" + shorten(r.Directory)
	}
	if r.Warning != "" {
		addWarning(j, shorten(r.Warning))
	}
	if r.Result != nil {
		setResult(j, r.Result)
	}
	setTimes(j, r.At, now)
	return addArtifacts(tx, j, r.Artifacts)
}

// archive keeps an attempt that a requeue ended.
func archive(j *store.Job) {
	j.Attempts = append(j.Attempts, hpcsera.Attempt{
		Attempt: j.Attempt, Native: j.Native, Exit: j.Exit, Nodes: j.Nodes, Queued: j.Times.Queued, Running: j.Times.Running,
	})
	j.Times.Queued, j.Times.Running = nil, nil
}

// setTimes notes when the reported state began, by the agent's clock, which
// cannot be ahead of ours.
func setTimes(j *store.Job, at, now time.Time) {
	if at.IsZero() || at.After(now) {
		at = now
	}
	at = at.UTC()
	switch {
	case j.State == hpcsera.Queued && j.Times.Queued == nil:
		j.Times.Queued = &at
	case j.State == hpcsera.Running && j.Times.Running == nil:
		j.Times.Running = &at
	case j.State.Final():
		j.Times.Ended, j.Estimated = &at, nil
	}
}

func setResult(j *store.Job, result json.RawMessage) {
	var object map[string]json.RawMessage
	if len(result) > maxResult || json.Unmarshal(result, &object) != nil || object == nil {
		if !bytes.Equal(bytes.TrimSpace(result), []byte("null")) {
			addWarning(j, fmt.Sprintf("The result was dropped: it is no JSON object of at most %d bytes.", maxResult))
		}
		return
	}
	j.Result = result
}

// addArtifacts lists what the agent uploaded. One that is not here is told
// as a warning, so that the list promises nothing.
func addArtifacts(r store.Reader, j *store.Job, list []hpcsera.Artifact) error {
	for _, a := range list {
		if hpcsera.CheckPath(a.Path) != nil || !hpcsera.ValidDigest(a.Digest) || a.Size < 0 {
			addWarning(j, fmt.Sprintf("An artifact was dropped: %q is no path in the job's directory, or has no digest.", shorten(a.Path)))
			continue
		}
		has, err := r.HasBlob(j.Project, a.Digest)
		if err != nil {
			return err
		}
		known := slices.IndexFunc(j.Artifacts, func(old hpcsera.Artifact) bool { return old.Path == a.Path })
		switch {
		case !has:
			addWarning(j, fmt.Sprintf("The artifact %q was not uploaded.", a.Path))
		case known >= 0:
			j.Artifacts[known] = a
		case len(j.Artifacts) >= maxArtifacts:
			addWarning(j, fmt.Sprintf("More than %d artifacts were left out.", maxArtifacts))
		default:
			j.Artifacts = append(j.Artifacts, a)
		}
	}
	return nil
}

func addWarning(j *store.Job, text string) {
	if len(j.Warnings) < maxWarnings && !slices.Contains(j.Warnings, text) {
		j.Warnings = append(j.Warnings, text)
	}
}

// shorten cuts text from a site to what is kept.
func shorten(text string) string { return hpcsera.Brief(text, maxMessage) }

// Abandon ends the unfinished jobs of an agent that is being removed. Whatever
// runs on the site goes on without anybody asking.
func (s *Service) Abandon(tx store.Tx, ledger *store.Ledger, agent string) error {
	for {
		left, err := tx.Orders(agent, 0, maxOrders)
		if err != nil || len(left) == 0 {
			return err
		}
		for _, j := range left {
			end(j, hpcsera.Failed, hpcsera.AgentRemoved, "The agent was removed; what it started may still run.", ledger.At())
			if err := ledger.Update(j, store.StateEvent); err != nil {
				return err
			}
			if err := s.ripple(tx, ledger, j.ID); err != nil {
				return err
			}
		}
	}
}
