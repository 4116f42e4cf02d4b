package main

import (
	"fmt"
	"slices"
)

func final(state string) bool {
	return state == "succeeded" || state == "failed" || state == "cancelled"
}

// after is what may follow a state within one attempt of a job with one batch
// step. Reports may skip states.
var after = map[string][]string{
	"pending":   {"pending", "held", "staging", "queued", "running", "finishing", "succeeded", "failed", "cancelled"},
	"held":      {"held", "pending", "staging", "queued", "running", "finishing", "succeeded", "failed", "cancelled"},
	"staging":   {"staging", "held", "queued", "running", "finishing", "succeeded", "failed", "cancelled"},
	"queued":    {"queued", "held", "running", "finishing", "succeeded", "failed", "cancelled"},
	"running":   {"running", "finishing", "succeeded", "failed", "cancelled"},
	"finishing": {"finishing", "succeeded", "failed", "cancelled"},
}

// legal: the events of a job tell a life that there can be, and end with what
// the job is.
func (j *judgement) legal() {
	state, attempt := "", 1
	for _, e := range j.events[j.job.ID] {
		if e.Type != "job.state" {
			continue
		}
		switch {
		case state == "":
			j.expect(e.State == "pending" || e.State == "held", "its first event is %s", e.State)
		case final(state):
			j.breach("%s follows the end %s", e.State, state)
		case e.Attempt < attempt:
			j.breach("attempt %d follows attempt %d", e.Attempt, attempt)
		case e.Attempt > attempt:
			j.expect(j.asked.Requeue && e.State != "pending", "attempt %d (%s) follows attempt %d", e.Attempt, e.State, attempt)
		default:
			j.expect(slices.Contains(after[state], e.State), "%s follows %s", e.State, state)
		}
		state, attempt = e.State, max(attempt, e.Attempt)
	}
	j.expect(state == j.job.State, "its last event is %s", state)
}

// order: the events of all jobs come in the order of their numbers, and no
// number comes twice.
func (e *evidence) order(v *verdict) {
	seen := map[int64]string{}
	for id, list := range e.events {
		for i, ev := range list {
			if i > 0 && ev.Seq <= list[i-1].Seq {
				v.breaches = append(v.breaches, breach{id, "its events are out of order", fmt.Sprintf("%d follows %d", ev.Seq, list[i-1].Seq)})
			}
			if other := seen[ev.Seq]; other != "" {
				v.breaches = append(v.breaches, breach{id, "two events have one number", fmt.Sprintf("%d, also of job %s", ev.Seq, other)})
			}
			seen[ev.Seq] = id
		}
	}
}
