package code

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// FileApproval files a signed statement and makes the jobs ready that waited
// for it. p is a token with role 4, or the person who decided in the Auth app.
// Filing the same twice is no error.
func (s *Service) FileApproval(ctx context.Context, p *auth.Principal, r hpcsera.ApprovalRequest) (hpcsera.Approval, error) {
	if p.Agent != nil {
		return hpcsera.Approval{}, auth.Allow(p, auth.PostApproval, auth.Target{})
	}
	st, err := approval.Parse(r.Statement)
	if err != nil {
		return hpcsera.Approval{}, err
	}
	action := auth.PostApproval
	if p.Person != nil {
		action = auth.ConsentToCode
	}
	if err := auth.Allow(p, action, auth.Target{Project: st.Project, User: st.User}); hpcsera.CodeOf(err) == hpcsera.NotFound {
		return hpcsera.Approval{}, refused("the statement is by %s for the project %s, which are not this sender's.", st.User, st.Project).
			Hint("File it with a token of that user and project.")
	} else if err != nil {
		return hpcsera.Approval{}, err
	}
	if err := s.fileable(st, r); err != nil {
		return hpcsera.Approval{}, err
	}
	// It would count for nobody; see [store.Approval].
	if only := p.OnlyClient(); only != "" && !allows(st.Clients, only) {
		return hpcsera.Approval{}, refused("the token is of the client %s, for which the statement is not.", only).At("clients").
			Hint("File it with a token of scope project, or approve the code in the Auth app.")
	}
	row := store.Approval{Client: p.OnlyClient(), Approval: hpcsera.Approval{
		ID: st.ID, User: st.User, Project: st.Project, Digest: st.Code, Name: st.Name,
		NotBefore: st.NotBefore, NotAfter: st.NotAfter, Statement: r.Statement, Signature: r.Signature, Filed: s.cfg.Now().UTC(),
	}}
	var filed store.Approval
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, row.Filed)
		if err != nil {
			return err
		}
		filed, err = s.file(tx, ledger, p, st, row)
		return err
	})
	return filed.Approval, store.Failed("file approval "+st.ID, err)
}

// fileable checks what needs no look-up: that the statement is meant for this
// deployment, can still hold, and that the signature belongs to its bytes.
// Whether the signer may approve is decided by the agents, not here: any key
// passes, which is why [store.Approval] keeps whose token filed it.
func (s *Service) fileable(st approval.Statement, r hpcsera.ApprovalRequest) error {
	if st.Deployment != s.cfg.Deployment {
		return refused("the statement is for %s; this is %s.", st.Deployment, s.cfg.Deployment).At("deployment").
			Hint("Build it with the URL under which the server is reached.")
	}
	if !s.cfg.Now().Before(st.NotAfter) {
		return refused("the statement ended at %s.", st.NotAfter.Format(time.RFC3339)).At("not_after")
	}
	// Nothing looks at waiting jobs again when a statement begins, so it has to
	// hold when it is filed.
	if s.cfg.Now().Add(clockSkew).Before(st.NotBefore) {
		return refused("the statement begins only at %s.", st.NotBefore.Format(time.RFC3339)).At("not_before").Hint("File it then.")
	}
	_, err := approval.Verify(r.Statement, r.Signature)
	return err
}

func (s *Service) file(tx store.Tx, ledger *store.Ledger, p *auth.Principal, st approval.Statement, row store.Approval) (store.Approval, error) {
	switch old, err := tx.Approval(st.ID); {
	case err == nil && old.Client == store.NoClient:
	case err == nil && bytes.Equal(old.Statement, row.Statement) && old.User == row.User:
		return *old, nil
	case err == nil:
		return row, refused("another statement has this id.").At("id").Hint("Build a new one.")
	case !errors.Is(err, store.ErrNotFound):
		return row, err
	}
	if err := s.matches(tx, st); err != nil {
		return row, err
	}
	if err := tx.PutApproval(row); err != nil {
		return row, err
	}
	if err := note(tx, p, st.Project, row.Filed, "code.approve", st.ID, st.Name+" "+st.Code); err != nil {
		return row, err
	}
	if s.cfg.Filed != nil && p.Token != nil {
		if err := s.cfg.Filed(tx, row.Approval); err != nil {
			return row, err
		}
	}
	return row, s.release(tx, ledger, st)
}

