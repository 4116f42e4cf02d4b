package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// line is the network between one instance and the server.
type line struct{ i *instance }

var errNetwork = errors.New("connection reset")

// RoundTrip carries a request, unless the instance is dead or cut off, or the
// network fails: before the request arrived, or before the answer did.
func (l *line) RoundTrip(req *http.Request) (*http.Response, error) {
	i, s := l.i, l.i.w.server
	w := i.w
	body, err := io.ReadAll(orEmpty(req.Body))
	if err != nil {
		return nil, err
	}
	kind := kindOf(req)
	s.mu.Lock()
	f := s.faults
	s.requests[fmt.Sprintf("%s %d", kind, i.number)]++
	s.mu.Unlock()
	if w.chance(f.slow) {
		sleep(req.Context(), w.within(10*time.Second))
	}
	if i.dead.Load() || i.cut.Load() || w.chance(f.lostRequest) {
		if i.cut.Load() && w.chance(2) {
			sleep(req.Context(), time.Minute) // packets vanish, and nobody says so
		}
		return nil, errNetwork
	}
	if w.chance(f.refused) {
		return problem(req, http.StatusServiceUnavailable, hpcsera.Errorf(hpcsera.Unavailable, "the server stops")), nil
	}
	if kind == "log" && w.chance(f.cutLog) && len(body) > 1 {
		s.handle(i, req, body[:len(body)/2])
		return nil, errNetwork
	}
	res := s.handle(i, req, body)
	if i.dead.Load() || i.cut.Load() || w.chance(f.lostAnswer) || req.Context().Err() != nil {
		return nil, errNetwork
	}
	if kind == "work" && res.StatusCode == http.StatusOK {
		i.answered.Store(time.Now().UnixNano())
	}
	return res, nil
}

func orEmpty(r io.ReadCloser) io.Reader {
	if r == nil {
		return strings.NewReader("")
	}
	return r
}

func kindOf(req *http.Request) string {
	switch {
	case strings.HasSuffix(req.URL.Path, "/work"):
		return "work"
	case strings.HasSuffix(req.URL.Path, "/reports"):
		return "reports"
	case strings.Contains(req.URL.Path, "/logs/"):
		return "log"
	}
	return "blob"
}

func (s *server) handle(i *instance, req *http.Request, body []byte) *http.Response {
	var answer any
	var err *hpcsera.Error
	switch kindOf(req) {
	case "work":
		var r hpcsera.WorkRequest
		if e := hpcsera.Decode(body, &r); e != nil {
			s.w.broken("a work request that cannot be read: %v", e)
		}
		var said hpcsera.WorkAnswer
		said, err = s.work(req, i, r)
		s.mu.Lock()
		taken := s.taken
		s.mu.Unlock()
		if err == nil && taken != nil {
			taken(&said)
		}
		answer = said
	case "reports":
		var r hpcsera.ReportRequest
		if e := hpcsera.Decode(body, &r); e != nil {
			s.w.broken("reports that cannot be read: %v", e)
		}
		if answer, err = nil, s.unfit(body, r); err == nil {
			answer, err = s.reports(r)
		}
	case "log":
		err = s.appendLog(req, body)
	default:
		if req.Method == http.MethodGet {
			return response(req, http.StatusOK, "application/octet-stream", s.blob(req))
		}
		answer, err = map[string]any{"size": len(body), "complete": true}, s.putBlob(req, body)
	}
	if err != nil {
		return problem(req, http.StatusConflict, err)
	}
	b, e := json.Marshal(answer)
	if e != nil {
		s.w.broken("answer: %v", e)
	}
	return response(req, http.StatusOK, "application/json", b)
}

func response(req *http.Request, status int, kind string, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(bytes.NewReader(body)), Request: req,
	}
}

func problem(req *http.Request, status int, e *hpcsera.Error) *http.Response {
	b, _ := json.Marshal(map[string]any{"code": e.Code, "detail": e.Message, "field": e.Field, "expected": e.Expected})
	return response(req, status, "application/problem+json", b)
}
