package signin

import (
	"context"
	"errors"
	"net/url"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// keptForms are the documents of what users were about to do.
const keptForms store.Kind = "browser.form"

// Form is what a user was about to do when a second factor was asked for. It
// waits for the user's return, is shown again, and is never sent by itself.
type Form struct {
	ID     string     `json:"id"`
	Path   string     `json:"path"`
	Values url.Values `json:"values"`
}

// Keep keeps a form for a quarter of an hour. A user has one at most: a later
// one takes its place, so forms cannot fill the database.
func (s *Service) Keep(ctx context.Context, by *auth.Principal, path string, values url.Values) (id string, err error) {
	f := Form{ID: hpcsera.NewID("kf"), Path: path, Values: values}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		return tx.PutDocument(store.Document{Kind: keptForms, Key: by.User(), Owner: by.User(), Ends: s.now().Add(keptLife)}, f)
	})
	return f.ID, store.Failed("keep a form", err)
}

// Kept returns a form of the user; not found when it is another's, too old, or
// was replaced.
func (s *Service) Kept(ctx context.Context, by *auth.Principal, id string) (f Form, err error) {
	err = s.cfg.Store.Read(ctx, func(r store.Reader) error {
		return r.Document(keptForms, by.User(), s.now(), &f)
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && f.ID != id {
		return Form{}, hpcsera.Errorf(hpcsera.NotFound, "what you were about to do is not known any more.").Hint("Nothing was done. Start again.")
	}
	return f, store.Failed("read a form", err)
}

// Take returns a form as Kept does, once.
func (s *Service) Take(ctx context.Context, by *auth.Principal, id string) (Form, error) {
	f, err := s.Kept(ctx, by, id)
	if err != nil {
		return Form{}, err
	}
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		var now Form
		if err := tx.Document(keptForms, by.User(), s.now(), &now); errors.Is(err, store.ErrNotFound) || err == nil && now.ID != id {
			return hpcsera.Errorf(hpcsera.Conflict, "this was sent already.").Hint("Look whether it was done.")
		} else if err != nil {
			return err
		}
		return tx.DeleteDocument(keptForms, by.User())
	})
	return f, store.Failed("take a form", err)
}
