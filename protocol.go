package hpcsera

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// WorkRequest is an agent's poll: POST /agents/{id}/work. It is the heartbeat
// as well.
type WorkRequest struct {
	Instance string `json:"instance"`           // random per process start
	Term     int64  `json:"term"`               // 0 before the first grant
	Epoch    int64  `json:"epoch"`              // of the last answer; 0 at first
	Acked    string `json:"acked"`              // the last cursor that is wholly journalled
	Free     int    `json:"free"`               // how many new jobs may be sent
	Wait     int    `json:"wait"`               // seconds to wait for work, at most 60
	Takeover string `json:"takeover,omitempty"` // the instance on this host whose process is dead
	Stopping bool   `json:"stopping,omitempty"` // gives the term back
	Facts    *Facts `json:"facts,omitempty"`    // when they changed, and on the first poll
	// What the batch system was asked since the last poll that was answered.
	Commands *Commands `json:"commands,omitempty"`
}

// Commands is what an agent's batch system was asked to do, for the operator's
// metrics: numbers of commands by kind, and of the jobs that it took.
type Commands struct {
	Jobs    int64 `json:"jobs,omitempty"`
	Submit  int64 `json:"submit,omitempty"`
	Queue   int64 `json:"queue,omitempty"`
	History int64 `json:"history,omitempty"`
	Act     int64 `json:"act,omitempty"` // cancel, hold, release
	Probe   int64 `json:"probe,omitempty"`
}

// WorkAnswer is what should be: every order the agent has not acknowledged,
// oldest first.
type WorkAnswer struct {
	Epoch      int64   `json:"epoch"`
	Term       int64   `json:"term"`
	Cursor     string  `json:"cursor"`      // to be sent back as Acked
	AppliedSeq int64   `json:"applied_seq"` // the highest report seq the server holds of this agent
	Orders     []Order `json:"orders"`
	Reads      []Read  `json:"reads"`
	Stopping   bool    `json:"stopping,omitempty"` // the server stops: come back at once
	// Replay asks for what the agent's journal knows and this server may have
	// forgotten, before there are any orders: see ReportRequest.
	Replay bool `json:"replay,omitempty"`
	// StatusList is the Auth app's newest list of what was withdrawn, as the
	// server got it. An agent believes it by the key that its user pinned.
	StatusList string `json:"status_list,omitempty"`
}

// Complete gives each order what it shares with an earlier one, which an answer
// says once however many jobs it is about.
func (w *WorkAnswer) Complete() error {
	whole := map[string]*OrderSpec{}
	for _, o := range w.Orders {
		if o.Spec == nil {
			continue
		}
		if o.Spec.Like != "" {
			first := whole[o.Spec.Like]
			if first == nil {
				return fmt.Errorf("the order about %s is like that about %s, which the answer does not have", o.JobID, o.Spec.Like)
			}
			o.Spec.Like, o.Spec.Manifest, o.Spec.Statement, o.Spec.Signature = "", first.Manifest, first.Statement, first.Signature
		}
		whole[o.JobID] = o.Spec
	}
	return nil
}

// Order says what should be of one job. The agent reconciles to the highest
// revision.
type Order struct {
	JobID    string     `json:"job_id"`
	Attempt  int        `json:"attempt"`
	Revision int64      `json:"revision"`
	Desired  Desired    `json:"desired"`
	Spec     *OrderSpec `json:"spec,omitempty"` // until the agent has acknowledged it
}

// OrderSpec is all that an agent needs to verify and run a job without asking
// the server again, the bytes of files apart.
type OrderSpec struct {
	Name        string          `json:"name"`
	User        string          `json:"user"`
	Project     string          `json:"project"`
	Client      string          `json:"client"`
	Submitter   string          `json:"submitter"`
	Site        string          `json:"site"`
	Idempotency string          `json:"idempotency,omitempty"` // the scope the job was made under
	Digest      string          `json:"digest"`
	Like        string          `json:"like,omitempty"` // an earlier order's job: it has the three below for both
	Manifest    json.RawMessage `json:"manifest,omitempty"`
	Statement   []byte          `json:"statement,omitempty"` // the signed bytes
	Signature   string          `json:"signature,omitempty"` // armored SSHSIG, or a passkey's assertion
	Run         RunPart         `json:"run"`
	Created     time.Time       `json:"created"`
	// RunFault says what the run part held, as received, that RunPart has no
	// place for; UnmarshalJSON sets it. An agent refuses such a job: what it
	// does not know, it cannot hold against the signed limits.
	RunFault string `json:"run_fault,omitempty"`
}

