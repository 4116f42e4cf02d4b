package agent

import (
	"context"
	"time"

	"github.com/hpcsera/hpcsera/internal/agent/policy"
)

// siteInterval is how soon the site's kill switch is seen.
const siteInterval = 10 * time.Second

// siteLoop reads the site's policy every few seconds and, in mode cancel, ends
// what was submitted. That nothing starts is seen to before each start. A policy
// that cannot be read stops starts, and cancels nothing: it may say anything.
func (a *Agent) siteLoop(ctx context.Context) error {
	told := policy.Normal
	for ctx.Err() == nil {
		s, err := a.site.Policy()
		switch {
		case err != nil:
		case s.Mode != told:
			a.log.Warn("the site's policy has a new mode", "mode", string(s.Mode), "message", s.Message)
			told = s.Mode
		}
		if err == nil && s.Mode == policy.Cancel {
			a.engine.do(a.engine.stopAll)
		}
		sleep(ctx, siteInterval)
	}
	return nil
}

// stopAll marks what was submitted. A job stays marked when the site changes its
// mind: its native job may be cancelled already.
func (e *engine) stopAll() {
	for _, j := range e.jobs {
		if j.tag != "" && j.outcome == nil && !j.stopped {
			j.stopped = true
			e.touch(j)
		}
	}
}
