package jobs

import (
	"context"
	"fmt"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// change runs edit on a job that p may act on, in one Write, and returns the
// job as it is then. edit records what it changed, if anything.
func (s *Service) change(ctx context.Context, p *auth.Principal, action auth.Action, id string, edit func(store.Tx, *store.Ledger, *store.Job) error) (shown hpcsera.Job, err error) {
	now := s.now()
	err = s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, now)
		if err != nil {
			return err
		}
		j, err := s.load(tx, p, action, id)
		if err != nil {
			return err
		}
		if err := edit(tx, ledger, j); err != nil {
			return err
		}
		shown = j.Job
		return s.warn(tx, &shown, nil)
	})
	return shown, store.Failed(fmt.Sprintf("%s %s", action, id), err)
}

// Patch holds, releases or changes a job.
func (s *Service) Patch(ctx context.Context, p *auth.Principal, id string, patch hpcsera.JobPatch) (hpcsera.Job, error) {
	return s.change(ctx, p, auth.PatchJob, id, func(tx store.Tx, ledger *store.Ledger, j *store.Job) error {
		if patch.Values != nil {
			if err := auth.Allow(p, auth.PatchValues, targetOf(&j.Job)); err != nil {
				return err
			}
		}
		if j.State.Final() {
			return hpcsera.Errorf(hpcsera.JobFinal, "the job is %s and does not change any more.", j.State)
		}
		if j.Delivered != 0 {
			return s.patchDelivered(ledger, j, patch)
		}
		if err := s.applyPatch(tx, j, patch); err != nil {
			return err
		}
		if patch.Hold != nil {
			desire(j, desiredBy(*patch.Hold))
		}
		// Asking for more than was signed is refused; releasing a job whose
		// approval was replaced by a narrower one is not.
		more := patch.Resources != nil || patch.Attributes != nil
		if err := s.settle(tx, j, ledger.At(), nil); err != nil && (more || hpcsera.CodeOf(err) != hpcsera.LimitExceeded) {
			return err
		}
		if err := ledger.Update(j, store.StateEvent); err != nil || !j.State.Final() {
			return err
		}
		return s.ripple(tx, ledger, j.ID)
	})
}

// patchDelivered changes what should be of a job that an agent has: hold and
// release only, as orders.
func (s *Service) patchDelivered(ledger *store.Ledger, j *store.Job, patch hpcsera.JobPatch) error {
	if patch.Labels != nil || patch.Annotations != nil || patch.Resources != nil || patch.Attributes != nil || patch.Values != nil {
		return hpcsera.Errorf(hpcsera.Conflict, "an agent has taken the job, so only hold and release change it.").
			Hint("Cancel it and submit another one.")
	}
	if patch.Hold == nil || j.Desired == desiredBy(*patch.Hold) {
		return nil
	}
	if j.Desired == hpcsera.DesiredCancel {
		return hpcsera.Errorf(hpcsera.Conflict, "the job is being cancelled.").At("hold")
	}
	if *patch.Hold && (j.State == hpcsera.Running || j.State == hpcsera.Finishing) {
		return hpcsera.Errorf(hpcsera.Conflict, "the job is %s; only what has not started can be held.", j.State).At("hold").
			Hint("Cancel it, or let it end.")
	}
	desire(j, desiredBy(*patch.Hold))
	return ledger.Order(j)
}

// applyPatch sets fields of a job that no agent has and checks them as a
// submission's.
func (s *Service) applyPatch(r store.Reader, j *store.Job, patch hpcsera.JobPatch) error {
	run := &j.Run
	if patch.Labels != nil {
		run.Labels = orEmpty(*patch.Labels)
	}
	if patch.Annotations != nil {
		run.Annotations = orEmpty(*patch.Annotations)
		j.Annotation = run.Annotations
	}
	if patch.Resources != nil {
		run.Resources = *patch.Resources
	}
	if patch.Attributes != nil {
		run.Attributes = *patch.Attributes
	}
	if err := run.Validate(); err != nil {
		return err
	}
	part, err := s.cfg.Code.Part(r, j.Project, j.Code.Digest)
	if err != nil {
		return err
	}
	if patch.Values != nil {
		if run.Values, err = part.Complete(*patch.Values); err != nil {
			return err
		}
	}
	if err := part.Admits(*run); err != nil {
		return err
	}
	if patch.Resources != nil || patch.Attributes != nil {
		if _, err := s.choose(r, j.User, j.Project, "", s.now()).pick(hpcsera.JobSpec{RunPart: *run}, part.Manifest); err != nil {
			return err
		}
	}
	j.Labels, j.Resources, j.Attributes, j.Values = orEmpty(run.Labels), run.Resources, run.Attributes, run.Values
	if j.Values == nil {
		j.Values = hpcsera.Values{} // as the contract shows no values
	}
	return nil
}

