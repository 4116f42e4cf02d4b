package client

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

// PutCode files a code part. Missing of the answer names the digests of files
// to be uploaded. Filing the same code again is no error.
func (c *Client) PutCode(ctx context.Context, m hpcsera.Manifest) (hpcsera.CodeEntry, error) {
	return decode[hpcsera.CodeEntry](read(c.whole.PostCode(safely(ctx), m)))
}

// Code returns a code part on file.
func (c *Client) Code(ctx context.Context, digest string) (hpcsera.CodeEntry, error) {
	return decode[hpcsera.CodeEntry](read(c.whole.GetCode(ctx, digest)))
}

// CodeList returns the newest code parts within reach, at most 1000.
func (c *Client) CodeList(ctx context.Context) ([]hpcsera.CodeEntry, error) {
	list, err := decode[hpcsera.CodeList](read(c.whole.ListCode(ctx)))
	return list.Code, err
}

// FileApproval files a signed statement. Filing the same again is no error.
func (c *Client) FileApproval(ctx context.Context, statement []byte, signature string) (hpcsera.Approval, error) {
	return decode[hpcsera.Approval](read(c.whole.PostApproval(safely(ctx), api.ApprovalRequest{Statement: statement, Signature: signature})))
}

// Approvals lists the approvals of the token's user in its project, newest
// first; digest and name narrow the list where they are not "".
func (c *Client) Approvals(ctx context.Context, digest, name string) ([]hpcsera.Approval, error) {
	list, err := decode[hpcsera.ApprovalList](read(c.whole.ListApprovals(ctx, &api.ListApprovalsParams{Digest: given(digest), Name: given(name)})))
	return list.Approvals, err
}

// Sites lists the sites within reach, each with the user's own agents.
func (c *Client) Sites(ctx context.Context) ([]hpcsera.Site, error) {
	list, err := decode[hpcsera.SiteList](read(c.whole.ListSites(ctx)))
	return list.Sites, err
}

// Site returns one of them.
func (c *Client) Site(ctx context.Context, name string) (hpcsera.Site, error) {
	return decode[hpcsera.Site](read(c.whole.GetSite(ctx, name)))
}

// Self returns what is known of the client's own token.
func (c *Client) Self(ctx context.Context) (hpcsera.Token, error) {
	return decode[hpcsera.Token](read(c.whole.GetTokenSelf(ctx)))
}
