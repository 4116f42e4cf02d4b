package inquiry

import (
	"context"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// filed is the kind of documents of approvals of which the Auth app is still
// to be told. A document's key is the approval's id.
const filed store.Kind = "filed"

// Filed remembers in the caller's transaction that an approval was filed which
// was not signed in the Auth app. Run tells it, so that its user can withdraw
// it there: no request waits for the Auth app.
func Filed(tx store.Tx, a hpcsera.Approval) error {
	return tx.PutDocument(store.Document{Kind: filed, Key: a.ID, Owner: a.User, Ends: a.NotAfter}, struct{}{})
}

// tellFiled tells the Auth app of approvals that it does not know yet.
func (s *Service) tellFiled(ctx context.Context) error {
	var list []*store.Approval
	err := s.cfg.Store.Read(ctx, func(r store.Reader) error {
		return r.Documents(filed, "", s.now(), func(id string, _ []byte) error {
			if len(list) == mostFiled {
				return nil
			}
			a, err := r.Approval(id)
			list = append(list, a)
			return err
		})
	})
	if err != nil {
		return store.Failed("read approvals that were filed", err)
	}
	var failed failures
	for _, a := range list {
		err := s.cfg.Inbox.Filed(ctx, a.Statement, a.Signature)
		failed.add(err)
		if code := hpcsera.CodeOf(err); code == hpcsera.Unavailable || code == hpcsera.Internal {
			break
		}
		// What it refuses, it will refuse again.
		failed.add(s.cfg.Store.Write(ctx, func(tx store.Tx) error { return tx.DeleteDocument(filed, a.ID) }))
	}
	return failed.err()
}
