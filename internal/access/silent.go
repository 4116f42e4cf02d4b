package access

import (
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera/internal/store"
)

// How long an agent with unfinished jobs may not be seen. One that runs from
// cron pauses by intention, and nobody tells us for how long.
const (
	silentAfter     = time.Hour
	silentAfterCron = 24 * time.Hour
)

// silent returns notices about agents that have unfinished jobs and are not
// heard of any more. A silence is known by its beginning, so there is one
// notice of each, however often and by how many replicas it is looked at.
//
// Agents cannot reach a server that is not there: what was missed while it was
// down counts only when it has been up for long enough to hear them.
func (s *Service) silent(r store.Reader, rows []*store.Agent) (list []notice, failed error) {
	if s.now().Sub(s.started) < silentAfter {
		return nil, nil
	}
	for _, row := range rows {
		last := s.cfg.Sightings.Last(row.ID, row.LastSeen)
		if last == nil || !s.now().Before(row.Expires) || s.now().Sub(*last) < pause(row) {
			continue
		}
		jobs, err := r.UnfinishedByAgent(row.ID)
		if err != nil {
			failed = errors.Join(failed, err)
		}
		if jobs == 0 {
			continue
		}
		list = append(list, notice{
			agent: row, key: fmt.Sprintf("%s/silent/%d", row.ID, last.Unix()), about: "it has unfinished jobs and is silent",
			subject: "Your HPCSerA agent at " + row.Site + " is not heard of",
			text: fmt.Sprintf("Your agent %s at %s was last heard of on %s, and has unfinished jobs: %d.\n\n"+
				"What runs in the batch system goes on, but nobody here hears of it. To see what is wrong, type on its login node:\n\n"+
				"    hpcsera-agent doctor\n\nIt reports what happened meanwhile when it runs again. There will be no other mail about this silence.\n",
				row.ID, row.Site, when(*last), jobs),
		})
	}
	return list, failed
}

func pause(row *store.Agent) time.Duration {
	if row.Facts != nil && row.Facts.FromCron {
		return silentAfterCron
	}
	return silentAfter
}
