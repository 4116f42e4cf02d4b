package client

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/hpcsera/hpcsera"
)

// Health is what a server says of itself to anybody.
type Health struct {
	Ready bool
	Says  string // why it is not ready
	// Ahead is how far the server's clock is ahead of this machine's, to the
	// second; 0 when it does not tell.
	Ahead time.Duration
}

// Health asks whether the server is there and can serve.
func (c *Client) Health(ctx context.Context) (Health, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.JoinPath("readyz").String(), http.NoBody)
	if err != nil {
		return Health{}, err
	}
	sent := time.Now()
	once := doer{http: c.http, userAgent: c.opts.UserAgent, whole: true} // without the token: anybody may ask
	res, err := once.Do(req)
	if err != nil {
		return Health{}, err
	}
	defer res.Body.Close()
	h := Health{Ready: res.StatusCode/100 == 2, Ahead: ahead(sent, time.Now(), res.Header)}
	if res.StatusCode == http.StatusServiceUnavailable {
		h.Says = check(res).Error()
		return h, nil
	}
	if err := check(res); err != nil {
		return h, err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err == nil && !strings.HasPrefix(string(text), "ok") {
		return h, hpcsera.Errorf(hpcsera.Unavailable, "%s answers, but not as an HPCSerA server does.", where(res)).
			Hint("Is this URL an HPCSerA server?")
	}
	return h, err
}

// ahead compares the Date of an answer with the moments around it. The header
// has whole seconds, so less than two are no difference.
func ahead(sent, received time.Time, h http.Header) time.Duration {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	switch {
	case date.Before(sent.Add(-2 * time.Second)):
		return -sent.Sub(date).Round(time.Second)
	case date.After(received.Add(2 * time.Second)):
		return date.Sub(received).Round(time.Second)
	}
	return 0
}
