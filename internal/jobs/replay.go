package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// A database that was put back from a backup is an older one than agents know.
// It begins a new epoch: by the operator's restore, or here, when an agent comes
// with a cursor of ours from its future. In the new epoch
//
//	an instance that served in the old one is sent away   conflict, field epoch
//	the next one gets a term and no orders                work: replay
//	it reports what its journal knows, with the specs     reports: adopt
//	it comes with the new epoch, and gets its orders      work
//
// The journal is the authority for what an agent was given, so nothing is handed
// to it before it was heard: what stands here as delivered to nobody may run
// there.

// errPutBack says that a cursor of ours is from the future of the database.
var errPutBack = errors.New("the database is an older one")

// sameLife refuses an agent that serves in another epoch, and asks one that has
// not begun to serve for its replay.
func (w *poll) sameLife(epoch, last int64) (replay bool, err error) {
	switch {
	case w.acked.beyond(epoch, last, w.term):
		return false, errPutBack
	case w.epoch != 0 && w.epoch != epoch && !w.fresh:
		return false, otherEpoch(w.epoch, epoch)
	case w.acked.epoch < epoch:
		w.acked = position{} // what it acknowledged then, the restored database may order again
	}
	return w.epoch != 0 && w.epoch != epoch, nil // an agent without an epoch has nothing to tell
}

// current refuses facts that were meant for another epoch, or for a database that
// knew more. They are told again in the replay.
func (s *Service) current(r store.Reader, agent string, acked position, epoch int64) error {
	ours, err := r.Epoch()
	if err != nil {
		return err
	}
	last, err := r.LastSeq()
	if err != nil {
		return err
	}
	row, err := r.Agent(agent)
	switch {
	case err != nil:
		return err
	case acked.beyond(ours, last, row.Term):
		return errPutBack
	case epoch != ours:
		return otherEpoch(epoch, ours)
	}
	return nil
}

// outlived returns why an instance that was refused its term cannot have one:
// it serves in an epoch that is over. nil when that is not the reason.
func (s *Service) outlived(ctx context.Context, agent *store.Agent, acked position, r hpcsera.WorkRequest) error {
	var epoch, last int64
	err := s.cfg.Store.Read(ctx, func(read store.Reader) (err error) {
		if epoch, err = read.Epoch(); err == nil {
			last, err = read.LastSeq()
		}
		return err
	})
	switch {
	case err != nil:
		return store.Failed("read the epoch", err)
	case acked.beyond(epoch, last, agent.Term):
		return s.begin(ctx, agent.ID, acked)
	case r.Term != 0 && r.Epoch != 0 && r.Epoch != epoch:
		return otherEpoch(r.Epoch, epoch)
	}
	return nil
}

// begin begins a new epoch in a database that was put back without one, and
// returns the error that sends the agent away which noticed. Tokens that were
// revoked since stay as the database has them: a standby that took over a moment
// behind looks the same, and only the operator knows.
func (s *Service) begin(ctx context.Context, agent string, acked position) error {
	now := s.now()
	var epoch int64
	err := s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		row, err := tx.Agent(agent)
		if err != nil {
			return err
		}
		last, err := tx.LastSeq()
		if err == nil {
			epoch, err = tx.Epoch()
		}
		if err != nil || !acked.beyond(epoch, last, row.Term) {
			return err // another request was first
		}
		if epoch, err = tx.NewEpoch(time.Unix(max(now.Unix(), acked.epoch+1), 0)); err != nil {
			return err
		}
		return tx.Note(hpcsera.AuditLine{At: now, Actor: "server", Action: "database.older", User: row.User, About: agent, Detail: fmt.Sprintf(
			"The database is an older one than this agent has seen. Epoch %d has begun; what was revoked in the lost time counts again.", epoch)})
	})
	if err != nil {
		return store.Failed("begin an epoch", err)
	}
	s.cfg.Log.Error("the database is an older one than agents have seen, so a new epoch has begun; what was revoked in the lost time counts again: "+
		"stop the server and type hpcserad restore --in-place if that was more than a moment", "agent", agent, "epoch", epoch)
	return otherEpoch(acked.epoch, epoch)
}

func otherEpoch(theirs, ours int64) error {
	return hpcsera.Errorf(hpcsera.Conflict, "the agent is in epoch %d, the server in %d: its database was put back from a backup.", theirs, ours).At("epoch").
		Hint("The agent goes on by itself. Jobs in the batch system are not touched.")
}

func unknownTerm(term int64) error {
	return hpcsera.Errorf(hpcsera.Conflict, "the term %d was never given by this database: it is an older one.", term).At("term").
		Hint("The operator stops the server and types: hpcserad restore --in-place. Jobs in the batch system are not touched.")
}

