package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// deviceAnswer is what a device shows its user (RFC 8628 section 3.2). There
// is no verification_uri_complete: a code that is filled in by a link is typed
// by nobody, and whoever sends links could ask for anything.
type deviceAnswer struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	VerificationURI string `json:"verification_uri"`
	Expires         int    `json:"expires_in"`
	Interval        int    `json:"interval"`
}

// deviceAuthorization asks whoever will type the code.
func (s *Service) deviceAuthorization(r *request) (any, error) {
	if !s.arrived.admit(s.cfg.Address(r.Request), s.now()) {
		return nil, fault{429, slowDown, "too many requests from this address"}
	}
	c, err := s.client(r)
	if err != nil {
		return nil, err
	}
	d, err := s.wanted(r.form)
	if err != nil {
		return nil, err
	}
	thumbprint, err := boundTo(c, d, r.form["dpop_jkt"])
	if err != nil {
		return nil, err
	}
	g := grant{Flow: deviceFlow, Client: c.name, Request: d.request(c.name, thumbprint), ByScope: d.byScope, Replace: d.Replace, For: d.User, Interval: s.cfg.Interval}
	if err := s.known(r.Context(), d); err != nil {
		return nil, err
	}
	code := decision.NewUserCode()
	g.Request.CodeHash, _ = decision.HashUserCode(code)
	g.Request.Expires = s.now().Truncate(time.Second).Add(deviceLife)
	if err := d.valid(g.Request); err != nil {
		return nil, err
	}
	if err := s.open(r.Context(), g, "client:"+c.name); err != nil {
		return nil, err
	}
	return deviceAnswer{
		DeviceCode: s.reference(deviceFlow, g.Request.ID), UserCode: code, VerificationURI: s.cfg.Inbox.CodeURL(),
		Expires: int(deviceLife.Seconds()), Interval: int(s.cfg.Interval.Seconds()),
	}, nil
}

// known refuses an agent for a site that there is not, before anybody is asked.
// Who may use which project, and who has an agent where, is nothing for those
// who only ask: that is told to the one who decided.
func (s *Service) known(ctx context.Context, d details) error {
	if d.Type != agentDetails || !hpcsera.ValidName(d.Site) {
		return nil
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		_, err := r.Site(d.Site)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return bad(invalidDetails, "there is no site "+d.Site+" here: is it spelt as on the server's page?")
	}
	return store.Failed("look up the site of an agent", err)
}

// boundTo returns the key that a credential is to be bound to. Our own programs
// get what is theirs, always bound; clients get tokens, which are bearers'.
func boundTo(c caller, d details, thumbprint string) (string, error) {
	own := map[string]string{sessionDetails: hpcsera.CLIClient, agentDetails: hpcsera.AgentClient}[d.Type]
	switch {
	case own != "" && own != c.name, own == "" && c.name == hpcsera.AgentClient:
		return "", bad(unauthorizedClient, "this client does not ask for that")
	case own == "" && thumbprint != "":
		return "", bad(invalidRequest, "tokens are not bound to a key: leave dpop_jkt out")
	case own != "" && !decision.ValidThumbprint(thumbprint):
		return "", bad(invalidRequest, "dpop_jkt must be the thumbprint of the key that the credential is bound to")
	}
	return thumbprint, nil
}
