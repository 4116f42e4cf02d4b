package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/api"
)

// partSize is how much of a blob one request carries: small enough for the
// body limits of proxies that were set with uploads in mind, and for little to
// be lost when a connection breaks.
const partSize = 8 << 20

// Upload sends the bytes of a blob, going on where an earlier upload broke
// off. progress, where not nil, is told how many bytes the server has.
func (c *Client) Upload(ctx context.Context, digest string, from io.ReaderAt, size int64, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	offset := int64(0)
	if size > partSize {
		have, whole, err := c.uploaded(ctx, digest)
		if err != nil || whole {
			return err
		}
		offset = min(have, size)
	}
	for resets := 0; ; {
		progress(offset)
		state, err := c.putPart(ctx, digest, from, offset, size)
		var e *hpcsera.Error
		switch {
		case err == nil && (state.Complete || state.Size >= size):
			progress(size)
			return nil
		case err == nil:
			if state.Size <= offset {
				resets++
			}
			offset = state.Size
		case errors.As(err, &e) && e.Code == hpcsera.WrongOffset && e.Expected >= 0 && e.Expected <= size:
			// A part that arrived although its answer was lost, or another
			// upload of the same bytes.
			resets++
			offset = e.Expected
		default:
			return err
		}
		if resets > 100 {
			return hpcsera.Errorf(hpcsera.Unavailable, "the upload of %s makes no progress.", digest).
				Hint("Is somebody else sending the same file? Try again later.")
		}
	}
}

// uploaded asks how much of a blob is there.
func (c *Client) uploaded(ctx context.Context, digest string) (size int64, whole bool, err error) {
	res, err := c.whole.HeadBlob(ctx, digest, &api.HeadBlobParams{})
	if err != nil {
		return 0, false, err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotFound {
		size, _ = strconv.ParseInt(res.Header.Get("Upload-Offset"), 10, 64)
		return max(size, 0), false, nil
	}
	if res.StatusCode/100 != 2 {
		// An answer to HEAD has no body to tell more.
		return 0, false, hpcsera.Errorf(codeOfStatus(res.StatusCode), "%s answers %s to an upload.", where(res), res.Status)
	}
	return 0, true, nil
}

func codeOfStatus(status int) hpcsera.Code {
	switch status {
	case http.StatusUnauthorized:
		return hpcsera.TokenInvalid
	case http.StatusForbidden:
		return hpcsera.Forbidden
	}
	return hpcsera.Unavailable
}

// uploadState is the answer to a part.
type uploadState struct {
	Size     int64 `json:"size"`
	Complete bool  `json:"complete"`
}

func (c *Client) putPart(ctx context.Context, digest string, from io.ReaderAt, offset, size int64) (uploadState, error) {
	n := min(partSize, size-offset)
	var part *string
	if n < size {
		part = given(fmt.Sprintf("bytes %d-%d/%d", offset, offset+n-1, size))
	}
	open := func() (io.ReadCloser, error) {
		if n == 0 {
			return http.NoBody, nil
		}
		return io.NopCloser(io.NewSectionReader(from, offset, n)), nil
	}
	body, _ := open()
	return decode[uploadState](read(c.whole.PutBlobWithBody(ctx, digest, &api.PutBlobParams{ContentRange: part}, "application/octet-stream", body,
		func(_ context.Context, r *http.Request) error {
			r.ContentLength, r.GetBody = n, open // so that it can be sent again
			return nil
		})))
}

// FetchArtifact writes an artifact of a job to w, going on where a connection
// broke, and checks size and digest. What w got before an error is not to be
// trusted.
func (c *Client) FetchArtifact(ctx context.Context, job string, a hpcsera.Artifact, w io.Writer) error {
	sum := sha256.New()
	n, err := c.copyRange(ctx, 0, io.MultiWriter(w, sum), func(ctx context.Context, r *string) (*http.Response, error) {
		return c.stream.GetArtifact(ctx, job, a.Path, &api.GetArtifactParams{Range: r})
	})
	if err != nil {
		return err
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); n != a.Size || got != a.Digest {
		return hpcsera.Errorf(hpcsera.DigestMismatch, "artifact %q came with %d bytes and %s instead of %d and %s.", a.Path, n, got, a.Size, a.Digest).
			Hint("Fetch it again: hpcsera fetch %s.", job)
	}
	return nil
}
