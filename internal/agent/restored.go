package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
	"unique"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
)

// A server whose database was put back from a backup begins a new epoch. It has
// forgotten what this agent did since the backup, and may order it again: jobs
// that the backup has as unfinished, and those that clients hand in once more,
// which get the same ids.
//
// So an instance that serves in the old epoch ends, and the next one tells the
// server what the journal knows before it gets orders: every job that is open,
// and every one that ended by a fact that the database has not heard. The server
// adopts those that it does not know. Nothing of this is written down: until the
// journal has the new epoch, it can be told again.
//
// A job that ended in an older epoch is never started again: the agent tells its
// end once more when it is ordered, and refuses other code under its id. For that
// the journal counts as far as it reaches (keepJournal), longer than any approval
// holds. Within one epoch a server that lets go of a job may make another one
// with its id, which runs where nothing stands of the old one.

// ErrRestored is the error of Run when the server was put back from a backup and
// another instance of this agent is to go on in its new epoch.
var ErrRestored = errors.New("the server was put back from a backup")

// otherEpoch says whether the server refused an instance because it serves in an
// epoch that is over.
func otherEpoch(err error) bool {
	var e *hpcsera.Error
	return errors.As(err, &e) && e.Code == hpcsera.Conflict && e.Field == "epoch"
}

// recall reads the journal as it is now, since another instance may have written
// until now. It is an error when the journal is not the one that this agent wrote
// last: going on could run jobs twice.
func (e *engine) recall(answer hpcsera.WorkAnswer) (memory, error) {
	m := newMemory()
	ungranted, err := journal.Replay(e.agent.journalDir(), m.fold)
	forgot := m.epoch != 0 && (answer.Epoch != m.epoch || answer.AppliedSeq < m.sent)
	if err == nil && (forgot || m.first != m.epoch) {
		m = newMemory()
		m.remember, m.retell, m.heard = true, forgot, answer.AppliedSeq
		ungranted, err = journal.Replay(e.agent.journalDir(), m.fold)
	}
	if err != nil {
		return m, err
	}
	// Each instance gets at most one term, so a term that no instance of the
	// journal can have been given went to one that is missing here. A new epoch
	// counts terms from an older number.
	counts := m.epoch == 0 || answer.Epoch == m.epoch
	if answer.AppliedSeq > m.seq || counts && answer.Term-m.term > int64(ungranted) {
		return m, errBehind
	}
	return m, nil
}

// retold lists what a server is to hear that may have forgotten it: of each job
// its newest fact, with what it is and what was wanted of it.
func (m *memory) retold() (list []hpcsera.Report) {
	if !m.retell {
		return nil
	}
	for _, j := range m.jobs {
		r := j.last
		if r.Seq == 0 {
			r = hpcsera.Report{JobID: j.id, Attempt: 1, State: hpcsera.Pending, At: j.spec.Created}
		}
		r.Spec, r.Desired, r.Revision = j.spec, j.order.Desired, max(j.order.Revision, 1)
		list = append(list, r)
	}
	for _, over := range []map[string]ended{m.ended, m.gone} {
		for id, o := range over {
			if o.unheard != nil {
				list = append(list, *o.unheard)
				o.unheard = nil
				over[id] = o
			}
		}
	}
	slices.SortFunc(list, func(a, b hpcsera.Report) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.JobID, b.JobID)) })
	return list
}

// The most of one request of a replay.
const (
	retoldAtOnce = 200
	retoldBytes  = 1 << 20
)

// replay tells the server what it may have forgotten, and returns the jobs that
// their user has cancelled since.
func (a *Agent) replay(ctx context.Context, said hpcsera.WorkAnswer, list []hpcsera.Report) (calledOff []string, err error) {
	a.log.Warn("the server's database is older than this agent's journal; it is told what it does not know", "jobs", len(list))
	for len(list) > 0 {
		n, size := 0, 0
		for n < min(len(list), retoldAtOnce) && (n == 0 || size < retoldBytes) {
			size += len(list[n].Spec.Manifest) + 2*len(list[n].Spec.Statement) + 8<<10
			n++
		}
		part := list[:n]
		list = list[n:]
		outcomes, err := a.tell(ctx, hpcsera.ReportRequest{Instance: a.instance, Term: said.Term, Epoch: said.Epoch, Reports: part})
		if err != nil {
			return nil, err
		}
		for i, o := range outcomes {
			switch o {
			case hpcsera.Applied, hpcsera.Duplicate, hpcsera.Stale:
			case hpcsera.CalledOff:
				calledOff = append(calledOff, part[i].JobID)
			default:
				a.log.Warn("the server does not take a job that this agent has", "job", part[i].JobID, "state", string(part[i].State), "outcome", string(o))
			}
		}
	}
	return calledOff, nil
}

// past returns how a job ended that is not to run again.
func (m *memory) past(job string) (ended, bool) {
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
			if created.After(o.created) {
				o.created = created
			}
			list[job] = o
		}
	}
}

// over is what stays known of a job whose end, r, the server has heard.
func (m *memory) over(j *job, r hpcsera.Report) ended {
	was := course{
		digest: j.spec.Digest, run: runDigest(j.spec.Run), keep: j.spec.Run.Keep,
		state: r.State, reason: r.Reason, exited: r.Exit != nil, step: r.Step, attempt: r.Attempt,
	}
	if was.exited {
		was.exit = *r.Exit
	}
	o := ended{was: unique.Make(was), created: j.spec.Created, tags: j.tags, at: r.At, epoch: m.epoch}
	if m.retell && r.Seq > m.heard {
		r.Spec, r.Desired, r.Revision = j.spec, j.order.Desired, max(j.order.Revision, 1)
		o.unheard = &r
	}
	return o
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
// more may come with another approval, and later.
func (o ended) same(spec *hpcsera.OrderSpec) bool {
	was := o.was.Value()
	return spec == nil || was.digest == spec.Digest && was.run == runDigest(spec.Run)
}

// another says whether an order is for a job that was made after the one that is
// over, under the same id: in one epoch the server repeats an order as it was.
func (o ended) another(order hpcsera.Order, epoch int64) bool {
	return order.Spec != nil && o.epoch == epoch && !o.created.IsZero() && order.Spec.Created.After(o.created)
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
	was := o.was.Value()
	var exit *hpcsera.Exit
	if was.exited {
		exit = &was.exit
	}
	return hpcsera.Report{
		JobID: order.JobID, Step: was.step, Attempt: max(was.attempt, order.Attempt, 1), Revision: order.Revision,
		State: was.state, Reason: was.reason, At: o.at, Exit: exit,
		Message: "It ended before the server was put back from a backup, as the agent's journal says. It is not run again; its output is on the site.",
	}
}
