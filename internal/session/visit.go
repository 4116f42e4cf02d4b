package session

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/records"
)

// each lists documents with their type.
func each[T any](r records.Reader, kind, owner string, fn func(key string, doc *T) error) error {
	return r.List(kind, owner, func(key string, doc []byte) error {
		v := new(T)
		if err := json.Unmarshal(doc, v); err != nil {
			return err
		}
		return fn(key, v)
	})
}

// newVisit makes a visit and gives the browser its cookie. A new one is made
// for each step that makes somebody more than before.
func (s *Service) newVisit(w http.ResponseWriter, r *http.Request, v *visit) error {
	secret, key := newSecret()
	old := s.visitKey(r)
	err := s.cfg.Records.Write(r.Context(), func(tx records.Tx) error {
		if err := tx.Delete(visitKind, old); err != nil {
			return err
		}
		return s.putVisit(tx, key, v)
	})
	if err == nil {
		s.cfg.Frame.SetCookie(w, visitCookie, secret, time.Time{})
	}
	return err
}

func (s *Service) putVisit(tx records.Tx, key string, v *visit) error {
	return tx.Put(visitKind, key, v, records.Options{Ends: s.cfg.Now().Add(visitLife)})
}

func (s *Service) visitKey(r *http.Request) string {
	return keyOf(s.cfg.Frame.Cookie(r, visitCookie))
}

// errVisit says that somebody took too long or came without the steps before.
var errVisit = hpcsera.Errorf(hpcsera.Conflict, "This sign-in has run out.").Hint("Begin again; it must be finished within ten minutes.")

// getVisit returns the visit of a request.
func getVisit(rd records.Reader, key string) (*visit, error) {
	var v visit
	if err := rd.Get(visitKind, key, &v); errors.Is(err, records.ErrNotFound) {
		return nil, errVisit
	} else if err != nil {
		return nil, err
	}
	return &v, nil
}

func (s *Service) readVisit(r *http.Request) (v *visit, err error) {
	err = s.cfg.Records.Read(r.Context(), func(rd records.Reader) (err error) {
		v, err = getVisit(rd, s.visitKey(r))
		return err
	})
	return v, err
}
