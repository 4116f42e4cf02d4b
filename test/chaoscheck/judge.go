package main

import (
	"fmt"
	"slices"
	"strings"
)

// breach is a promise that was not kept, with its evidence.
type breach struct{ job, promise, evidence string }

func (b breach) String() string {
	return fmt.Sprintf("job %s: %s\n    %s", b.job, b.promise, strings.ReplaceAll(b.evidence, "\n", "\n    "))
}

// verdict is what the evidence of one deployment comes to.
type verdict struct {
	breaches       []breach
	lost, doubled  int
	attempts       int // programs begun
	unknown, gone  int // outcome_unknown and lost_by_scheduler, where that is the truth
	byStateAndWord map[string]int
}

// judgement is the work on one job.
type judgement struct {
	*evidence
	v     *verdict
	asked asked
	job   job
	runs  []*run
}

func judge(e *evidence) *verdict {
	v := &verdict{byStateAndWord: map[string]int{}}
	known := map[string]bool{}
	for _, a := range e.asked {
		known[a.Job] = true
		j := &judgement{evidence: e, v: v, asked: a, job: e.jobs[a.Job], runs: e.runs[a.Job]}
		j.all()
	}
	for id := range e.jobs {
		if !known[id] {
			v.doubled++
			v.breaches = append(v.breaches, breach{id, "a job that nobody handed in, or one that was made twice", fmt.Sprintf("%+v", e.jobs[id])})
		}
	}
	for id := range e.runs {
		if _, there := e.jobs[id]; !there {
			v.doubled++
			v.breaches = append(v.breaches, breach{id, "a program of a job that the API does not know", ""})
		}
	}
	e.order(v)
	slices.SortFunc(v.breaches, func(a, b breach) int { return strings.Compare(a.job+a.promise, b.job+b.promise) })
	return v
}

func (j *judgement) all() {
	j.v.attempts += len(j.runs)
	if j.job.ID == "" {
		j.v.lost++
		j.breach("an accepted job is not there any more")
		return
	}
	j.v.byStateAndWord[strings.TrimSpace(j.job.State+" "+j.job.Reason)]++
	if !final(j.job.State) {
		j.v.lost++
		j.breach("the job never ended")
		return
	}
	j.once()
	j.agrees()
	j.cancel()
	j.hold()
	j.legal()
	j.afterTheEnd()
}

// once: each attempt ran at most once, more than one only with requeue, and
// never two at a time.
func (j *judgement) once() {
	seen := map[int]bool{}
	for i, r := range j.runs {
		if seen[r.attempt] {
			j.v.doubled++
			j.breach("attempt %d ran twice", r.attempt)
		}
		seen[r.attempt] = true
		if i > 0 && !j.runs[i-1].ended.IsZero() && r.begun.Before(j.runs[i-1].ended) {
			j.v.doubled++
			j.breach("attempt %d began while attempt %d ran", r.attempt, j.runs[i-1].attempt)
		}
		if r.attempt > j.job.Attempt {
			j.breach("attempt %d ran, of which the API does not know", r.attempt)
		}
	}
	if len(seen) > 1 && !j.asked.Requeue {
		j.v.doubled++
		j.breach("%d attempts without requeue", len(seen))
	}
}

// agrees: the state told is what happened.
func (j *judgement) agrees() {
	last := j.last()
	over := last != nil && !last.ended.IsZero()
	switch j.job.Reason {
	case "":
		j.expect(j.job.State == "succeeded" && over && last.exit == 0, "it succeeded, says the API")
		j.artifact(last)
	case "exit_nonzero":
		told := over && j.job.Exit != nil && j.job.Exit.Code == last.exit && last.exit != 0
		j.expect(told || !over && (j.excused(endLost) || last != nil && j.failed(last)), "it ended with another exit code than the API tells")
	case "signal":
		j.expect(last != nil && (!over || j.excused(endLost)) && j.excused(killed), "nobody sent it a signal")
	case "cancelled_by_user":
		j.expect(j.asked.Cancelled, "its user did not cancel it")
	case "cancelled_by_site": // what a controller forgot in a crash is cancelled in the accounting
		j.expect(j.excused(endLost) && j.job.Native != nil && j.cancelledNatively(), "the site did not cancel it")
	case "outcome_unknown":
		j.v.unknown++
		j.expect(last != nil && !over || j.excused(endLost), "its outcome is known")
	case "lost_by_scheduler":
		j.v.gone++
		j.expect(last == nil && j.excused(startLost), "the batch system did not lose it")
	case "node_failure":
		j.expect(j.excused(nodeLost), "no node failed")
	case "approval_expired":
		j.expect(j.refused(), "its approval held")
	case "stage_in_failed", "stage_out_failed":
		j.expect(j.excused(noRoom), "there was room for everything")
	default:
		j.breach("nothing that was done explains this end")
	}
}

