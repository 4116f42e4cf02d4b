package httpapi

import (
	"context"

	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
)

// PostCode files code.
func (h handlers) PostCode(ctx context.Context, r gen.PostCodeRequestObject) (gen.PostCodeResponseObject, error) {
	entry, _, err := h.cfg.Code.Put(ctx, callOf(ctx).principal, *r.Body)
	return gen.PostCode201JSONResponse{CodeJSONResponse: gen.CodeJSONResponse(entry)}, err
}

// ListCode lists the code within reach.
func (h handlers) ListCode(ctx context.Context, _ gen.ListCodeRequestObject) (gen.ListCodeResponseObject, error) {
	list, err := h.cfg.Code.List(ctx, callOf(ctx).principal)
	return gen.ListCode200JSONResponse(list), err
}

// GetCode returns a code part.
func (h handlers) GetCode(ctx context.Context, r gen.GetCodeRequestObject) (gen.GetCodeResponseObject, error) {
	entry, err := h.cfg.Code.Get(ctx, callOf(ctx).principal, r.Digest)
	return gen.GetCode200JSONResponse{CodeJSONResponse: gen.CodeJSONResponse(entry)}, err
}

// DeleteCode takes a code part off file.
func (h handlers) DeleteCode(ctx context.Context, r gen.DeleteCodeRequestObject) (gen.DeleteCodeResponseObject, error) {
	return gen.DeleteCode204Response{}, h.cfg.Code.Delete(ctx, callOf(ctx).principal, r.Digest)
}

// PostApproval files a signed statement.
func (h handlers) PostApproval(ctx context.Context, r gen.PostApprovalRequestObject) (gen.PostApprovalResponseObject, error) {
	approval, err := h.cfg.Code.FileApproval(ctx, callOf(ctx).principal, *r.Body)
	return gen.PostApproval201JSONResponse{ApprovalJSONResponse: gen.ApprovalJSONResponse(approval)}, err
}

// ListApprovals lists the user's approvals.
func (h handlers) ListApprovals(ctx context.Context, r gen.ListApprovalsRequestObject) (gen.ListApprovalsResponseObject, error) {
	list, err := h.cfg.Code.Approvals(ctx, callOf(ctx).principal, value(r.Params.Digest), value(r.Params.Name))
	return gen.ListApprovals200JSONResponse(list), err
}

// GetApproval returns one of them.
func (h handlers) GetApproval(ctx context.Context, r gen.GetApprovalRequestObject) (gen.GetApprovalResponseObject, error) {
	approval, err := h.cfg.Code.Approval(ctx, callOf(ctx).principal, r.Id)
	return gen.GetApproval200JSONResponse{ApprovalJSONResponse: gen.ApprovalJSONResponse(approval)}, err
}
