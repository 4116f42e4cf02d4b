package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
	"unique"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/approval"
	"github.com/hpcsera/hpcsera/internal/agent/container"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/policy"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// job is what the agent knows of one job. The upper half is the fold of the
// journal; the lower half is observed anew after a start.
type job struct {
	id    string
	order hpcsera.Order // of the highest revision; its Spec is in spec
	spec  *hpcsera.OrderSpec
	plan  []hpcsera.Step
	// Hints, like plan before the manifest was verified.
	fetches   bool // it has files
	contained bool // it has an image
	counted   bool // this job's run is counted against its approval

	step    int             // index into plan
	n       int             // the start that the next or current submission may claim
	tag     string          // of the current submission; "" when none is under way
	member  int             // of that submission
	native  *hpcsera.Native // of the current submission; nil while its answer is unknown
	held    bool            // a hold was ordered since the submission, so the batch system's hold may be ours
	tags    []string        // of all submissions
	attempt int             // of the job when start n is claimed
	parts   []part          // starts of earlier steps, for the log
	// N of the start after which the batch system queued it again, and when it said
	// so. The attempt that comes is told, so that start may not be called running
	// any more.
	requeued   int
	requeuedAt time.Time
	outcome    *journal.Outcome
	last       hpcsera.Report // the newest fact
	final      bool           // last is final
	late       bool           // last was written down by a replaced instance and is to be told again

	like      unique.Handle[string] // its likeness at likeStep; zero before it was asked for
	likeStep  int
	abort     context.CancelFunc // ends its preparation; nil before
	came      time.Time          // with an order to this process; zero when an earlier one took it
	stopped   bool               // the site cancels what was submitted of it
	busy      bool               // a worker is acting for this job
	image     *container.Image   // that its programs run in; nil for none
	verdict   *policy.Verdict
	verified  time.Time    // when verdict was found
	start     *spool.Start // newest start of the current step that a wrapper owns
	looked    time.Time    // when start was last read from the spool
	status    *scheduler.Status
	asked     time.Time // when the query behind status, or its absence, began
	endedAt   time.Time // when an answer first said that the batch job has ended
	absent    int       // successive answers, at least a minute apart, that do not know it
	absentAt  time.Time
	submitted time.Time
	acted     time.Time // of the last native cancel, hold or release
	tries     int
	retryAt   time.Time
	submitAt  time.Time // no submission before
	trouble   string    // why it is tried again
	waiting   hpcsera.Reason
	collected *collected
}

// part is a start whose output belongs to the log of an attempt.
type part struct {
	attempt, step, n int
}

// newJob makes the job of an order. before is the one that was made before it,
// if any, which may have come with the same code.
func newJob(o hpcsera.Order, before *job) *job {
	j := &job{id: o.JobID, order: o, spec: o.Spec, n: 1, attempt: 1}
	j.order.Spec = nil
	if before != nil && before.spec.Site == o.Spec.Site && bytes.Equal(before.spec.Manifest, o.Spec.Manifest) {
		j.plan, j.fetches, j.contained = before.plan, before.fetches, before.contained
		return j
	}
	var m hpcsera.Manifest
	if json.Unmarshal(o.Spec.Manifest, &m) == nil {
		m = m.At(o.Spec.Site)
		j.plan, j.fetches, j.contained = m.Plan(), len(m.Files) > 0, m.Container != nil // of use only after the manifest was verified
	}
	return j
}

// fold applies one journal entry.
func (j *job) fold(e journal.Entry) {
	switch e.Kind {
	case journal.KindOrder:
		if e.Order.Revision > j.order.Revision {
			j.order.Revision, j.order.Desired = e.Order.Revision, e.Order.Desired
		}
		j.held = j.held || e.Order.Desired == hpcsera.DesiredHold
	case journal.KindRun:
		j.counted = true
	case journal.KindSubmit:
		j.tag, j.member, j.n, j.native, j.held = e.Tag, e.Member, e.N, nil, false
		j.tags = append(j.tags, e.Tag)
		j.submitted = e.At
		j.forgetObservations()
	case journal.KindSubmitted:
		if e.Tag != j.tag {
			start := j.start
			j.tag, j.member, j.tags = e.Tag, e.Member, append(j.tags, e.Tag)
			j.forgetObservations() // they were another submission's
			j.start = start
		}
		j.native = e.Native
	case journal.KindRefused:
		j.tag, j.native = "", nil
	case journal.KindBlocked:
		for n := j.n; n < e.N; n++ { // runs before the requeue that will not come
			j.parts = append(j.parts, part{attempt: j.attempt + n - j.n, step: j.step, n: n})
		}
		j.tag, j.native, j.n = "", nil, e.N+1
		j.forgetObservations()
	case journal.KindRequeued:
		if e.Tag == j.tag {
			j.requeued, j.requeuedAt, j.endedAt, j.absent = e.N, e.At, time.Time{}, 0
		}
	case journal.KindAbsent:
		if e.Tag == j.tag {
			j.absent, j.absentAt = e.N, e.At
		}
	case journal.KindStep:
		if e.Step <= j.step {
			return // two instances saw the same end
		}
		j.parts = append(j.parts, part{attempt: j.attempt + e.N - j.n, step: j.step, n: e.N})
		j.attempt += e.N - j.n
		j.step, j.n, j.tag, j.native, j.held = e.Step, 1, "", nil, false
		j.forgetObservations()
	case journal.KindOutcome:
		j.outcome = e.Outcome
	case journal.KindFact:
		j.last, j.final, j.late = *e.Fact, e.Fact.State.Final(), false
	}
}