// last is the last attempt that began.
func (j *judgement) last() *run {
	if len(j.runs) == 0 {
		return nil
	}
	return slices.MaxFunc(j.runs, func(a, b *run) int { return a.attempt - b.attempt })
}

// failed reports whether the batch system saw a run fail.
func (j *judgement) failed(r *run) bool {
	return slices.ContainsFunc(j.of(r.native), func(rec record) bool { return rec.failed })
}

// refused reports whether a clock that was wrong kept the job from starting.
func (j *judgement) refused() bool {
	return j.last() == nil && j.job.Reason == "approval_expired" && j.excused(wrongTime)
}

// cancelledNatively reports whether the batch system says so of the job's batch
// job.
func (j *judgement) cancelledNatively() bool {
	return slices.ContainsFunc(j.of(j.job.Native.ID), func(r record) bool { return strings.Contains(r.state, "CANCELLED") })
}

// artifact: what the API hands out is what the job wrote.
func (j *judgement) artifact(last *run) {
	if last == nil {
		return
	}
	if got := j.digests[j.job.ID]; got != last.digest && !(got == "" && j.excused(forgotten)) {
		j.breach("its artifact is not whole: the API's has digest %q, the job's %q", got, last.digest)
	}
	if records := j.of(last.native); len(records) == 0 && !j.excused(startLost) {
		j.breach("the accounting does not know batch job %s in which it ran", last.native)
	}
}

// cancel: a job whose cancel was accepted is cancelled, or had its own end.
func (j *judgement) cancel() {
	if !j.asked.Cancelled || j.job.State == "cancelled" {
		return
	}
	last := j.last()
	if over := last != nil && !last.ended.IsZero(); !over && !j.excused(endLost) && !j.excused(startLost) && !j.refused() {
		j.breach("its cancel was lost")
	}
}

// hold: a job that was handed in held runs only after its release.
func (j *judgement) hold() {
	for _, r := range j.runs {
		if j.asked.Held && (j.asked.Released.IsZero() || r.begun.Before(j.asked.Released)) {
			j.breach("it ran although it was held")
		}
	}
}

// afterTheEnd: what was told to have ended does not run.
func (j *judgement) afterTheEnd() {
	events := j.events[j.job.ID]
	at := slices.IndexFunc(events, func(e event) bool { return final(e.State) })
	if at < 0 {
		j.breach("no event tells its end")
		return
	}
	for _, r := range j.runs {
		if r.begun.After(events[at].At) {
			j.v.doubled++
			j.breach("it began after its end had been told")
		}
		if r.ended.After(events[at].At) && !j.excused(endLost) {
			j.breach("it ran on after its end had been told")
		}
	}
}

func (j *judgement) expect(ok bool, format string, args ...any) {
	if !ok {
		j.breach(format, args...)
	}
}

func (j *judgement) breach(format string, args ...any) {
	var about strings.Builder
	fmt.Fprintf(&about, "API: %s %s, attempt %d, %s", j.job.State, j.job.Reason, j.job.Attempt, j.job.Message)
	if j.job.Native != nil {
		fmt.Fprintf(&about, ", batch job %s", j.job.Native.ID)
	}
	if j.job.Exit != nil {
		fmt.Fprintf(&about, ", exit %+v", *j.job.Exit)
	}
	fmt.Fprintf(&about, "\nasked: %+v", j.asked)
	for _, r := range j.runs {
		fmt.Fprintf(&about, "\nrun: %+v", *r)
		for _, rec := range j.of(r.native) {
			fmt.Fprintf(&about, "\naccounting: %+v", rec)
		}
	}
	for _, e := range j.events[j.asked.Job] {
		fmt.Fprintf(&about, "\nevent: %d %s %s %s %s attempt %d", e.Seq, e.At.Format("15:04:05.000"), e.Type, e.State, e.Reason, e.Attempt)
	}
	for _, h := range j.hits {
		if h.Job == j.asked.Job {
			fmt.Fprintf(&about, "\nhit: %s %s", h.From.Format("15:04:05.000"), h.Kind)
		}
	}
	j.v.breaches = append(j.v.breaches, breach{j.asked.Job, fmt.Sprintf(format, args...), about.String()})
}
