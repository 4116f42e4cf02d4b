package hpcsera_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/hpcsera/hpcsera"
)

// follows is the life of a job within one step and attempt, written down a
// second time: for each state the ones that may come next, itself apart.
var follows = map[hpcsera.State]string{
	"pending":   "held staging queued running finishing succeeded failed cancelled",
	"held":      "pending staging queued running finishing succeeded failed cancelled",
	"staging":   "held queued running finishing succeeded failed cancelled",
	"queued":    "held running finishing succeeded failed cancelled",
	"running":   "finishing succeeded failed cancelled",
	"finishing": "succeeded failed cancelled",
	"succeeded": "",
	"failed":    "",
	"cancelled": "",
}

func TestStatesFollowEachOtherAsTheTableSays(t *testing.T) {
	for from, list := range follows {
		for _, to := range hpcsera.States {
			want := from == to && !from.Final()
			for _, s := range strings.Fields(list) {
				want = want || string(to) == s
			}
			for _, requeue := range []bool{false, true} {
				got := hpcsera.CanFollow(at(from, 0, 1), at(to, 0, 1), requeue)
				if got != want {
					t.Errorf("%s to %s (requeue %v): got %v, want %v", from, to, requeue, got, want)
				}
			}
		}
	}
}

func TestASecondStepMayGoBackToTheQueue(t *testing.T) {
	for _, c := range []struct {
		from, to hpcsera.Position
		want     bool
	}{
		{at("running", 0, 1), at("queued", 1, 1), true},
		{at("running", 0, 1), at("staging", 1, 1), true},
		{at("running", 0, 1), at("held", 1, 1), true},
		{at("queued", 0, 1), at("staging", 1, 1), true},
		{at("queued", 0, 1), at("staging", 0, 1), false},
		{at("running", 0, 1), at("queued", 0, 1), false},
		{at("running", 1, 1), at("queued", 0, 1), false},
		{at("running", 1, 1), at("finishing", 0, 1), false},
		{at("finishing", 1, 1), at("running", 2, 1), false},
		{at("running", 0, 1), at("pending", 1, 1), false},
	} {
		if got := hpcsera.CanFollow(c.from, c.to, false); got != c.want {
			t.Errorf("%v to %v: got %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestANewAttemptNeedsRequeue(t *testing.T) {
	for _, from := range hpcsera.States {
		for _, to := range hpcsera.States {
			for _, requeue := range []bool{false, true} {
				want := requeue && !from.Final() && to != hpcsera.Pending
				if got := hpcsera.CanFollow(at(from, 0, 1), at(to, 0, 2), requeue); got != want {
					t.Errorf("%s to %s of a new attempt (requeue %v): got %v, want %v", from, to, requeue, got, want)
				}
				if hpcsera.CanFollow(at(from, 0, 2), at(to, 0, 1), requeue) {
					t.Errorf("%s to %s of an older attempt (requeue %v): got true, want false", from, to, requeue)
				}
			}
		}
	}
}

func TestUnknownStatesNeverFollow(t *testing.T) {
	for _, s := range []hpcsera.State{"", "unknown", "RUNNING"} {
		if s.Valid() || hpcsera.CanFollow(at("queued", 0, 1), at(s, 0, 1), true) {
			t.Errorf("%q counts as a state", s)
		}
	}
}

// However reports come, what is accepted of them ends at most once and never
// goes back in attempt or step.
func TestAcceptedSequencesNeverGoBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requeue := rapid.Bool().Draw(t, "requeue")
		now := at("pending", 0, 1)
		position := rapid.Custom(func(t *rapid.T) hpcsera.Position {
			return at(rapid.SampledFrom(hpcsera.States).Draw(t, "state"), rapid.IntRange(0, 2).Draw(t, "step"), rapid.IntRange(1, 3).Draw(t, "attempt"))
		})
		for _, next := range rapid.SliceOf(position).Draw(t, "reports") {
			if !hpcsera.CanFollow(now, next, requeue) {
				continue
			}
			if now.State.Final() || next.Attempt < now.Attempt || next.Step < now.Step {
				t.Fatalf("accepted %v after %v", next, now)
			}
			if next.Attempt > now.Attempt && !requeue {
				t.Fatalf("accepted a second attempt without requeue: %v after %v", next, now)
			}
			now = next
		}
	})
}

func at(s hpcsera.State, step, attempt int) hpcsera.Position {
	return hpcsera.Position{State: s, Step: step, Attempt: attempt}
}
