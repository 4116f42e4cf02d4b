package decision

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// StatusList keeps the newest list of withdrawn approvals that an Auth app
// signed, for whoever hands it on. It is not verified here: the agents do, and
// a list that a deployment held back stops them soon. It may be used by many
// goroutines.
type StatusList struct {
	from interface {
		StatusList(ctx context.Context, has string, wait time.Duration) ([]byte, error)
	}
	log  *slog.Logger
	text atomic.Pointer[string]
}

// NewStatusList returns a keeper that has no list yet.
func NewStatusList(from *Client, log *slog.Logger) *StatusList {
	return &StatusList{from: from, log: log}
}

// Text returns the list, "" before the first one.
func (l *StatusList) Text() string {
	if text := l.text.Load(); text != nil {
		return *text
	}
	return ""
}

// A list is good for a day at most; withdrawals are to be known in seconds. The
// Auth app answers when there is a new list; the pause is for one that does not
// wait.
const (
	listWait  = 25 * time.Second
	listPause = time.Second
	listRetry = 10 * time.Second
)

// Run keeps the list the newest until ctx ends.
func (l *StatusList) Run(ctx context.Context) error {
	wait := time.NewTimer(0)
	defer wait.Stop()
	told := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		text, err := l.from.StatusList(ctx, l.Text(), listWait)
		switch {
		case err == nil:
			list := string(text)
			l.text.Store(&list)
			told = false
			wait.Reset(listPause)
		case ctx.Err() == nil:
			if !told {
				l.log.Warn("the Auth app gives no list of withdrawn approvals; agents that pinned it start nothing once theirs is old", "err", err)
			}
			told = true
			wait.Reset(listRetry)
		}
	}
}
