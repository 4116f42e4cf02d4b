package hpcsera

// JobPatch is the body of PATCH /jobs/{id}. A nil field stays as it is. Hold
// true holds and false releases, at any time before the job runs; everything
// else changes only a job that no agent has taken yet. Labels, Annotations and
// Values replace the whole set.
type JobPatch struct {
	Hold        *bool              `json:"hold,omitempty"`
	Labels      *map[string]string `json:"labels,omitempty"`
	Annotations *map[string]string `json:"annotations,omitempty"`
	Resources   *Resources         `json:"resources,omitempty"`
	Attributes  *Attributes        `json:"attributes,omitempty"`
	Values      *Values            `json:"values,omitempty"` // needs role 6 as well
}

// JobStatus is the body of PUT /jobs/{id}/status: what a client may tell of a
// job. Annotations are added to those there are; one with an empty value is
// removed.
type JobStatus struct {
	Annotations map[string]string `json:"annotations,omitempty"`
	Progress    *float64          `json:"progress,omitempty"` // 0 to 1
	Message     *string           `json:"message,omitempty"`
}

// BulkRequest is the other body of POST /jobs: at most 10 000 jobs, of which
// all are accepted or none.
type BulkRequest struct {
	Jobs []JobSpec `json:"jobs"`
}

// BulkAnswer names the jobs that a BulkRequest made, in its order.
type BulkAnswer struct {
	Jobs []Submitted `json:"jobs"`
}

// Submitted is a job that was accepted, short enough for thousands of them in
// one answer.
type Submitted struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
	State   State  `json:"state"`
	Reason  Reason `json:"reason,omitempty"`
}

// JobList is one page of jobs, newest first. Next continues after it; it is
// "" on the last page.
type JobList struct {
	Jobs []Job  `json:"jobs"`
	Next string `json:"next"`
}

// EventList is one page of events, oldest first. Next is the after= that
// continues behind it, also when there is nothing more yet.
type EventList struct {
	Events []Event `json:"events"`
	Next   int64   `json:"next"`
}

// ArtifactList is what a job left on the server.
type ArtifactList struct {
	Artifacts []Artifact `json:"artifacts"`
}

// CodeList is code on file that the token reaches, newest first.
type CodeList struct {
	Code []CodeEntry `json:"code"`
}

// ApprovalRequest files a signed statement: POST /approvals.
type ApprovalRequest struct {
	Statement []byte `json:"statement"` // the signed bytes, base64 in JSON
	Signature string `json:"signature"` // armored SSHSIG, or a passkey's assertion
}

// ApprovalList is approvals on file, newest first.
type ApprovalList struct {
	Approvals []Approval `json:"approvals"`
}

// SiteList is the sites that the token reaches, by name.
type SiteList struct {
	Sites []Site `json:"sites"`
}

// LogAppended answers an upload of a job's output: Size is the offset at which
// the next part starts.
type LogAppended struct {
	Size int64 `json:"size"`
}
