package code

import (
	"bytes"
	"errors"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Adopt files the code and the approval of a job that the agent p took before the
// database was put back from a backup, and returns the code part and the
// approval's id. Nobody proves here that the user signed: the agent did so
// before the job ran, and will for every other one. So the approval counts for
// this job only: an agent that was taken over would otherwise decide what a name
// means elsewhere. The bytes of files may be missing; what was staged has them.
func (s *Service) Adopt(tx store.Tx, p *auth.Principal, spec hpcsera.OrderSpec, at time.Time) (*hpcsera.CodePart, string, error) {
	var m hpcsera.Manifest
	if err := hpcsera.Decode(spec.Manifest, &m); err != nil {
		return nil, "", err
	}
	part, err := s.check(m)
	if err != nil {
		return nil, "", err
	}
	st, err := approval.Parse(spec.Statement)
	if err != nil {
		return nil, "", err
	}
	if part.Digest != spec.Digest || st.Code != spec.Digest || st.User != spec.User || st.Project != spec.Project {
		return nil, "", refused("the statement is not for this job.")
	}
	if _, err := tx.Code(spec.Project, part.Digest); errors.Is(err, store.ErrNotFound) {
		err = tx.PutCode(store.Code{
			CodeEntry: hpcsera.CodeEntry{Digest: part.Digest, Name: m.Name, Project: spec.Project, Manifest: m, Created: at.UTC()},
			User:      spec.User, Client: spec.Client,
		})
		if err == nil {
			err = note(tx, p, spec.Project, at, "code.adopt", part.Digest, m.Name)
		}
		if err != nil {
			return nil, "", err
		}
	} else if err != nil {
		return nil, "", err
	}
	old, err := tx.Approval(st.ID)
	switch {
	case err == nil && (old.User != st.User || !bytes.Equal(old.Statement, spec.Statement)):
		return nil, "", refused("another statement has the id %s.", st.ID)
	case err == nil:
		return part, st.ID, nil
	case !errors.Is(err, store.ErrNotFound):
		return nil, "", err
	}
	if _, err := approval.Verify(spec.Statement, spec.Signature); err != nil {
		return nil, "", err
	}
	if err := note(tx, p, spec.Project, at, "code.adopt", st.ID, st.Name+" "+st.Code); err != nil {
		return nil, "", err
	}
	return part, st.ID, tx.PutApproval(store.Approval{Client: store.NoClient, Approval: hpcsera.Approval{
		ID: st.ID, User: st.User, Project: st.Project, Digest: st.Code, Name: st.Name,
		NotBefore: st.NotBefore, NotAfter: st.NotAfter, Statement: spec.Statement, Signature: spec.Signature, Filed: at.UTC(),
	}})
}
