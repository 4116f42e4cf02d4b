package agent

import (
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/failpoint"
)

// reportsAtOnce bounds one report request.
const reportsAtOnce = 500

// reporter sends facts in the order of their seq, until the server has
// answered each.
type reporter struct{ bell chan struct{} }

func newReporter() *reporter { return &reporter{bell: make(chan struct{}, 1)} }

// wake says that there is a fact to send.
func (r *reporter) wake() {
	select {
	case r.bell <- struct{}{}:
	default:
	}
}

// reportLoop sends what is unsent whenever the bell rings, until ctx ends.
func (a *Agent) reportLoop(ctx context.Context) error {
	back := backoff{first: 500 * time.Millisecond, most: time.Minute}
	for {
		more, err := a.sendReports(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, errStopped):
			return err
		case err != nil:
			delay := back.next()
			a.log.Warn("reports not delivered", "error", err, "again_in", delay.String())
			sleep(ctx, delay)
			continue
		case more:
			continue
		}
		back.reset()
		select {
		case <-a.report.bell:
		case <-ctx.Done():
			return nil
		}
	}
}

// sendReports sends one batch and tells whether there is more.
func (a *Agent) sendReports(ctx context.Context) (more bool, err error) {
	req := hpcsera.ReportRequest{Instance: a.instance}
	err = a.engine.call(ctx, func() {
		if e := a.engine; a.granted.Load() != 0 {
			req.Term, req.Epoch, req.Acked = a.granted.Load(), e.epoch, e.safe
			req.Reports = append(req.Reports, e.unsent[:min(len(e.unsent), reportsAtOnce)]...)
		}
	})
	batch := req.Reports
	if err != nil || len(batch) == 0 {
		return false, err
	}
	hitReports("agent.before-report", batch)
	outcomes, err := a.tell(ctx, req)
	hitReports("agent.after-report", batch)
	if err != nil {
		if otherEpoch(err) {
			return false, errors.Join(errStopped, ErrRestored)
		}
		if hpcsera.CodeOf(err) == hpcsera.StaleTerm {
			return false, errors.Join(errStopped, err)
		}
		return false, err
	}
	for i, o := range outcomes {
		if o != hpcsera.Applied && o != hpcsera.Duplicate {
			a.log.Warn("report refused", "job", batch[i].JobID, "state", string(batch[i].State), "outcome", string(o))
		}
	}
	last := batch[len(batch)-1].Seq
	err = a.engine.call(ctx, func() {
		a.engine.write(journal.Entry{Kind: journal.KindSent, Seq: last})
		more = len(a.engine.unsent) > 0
	})
	return more, err
}

// tell sends facts. The server may refuse a request for what one of them is: too
// large, or with something that its contract does not have. That one must not
// stop the others for ever, so it is found by halving, and told bare.
func (a *Agent) tell(ctx context.Context, req hpcsera.ReportRequest) ([]hpcsera.Outcome, error) {
	answer, err := a.api.Report(ctx, req)
	n := len(req.Reports)
	switch {
	case !unfit(err):
		return answer.Outcomes, err
	case n == 1:
		return a.tellBare(ctx, req, err)
	}
	var outcomes []hpcsera.Outcome
	for _, half := range [][]hpcsera.Report{req.Reports[:n/2], req.Reports[n/2:]} {
		req.Reports = half
		said, err := a.tell(ctx, req)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, said...)
	}
	return outcomes, nil
}

// tellBare sends one fact without what a fact can lack. What a job is cannot be
// left out of a replay; such a job stays unknown to the server.
func (a *Agent) tellBare(ctx context.Context, req hpcsera.ReportRequest, why error) ([]hpcsera.Outcome, error) {
	r := req.Reports[0]
	a.log.Error("the server refuses a fact as it is; it is told without its details", "job", r.JobID, "state", string(r.State), "error", why)
	r.Message, r.Native, r.Nodes, r.Estimated, r.Result, r.Artifacts = "", nil, "", nil, nil, nil
	r.Warning = "The server refused what the agent told of this job, so message, result and artifacts are missing. They are on the site."
	req.Reports = []hpcsera.Report{r}
	answer, err := a.api.Report(ctx, req)
	if unfit(err) && r.Spec != nil {
		return []hpcsera.Outcome{hpcsera.Illegal}, nil
	}
	return answer.Outcomes, err
}

// unfit reports whether the server refused a request for what it holds.
func unfit(err error) bool {
	switch hpcsera.CodeOf(err) {
	case hpcsera.BodyTooLarge, hpcsera.InvalidField, hpcsera.UnknownField, hpcsera.MalformedRequest:
		return true
	}
	return false
}

// hitReports passes a failpoint with each report, so that a kill test can name
// the one that it means.
func hitReports(point string, reports []hpcsera.Report) {
	for i := range reports {
		failpoint.Hit(point, string(reports[i].State))
	}
}
