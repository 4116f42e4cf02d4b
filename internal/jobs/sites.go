package jobs

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
)

// Sites lists the sites that p reaches, each with the agents of p's user.
func (s *Service) Sites(ctx context.Context, p *auth.Principal) (hpcsera.SiteList, error) {
	panic("in work")
}

// Site returns one of them.
func (s *Service) Site(ctx context.Context, p *auth.Principal, name string) (hpcsera.Site, error) {
	panic("in work")
}

// Self returns the principal's own token.
func (s *Service) Self(p *auth.Principal) (hpcsera.Token, error) { panic("in work") }

// GiveUp revokes the principal's own token; see RevokeToken.
func (s *Service) GiveUp(ctx context.Context, p *auth.Principal) error { panic("in work") }
