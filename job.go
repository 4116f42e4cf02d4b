package hpcsera

import (
	"encoding/json"
	"time"
)

// Job is a job as the API shows it. Version is the seq of its last event and
// serves as since= of a wait.
type Job struct {
	ID         string            `json:"id"`
	Version    int64             `json:"version"`
	Name       string            `json:"name"`
	Project    string            `json:"project"`
	User       string            `json:"user"`
	Client     string            `json:"client"`
	Site       string            `json:"site"`
	Agent      string            `json:"agent,omitempty"`
	Sweep      *string           `json:"sweep"`
	State      State             `json:"state"`
	Reason     Reason            `json:"reason,omitempty"`
	Message    string            `json:"message,omitempty"` // the batch system's own words
	Estimated  *time.Time        `json:"estimated_start,omitempty"`
	AsOf       *time.Time        `json:"as_of,omitempty"` // when the site last said so
	Step       int               `json:"step"`            // index of the current step
	Attempt    int               `json:"attempt"`
	Desired    Desired           `json:"desired"`
	Code       CodeRef           `json:"code"`
	Values     Values            `json:"values"`
	Resources  Resources         `json:"resources"`
	Attributes Attributes        `json:"attributes"`
	Native     *Native           `json:"native"`
	Exit       *Exit             `json:"exit"`
	Nodes      string            `json:"nodes,omitempty"`
	Directory  string            `json:"directory,omitempty"` // SITE:PATH
	Requeue    bool              `json:"requeue,omitempty"`
	RetryOf    string            `json:"retry_of,omitempty"`
	Depends    []Dependency      `json:"dependencies,omitempty"`
	Labels     map[string]string `json:"labels"`
	Annotation map[string]string `json:"annotations"`
	Progress   *float64          `json:"progress,omitempty"` // 0 to 1, from PUT /jobs/{id}/status
	Warnings   []string          `json:"warnings"`
	Times      Times             `json:"times"`
	Keep       Keep              `json:"keep,omitzero"`
	Result     json.RawMessage   `json:"result"`
	Artifacts  []Artifact        `json:"artifacts,omitempty"`
	Attempts   []Attempt         `json:"attempts,omitempty"` // the ones before this
}

// CodeRef is the code of a job.
type CodeRef struct {
	Digest   string `json:"digest"`
	Name     string `json:"name"`
	Approval string `json:"approval,omitempty"`
}

// Native is the batch system's identity of the job's latest submission. ID
// alone is no identity: ids are reused after a controller lost its state.
type Native struct {
	System    string     `json:"system"`
	Cluster   string     `json:"cluster,omitempty"`
	ID        string     `json:"id"`
	State     string     `json:"state,omitempty"` // verbatim
	Submitted *time.Time `json:"submitted,omitempty"`
}

// Exit is how the program ended: Code, or the signal that ended it.
type Exit struct {
	Code   int `json:"code"`
	Signal int `json:"signal,omitempty"`
}

// Times are the moments of a job's transitions; null where it skipped one.
// They are for display: nothing is ordered by them.
type Times struct {
	Created   time.Time  `json:"created"`
	Delivered *time.Time `json:"delivered"`
	Queued    *time.Time `json:"queued"`
	Running   *time.Time `json:"running"`
	Ended     *time.Time `json:"ended"`
}

// Attempt is an earlier run of a job that the site requeued.
type Attempt struct {
	Attempt int        `json:"attempt"`
	Native  *Native    `json:"native"`
	Exit    *Exit      `json:"exit"`
	Nodes   string     `json:"nodes,omitempty"`
	Queued  *time.Time `json:"queued"`
	Running *time.Time `json:"running"`
}

// Artifact is a result kept by the server.
type Artifact struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
}

// Event is one change of a job. Seq orders all events of a deployment and is
// the Last-Event-ID of a stream.
type Event struct {
	Seq     int64     `json:"seq"`
	At      time.Time `json:"at"`
	Type    string    `json:"type"` // job.state, job.order, job.annotated, job.erased
	Job     string    `json:"job"`
	Project string    `json:"project"`
	Attempt int       `json:"attempt"`
	State   State     `json:"state"`
	Reason  Reason    `json:"reason,omitempty"`
	Message string    `json:"message,omitempty"`
	Desired Desired   `json:"desired,omitempty"`
}
