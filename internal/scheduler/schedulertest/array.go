package schedulertest

import (
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// member makes a script see which member of its array it is, in $member from 0.
func (b *bench) member(script string) string {
	env := b.s.Environment()
	return fmt.Sprintf("member=$(($%s - %d))\n%s", env.Index, env.First, script)
}

func arrayMembers(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job(b.member("echo x >> ran-$member; exit $member"))
	sub.Size = 4
	refs := b.submitAll(sub)
	for i, ref := range refs {
		b.ended(ref, "", &hpcsera.Exit{Code: i})
		if got := b.read(fmt.Sprintf("ran-%d", i)); got != "x" {
			t.Errorf("member %d left %q, want one x", i, got)
		}
	}
	if found, err := b.s.Find(t.Context(), sub.Tag); err != nil || len(found) != len(refs) {
		t.Errorf("by its tag: got %+v, %v, want all %d members", found, err, len(refs))
	}
}

func cancelMember(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job(b.member("touch ran-$member"))
	b.waiting(&sub)
	sub.Size = 3
	refs := b.submitAll(sub)
	for _, ref := range refs {
		b.await(ref, scheduler.PhaseQueued, scheduler.PhaseHeld)
	}
	b.act(scheduler.Cancel, refs[1])
	b.until("the member has ended or is absent", func() bool {
		st, found := b.status(refs[1])
		return !found || st.Phase == scheduler.PhaseEnded
	})
	for _, i := range []int{0, 2} {
		if st, found := b.status(refs[i]); !found || st.Phase == scheduler.PhaseEnded {
			t.Errorf("member %d: got %+v (found %v), want it to wait", i, st, found)
		}
	}
	if b.exists("ran-0") || b.exists("ran-1") || b.exists("ran-2") {
		t.Error("a member ran")
	}
}

func arrayTooLarge(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job("exit 0")
	sub.Held, sub.Size = true, h.Arrays+1
	refs, err := b.s.Submit(t.Context(), sub)
	if len(refs) > 0 {
		b.cancelLater(refs...)
	}
	if _, refused := errors.AsType[*scheduler.Refused](err); !refused {
		t.Errorf("got %d ids, %v, want a refusal", len(refs), err)
	}
	if found, err := b.s.Find(t.Context(), sub.Tag); err != nil || len(found) != 0 {
		t.Errorf("got %+v, %v, want nothing queued", found, err)
	}
}

func cancelArray(t T, h Harness) {
	b := newBench(t, h, nil)
	sub := b.job(b.member("touch ran-$member"))
	b.waiting(&sub)
	sub.Size = 3
	refs := b.submitAll(sub)
	for _, ref := range refs {
		b.await(ref, scheduler.PhaseQueued, scheduler.PhaseHeld)
	}
	b.act(scheduler.Cancel, refs...)
	// Also for a while after, when the queue may have forgotten them.
	asked := 0
	b.until("the members have been over for a while", func() bool {
		answer, err := b.s.Statuses(b.Context(), refs)
		if err != nil {
			t.Fatal(err)
		}
		for i, ref := range refs {
			switch st, found := answer[ref]; {
			case !found && !h.Forgets && asked == 0:
				t.Fatalf("member %d is absent", i)
			case found && st.Phase != scheduler.PhaseEnded:
				return false
			case found && st.Reason != hpcsera.CancelledByUser:
				t.Fatalf("member %d: got %+v, want it cancelled by the user", i, st)
			}
		}
		asked++
		return asked > max(5, int(12*time.Second/b.pace()))
	})
	for i := range refs {
		if b.exists(fmt.Sprintf("ran-%d", i)) {
			t.Errorf("member %d ran", i)
		}
	}
}
