package inquiry

import (
	"context"
	"errors"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Decided applies a decision about code that the caller has verified. It may
// be applied twice. One about a request that is not open any more changes
// nothing; while jobs wait, their user is asked anew.
//
// A refused statement ends its request as well, so that the user is asked
// again instead of waiting for nothing; a decision by somebody else does not.
func (s *Service) Decided(ctx context.Context, d decision.Decision) error {
	q, err := s.open(ctx, d.Request)
	if err != nil || q == nil {
		return store.Failed("find request "+d.Request, err)
	}
	if err := d.Answers(decision.Request{ID: q.Request, Kind: decision.Code, User: q.User}); err != nil {
		return err
	}
	var refusal error
	if d.Granted {
		refusal = s.file(ctx, d, q.Awaited)
		switch hpcsera.CodeOf(refusal) {
		case "", hpcsera.ApprovalRefused, hpcsera.NotFound, hpcsera.Forbidden:
		default:
			return refusal // it is delivered again
		}
	}
	if err := s.close(ctx, *q, d, hpcsera.CodeOf(refusal)); err != nil {
		return err
	}
	return refusal
}

// open returns the question that has a request's id, nil where there is none.
func (s *Service) open(ctx context.Context, request string) (q *question, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		key := ""
		err := r.Documents(asked, request, s.now(), func(k string, _ []byte) error {
			key = k
			return nil
		})
		if err != nil || key == "" {
			return err
		}
		q = &question{}
		return r.Document(asked, key, s.now(), q)
	})
	return q, err
}

// file files what was signed, if it is about what was asked.
func (s *Service) file(ctx context.Context, d decision.Decision, about store.Awaited) error {
	st, err := approval.Parse(d.Statement)
	if err != nil {
		return err
	}
	if said := (store.Awaited{User: st.User, Project: st.Project, Digest: st.Code}); said != about {
		return hpcsera.Errorf(hpcsera.ApprovalRefused, "the statement is by %s about %s in %s; %s was asked about %s in %s.",
			said.User, said.Digest, said.Project, about.User, about.Digest, about.Project)
	}
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		user, err := r.User(about.User)
		if errors.Is(err, store.ErrNotFound) || err == nil && user.Disabled {
			return hpcsera.Errorf(hpcsera.Forbidden, "the user %s is disabled.", about.User)
		}
		return err
	})
	if err != nil {
		return store.Failed("read user "+about.User, err)
	}
	person := &auth.Principal{Person: &auth.Person{User: d.User, SteppedUp: true}}
	_, err = s.cfg.Code.FileApproval(ctx, person, hpcsera.ApprovalRequest{Statement: d.Statement, Signature: d.Signature})
	return err
}

// close forgets a decided question and, where it was denied, ends the jobs in
// the same transaction: jobs that come later are asked about anew.
func (s *Service) close(ctx context.Context, q question, d decision.Decision, refused hpcsera.Code) error {
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, s.now())
		if err != nil {
			return err
		}
		there, err := current(tx, q.Awaited, ledger.At())
		if err != nil || there == nil || there.Request != q.Request {
			return err // another replica was first
		}
		line := hpcsera.AuditLine{At: ledger.At(), Actor: "user:" + d.User, User: d.User, Project: q.Project, About: q.Digest, Detail: q.Request, Refused: refused}
		switch {
		case !d.Granted:
			line.Action = "code.deny"
			if err := s.cfg.Jobs.Deny(tx, ledger, q.Awaited, d.User+" decided against this code in the Auth app."); err != nil {
				return err
			}
		case refused != "":
			line.Action = "code.approve"
		}
		if line.Action != "" { // what was filed has its line
			if err := tx.Note(line); err != nil {
				return err
			}
		}
		return tx.DeleteDocument(asked, keyOf(q.Awaited))
	})
	return store.Failed("close request "+d.Request, err)
}
