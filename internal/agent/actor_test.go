package agent

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// What is wrong with one job is told of that job, whatever came with it.
func TestAnActionsErrorIsToldOfWhomItConcerns(t *testing.T) {
	one, other := scheduler.Ref{ID: "7[1]", Tag: "s_1", Member: 0}, scheduler.Ref{ID: "8", Tag: "s_2"}
	unable := fmt.Errorf("hold: %w", &scheduler.Unable{Message: "cannot", Refs: []scheduler.Ref{one}})
	if concerning(one, unable) == nil || concerning(scheduler.Ref{Tag: "s_1"}, unable) == nil {
		t.Error("the job that cannot be held: got no error")
	}
	if err := concerning(other, unable); err != nil {
		t.Errorf("the job beside it: got %v", err)
	}
	if err := errors.New("down"); concerning(other, err) == nil || concerning(one, err) == nil {
		t.Error("an error of the whole command: got none")
	}
}
