package hpcsera

import "unicode/utf8"

// Facts are what an agent tells of itself and its site. Zero means not told:
// nobody is refused anything for a fact that is not there.
type Facts struct {
	Version       string  `json:"version"` // the agent's
	Host          string  `json:"host"`
	System        string  `json:"system"`                   // slurm, local, …
	SystemVersion string  `json:"system_version,omitempty"` // the batch system's
	Cluster       string  `json:"cluster,omitempty"`
	Queues        []Queue `json:"queues,omitempty"`
	// OtherQueues says that there may be queues which are not among Queues.
	OtherQueues  bool      `json:"other_queues,omitempty"`
	Nodes        *Nodes    `json:"nodes,omitempty"`
	Jobs         *Load     `json:"jobs,omitempty"`
	LargestArray int       `json:"largest_array,omitempty"` // members that one submission may have
	Software     *Software `json:"software,omitempty"`
	// FromCron says that the agent runs now and then, so orders wait for its next run.
	FromCron bool `json:"from_cron,omitempty"`
}

// Software is what an agent's settings provide for programs.
type Software struct {
	Containers bool `json:"containers"`
	Spack      bool `json:"spack"`
	MPI        bool `json:"mpi"` // a launch line
}

// Nodes counts the nodes of a site.
type Nodes struct {
	Total int `json:"total"`
	Up    int `json:"up"`   // that run jobs, or could
	Idle  int `json:"idle"` // of these, without a job
}

// Load counts everybody's jobs in the batch system.
type Load struct {
	Queued  int `json:"queued"`
	Running int `json:"running"`
}

// Queue is a queue (partition) of the batch system. What is told of a node is
// the largest node's.
type Queue struct {
	Name    string `json:"name"`
	Default bool   `json:"default,omitempty"`
	State   string `json:"state,omitempty"` // the batch system's own word
	// Closed says that the queue takes no jobs at present; Restricted, that only
	// some users or accounts may use it.
	Closed          bool     `json:"closed,omitempty"`
	Restricted      bool     `json:"restricted,omitempty"`
	Nodes           int      `json:"nodes,omitempty"`
	Idle            *int     `json:"idle,omitempty"`      // nodes without a job
	MaxNodes        int      `json:"max_nodes,omitempty"` // for one job
	CoresPerNode    int      `json:"cores_per_node,omitempty"`
	MemoryPerNode   Bytes    `json:"memory_per_node,omitempty"`
	GPUsPerNode     int      `json:"gpus_per_node,omitempty"`
	MaxDuration     Duration `json:"max_duration,omitempty"`
	DefaultDuration Duration `json:"default_duration,omitempty"`
}

// What a server takes of an agent's facts.
const (
	mostQueues    = 2000
	longestFact   = 255 // bytes
	longestSystem = 64
)

// Usable returns the facts as they can be told: what has no form in JSON, such
// as a duration of more than ten years, counts as no limit, and memory is
// rounded down to whole KiB. Longer texts are cut, and queues that are too many,
// or whose name is too long, are left out: a server that refuses facts hears
// nothing of the agent at all.
func (f Facts) Usable() Facts {
	f.Version, f.Cluster = cutText(f.Version, longestFact), cutText(f.Cluster, longestFact)
	f.System, f.SystemVersion = cutText(f.System, longestSystem), cutText(f.SystemVersion, longestFact)
	queues := make([]Queue, 0, min(len(f.Queues), mostQueues))
	for _, q := range f.Queues {
		if len(q.Name) > longestFact || len(queues) == mostQueues {
			f.OtherQueues = true
			continue
		}
		q.State = cutText(q.State, longestFact)
		for _, d := range []*Duration{&q.MaxDuration, &q.DefaultDuration} {
			if _, err := ParseDuration(d.String()); err != nil {
				*d = 0
			}
		}
		q.MemoryPerNode = max(q.MemoryPerNode&^(1<<10-1), 0)
		queues = append(queues, q)
	}
	f.Queues = queues[:len(queues):len(queues)]
	if len(queues) == 0 {
		f.Queues = nil
	}
	return f
}

// cutText shortens a text to so many bytes, at a character's start.
func cutText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most]
}