// matches checks a statement against the code that it names. The agent does
// so again from the bytes it fetched; here it saves the user a surprise.
func (s *Service) matches(r store.Reader, st approval.Statement) error {
	part, err := s.Part(r, st.Project, st.Code)
	if err == nil {
		// The part may come from memory, where every project's code is.
		_, err = r.Code(st.Project, st.Code)
	}
	if errors.Is(err, store.ErrNotFound) || hpcsera.CodeOf(err) == hpcsera.UnknownCode {
		return refused("the project %s has no code %s.", st.Project, st.Code).At("code").Hint("Hand it in first: POST /code.")
	} else if err != nil {
		return err
	}
	schema, err := approval.SchemaDigest(part.Manifest)
	switch {
	case err != nil:
		return err
	case st.Name != part.Manifest.Name:
		return refused("the code's name is %s, not %s.", part.Manifest.Name, st.Name).At("name")
	case st.Schema != schema:
		return refused("the digest of the code's parameters is %s.", schema).At("schema")
	}
	return nil
}

// release makes the jobs ready that waited for this approval.
func (s *Service) release(tx store.Tx, ledger *store.Ledger, st approval.Statement) error {
	waiting, err := tx.AwaitingApproval(st.User, st.Project, st.Code)
	if err != nil {
		return err
	}
	for _, j := range waiting {
		found, err := s.Covering(tx, j, nil, ledger.At())
		switch {
		case hpcsera.CodeOf(err) == hpcsera.LimitExceeded:
			j.Message = "The approval " + st.ID + " does not cover this job: " + err.Error()
		case err != nil:
			return err
		case found == nil:
			continue
		default:
			j.Ready, j.Reason, j.Message, j.Code.Approval = true, hpcsera.WaitingForAgent, "", found.ID
		}
		if err := ledger.Update(j, store.StateEvent); err != nil {
			return err
		}
	}
	return nil
}

// Approvals lists the approvals of p's user in p's project, newest first, and
// for a token that reaches only its client's things those that are for it.
// digest and name narrow the list where they are not "".
func (s *Service) Approvals(ctx context.Context, p *auth.Principal, digest, name string) (hpcsera.ApprovalList, error) {
	list := hpcsera.ApprovalList{Approvals: []hpcsera.Approval{}}
	if err := auth.Allow(p, auth.ListApprovals, auth.Target{Project: projectOf(p), User: p.User()}); err != nil {
		return list, err
	}
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		rows, err := r.Approvals(p.Token.User, p.Token.Project, cmp.Or(p.OnlyClient(), store.EveryClient), digest, name, listLimit)
		if err != nil {
			return err
		}
		for _, a := range rows {
			shown, err := s.concerns(a, p)
			if err != nil {
				return err
			}
			if shown {
				list.Approvals = append(list.Approvals, a.Approval)
			}
		}
		return nil
	})
	return list, store.Failed("list approvals", err)
}

// Approval returns one of them.
func (s *Service) Approval(ctx context.Context, p *auth.Principal, id string) (hpcsera.Approval, error) {
	var row *store.Approval
	err := s.cfg.Store.Read(ctx, func(r store.Reader) (err error) {
		row, err = r.Approval(id)
		return err
	})
	if err == nil {
		var shown bool
		if shown, err = s.concerns(row, p); err == nil && !shown {
			err = store.ErrNotFound
		}
	}
	if err == nil {
		err = auth.Allow(p, auth.GetApproval, auth.Target{Project: row.Project, User: row.User})
	}
	if errors.Is(err, store.ErrNotFound) || hpcsera.CodeOf(err) == hpcsera.NotFound {
		return hpcsera.Approval{}, hpcsera.Errorf(hpcsera.NotFound, "there is no approval %s.", id)
	} else if err != nil {
		return hpcsera.Approval{}, store.Failed("read approval "+id, err)
	}
	return row.Approval, nil
}

// concerns says whether an approval is one for p's client, where p is limited
// to it. Whoever reads a statement could file one like it.
func (s *Service) concerns(a *store.Approval, p *auth.Principal) (bool, error) {
	only := p.OnlyClient()
	if only == "" {
		return true, nil
	}
	st, err := s.statement(a)
	if err != nil {
		return false, err
	}
	return (a.Client == "" || a.Client == only) && allows(st.Clients, only), nil
}

func refused(format string, args ...any) *hpcsera.Error {
	return hpcsera.Errorf(hpcsera.ApprovalRefused, format, args...)
}
