package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strings"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
	"github.com/hpcsera/hpcsera/internal/jobs"
)

// ListEvents returns a page of events, or a stream.
func (h handlers) ListEvents(ctx context.Context, r gen.ListEventsRequestObject) (gen.ListEventsResponseObject, error) {
	c := callOf(ctx)
	q := jobs.EventQuery{After: value(r.Params.After), Limit: value(r.Params.Limit)}
	if !wantsStream(c.request) {
		list, err := h.cfg.Jobs.Events(ctx, c.principal, q)
		return gen.ListEvents200JSONResponse{EventsJSONResponse: gen.EventsJSONResponse(list)}, err
	}
	if r.Params.LastEventID != nil {
		q.After = *r.Params.LastEventID
	} else if r.Params.After == nil {
		var err error
		if q.After, err = h.cfg.LastSeq(ctx); err != nil {
			return nil, err
		}
	}
	return h.stream(ctx, q)
}

// ListJobEvents returns a page of one job's events, or a stream.
func (h handlers) ListJobEvents(ctx context.Context, r gen.ListJobEventsRequestObject) (gen.ListJobEventsResponseObject, error) {
	c := callOf(ctx)
	q := jobs.EventQuery{Job: r.Id, After: value(r.Params.After), Limit: value(r.Params.Limit)}
	if !wantsStream(c.request) {
		list, err := h.cfg.Jobs.Events(ctx, c.principal, q)
		return gen.ListJobEvents200JSONResponse{EventsJSONResponse: gen.EventsJSONResponse(list)}, err
	}
	if r.Params.LastEventID != nil {
		q.After = *r.Params.LastEventID
	}
	return h.stream(ctx, q)
}

// wantsStream reports whether Accept names text/event-stream.
func wantsStream(r *http.Request) bool {
	for _, header := range r.Header["Accept"] {
		for _, item := range strings.Split(header, ",") {
			if kind, _, err := mime.ParseMediaType(item); err == nil && kind == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

// stream checks that the reader may read before the answer begins.
func (h handlers) stream(ctx context.Context, q jobs.EventQuery) (*eventStream, error) {
	c := callOf(ctx)
	s := &eventStream{api: h.API, call: c, query: q}
	if q.Job == "" {
		q.Limit = 1
		_, err := h.cfg.Jobs.Events(ctx, c.principal, q)
		return s, err
	}
	job, err := h.cfg.Jobs.Get(ctx, c.principal, q.Job)
	if job.State.Final() {
		s.last = job.Version
	}
	return s, err
}

// eventStream is a text/event-stream.
type eventStream struct {
	api   *API
	call  *call
	query jobs.EventQuery
	last  int64 // the seq of the last event of a job that had ended before, or 0
}

// VisitListEventsResponse sends events as they come.
func (s *eventStream) VisitListEventsResponse(w http.ResponseWriter) error { return s.visit(w) }

// VisitListJobEventsResponse sends events as they come.
func (s *eventStream) VisitListJobEventsResponse(w http.ResponseWriter) error { return s.visit(w) }

// errGone says that the reader of a stream went away.
type errGone struct{ error }

// errEnded ends a stream of a job that has ended.
var errEnded = hpcsera.Errorf(hpcsera.JobFinal, "the job has ended.")

func (s *eventStream) visit(w http.ResponseWriter) error {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies that collect answers would hold events back
	w.WriteHeader(http.StatusOK)
	out := reader{w, http.NewResponseController(w)}
	send := func(format string, args ...any) error {
		if _, err := fmt.Fprintf(out, format, args...); err != nil {
			return err
		}
		return out.flush()
	}
	emit := func(e hpcsera.Event) error {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if err := send("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, e.Type, data); err != nil {
			return err
		}
		if s.query.Job != "" && e.State.Final() && e.Seq >= s.last {
			return errEnded
		}
		return nil
	}
	// The comment makes the answer begin before the first event.
	if err := send(": hpcsera\n\n"); err != nil {
		panic(http.ErrAbortHandler)
	}
	if s.last != 0 && s.last <= s.query.After {
		return nil
	}
	r := s.call.request
	err := s.api.cfg.Jobs.Stream(r.Context(), s.call.principal, s.query, emit, func() error { return send(":\n\n") })
	if err != nil {
		s.api.cut(r, err)
	}
	return nil
}

// cut ends an answer that has begun. What the reader caused, such as a revoked
// token, ends it in order; anything else breaks the connection, which readers
// take as a reason to come back.
func (a *API) cut(r *http.Request, err error) {
	if statuses[hpcsera.CodeOf(err)] < http.StatusInternalServerError {
		return
	}
	if r.Context().Err() == nil && !errors.As(err, new(errGone)) {
		a.logError(r.Context(), err)
	}
	panic(http.ErrAbortHandler)
}
