package schedulertest

import (
	"errors"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// crash kills the controller of a system of its own.
func crash(t *testing.T, h Harness) {
	s, controller := h.Crash(t)
	b := newBench(t, h, s)
	held := func() scheduler.Submission {
		sub := b.job("exit 0")
		sub.Held = true
		return sub
	}
	before := b.submit(held())
	b.await(before, scheduler.PhaseHeld)
	controller.KillAndRemember(t)

	t.Run("a controller that is down gives errors, and ends nothing", func(t *testing.T) {
		ctx := t.Context()
		if answer, err := s.Statuses(ctx, []scheduler.Ref{before}); err == nil || len(answer) != 0 {
			t.Errorf("statuses: got %+v, %v, want an error", answer, err)
		}
		if found, err := s.Find(ctx, before.Tag); err == nil {
			t.Errorf("find: got %+v, want an error", found)
		}
		if err := s.Act(ctx, scheduler.Cancel, []scheduler.Ref{before}); err == nil {
			t.Error("cancel: got no error")
		}
		ref, err := s.Submit(ctx, held())
		refused, ok := errors.AsType[*scheduler.Refused](err)
		if err == nil || ok && !refused.Unreached {
			t.Errorf("submit: got %+v, %v, want an error that is no refusal of the job", ref, err)
		}
	})

	t.Run("a job whose id was given to another is absent", func(t *testing.T) {
		controller.Start(t)
		forgotten := b.submit(held())
		b.await(forgotten, scheduler.PhaseHeld)
		running := b.submit(b.job("exit 0"))
		b.await(running, scheduler.PhaseRunning, scheduler.PhaseEnded)
		controller.Kill(t)
		controller.StartFromCopy(t)
		later := []scheduler.Ref{b.submit(held()), b.submit(held())}
		if later[0].ID != forgotten.ID || later[1].ID != running.ID {
			t.Fatalf("got the ids %+v, want those of %+v and %+v again", later, forgotten, running)
		}
		old := []scheduler.Ref{forgotten, {Tag: forgotten.Tag}}
		all := append([]scheduler.Ref{before, later[0], later[1], running}, old...)
		answer, err := s.Statuses(t.Context(), all)
		if err != nil {
			t.Fatal(err)
		}
		for _, ref := range old {
			if st, found := answer[ref]; found {
				t.Errorf("%+v: got %+v, want it absent", ref, st)
			}
		}
		if st, found := answer[running]; found && st.Phase != scheduler.PhaseEnded {
			t.Errorf("%+v: got %+v, want it absent, or its own end from the history", running, st)
		}
		for _, ref := range []scheduler.Ref{before, later[0], later[1]} {
			if st := answer[ref]; st.Phase != scheduler.PhaseHeld {
				t.Errorf("%+v: got %+v, want it held", ref, st)
			}
		}
		// An action that means the old job leaves the new one alone.
		if err := s.Act(t.Context(), scheduler.Cancel, []scheduler.Ref{forgotten, running}); err != nil {
			t.Error(err)
		}
		if st, found := b.status(later[0]); !found || st.Phase != scheduler.PhaseHeld {
			t.Errorf("%+v: got %+v, want it held still", later[0], st)
		}
	})
}