func desiredBy(hold bool) hpcsera.Desired {
	if hold {
		return hpcsera.DesiredHold
	}
	return hpcsera.DesiredRun
}

// desire sets what should be of a job. Revisions tell an agent which of two
// orders is the later one.
func desire(j *store.Job, d hpcsera.Desired) {
	if j.Desired != d {
		j.Desired = d
		j.Revision++
	}
}

// Cancel ends a job that no agent has, and orders the end of any other. It may
// be repeated; a job that has ended keeps its end.
func (s *Service) Cancel(ctx context.Context, p *auth.Principal, id string) (hpcsera.Job, error) {
	return s.change(ctx, p, auth.DeleteJob, id, func(tx store.Tx, ledger *store.Ledger, j *store.Job) error {
		return s.cancel(tx, ledger, j)
	})
}

// cancel ends a job that no agent has, and asks the agent of every other to.
func (s *Service) cancel(tx store.Tx, ledger *store.Ledger, j *store.Job) error {
	if j.State.Final() || j.Desired == hpcsera.DesiredCancel {
		return nil
	}
	at := ledger.At()
	desire(j, hpcsera.DesiredCancel)
	j.CancelAt = &at
	if j.Delivered != 0 {
		return ledger.Order(j)
	}
	end(j, hpcsera.Cancelled, hpcsera.CancelledByUser, "", at)
	if err := ledger.Update(j, store.StateEvent); err != nil {
		return err
	}
	return s.ripple(tx, ledger, j.ID)
}

// Purge erases a job that has ended: job_not_final otherwise.
func (s *Service) Purge(ctx context.Context, p *auth.Principal, id string) error {
	_, err := s.change(ctx, p, auth.DeleteJob, id, func(tx store.Tx, ledger *store.Ledger, j *store.Job) error {
		if !j.State.Final() {
			return hpcsera.Errorf(hpcsera.JobNotFinal, "the job is %s; only a job that has ended can be erased.", j.State).
				Hint("Cancel it first.")
		}
		waiting, err := tx.Dependents(id)
		if err != nil {
			return err
		}
		for _, w := range waiting {
			if w.Delivered == 0 {
				return hpcsera.Errorf(hpcsera.Conflict, "the job %s still asks how this one ended.", w.ID)
			}
		}
		return ledger.Erase(j)
	})
	if err != nil {
		return err
	}
	// After the commit: if this fails, bytes are left over that nobody reaches.
	if err := s.cfg.Logs.DeleteLogs(ctx, id+"/"); err != nil {
		s.cfg.Log.Warn("output of an erased job was not deleted", "job", id, "err", err)
	}
	return nil
}

// Annotate sets what clients may tell of a job.
func (s *Service) Annotate(ctx context.Context, p *auth.Principal, id string, status hpcsera.JobStatus) (hpcsera.Job, error) {
	return s.change(ctx, p, auth.PutJobStatus, id, func(_ store.Tx, ledger *store.Ledger, j *store.Job) error {
		notes := map[string]string{}
		for k, v := range j.Annotation {
			notes[k] = v
		}
		for k, v := range status.Annotations {
			if notes[k] = v; v == "" {
				delete(notes, k)
			}
		}
		if err := hpcsera.CheckLabels("annotations", notes); err != nil {
			return err
		}
		if f := status.Progress; f != nil && !(*f >= 0 && *f <= 1) {
			return hpcsera.Errorf(hpcsera.InvalidField, "%v is not between 0 and 1.", *f).At("progress")
		}
		if m := status.Message; m != nil && len(*m) > maxMessage {
			return hpcsera.Errorf(hpcsera.InvalidField, "the message is longer than %d bytes.", maxMessage).At("message")
		}
		j.Annotation = notes
		if status.Progress != nil {
			j.Progress = status.Progress
		}
		if status.Message != nil {
			j.Message = *status.Message
		}
		return ledger.Update(j, store.AnnotatedEvent)
	})
}

// maxMessage bounds a message, from clients and from batch systems.
const maxMessage = 4096
