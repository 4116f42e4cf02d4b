package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/hpcsera/hpcsera/api"
)

// LogRef names one stream of a job's output.
type LogRef struct {
	Job     string
	Stream  string // stdout or stderr
	Attempt int    // 0 is the latest
}

// CopyLog writes what is there of a stream, from offset on, to w, and returns
// the offset it reached.
func (c *Client) CopyLog(ctx context.Context, ref LogRef, offset int64, w io.Writer) (int64, error) {
	return c.copyLog(ctx, ref, offset, false, w)
}

// FollowLog writes a stream to w as it comes, until the job has ended, or
// went on to another attempt, and all of it is written. A connection that
// breaks is made anew where it broke. It returns the offset it reached.
func (c *Client) FollowLog(ctx context.Context, ref LogRef, offset int64, w io.Writer) (int64, error) {
	for try := 0; ; try++ {
		before := offset
		var err error
		if offset, err = c.copyLog(ctx, ref, offset, true, w); err != nil {
			return offset, err
		}
		// The answer ends with the job, but also when the server stops or a proxy
		// has had enough.
		job, err := c.Job(ctx, ref.Job)
		if err != nil {
			return offset, err
		}
		if job.State.Final() || ref.Attempt != 0 && job.Attempt > ref.Attempt {
			return c.copyLog(ctx, ref, offset, false, w)
		}
		if offset > before {
			try = 0
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return offset, err
		}
	}
}

func (c *Client) copyLog(ctx context.Context, ref LogRef, offset int64, follow bool, w io.Writer) (int64, error) {
	return c.copyRange(ctx, offset, w, func(ctx context.Context, r *string) (*http.Response, error) {
		return c.stream.GetJobLog(ctx, ref.Job, api.LogStream(ref.Stream), &api.GetJobLogParams{
			Attempt: given(ref.Attempt), Follow: given(follow), Range: r,
		})
	})
}

// sinkError is a failure of the caller's writer: nothing that asking again
// would mend.
type sinkError struct{ error }

func (e sinkError) Unwrap() error { return e.error }

// copyRange writes the bytes from offset on that get answers, and asks again
// from where it stands when the connection breaks, with pauses while it makes
// no progress. It returns the offset it reached.
func (c *Client) copyRange(ctx context.Context, offset int64, w io.Writer, get func(context.Context, *string) (*http.Response, error)) (int64, error) {
	for try := 0; ; try++ {
		var r *string
		if offset > 0 {
			r = given(fmt.Sprintf("bytes=%d-", offset))
		}
		res, err := get(ctx, r)
		if err != nil {
			return offset, err
		}
		n, err := copyAnswer(res, offset, w)
		offset += n
		var sink sinkError
		switch {
		case err == nil:
			return offset, nil
		case ctx.Err() != nil:
			return offset, context.Cause(ctx)
		case errors.As(err, &sink):
			return offset, sink.error
		case res.StatusCode/100 != 2 || c.opts.Patience == 0:
			return offset, broken(res, err)
		}
		if n > 0 {
			try = 0
		}
		if try >= 20 {
			return offset, broken(res, err)
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return offset, err
		}
	}
}

// copyAnswer writes one answer's bytes to w and returns how many it wrote. An
// answer that holds the whole instead of the range is cut.
func copyAnswer(res *http.Response, offset int64, w io.Writer) (int64, error) {
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return 0, nil // there is nothing behind offset
	case res.StatusCode/100 != 2:
		return 0, check(res)
	case res.StatusCode == http.StatusOK && offset > 0:
		if _, err := io.CopyN(io.Discard, res.Body, offset); err != nil {
			return 0, err
		}
	}
	var total int64
	buf := make([]byte, 64<<10)
	for {
		n, err := res.Body.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return total, sinkError{err}
			}
			total += int64(n)
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// broken is the error of an answer that ended in its middle.
func broken(res *http.Response, err error) error {
	if res.StatusCode/100 != 2 {
		return err
	}
	return unreachable(res.Request, err)
}
