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
	"strings"

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
	u := upload{
		digest: digest, size: size,
		uploaded: func(ctx context.Context) (int64, bool, error) { return c.uploaded(ctx, digest) },
		put: func(ctx context.Context, offset, n int64) (uploadState, error) {
			return c.putPart(ctx, digest, io.NewSectionReader(from, offset, n), contentRange(offset, n, size))
		},
	}
	return u.send(ctx, progress)
}

// upload sends one blob in parts, over whatever carries them.
type upload struct {
	digest   string
	size     int64
	uploaded func(context.Context) (size int64, whole bool, err error)       // how much is there
	put      func(ctx context.Context, offset, n int64) (uploadState, error) // sends one part
}

// uploadState is the answer to a part.
type uploadState struct {
	Size     int64 `json:"size"`
	Complete bool  `json:"complete"`
}

func (u upload) send(ctx context.Context, progress func(int64)) error {
	offset := int64(0)
	if u.size > partSize {
		have, whole, err := u.uploaded(ctx)
		if err != nil || whole {
			return err
		}
		offset = min(have, u.size)
	}
	for resets := 0; ; {
		progress(offset)
		state, err := u.put(ctx, offset, min(partSize, u.size-offset))
		var e *hpcsera.Error
		switch {
		case err == nil && (state.Complete || state.Size >= u.size):
			progress(u.size)
			return nil
		case err == nil:
			if state.Size <= offset {
				resets++
			}
			offset = state.Size
		case errors.As(err, &e) && e.Code == hpcsera.WrongOffset && e.Expected >= 0 && e.Expected <= u.size:
			// A part that arrived although its answer was lost, or another
			// upload of the same bytes.
			resets++
			offset = e.Expected
		default:
			return err
		}
		if resets > 100 {
			return hpcsera.Errorf(hpcsera.Unavailable, "the upload of %s makes no progress.", u.digest).
				Hint("Is somebody else sending the same file? Try again later.")
		}
	}
}

// contentRange says which bytes of a blob a part holds; "" for all of them.
func contentRange(offset, n, size int64) string {
	if n == size {
		return ""
	}
	return fmt.Sprintf("bytes %d-%d/%d", offset, offset+n-1, size)
}

// uploaded asks how much of a blob is there.
func (c *Client) uploaded(ctx context.Context, digest string) (size int64, whole bool, err error) {
	res, err := c.whole.HeadBlob(ctx, digest, &api.HeadBlobParams{})
	if err != nil {
		return 0, false, err
	}
	defer res.Body.Close()
	return haveOf(res)
}

// haveOf reads the answer to HEAD for a blob, which has no body to tell more.
func haveOf(res *http.Response) (size int64, whole bool, err error) {
	switch {
	case res.StatusCode == http.StatusNotFound:
		size, _ = strconv.ParseInt(res.Header.Get("Upload-Offset"), 10, 64)
		return max(size, 0), false, nil
	case res.StatusCode/100 == 2:
		return 0, true, nil
	}
	code := hpcsera.Unavailable
	switch challenge := res.Header.Get("WWW-Authenticate"); {
	case res.StatusCode == http.StatusForbidden:
		code = hpcsera.Forbidden
	case res.StatusCode != http.StatusUnauthorized:
	case strings.Contains(challenge, `error="use_dpop_nonce"`):
		code = hpcsera.UseDPoPNonce
	case strings.Contains(challenge, `error="invalid_dpop_proof"`):
		code = hpcsera.DPoPRequired
	default:
		code = hpcsera.TokenInvalid
	}
	return 0, false, hpcsera.Errorf(code, "%s answers %s when asked for a blob.", where(res), res.Status)
}

func (c *Client) putPart(ctx context.Context, digest string, from *io.SectionReader, part string) (uploadState, error) {
	n := from.Size()
	open := func() (io.ReadCloser, error) {
		if n == 0 {
			return http.NoBody, nil
		}
		return io.NopCloser(io.NewSectionReader(from, 0, n)), nil
	}
	body, _ := open()
	return decode[uploadState](read(c.whole.PutBlobWithBody(ctx, digest, &api.PutBlobParams{ContentRange: given(part)}, "application/octet-stream", body,
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
