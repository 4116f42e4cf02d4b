package local

import (
	"fmt"
	"time"
)

// found is one job as it is now.
type found struct {
	entry
	spec  job
	claim process // of its supervisor, while it runs
	child process // of its script, while that runs
}

// look tells the state of one job, and records the end of one that was lost.
// ok is false for a job that was removed meanwhile.
func (f *folder) look(id string) (found, bool, error) {
	var x found
	j, ok, err := load[job](f.path(id, "job.json"))
	if err != nil || !ok {
		return x, false, err
	}
	x.spec, x.entry = j, entry{ID: id, Tag: j.Tag, Submitted: j.Submitted}
	if ended, err := f.ended(&x); err != nil || ended {
		return x, err == nil, err
	}
	claim, claimed, err := load[process](f.path(id, "claim.json"))
	if err != nil {
		return x, false, err
	}
	switch {
	case !claimed && marked(f.path(id, "hold")):
		x.State = held
	case !claimed:
		x.State, x.Message = queued, "It waits for free cores of this host."
	case claim.PID == 0: // and the record of its end is not written yet
		x.State = cancelled
	case claim.Host != f.here.Host:
		x.State, x.Message = elsewhere, "It runs on "+claim.Host+"; only the local system of that host can tell."
	case claim.alive(f.here):
		x.State, x.claim = running, claim
		x.child, _, err = load[process](f.path(id, "child.json"))
	default:
		return x, true, f.orphan(&x, claim)
	}
	return x, true, err
}

// ended fills in the recorded end, if there is one.
func (f *folder) ended(x *found) (bool, error) {
	e, ok, err := load[end](f.path(x.ID, "end.json"))
	if ok {
		x.State, x.Message, x.Exit, x.Restarted, x.BySite = e.State, e.Message, e.Exit, e.Restarted, e.BySite
	}
	return ok, err
}

// orphan looks at a job whose supervisor is gone. Its script may run on. If
// not, it is lost, unless the supervisor recorded the end as its last act. A
// script that has not begun is kept from it by taking its place in child.json.
func (f *folder) orphan(x *found, claim process) error {
	if _, err := f.put(f.path(x.ID, "child.json"), f.here); err != nil {
		return err
	}
	child, _, err := load[process](f.path(x.ID, "child.json"))
	if err != nil {
		return err
	}
	if child.alive(f.here) {
		x.State, x.child, x.Message = running, child, "Its supervisor is gone; nobody will see its exit status."
		return nil
	}
	if ended, err := f.ended(x); err != nil || ended {
		return err
	}
	e := end{State: lost, Message: "Its processes are gone, and nobody saw how it ended.", Ended: time.Now().UTC()}
	if claim.Boot != f.here.Boot {
		e.Restarted, e.Message = true, fmt.Sprintf("%s was restarted while it ran.", claim.Host)
	}
	if _, err := f.put(f.path(x.ID, "end.json"), e); err != nil {
		return err
	}
	_, err = f.ended(x)
	return err
}
