package e2e

import (
	"hash/fnv"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// blow is one fault of a campaign.
type blow struct {
	after time.Duration // since the one before
	kind  string
	lasts time.Duration
	dice  uint64 // chooses among what is there
}

// wish is one request of a user.
type wish struct {
	after time.Duration
	verb  string
	many  int
	dice  uint64
}

// plan is all that happens in a campaign, before anything has. What it
// meets depends on the machine.
type plan struct {
	seed   uint64
	blows  []blow
	wishes []wish
}

// draw makes the plan of a seed for a system; jobs is how many are handed in at
// least, kinds are the faults to choose from.
func draw(seed uint64, system string, jobs int, kinds []fault) plan {
	h := fnv.New64a()
	_, _ = h.Write([]byte(system))
	dice := rand.New(rand.NewPCG(seed, h.Sum64()))
	within := func(from, to time.Duration) time.Duration {
		return from + time.Duration(dice.Int64N(int64(to-from))).Truncate(time.Millisecond)
	}
	p := plan{seed: seed}
	var lasts time.Duration
	for handed := 0; handed < jobs; {
		w := wish{after: within(0, 4*time.Second), dice: dice.Uint64()}
		w.verb, w.many = "submit", 1+dice.IntN(4)
		switch dice.IntN(10) {
		case 0:
			w.verb, w.many = "bulk", 4+dice.IntN(8)
		case 1, 2:
			w.verb = "cancel"
		case 3:
			w.verb = "hold"
		case 4:
			w.verb = "release"
		case 5:
			w.verb = "retry"
		}
		if w.verb == "submit" || w.verb == "bulk" {
			w.many = min(w.many, jobs-handed)
			handed += w.many
		}
		lasts += w.after
		p.wishes = append(p.wishes, w)
	}
	weight := 0
	for _, k := range kinds {
		weight += k.weight
	}
	for at := time.Duration(0); at < lasts+10*time.Second; {
		b := blow{after: within(200*time.Millisecond, 3*time.Second), lasts: within(200*time.Millisecond, 6*time.Second), dice: dice.Uint64()}
		if dice.IntN(8) == 0 {
			b.lasts = within(10*time.Second, 20*time.Second)
		}
		at += b.after
		n := dice.IntN(weight)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				b.kind = k.kind
				break
			}
		}
		p.blows = append(p.blows, b)
	}
	return p
}

// TestASeedIsAPlan: the same seed draws the same campaign, another one another.
func TestASeedIsAPlan(t *testing.T) {
	t.Parallel()
	kinds := []fault{{kind: "a", weight: 1}, {kind: "b", weight: 3}}
	if !reflect.DeepEqual(draw(1, "slurm", 30, kinds), draw(1, "slurm", 30, kinds)) {
		t.Error("one seed drew two plans")
	}
	if reflect.DeepEqual(draw(1, "slurm", 30, kinds), draw(2, "slurm", 30, kinds)) || reflect.DeepEqual(draw(1, "slurm", 30, kinds), draw(1, "sge", 30, kinds)) {
		t.Error("two seeds, or two systems, drew one plan")
	}
}
