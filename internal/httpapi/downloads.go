package httpapi

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/blob"
	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
	"github.com/hpcsera/hpcsera/internal/jobs"
)

// download sends the bytes of a user, whole or by range.
type download struct {
	api     *API
	request *http.Request
	file    blob.File
	name    string
	etag    string // of bytes that never change
}

// userBytes sets the headers without which a browser could run what a job
// wrote as a page of ours.
func userBytes(h http.Header, name string) {
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": name}))
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
}

func (d download) visit(w http.ResponseWriter) error {
	defer d.file.Close()
	userBytes(w.Header(), d.name)
	if d.etag != "" {
		w.Header().Set("ETag", strconv.Quote(d.etag))
	}
	out := &ranged{ResponseWriter: w}
	http.ServeContent(out, d.request, "", time.Time{}, io.NewSectionReader(d.file, 0, d.file.Size()))
	if out.refused {
		err := hpcsera.Errorf(hpcsera.InvalidField, "the range lies outside: there are %d bytes.", d.file.Size()).At("Range")
		d.api.fail(w, d.request, errStatus{err, http.StatusRequestedRangeNotSatisfiable})
	}
	return nil
}

// VisitGetBlobResponse sends the bytes.
func (d download) VisitGetBlobResponse(w http.ResponseWriter) error { return d.visit(w) }

// VisitGetArtifactResponse sends the bytes.
func (d download) VisitGetArtifactResponse(w http.ResponseWriter) error { return d.visit(w) }

// VisitGetJobLogResponse sends the bytes.
func (d download) VisitGetJobLogResponse(w http.ResponseWriter) error { return d.visit(w) }

// ranged holds back what http.ServeContent says of a bad range, so that it is
// told as a problem like everything else.
type ranged struct {
	http.ResponseWriter
	refused bool
}

// Unwrap lets http.ResponseController reach what is below.
func (r *ranged) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *ranged) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable {
		r.refused = true
		return
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *ranged) Write(b []byte) (int, error) {
	if r.refused {
		return len(b), nil
	}
	return r.ResponseWriter.Write(b)
}

// ListArtifacts lists a job's results.
func (h handlers) ListArtifacts(ctx context.Context, r gen.ListArtifactsRequestObject) (gen.ListArtifactsResponseObject, error) {
	list, err := h.cfg.Jobs.Artifacts(ctx, callOf(ctx).principal, r.Id)
	return gen.ListArtifacts200JSONResponse(list), err
}

// GetArtifact sends one of them.
func (h handlers) GetArtifact(ctx context.Context, r gen.GetArtifactRequestObject) (gen.GetArtifactResponseObject, error) {
	c := callOf(ctx)
	artifact, file, err := h.cfg.Jobs.Artifact(ctx, c.principal, r.Id, r.Path)
	if err != nil {
		return nil, err
	}
	return download{api: h.API, request: c.request, file: file, name: path.Base(artifact.Path), etag: artifact.Digest}, nil
}

// GetJobLog sends what there is of a job's output, or goes on while it comes.
func (h handlers) GetJobLog(ctx context.Context, r gen.GetJobLogRequestObject) (gen.GetJobLogResponseObject, error) {
	c := callOf(ctx)
	ref := jobs.LogRef{Job: r.Id, Stream: string(r.Stream), Attempt: value(r.Params.Attempt)}
	// A reader who may not is refused before the answer begins.
	file, err := h.cfg.Jobs.Log(ctx, c.principal, ref)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s.%s", r.Id, r.Stream)
	if !value(r.Params.Follow) {
		return download{api: h.API, request: c.request, file: file, name: name}, nil
	}
	_ = file.Close()
	offset, err := followFrom(value(r.Params.Range))
	if err != nil {
		return nil, err
	}
	return following{api: h.API, call: c, ref: ref, offset: offset, name: name}, nil
}

var openRange = regexp.MustCompile(`^bytes=(\d{1,18})-$`)

// followFrom reads where a followed log is to start.
func followFrom(header string) (int64, error) {
	if header == "" {
		return 0, nil
	}
	m := openRange.FindStringSubmatch(header)
	if m == nil {
		return 0, hpcsera.Errorf(hpcsera.InvalidField, "with follow a range has a start and no end.").At("Range").Hint("Write bytes=1024-.")
	}
	return strconv.ParseInt(m[1], 10, 64)
}

// following is a log that grows while it is read.
type following struct {
	api    *API
	call   *call
	ref    jobs.LogRef
	offset int64
	name   string
}

// VisitGetJobLogResponse sends the bytes as they come. An end that is not the
// log's breaks the connection, so that nobody takes a part for the whole.
func (f following) VisitGetJobLogResponse(w http.ResponseWriter) error {
	userBytes(w.Header(), f.name)
	status := http.StatusOK
	if f.offset > 0 {
		// Where it will end is not known, and RFC 9110 has no word for that.
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", f.offset, int64(1)<<62))
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	out := reader{w, http.NewResponseController(w)}
	if out.flush() != nil {
		panic(http.ErrAbortHandler)
	}
	r := f.call.request
	if err := f.api.cfg.Jobs.FollowLog(r.Context(), f.call.principal, f.ref, f.offset, out, out.flush); err != nil {
		f.api.cut(r, err)
	}
	return nil
}

// reader is who reads a stream; its errors say that it went away.
type reader struct {
	w       io.Writer
	control *http.ResponseController
}

func (r reader) Write(b []byte) (int, error) {
	n, err := r.w.Write(b)
	if err != nil {
		err = errGone{err}
	}
	return n, err
}

func (r reader) flush() error {
	if err := r.control.Flush(); err != nil {
		return errGone{err}
	}
	return nil
}
