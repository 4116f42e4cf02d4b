package jobs

import (
	"errors"
	"fmt"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/store"
)

// settle decides how a job stands that no agent has taken: held, waiting for a
// dependency or an approval, ready to be taken, or failed with a dependency.
// The error is limit_exceeded when the job asks for more than was signed; the
// job waits for another approval then, and its message says why.
func (s *Service) settle(r store.Reader, j *store.Job, at time.Time, memo covers) error {
	j.Ready = false
	open, broken, err := dependencies(r, j.Depends)
	switch {
	case err != nil:
		return err
	case broken != "":
		end(j, hpcsera.Failed, hpcsera.DependencyFailed, broken, at)
		return nil
	case j.Desired == hpcsera.DesiredHold:
		if j.State != hpcsera.Held {
			j.State, j.Reason, j.Message = hpcsera.Held, "", ""
		}
		return nil
	case open:
		j.State, j.Reason, j.Message = hpcsera.Pending, hpcsera.WaitingForDependency, ""
		return nil
	}
	found, err := s.cover(r, j, nil, at, memo)
	if err != nil && hpcsera.CodeOf(err) != hpcsera.LimitExceeded {
		return err
	}
	j.State, j.Reason, j.Message, j.Code.Approval = hpcsera.Pending, hpcsera.WaitingForApproval, "", ""
	if found != nil {
		j.Ready, j.Reason, j.Code.Approval = true, hpcsera.WaitingForAgent, found.ID
	}
	if err != nil {
		j.Message = "No approval covers this job: " + err.Error()
	}
	return err
}

// covers remembers within one transaction what was found for like jobs, so
// that ten thousand of them ask once. It serves one agent, or none. nil
// remembers nothing.
type covers map[coverKey]coverResult

type coverKey struct {
	user, project, client, digest, site string

	resources  hpcsera.Resources
	attributes hpcsera.Attributes
	requeue    bool
}

type coverResult struct {
	approval *hpcsera.Approval
	err      error
}

func (s *Service) cover(r store.Reader, j *store.Job, agent *store.Agent, at time.Time, memo covers) (*hpcsera.Approval, error) {
	key := coverKey{j.User, j.Project, j.Client, j.Code.Digest, j.Site, j.Run.Resources, j.Run.Attributes, j.Run.Requeue}
	if found, ok := memo[key]; ok {
		return found.approval, found.err
	}
	found, err := s.cfg.Code.Covering(r, j, agent, at)
	if memo != nil {
		memo[key] = coverResult{found, err}
	}
	return found, err
}

// dependencies says whether one of them is still open, and, as a sentence,
// whether one can never come true.
func dependencies(r store.Reader, list []hpcsera.Dependency) (open bool, broken string, err error) {
	for _, d := range list {
		other, err := r.Job(d.Job)
		if errors.Is(err, store.ErrNotFound) {
			return false, fmt.Sprintf("%s, which should be %s first, was erased.", d.Job, d.State), nil
		} else if err != nil {
			return false, "", err
		}
		switch {
		case reached(other, d.State):
		case other.State.Final():
			return false, fmt.Sprintf("%s, which should be %s first, is %s.", d.Job, d.State, other.State), nil
		default:
			open = true
		}
	}
	return open, "", nil
}

func reached(j *store.Job, wanted hpcsera.State) bool {
	if wanted != hpcsera.Running {
		return j.State == wanted
	}
	return j.Times.Running != nil || j.State == hpcsera.Running || j.State == hpcsera.Finishing || j.State == hpcsera.Succeeded
}

// end sets a final state that the server itself decided. A final state is
// never changed, so callers have checked that there is none.
func end(j *store.Job, state hpcsera.State, reason hpcsera.Reason, message string, at time.Time) {
	j.State, j.Reason, j.Message, j.Ready, j.Estimated = state, reason, message, false, nil
	j.Times.Ended = &at
}

// Deny ends the jobs that wait for a user's consent to code, since the user
// decided against it. It is part of the caller's transaction, so that a
// decision counts once; ledger is that transaction's.
func (s *Service) Deny(tx store.Tx, ledger *store.Ledger, code store.Awaited, message string) error {
	waiting, err := tx.AwaitingApproval(code.User, code.Project, code.Digest)
	if err != nil {
		return err
	}
	for _, j := range waiting {
		end(j, hpcsera.Failed, hpcsera.ApprovalDenied, message, ledger.At())
		if err := ledger.Update(j, store.StateEvent); err != nil {
			return err
		}
		if err := s.ripple(tx, ledger, j.ID); err != nil {
			return err
		}
	}
	return nil
}

// ripple settles the jobs that waited for a job which has ended or started,
// and those that waited for the ones that fail by it, and so on.
func (s *Service) ripple(tx store.Tx, ledger *store.Ledger, job string) error {
	for queue := []string{job}; len(queue) > 0; queue = queue[1:] {
		waiting, err := tx.Dependents(queue[0])
		if err != nil {
			return err
		}
		for _, j := range waiting {
			if j.Delivered != 0 || j.State.Final() {
				continue
			}
			before := standing{j.State, j.Reason, j.Message, j.Ready}
			if err := s.settle(tx, j, ledger.At(), nil); err != nil && hpcsera.CodeOf(err) != hpcsera.LimitExceeded {
				return err
			}
			if before == (standing{j.State, j.Reason, j.Message, j.Ready}) {
				continue
			}
			if err := ledger.Update(j, store.StateEvent); err != nil {
				return err
			}
			if j.State.Final() {
				queue = append(queue, j.ID)
			}
		}
	}
	return nil
}

type standing struct {
	state   hpcsera.State
	reason  hpcsera.Reason
	message string
	ready   bool
}
