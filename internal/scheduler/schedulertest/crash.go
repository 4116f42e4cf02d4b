package schedulertest

import (
	"errors"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// crash kills the controller of a system of its own.
func crash(t T, h Harness) {
	s, controller := h.Crash(t)
	b := newBench(t, h, s)
	before := b.submit(b.held())
	b.await(before, scheduler.PhaseHeld)
	controller.KillAndRemember(t)
	b.controllerDown(before)
	controller.Start(t)
	b.idsReused(before, controller)
}

// held makes a submission that never runs.
func (b *bench) held() scheduler.Submission {
	sub := b.job("exit 0")
	sub.Held = true
	return sub
}

// controllerDown: a controller that is down gives errors, and ends nothing.
func (b *bench) controllerDown(before scheduler.Ref) {
	b.Helper()
	ctx := b.Context()
	if answer, err := b.s.Statuses(ctx, []scheduler.Ref{before}); err == nil || len(answer) != 0 {
		b.Errorf("statuses: got %+v, %v, want an error", answer, err)
	}
	if found, err := b.s.Find(ctx, before.Tag); err == nil {
		b.Errorf("find: got %+v, want an error", found)
	}
	if err := b.s.Act(ctx, scheduler.Cancel, []scheduler.Ref{before}); err == nil {
		b.Error("cancel: got no error")
	}
	ref, err := b.s.Submit(ctx, b.held())
	refused, ok := errors.AsType[*scheduler.Refused](err)
	if err == nil || ok && !refused.Unreached {
		b.Errorf("submit: got %+v, %v, want an error that is no refusal of the job", ref, err)
	}
}

// idsReused: a job whose id was given to another is absent.
func (b *bench) idsReused(before scheduler.Ref, controller Controller) {
	b.Helper()
	forgotten := b.submit(b.held())
	b.await(forgotten, scheduler.PhaseHeld)
	running := b.submit(b.job("exit 0"))
	b.await(running, scheduler.PhaseRunning, scheduler.PhaseEnded)
	controller.Kill(b)
	controller.StartFromCopy(b)
	later := []scheduler.Ref{b.submit(b.held()), b.submit(b.held())}
	if later[0].ID != forgotten.ID || later[1].ID != running.ID {
		b.Fatalf("got the ids %+v, want those of %+v and %+v again", later, forgotten, running)
	}
	old := []scheduler.Ref{forgotten, {Tag: forgotten.Tag}}
	all := append([]scheduler.Ref{before, later[0], later[1], running}, old...)
	answer, err := b.s.Statuses(b.Context(), all)
	if err != nil {
		b.Fatal(err)
	}
	for _, ref := range old {
		if st, found := answer[ref]; found {
			b.Errorf("%+v: got %+v, want it absent", ref, st)
		}
	}
	if st, found := answer[running]; found && st.Phase != scheduler.PhaseEnded {
		b.Errorf("%+v: got %+v, want it absent, or its own end from the history", running, st)
	}
	for _, ref := range []scheduler.Ref{before, later[0], later[1]} {
		if st := answer[ref]; st.Phase != scheduler.PhaseHeld {
			b.Errorf("%+v: got %+v, want it held", ref, st)
		}
	}
	// An action that means the old job leaves the new one alone.
	if err := b.s.Act(b.Context(), scheduler.Cancel, []scheduler.Ref{forgotten, running}); err != nil {
		b.Error(err)
	}
	if st, found := b.status(later[0]); !found || st.Phase != scheduler.PhaseHeld {
		b.Errorf("%+v: got %+v, want it held still", later[0], st)
	}
}
