package httpapi

import (
	"context"
	"errors"
	"io"

	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
	"github.com/hpcsera/hpcsera/internal/jobs"
)

// PostWork answers an agent's poll.
func (h handlers) PostWork(ctx context.Context, r gen.PostWorkRequestObject) (gen.PostWorkResponseObject, error) {
	p := callOf(ctx).principal
	answer, err := h.cfg.Jobs.Work(ctx, p, r.Id, *r.Body)
	if err == nil {
		h.cfg.Metrics.asked(p.Agent.Site, r.Body.Commands)
	}
	return gen.PostWork200JSONResponse(answer), err
}

// PostReports takes an agent's facts.
func (h handlers) PostReports(ctx context.Context, r gen.PostReportsRequestObject) (gen.PostReportsResponseObject, error) {
	answer, err := h.cfg.Jobs.Reports(ctx, callOf(ctx).principal, r.Id, *r.Body)
	return gen.PostReports200JSONResponse(answer), err
}

// AppendJobLog takes a job's output from its agent.
func (h handlers) AppendJobLog(ctx context.Context, r gen.AppendJobLogRequestObject) (gen.AppendJobLogResponseObject, error) {
	ref := jobs.LogRef{Job: r.Id, Stream: string(r.Stream), Attempt: r.Params.Attempt}
	size, err := h.cfg.Jobs.AppendLog(ctx, callOf(ctx).principal, ref, r.Params.Offset, inbound{r.Body})
	return gen.AppendJobLog200JSONResponse{Size: size}, err
}

// inbound names the failure of a body's sender, so that it is not taken for
// one of ours.
type inbound struct{ io.Reader }

func (b inbound) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = broken(err)
	}
	return n, err
}

// ListSites lists the sites.
func (h handlers) ListSites(ctx context.Context, _ gen.ListSitesRequestObject) (gen.ListSitesResponseObject, error) {
	list, err := h.cfg.Jobs.Sites(ctx, callOf(ctx).principal)
	return gen.ListSites200JSONResponse(list), err
}

// GetSite returns a site.
func (h handlers) GetSite(ctx context.Context, r gen.GetSiteRequestObject) (gen.GetSiteResponseObject, error) {
	site, err := h.cfg.Jobs.Site(ctx, callOf(ctx).principal, r.Name)
	return gen.GetSite200JSONResponse(site), err
}

// GetTokenSelf tells a token what it is.
func (h handlers) GetTokenSelf(ctx context.Context, _ gen.GetTokenSelfRequestObject) (gen.GetTokenSelfResponseObject, error) {
	token, err := h.cfg.Jobs.Self(callOf(ctx).principal)
	return gen.GetTokenSelf200JSONResponse(token), err
}

// DeleteTokenSelf gives a token up.
func (h handlers) DeleteTokenSelf(ctx context.Context, _ gen.DeleteTokenSelfRequestObject) (gen.DeleteTokenSelfResponseObject, error) {
	return gen.DeleteTokenSelf204Response{}, h.cfg.Jobs.GiveUp(ctx, callOf(ctx).principal)
}