func (j *job) forgetObservations() {
	j.start, j.status, j.requeued = nil, nil, 0
	j.absent, j.absentAt, j.asked, j.looked = 0, time.Time{}, time.Time{}, time.Time{}
	j.acted, j.endedAt = time.Time{}, time.Time{}
}

// current returns the step that the job is at.
func (j *job) current() hpcsera.Step {
	if j.step < len(j.plan) {
		return j.plan[j.step]
	}
	return hpcsera.Step{}
}

// judged returns the verdict; for a job that an earlier process submitted, what
// its order says of the verdict of then.
func (j *job) judged() *policy.Verdict {
	if j.verdict != nil {
		return j.verdict
	}
	v := &policy.Verdict{Digest: j.spec.Digest}
	if len(j.spec.Statement) == 0 {
		v.Kind = policy.ServersWord
		return v
	}
	if signature, err := approval.Verify(j.spec.Statement, j.spec.Signature); err == nil {
		v.Fingerprint = signature.Fingerprint
	}
	if s, err := approval.Parse(j.spec.Statement); err == nil {
		v.Statement = s
	}
	return v
}

func (j *job) ref() scheduler.Ref {
	r := scheduler.Ref{Tag: j.tag, Member: j.member}
	if j.native != nil {
		r.Cluster, r.ID = j.native.Cluster, j.native.ID
	}
	return r
}

// attemptNow counts the claims that wrappers won, at least 1.
func (j *job) attemptNow() int {
	a := j.attempt
	if j.start != nil {
		a += j.start.N - j.n
	}
	if j.requeued > 0 && j.start != nil && j.start.N == j.requeued {
		a++ // the run that comes next
	}
	return max(a, j.last.Attempt, 1)
}

// view returns the fact that stands now, without its seq and time.
func (j *job) view() hpcsera.Report {
	r := hpcsera.Report{JobID: j.id, Step: j.step, Attempt: j.attemptNow(), Revision: j.order.Revision, Native: j.native}
	if j.native != nil && j.status != nil {
		native := *j.native
		native.State = j.status.Native
		r.Native = &native
	}
	if j.status != nil {
		r.Nodes = j.status.Nodes
		if !j.status.Estimated.IsZero() {
			r.Estimated = &j.status.Estimated
		}
		asked := j.asked // facts are kept; the job goes on
		r.AsOf = &asked
	}
	running := j.start != nil && j.start.N != j.requeued
	switch {
	case j.outcome != nil:
		r.State = hpcsera.Finishing
		r.Nodes = j.outcome.Nodes
	case j.current().Type == hpcsera.LoginStep:
		r.State = hpcsera.Staging
		if j.step > 0 && j.lastBatch() < j.step {
			r.State = hpcsera.Finishing
		}
		if j.tag == "" && j.order.Desired == hpcsera.DesiredHold && r.State == hpcsera.Staging {
			r.State = hpcsera.Held
		}
		r.Native, r.Estimated, r.AsOf = nil, nil, nil
	case running:
		r.State = hpcsera.Running
		r.Estimated = nil
		if r.Nodes == "" {
			r.Nodes = j.start.Host
		}
		if j.start.End != nil {
			r.Message = "The program has ended; the batch system's word is awaited."
		}
	case j.tag != "" && j.native != nil:
		r.State = hpcsera.Queued
		if j.status != nil {
			r.Reason, r.Message = j.status.Reason, j.status.Message
			if j.status.Phase == scheduler.PhaseHeld {
				r.State, r.Reason = hpcsera.Held, ""
			}
		}
	case j.order.Desired == hpcsera.DesiredHold && j.tag == "":
		r.State = hpcsera.Held
	default:
		r.State, r.Reason, r.Message = hpcsera.Staging, j.waiting, j.trouble
	}
	return r
}

// passesBy reports whether a fact says only that the job is being prepared,
// which it may not be any more when the fact arrives: it is worth telling when
// it has lasted. So a thousand jobs that are handed in at once cost a thousand
// facts, not two thousand.
func (j *job) passesBy(r hpcsera.Report, now time.Time) bool {
	return r.State == hpcsera.Staging && r.Reason == "" && r.Message == "" && j.last.State == "" &&
		j.current().Type != hpcsera.LoginStep && now.Sub(j.came) < lasting
}

// lasting is how long a job is being prepared before that is told.
const lasting = time.Second

func (j *job) lastBatch() int {
	last := -1
	for i, s := range j.plan {
		if s.Type == hpcsera.BatchStep {
			last = i
		}
	}
	return last
}

// differs reports whether a new fact says something that the last one did not.
func differs(a, b hpcsera.Report) bool {
	if a.State != b.State || a.Reason != b.Reason || a.Message != b.Message || a.Step != b.Step || a.Attempt != b.Attempt || a.Nodes != b.Nodes {
		return true
	}
	if (a.Native == nil) != (b.Native == nil) || a.Native != nil && (a.Native.ID != b.Native.ID || a.Native.State != b.Native.State) {
		return true
	}
	if a.Estimated == nil || b.Estimated == nil {
		return a.Estimated != nil
	}
	return a.Estimated.Sub(*b.Estimated).Abs() > 5*time.Minute
}