// adopt takes what an agent's journal knows of a job into a database that may
// have forgotten it, or never heard how it went on.
func (s *Service) adopt(tx store.Tx, ledger *store.Ledger, agent *store.Agent, r hpcsera.Report) (hpcsera.Outcome, error) {
	serves, err := auth.Serves(tx, agent)
	if err != nil {
		return "", err
	}
	if !adoptable(agent, serves, r) {
		s.cfg.Log.Warn("an agent's journal tells of a job that is not its own", "agent", agent.ID, "job", r.JobID)
		return hpcsera.Illegal, nil
	}
	j, err := tx.Job(r.JobID)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return s.adoptAs(tx, ledger, agent, nil, r)
	case err != nil:
		return "", err
	case j.User != agent.User || j.Site != agent.Site && j.Delivered != 0 || j.Project != r.Spec.Project || j.Client != r.Spec.Client:
		return hpcsera.Illegal, nil
	case j.State == hpcsera.Cancelled && !r.State.Final():
		return hpcsera.CalledOff, nil
	case j.State.Final():
		return hpcsera.Stale, nil
	case j.Code.Digest != r.Spec.Digest:
		// Made again under its key, with another body, in the new epoch.
		end(j, hpcsera.Failed, hpcsera.RejectedByPolicy, "Another job ran under this id before the server was restored. Submit it again with a new key.", ledger.At())
		if err := ledger.Update(j, store.StateEvent); err != nil {
			return "", err
		}
		return hpcsera.Illegal, s.ripple(tx, ledger, j.ID)
	}
	return s.adoptAs(tx, ledger, agent, j, r)
}

// adoptable says whether an agent may tell of a job: one of its user's, at its
// site, in a project that it serves, that somebody signed.
func adoptable(agent *store.Agent, serves []string, r hpcsera.Report) bool {
	spec := r.Spec
	return hpcsera.ValidID("j", r.JobID) && slices.Contains(hpcsera.Desires, r.Desired) && r.Attempt >= 1 && r.Attempt <= maxAttempts && r.Revision >= 1 &&
		spec.User == agent.User && spec.Site == agent.Site && spec.RunFault == "" && !spec.Created.IsZero() &&
		slices.Contains(serves, spec.Project) && spec.Run.Validate() == nil
}

// adoptAs makes known, which is nil where there is none, the job that the agent
// has, and applies its newest fact. The order counts as new, so that the agent
// hears of what was changed here.
func (s *Service) adoptAs(tx store.Tx, ledger *store.Ledger, agent *store.Agent, known *store.Job, r hpcsera.Report) (hpcsera.Outcome, error) {
	if _, err := tx.Client(r.Spec.Client); err != nil {
		return orIllegal(err)
	}
	part, approval, err := s.cfg.Code.Adopt(tx, &auth.Principal{Agent: agent}, *r.Spec, ledger.At())
	if err != nil {
		return orIllegal(err)
	}
	j := known
	if j == nil {
		j = &store.Job{Job: hpcsera.Job{
			ID: r.JobID, Project: r.Spec.Project, User: r.Spec.User, Client: r.Spec.Client, Site: r.Spec.Site,
			State: hpcsera.Pending, Attempt: 1, Desired: hpcsera.DesiredRun, Depends: r.Spec.Run.Dependencies, Warnings: []string{},
		}, Revision: 1}
	}
	fill(j, r.Spec.Run, part)
	j.Code.Approval, j.Idempotency, j.Times.Created = approval, r.Spec.Idempotency, r.Spec.Created
	want(j, r)
	if j.Delivered == 0 && j.State == hpcsera.Held {
		j.State = hpcsera.Pending // the agent says where it stands
	}
	// Made again under its key it may have been meant for another site this time.
	j.Site, j.Agent, j.Ready, j.Reason, j.Message = agent.Site, agent.ID, false, "", ""
	if known == nil {
		if err := ledger.Insert([]*store.Job{j}); err != nil {
			return "", err
		}
	}
	if err := ledger.Order(j); err != nil || r.Seq == 0 {
		return hpcsera.Applied, err
	}
	return s.fact(tx, ledger, agent.ID, j, r)
}

// want merges what was wanted of a job in the lost hours with what is wanted
// since. A cancel is for good; otherwise the later order counts, and where no
// agent had the job, what the agent was told.
func want(j *store.Job, r hpcsera.Report) {
	switch {
	case j.Desired == r.Desired:
	case r.Desired == hpcsera.DesiredCancel, j.Desired != hpcsera.DesiredCancel && (j.Delivered == 0 || r.Revision > j.Revision):
		j.Desired = r.Desired
	default:
		j.Revision = max(j.Revision, r.Revision+1)
	}
	j.Revision = max(j.Revision, r.Revision)
	if j.Desired == hpcsera.DesiredCancel && j.CancelAt == nil {
		at := r.At
		j.CancelAt = &at
	}
}

// orIllegal makes an outcome of what makes a job impossible here, so that one
// job of a journal does not stop the others.
func orIllegal(err error) (hpcsera.Outcome, error) {
	var told *hpcsera.Error
	if errors.Is(err, store.ErrNotFound) || errors.As(err, &told) {
		return hpcsera.Illegal, nil
	}
	return "", fmt.Errorf("adopt: %w", err)
}
