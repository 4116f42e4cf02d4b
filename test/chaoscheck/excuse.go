package main

import "slices"

// excuse is what a fault may truly do to a job.
type excuse int

const (
	startLost excuse = iota // the batch system, or the wrapper's death, keeps it from ever starting
	endLost                 // its end is not known, or is another than its program's
	killed                  // it, or what watches it, gets a signal
	nodeLost                // its node fails
	noRoom                  // its files have no room
	wrongTime               // its approval does not hold at the time that its agent's host tells
	forgotten               // the server forgets what was uploaded
)

// excuses are those of each kind of fault. What is not here excuses nothing: a
// kill of agent or server costs no job anything.
var excuses = map[string][]excuse{
	"wrapper killed":                      {startLost, endLost, killed},
	"program killed":                      {endLost, killed},
	"controller crashed":                  {startLost, endLost, killed, nodeLost},
	"controller put back from a snapshot": {startLost, endLost, killed, nodeLost},
	"node killed":                         {startLost, endLost, killed, nodeLost},
	"node stopped":                        {startLost, endLost, killed, nodeLost},
	"clock of the agent's host stepped":   {wrongTime},
	"home full":                           {startLost, endLost, noRoom},
	"server restored from a backup":       {forgotten},
	"server put back by hand":             {forgotten},
}

// excused reports whether a fault of that kind hit the job, or all jobs while
// this one was under way.
func (j *judgement) excused(what excuse) bool {
	events := j.events[j.job.ID]
	return slices.ContainsFunc(j.hits, func(h hit) bool {
		if !slices.Contains(excuses[h.Kind], what) {
			return false
		}
		if h.Job != "" {
			return h.Job == j.job.ID
		}
		return len(events) == 0 || !h.From.After(events[len(events)-1].At) && !h.To.Before(events[0].At)
	})
}
