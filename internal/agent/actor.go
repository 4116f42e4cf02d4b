package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// actor gathers native cancels, holds and releases, so that a thousand of
// them cost the batch system a handful of commands.
type actor struct {
	system  System
	waiting chan wish
}

type wish struct {
	action scheduler.Action
	ref    scheduler.Ref
	done   chan error
}

func newActor(s System) *actor { return &actor{system: s, waiting: make(chan wish)} }

// act has an action done and returns its error.
func (c *actor) act(ctx context.Context, action scheduler.Action, ref scheduler.Ref) error {
	w := wish{action: action, ref: ref, done: make(chan error, 1)}
	select {
	case c.waiting <- w:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// concerning returns what an error of an action on many says of one.
func concerning(ref scheduler.Ref, err error) error {
	if unable, ok := errors.AsType[*scheduler.Unable](err); ok && !slices.ContainsFunc(unable.Refs, ref.Is) {
		return nil
	}
	return err
}

// gathering is how long an actor waits for more of the same, at least; longest
// while they keep coming.
const (
	gathering        = 50 * time.Millisecond
	longestGathering = 5 * time.Second
)

// loop serves wishes until ctx ends.
func (c *actor) loop(ctx context.Context) error {
	slots := slots{first: gathering, longest: longestGathering}
	for {
		var wishes []wish
		select {
		case <-ctx.Done():
			return nil
		case w := <-c.waiting:
			wishes = append(wishes, w)
		}
		timer := time.NewTimer(max(gathering, slots.delay(time.Now())))
		for more := true; more; {
			select {
			case w := <-c.waiting:
				wishes = append(wishes, w)
			case <-timer.C:
				more = false
			case <-ctx.Done():
				return nil
			}
		}
		slots.use(time.Now())
		for _, action := range []scheduler.Action{scheduler.Cancel, scheduler.Hold, scheduler.Release} {
			var refs []scheduler.Ref
			for _, w := range wishes {
				if w.action == action {
					refs = append(refs, w.ref)
				}
			}
			if len(refs) == 0 {
				continue
			}
			err := c.system.Act(ctx, action, refs)
			for _, w := range wishes {
				if w.action == action {
					w.done <- concerning(w.ref, err)
				}
			}
		}
	}
}
