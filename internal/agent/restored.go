package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// A server whose database was put back from a backup begins a new epoch. It has
// forgotten what this agent did since the backup, and may order it again: jobs
// that the backup has as unfinished, and those that clients hand in once more,
// which get the same ids.
//
// An agent that has nothing open goes on by itself. Its journal stays, and with
// it the count of runs of each approval. A job that ended in an older epoch is
// never started again: the agent tells its end once more when it is ordered, and
// refuses other code under its id. For that the journal counts as far as it
// reaches (keepJournal), longer than any approval holds. Within one epoch a
// server that lets go of a job may make another one with its id, which runs
// where nothing stands of the old one.
//
// An agent with unfinished jobs, or with facts that no server has heard, stays
// away: nobody knows what becomes of them in the new epoch.

// ErrRestored is the error of Run when the server was put back from a backup and
// another instance of this agent can go on in its new epoch.
var ErrRestored = errors.New("the server was put back from a backup")

// errOpen says that the agent may not go on in a new epoch.
var errOpen = errors.New("another instance of this agent has left jobs or reports that are not finished")

// errByHand says that the server's database is older than this agent's journal,
// in the same epoch.
var errByHand = hpcsera.Errorf(hpcsera.Unavailable, "the server's database is older than what this agent knows, and nobody has said so to it.").
	Hint("The operator stops the server and types: hpcserad restore --in-place")

// restoredAdvice says what to do about a server whose database is older than
// this agent's journal.
const restoredAdvice = "Wait until this agent's jobs have left the batch system, or cancel them there; have the operator type hpcserad agent remove ID --abandon; then type hpcsera-agent enroll --replace."

// restoredField returns by what the server noticed that the agent knows more
// than its database; "" for other errors, and none.
func restoredField(err error) string {
	var e *hpcsera.Error
	if errors.As(err, &e) && e.Code == hpcsera.Conflict && slices.Contains([]string{"epoch", "acked", "term"}, e.Field) {
		return e.Field
	}
	return ""
}

// beginAnew decides what to do about it. again says that the agent may ask in
// the new epoch; take looks once more whether it is idle, when nobody else can
// write the journal.
func (a *Agent) beginAnew(ctx context.Context, field string) (again bool, err error) {
	var jobs, reports int
	if err := a.engine.read(ctx, func() { jobs, reports = len(a.engine.jobs), len(a.engine.unsent) }); err != nil {
		return false, err
	}
	if jobs+reports > 0 {
		a.state.set(func(s *Status) { s.Restored = true })
		return false, hpcsera.Errorf(hpcsera.Unavailable, "the server was put back from a backup, and this agent has %d unfinished jobs and %d reports that it may not know of.",
			jobs, reports).Hint("%s", restoredAdvice)
	}
	if a.granted.Load() != 0 {
		return false, fmt.Errorf("%w: %w", errStopped, ErrRestored) // no instance serves in two epochs
	}
	if field != "epoch" {
		return false, errByHand
	}
	a.log.Warn("the server was put back from a backup; this agent has nothing unfinished and goes on in the new epoch")
	a.anew = true
	return true, nil
}

// unsettled counts what keeps an agent from a new epoch.
func (m *memory) unsettled() int { return len(m.jobs) + len(m.unsent) }

// replay reads the journal as it is now. What was forgotten is remembered where
// the journal, or this beginning, has more than one epoch.
func (e *engine) replay(anew bool) (m memory, ungranted int, err error) {
	for remember := anew; ; remember = true {
		m = newMemory()
		m.remember = remember
		ungranted, err = journal.Replay(e.agent.journalDir(), m.fold)
		if err != nil || remember || m.first == m.epoch {
			return m, ungranted, err
		}
	}
}

// over returns how a job ended that is not to run again.
func (m *memory) over(job string) (ended, bool) {
	o, known := m.ended[job]
	if !known {
		o, known = m.gone[job]
	}
	return o, known
}

// told notes that the server of this epoch is told of a job that is over, in
// answer to an order that was created then.
func (m *memory) told(job string, created time.Time) {
	for _, list := range []map[string]ended{m.ended, m.gone} {
		if o, known := list[job]; known {
			o.epoch = m.epoch
			if created.After(o.Created) {
				o.Created = created
			}
			list[job] = o
		}
	}
}

// endOf is the end that a final fact tells.
func endOf(r hpcsera.Report) ended {
	return ended{state: r.State, reason: r.Reason, at: r.At, exit: r.Exit, step: r.Step, attempt: r.Attempt}
}

// over is what stays known of a job besides its end.
func (j *job) over() journal.Over {
	return journal.Over{Digest: j.spec.Digest, Run: runDigest(j.spec.Run), Created: j.spec.Created, Tags: j.tags, Keep: j.spec.Run.Keep}
}

// runDigest stands for a run part.
func runDigest(r hpcsera.RunPart) string {
	text, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	return hpcsera.DigestOf(text)
}

// same says whether an order is for what ran. A job that a client hands in once
// more may come with another approval, and later. Older journals do not say
// what ran.
func (o ended) same(spec *hpcsera.OrderSpec) bool {
	return spec == nil || o.Digest == "" || o.Digest == spec.Digest && o.Run == runDigest(spec.Run)
}

// another says whether an order is for a job that was made after the one that is
// over, under the same id: in one epoch the server repeats an order as it was.
func (o ended) another(order hpcsera.Order, epoch int64) bool {
	return order.Spec != nil && o.epoch == epoch && !o.Created.IsZero() && order.Spec.Created.After(o.Created)
}

// repeated handles an order for a job that is over: the order was older than the
// end, or the server has forgotten it since, or it has let go of the whole job
// and made another one under the same key.
func (e *engine) repeated(past ended, order hpcsera.Order) {
	switch {
	case past.another(order, e.epoch) && e.cleared(order.JobID):
		e.write(journal.Entry{Kind: journal.KindOrder, Order: &order})
		e.touch(e.jobs[order.JobID])
	case past.another(order, e.epoch):
		e.factOf(refused(order, "Another job ran under this id before, and its files still stand on the site. Submit it again with a new key."), order.Spec.Created)
	case past.epoch == e.epoch: // it is told
	case !past.same(order.Spec):
		e.factOf(refused(order, "Another job ran under this id before the server was restored. Submit it again with a new key."), order.Spec.Created)
	case order.Spec != nil:
		e.factOf(past.again(order), order.Spec.Created)
	default:
		e.fact(past.again(order))
	}
}

// cleared says whether nothing stands of a job that is over. Its claims would
// count as those of another one with its id.
func (e *engine) cleared(job string) bool {
	if _, stands := e.ended[job]; stands {
		return false
	}
	for _, dir := range []string{filepath.Join(e.agent.spool.Dir(), job), e.agent.jobDir(job)} {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}

// refused is the fact of a job that is not run because its id is another's.
func refused(order hpcsera.Order, why string) hpcsera.Report {
	return hpcsera.Report{
		JobID: order.JobID, Attempt: max(order.Attempt, 1), Revision: order.Revision, State: hpcsera.Failed, Reason: hpcsera.RejectedByPolicy, Message: why,
	}
}

// again returns the fact of an end that the server has forgotten. Output and
// artifacts stay on the site.
func (o ended) again(order hpcsera.Order) hpcsera.Report {
	return hpcsera.Report{
		JobID: order.JobID, Step: o.step, Attempt: max(o.attempt, order.Attempt, 1), Revision: order.Revision,
		State: o.state, Reason: o.reason, At: o.at, Exit: o.exit,
		Message: "It ended before the server was put back from a backup, as the agent's journal says. It is not run again; its output is on the site.",
	}
}
