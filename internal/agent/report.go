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
	answer, err := a.api.Report(ctx, req)
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
	for i, o := range answer.Outcomes {
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

// hitReports passes a failpoint with each report, so that a kill test can name
// the one that it means.
func hitReports(point string, reports []hpcsera.Report) {
	for i := range reports {
		failpoint.Hit(point, string(reports[i].State))
	}
}
