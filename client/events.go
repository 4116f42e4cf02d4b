package client

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/hpcsera/hpcsera"
)

// StreamEvents calls emit with every event behind after, in order and once
// each, as they come: of one job, or of all within reach for job "". It goes
// on where it broke off, and ends with emit's error, with ctx, or, for one
// job, after the event of its end. after below 0 starts with what happens
// next.
func (c *Client) StreamEvents(ctx context.Context, job string, after int64, emit func(hpcsera.Event) error) error {
	for try := 0; ; try++ {
		last, err := c.streamOnce(ctx, job, after, emit)
		if err != nil || last.ended {
			return err
		}
		if last.seq > after {
			after, try = last.seq, 0
		}
		if err := sleep(ctx, backoff(try)); err != nil {
			return err
		}
	}
}

// reached says how far a stream of events came before it ended.
type reached struct {
	seq   int64
	ended bool // nothing will follow
}

func (c *Client) streamOnce(ctx context.Context, job string, after int64, emit func(hpcsera.Event) error) (reached, error) {
	at := reached{seq: after}
	res, err := events(ctx, c.stream, job, max(after, 0), nil, func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", "text/event-stream")
		if after < 0 {
			q := r.URL.Query()
			q.Del("after")
			r.URL.RawQuery = q.Encode()
		} else {
			r.Header.Set("Last-Event-ID", strconv.FormatInt(after, 10))
		}
		return nil
	})
	if err != nil {
		return at, err
	}
	defer res.Body.Close()
	if err := check(res); err != nil {
		return at, err
	}
	var failed error
	err = readEvents(res.Body, func(e hpcsera.Event) bool {
		if e.Seq <= at.seq {
			return true
		}
		if failed = emit(e); failed != nil {
			return false
		}
		at.seq = e.Seq
		at.ended = job != "" && e.State.Final()
		return true
	})
	switch {
	case failed != nil:
		return at, failed
	case ctx.Err() != nil:
		return at, context.Cause(ctx)
	case err != nil && c.opts.Patience == 0:
		return at, unreachable(res.Request, err)
	}
	return at, nil
}

// readEvents reads a text/event-stream until it ends or fn returns false.
func readEvents(r io.Reader, fn func(hpcsera.Event) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 4<<20)
	var data strings.Builder
	for lines.Scan() {
		line := lines.Text()
		if text, ok := strings.CutPrefix(line, "data:"); ok {
			data.WriteString(strings.TrimPrefix(text, " "))
			data.WriteByte('\n')
			continue
		}
		if line != "" || data.Len() == 0 {
			continue
		}
		var e hpcsera.Event
		if err := json.Unmarshal([]byte(data.String()), &e); err != nil {
			return err
		}
		data.Reset()
		if !fn(e) {
			return nil
		}
	}
	return lines.Err()
}
