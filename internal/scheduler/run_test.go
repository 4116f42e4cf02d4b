package scheduler

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestACommandThatCannotBeKilledHoldsNobodyUp: the process stays in the
// kernel, so its end never comes.
func TestACommandThatCannotBeKilledHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := await(ctx, make(chan error), killDelay); !errors.Is(err, errStuck) {
			t.Errorf("got %v, want %v", err, errStuck)
		}
		ended := make(chan error, 1)
		ended <- nil
		if err := await(ctx, ended, killDelay); err != nil {
			t.Errorf("a command that ended while it was killed: got %v", err)
		}
	})
}

func TestRefsAreTheSameJobOnlyIfAllThatBothKnowAgrees(t *testing.T) {
	full := Ref{Cluster: "c", ID: "1", Tag: "s"}
	for other, want := range map[Ref]bool{
		full: true, {Tag: "s"}: true, {ID: "1", Tag: "s"}: true, {Cluster: "c", Tag: "s"}: true,
		{Cluster: "c", ID: "1"}: false, {ID: "2", Tag: "s"}: false, {Cluster: "d", ID: "1", Tag: "s"}: false, {Cluster: "c", ID: "1", Tag: "t"}: false, {}: false,
	} {
		if got := full.Is(other); got != want {
			t.Errorf("%+v: got %v, want %v", other, got, want)
		}
		if got := other.Is(full); got != want {
			t.Errorf("%+v, the other way round: got %v, want %v", other, got, want)
		}
	}
}
