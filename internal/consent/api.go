package consent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/decision"
	"github.com/hpcsera/hpcsera/internal/records"
)

// maxPosted bounds a request's body: a manifest, the one before it, and as
// many bytes of files as can be shown, all in base 64.
const maxPosted = 4*decision.MaxContents + 8<<20

// statuses are those of the codes that deployments meet here.
var statuses = map[hpcsera.Code]int{
	hpcsera.MalformedRequest: http.StatusBadRequest,
	hpcsera.InvalidField:     http.StatusBadRequest,
	hpcsera.UnknownField:     http.StatusBadRequest,
	hpcsera.NotSupportedYet:  http.StatusUnprocessableEntity,
	hpcsera.ApprovalRefused:  http.StatusUnprocessableEntity,
	hpcsera.LimitExceeded:    http.StatusUnprocessableEntity,
	hpcsera.DigestMismatch:   http.StatusUnprocessableEntity,
	hpcsera.InvalidValue:     http.StatusUnprocessableEntity,
	hpcsera.Unauthenticated:  http.StatusUnauthorized,
	hpcsera.Forbidden:        http.StatusForbidden,
	hpcsera.NotFound:         http.StatusNotFound,
	hpcsera.Conflict:         http.StatusConflict,
	hpcsera.BodyTooLarge:     http.StatusRequestEntityTooLarge,
	hpcsera.QuotaExceeded:    http.StatusTooManyRequests,
	hpcsera.Unavailable:      http.StatusServiceUnavailable,
	hpcsera.StorageFull:      http.StatusInsufficientStorage,
}

// deployed puts authentication in front of an operation for deployments.
func (s *Service) deployed(h func(http.ResponseWriter, *http.Request, Deployment) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		assertion, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		d, err := s.authenticate(r.Context(), assertion)
		if err == nil {
			err = h(w, r, d)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	}
}

// fail answers a program. What is no error of ours goes to the log only.
func (s *Service) fail(w http.ResponseWriter, r *http.Request, err error) {
	var e *hpcsera.Error
	var limit *http.MaxBytesError
	switch {
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody listens any more
	case errors.As(err, &limit):
		e = hpcsera.Errorf(hpcsera.BodyTooLarge, "the body is larger than %d bytes.", limit.Limit)
	case !errors.As(err, &e) || statuses[e.Code] == 0:
		s.cfg.Log.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		e = hpcsera.Errorf(hpcsera.Internal, "something went wrong in the Auth app.").Hint("Its log says what.")
	}
	status := statuses[e.Code]
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "60")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	writeProblem(w, status, decision.Problem{Code: e.Code, Status: status, Detail: e.Message, Field: e.Field, Hint: e.Advice})
}

// read reads a body strictly.
func read(w http.ResponseWriter, r *http.Request, most int64, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if err != nil {
		return err
	}
	return hpcsera.Decode(body, into)
}

func (s *Service) postRequest(w http.ResponseWriter, r *http.Request, d Deployment) error {
	var request decision.Request
	if err := read(w, r, maxPosted, &request); err != nil {
		return err
	}
	if err := s.Post(r.Context(), d, request); err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Service) cancelRequest(w http.ResponseWriter, r *http.Request, d Deployment) error {
	err := s.cfg.Store.Write(r.Context(), func(tx records.Tx) error {
		p, found, err := get[pending](tx, kindRequest, d.Name+"/"+r.PathValue("id"))
		if err != nil || !found {
			return err
		}
		return errors.Join(s.forget(tx, p), s.note(tx, d.Name, "request.cancel", p.User, p.Request.ID, ""))
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func (s *Service) pollDecisions(w http.ResponseWriter, r *http.Request, d Deployment) error {
	answer := decision.Decisions{Decisions: []string{}}
	err := s.poll(r, d.Name, func(ctx context.Context) (bool, error) {
		var all []kept
		err := s.cfg.Store.Read(ctx, func(rd records.Reader) (err error) {
			all, err = list[kept](rd, kindDecision, d.Name)
			return err
		})
		slices.SortStableFunc(all, func(a, b kept) int { return a.Decided.Compare(b.Decided) })
		for _, k := range all {
			answer.Decisions = append(answer.Decisions, k.Text)
		}
		return len(all) > 0, err
	})
	if err == nil {
		writeJSON(w, http.StatusOK, answer)
	}
	return err
}

func (s *Service) pollEvents(w http.ResponseWriter, r *http.Request, d Deployment) error {
	answer := decision.Events{Events: []decision.Event{}}
	err := s.poll(r, d.Name, func(ctx context.Context) (bool, error) {
		err := s.cfg.Store.Read(ctx, func(rd records.Reader) (err error) {
			answer.Events, err = list[decision.Event](rd, kindEvent, d.Name)
			return err
		})
		slices.SortStableFunc(answer.Events, func(a, b decision.Event) int { return a.At.Compare(b.At) })
		return len(answer.Events) > 0, err
	})
	if err == nil {
		writeJSON(w, http.StatusOK, answer)
	}
	return err
}

// acknowledge forgets decisions and events that their deployment has. Ids that
// are not there, or another deployment's, are nothing to forget.
func (s *Service) acknowledge(w http.ResponseWriter, r *http.Request, d Deployment) error {
	var ack decision.Ack
	if err := read(w, r, 1<<20, &ack); err != nil {
		return err
	}
	err := s.cfg.Store.Write(r.Context(), func(tx records.Tx) error {
		for _, id := range ack.IDs {
			kind := kindDecision
			if hpcsera.ValidID("ev", id) {
				kind = kindEvent
			} else if !hpcsera.ValidID("dc", id) {
				return hpcsera.Errorf(hpcsera.InvalidField, "this is no id of a decision or an event.").At("ids")
			}
			if err := tx.Delete(kind, d.Name+"/"+id); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
