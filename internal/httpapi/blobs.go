package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/code"
	"github.com/hpcsera/hpcsera/internal/httpapi/gen"
)

// missing is the answer to HEAD for a blob that is not here.
type missing struct{ offset int64 }

// VisitHeadBlobResponse writes the answer.
func (m missing) VisitHeadBlobResponse(w http.ResponseWriter) error {
	w.Header().Set("Upload-Offset", strconv.FormatInt(m.offset, 10))
	w.WriteHeader(http.StatusNotFound)
	return nil
}

// present is the answer to HEAD for a blob that is here.
type present struct{ size int64 }

// VisitHeadBlobResponse writes the answer.
func (p present) VisitHeadBlobResponse(w http.ResponseWriter) error {
	w.Header().Set("Content-Length", strconv.FormatInt(p.size, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.WriteHeader(http.StatusOK)
	return nil
}

// HeadBlob tells whether a blob is here, or how much of it.
func (h handlers) HeadBlob(ctx context.Context, r gen.HeadBlobRequestObject) (gen.HeadBlobResponseObject, error) {
	size, complete, err := h.cfg.Code.StatBlob(ctx, callOf(ctx).principal, r.Digest, value(r.Params.Job))
	switch {
	case hpcsera.CodeOf(err) == hpcsera.NotFound:
		return missing{}, nil
	case err != nil:
		return nil, err
	case !complete:
		return missing{offset: size}, nil
	}
	return present{size: size}, nil
}

// GetBlob sends a blob.
func (h handlers) GetBlob(ctx context.Context, r gen.GetBlobRequestObject) (gen.GetBlobResponseObject, error) {
	c := callOf(ctx)
	file, err := h.cfg.Code.OpenBlob(ctx, c.principal, r.Digest)
	if err != nil {
		return nil, err
	}
	return download{api: h.API, request: c.request, file: file, name: r.Digest[len("sha256:"):], etag: r.Digest}, nil
}

// PutBlob takes a blob or a part of one.
func (h handlers) PutBlob(ctx context.Context, r gen.PutBlobRequestObject) (gen.PutBlobResponseObject, error) {
	c := callOf(ctx)
	part, err := readPart(c.request)
	if err != nil {
		return nil, err
	}
	body := &exactly{r: inbound{r.Body}, left: part.length}
	size, complete, err := h.cfg.Code.PutBlob(ctx, c.principal, code.BlobUpload{
		Digest: r.Digest, Job: value(r.Params.Job), Offset: part.offset, Total: part.total, Body: body,
	})
	switch {
	case err != nil:
		return nil, err
	case complete:
		return gen.PutBlob201JSONResponse{Size: size, Complete: true}, nil
	}
	return gen.PutBlob202JSONResponse{Size: size}, nil
}

// part says which bytes of a blob a body holds.
type part struct{ offset, length, total int64 }

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18})$`)

func readPart(r *http.Request) (part, error) {
	header := r.Header.Get("Content-Range")
	if header == "" {
		if r.ContentLength < 0 {
			return part{}, hpcsera.Errorf(hpcsera.MalformedRequest, "the blob's size is not known.").At("Content-Length").
				Hint("Send Content-Length, or Content-Range: bytes FIRST-LAST/TOTAL.")
		}
		return part{length: r.ContentLength, total: r.ContentLength}, nil
	}
	refuse := func(format string, args ...any) (part, error) {
		return part{}, hpcsera.Errorf(hpcsera.InvalidField, format, args...).At("Content-Range").
			Hint("Write bytes FIRST-LAST/TOTAL, counted from 0, as in bytes 0-1048575/4194304.")
	}
	m := contentRange.FindStringSubmatch(header)
	if m == nil {
		return refuse("%q cannot be read.", shorten(header))
	}
	var n [3]int64
	for i := range n {
		n[i], _ = strconv.ParseInt(m[i+1], 10, 64) // 18 digits always fit
	}
	p := part{offset: n[0], length: n[1] - n[0] + 1, total: n[2]}
	switch {
	case n[1] < n[0] || n[1] >= n[2]:
		return refuse("the range lies outside of the blob.")
	case r.ContentLength >= 0 && r.ContentLength != p.length:
		return refuse("the range has %d bytes and the body %d.", p.length, r.ContentLength)
	}
	return p, nil
}

// exactly reads a body that must have left bytes: not one more, and a shorter
// one broke off.
type exactly struct {
	r    io.Reader
	left int64
}

func (e *exactly) Read(p []byte) (int, error) {
	if int64(len(p)) > e.left+1 && e.left < math.MaxInt64 {
		p = p[:e.left+1]
	}
	n, err := e.r.Read(p)
	if int64(n) > e.left {
		n = int(e.left)
		e.left = 0
		return n, hpcsera.Errorf(hpcsera.InvalidField, "the body has more bytes than it says.").At("Content-Range")
	}
	e.left -= int64(n)
	if errors.Is(err, io.EOF) && e.left > 0 {
		err = broken(fmt.Errorf("%d bytes are missing", e.left))
	}
	return n, err
}
