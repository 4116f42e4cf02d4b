package code

import (
	"context"
	"errors"
	"slices"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Shown is a code part as its project's members see it in person, with what
// was signed about it.
type Shown struct {
	hpcsera.CodeEntry
	User, Client string   // who handed it in, and through what
	Approvals    []Signed // newest first
}

// Signed is an approval on file, read.
type Signed struct {
	hpcsera.Approval
	Says     approval.Statement
	Replaced string // the approval that took its place, or ""
}

// shownLimit is how many code parts of a project are listed, newest first.
const shownLimit = 200

// InProject lists the code of a project for one of its members.
func (s *Service) InProject(ctx context.Context, by *auth.Principal, project string) ([]Shown, error) {
	var list []Shown
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		members, err := s.members(r, by, project)
		if err != nil {
			return err
		}
		rows, err := r.CodeList(project, "", "", shownLimit)
		if err != nil {
			return err
		}
		for _, row := range rows {
			shown, err := s.shown(r, row, members)
			if err != nil {
				return err
			}
			list = append(list, shown)
		}
		return nil
	})
	return list, store.Failed("list code of "+project, err)
}

// InProjectByDigest returns one code part of a project for one of its members.
func (s *Service) InProjectByDigest(ctx context.Context, by *auth.Principal, project, digest string) (shown Shown, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		members, err := s.members(r, by, project)
		if err != nil {
			return err
		}
		row, err := r.Code(project, digest)
		if errors.Is(err, store.ErrNotFound) {
			return notHere(hpcsera.NotFound, digest)
		} else if err != nil {
			return err
		}
		shown, err = s.shown(r, row, members)
		return err
	})
	return shown, store.Failed("read code "+digest, err)
}

// members returns who is in a project that a person may read. A project that
// is not there and one of others look the same.
func (s *Service) members(r store.Reader, by *auth.Principal, project string) ([]string, error) {
	row, err := r.Project(project)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	target := auth.Target{Project: project, User: by.User()}
	if err == nil {
		target.Member = row.Members[by.User()]
	}
	if err := auth.Allow(by, auth.ReadCode, target); hpcsera.CodeOf(err) == hpcsera.NotFound {
		return nil, hpcsera.Errorf(hpcsera.NotFound, "there is no project %q of yours.", project)
	} else if err != nil {
		return nil, err
	}
	var members []string
	for name := range row.Members {
		members = append(members, name)
	}
	slices.Sort(members)
	return members, nil
}

func (s *Service) shown(r store.Reader, row *store.Code, members []string) (Shown, error) {
	entry, err := s.entry(r, row)
	shown := Shown{CodeEntry: entry, User: row.User, Client: row.Client}
	for _, member := range members {
		if err != nil {
			break
		}
		err = s.signed(r, row, member, &shown)
	}
	slices.SortStableFunc(shown.Approvals, func(a, b Signed) int { return b.Filed.Compare(a.Filed) })
	return shown, err
}

// signed adds what one member signed about the code. A later approval of the
// same name may have replaced it, whatever code that one is about; what a
// client filed by itself replaces only what that client did.
func (s *Service) signed(r store.Reader, row *store.Code, member string, into *Shown) error {
	all, err := r.Approvals(member, row.Project, store.EveryClient, "", row.Name, listLimit)
	if err != nil {
		return err
	}
	replaced, filers := map[string]string{}, map[string]string{}
	for _, a := range all {
		filers[a.ID] = a.Client
	}
	for _, a := range all {
		says, err := s.statement(a)
		if err != nil {
			return err
		}
		if a.Client == "" || a.Client == filers[says.Replaces] {
			replaced[says.Replaces] = a.ID
		}
		if a.Digest == row.Digest {
			into.Approvals = append(into.Approvals, Signed{Approval: a.Approval, Says: *says})
		}
	}
	for i := range into.Approvals {
		if by := replaced[into.Approvals[i].ID]; by != "" {
			into.Approvals[i].Replaced = by
		}
	}
	return nil
}