// UnmarshalJSON reads a spec and notes what it had to drop from the run part.
func (o *OrderSpec) UnmarshalJSON(b []byte) error {
	type plain OrderSpec
	received := struct {
		*plain
		Run json.RawMessage `json:"run"` // in place of the plain one
	}{plain: (*plain)(o)}
	if err := json.Unmarshal(b, &received); err != nil || received.Run == nil {
		return err
	}
	if err := json.Unmarshal(received.Run, &o.Run); err == nil && len(o.Run.Values) == 0 { // values are kept as they come
		if whole, err := json.Marshal(o.Run); err == nil && bytes.Equal(whole, received.Run) {
			return nil // nothing was dropped
		}
	}
	var run RunPart
	if err := Decode(received.Run, &run); err != nil {
		o.RunFault, o.Run = err.Error(), RunPart{}
		return json.Unmarshal(received.Run, &o.Run)
	}
	o.Run = run
	return nil
}

// Read is a range of a file in a job's directory that somebody asked for. This
// version's server never asks.
type Read struct {
	ID     string `json:"id"`
	JobID  string `json:"job_id"`
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
}

// ReportRequest carries facts, oldest first: POST /agents/{id}/reports. In a
// replay, which an agent begins when the server's database is an older one than
// it knew, there is one for each job, its newest, with Spec and Desired; the
// server adopts jobs that it does not know.
type ReportRequest struct {
	Instance string   `json:"instance"`
	Term     int64    `json:"term"`
	Epoch    int64    `json:"epoch"`
	Acked    string   `json:"acked"` // the newest cursor: facts are not for a database that is older
	Reports  []Report `json:"reports"`
}

// Report is one fact about a job. (Attempt, Seq) orders the facts of a job;
// Seq counts through all reports of an agent. Revision is the order that the
// agent had when it found the fact; it never makes a fact stale.
type Report struct {
	JobID     string          `json:"job_id"`
	Step      int             `json:"step"`
	Attempt   int             `json:"attempt"`
	Seq       int64           `json:"seq"`
	Revision  int64           `json:"revision"`
	State     State           `json:"state"`
	Reason    Reason          `json:"reason,omitempty"`
	Message   string          `json:"message,omitempty"`
	At        time.Time       `json:"at"`
	Native    *Native         `json:"native,omitempty"`
	Exit      *Exit           `json:"exit,omitempty"`
	Nodes     string          `json:"nodes,omitempty"`
	Estimated *time.Time      `json:"estimated_start,omitempty"`
	AsOf      *time.Time      `json:"as_of,omitempty"`
	Directory string          `json:"directory,omitempty"` // the job's, a path on the site
	Warning   string          `json:"warning,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Artifacts []Artifact      `json:"artifacts,omitempty"`
	// In a replay: what the job is, and what was wanted of it last. Seq is 0 there
	// for a job of which nothing was reported yet.
	Spec    *OrderSpec `json:"spec,omitempty"`
	Desired Desired    `json:"desired,omitempty"`
}

// Outcome is what the server did with one report.
type Outcome string

// The outcomes. Each is final: the agent sends no report twice after one.
const (
	Applied    Outcome = "applied"
	Duplicate  Outcome = "duplicate"   // this seq was applied before
	Stale      Outcome = "stale"       // an older attempt or seq than what is known
	UnknownJob Outcome = "unknown_job" //
	Illegal    Outcome = "illegal"     // breaks CanFollow, or the job belongs to another agent
	CalledOff  Outcome = "called_off"  // in a replay: the user has cancelled the job meanwhile, and to the server it is over
)

// ReportAnswer has one outcome per report, in order.
type ReportAnswer struct {
	Outcomes []Outcome `json:"outcomes"`
}
