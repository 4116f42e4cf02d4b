package jobs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/auth"
	"github.com/hpcsera/hpcsera/internal/store"
)

// Bounds of one answer. What does not fit comes with the next poll, which the
// agent sends at once.
const (
	maxOrders     = 1000 // as many as an agent hands in together
	maxOrderBytes = 8 << 20
)

// allOrders is no limit: which orders come first is decided here.
const allOrders = 1 << 30

// Work answers an agent's poll: what should be and is not acknowledged yet,
// then new jobs. Without either it waits up to r.Wait seconds. Errors are
// agent_active (another living instance has the term) and stale_term.
func (s *Service) Work(ctx context.Context, p *auth.Principal, agent string, r hpcsera.WorkRequest) (hpcsera.WorkAnswer, error) {
	if err := auth.Allow(p, auth.PostWork, auth.Target{Agent: agent}); err != nil {
		return hpcsera.WorkAnswer{}, err
	}
	if err := checkWork(r); err != nil {
		return hpcsera.WorkAnswer{}, err
	}
	acked := s.acked(agent, r.Acked)
	row, err := s.claim(ctx, p.Agent, r)
	if err != nil {
		// A database that was put back gives old terms again.
		return hpcsera.WorkAnswer{}, cmp.Or(s.outlived(ctx, p.Agent, acked, r), err)
	}
	poll := poll{s: s, agent: row, instance: r.Instance, term: row.Term, free: r.Free, epoch: r.Epoch, fresh: r.Term == 0, acked: acked}
	if r.Stopping {
		poll.free = 0
		r.Wait = 0
	}
	return poll.run(ctx, s.watch(p), time.Duration(r.Wait)*time.Second)
}

func checkWork(r hpcsera.WorkRequest) error {
	switch {
	case !hpcsera.ValidID("i", r.Instance):
		return hpcsera.Errorf(hpcsera.InvalidField, "%q is not an instance.", r.Instance).At("instance")
	case r.Term < 0:
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is not a term.", r.Term).At("term")
	case r.Free < 0:
		return hpcsera.Errorf(hpcsera.InvalidField, "%d jobs cannot be free.", r.Free).At("free")
	case r.Wait < 0 || r.Wait > int(longestWait/time.Second):
		return hpcsera.Errorf(hpcsera.InvalidField, "%d is not between 0 and %d.", r.Wait, int(longestWait/time.Second)).At("wait")
	case r.Facts != nil && (len(r.Facts.Host) > 255 || len(r.Facts.Version) > 255 || len(r.Facts.Queues) > 2000):
		return hpcsera.Errorf(hpcsera.InvalidField, "the facts are too long.").At("facts")
	}
	return nil
}

// poll is one work request under way.
type poll struct {
	s        *Service
	agent    *store.Agent
	instance string
	term     int64
	epoch    int64
	fresh    bool // the instance has no term yet, so it has served in no epoch
	acked    position
	free     int
	told     bool // it serves in this epoch, and its row does not say so yet
}

// run looks, takes new jobs, and looks again after each change that may
// concern the agent. Nothing is given to one that was removed meanwhile, or
// whose user was disabled.
func (w *poll) run(ctx context.Context, watch *watch, wait time.Duration) (hpcsera.WorkAnswer, error) {
	sub := w.s.cfg.Store.Feed().Subscribe(w.concerns())
	defer sub.Close()
	limited, cancel := w.s.until(ctx, wait)
	defer cancel()
	for {
		answer, ready, err := w.look(ctx)
		if err == nil && w.told {
			err = w.serves(ctx, answer.Epoch)
		}
		if err == nil && ready {
			answer, err = w.take(ctx)
		}
		if errors.Is(err, errPutBack) {
			err = w.s.begin(ctx, w.agent.ID, w.acked)
		}
		if err == nil {
			w.s.cfg.Sightings.Seen(w.agent.ID)
		}
		answer.Stopping = w.s.stopping()
		if err != nil || answer.Replay || len(answer.Orders) > 0 || answer.Stopping || limited.Err() != nil {
			return answer, err
		}
		watch.wait(limited, sub)
		if err := watch.check(ctx); err != nil {
			return hpcsera.WorkAnswer{}, err
		}
	}
}

// concerns accepts orders to the agent, and changes of jobs that nobody has
// and it may take.
func (w *poll) concerns() func(*store.Change) bool {
	agent, user, site := w.agent.ID, w.agent.User, w.agent.Site
	projects := map[string]bool{}
	for _, p := range w.agent.Projects {
		projects[p] = true
	}
	return func(c *store.Change) bool {
		if c.Agent != "" {
			return c.Agent == agent && c.Type == store.OrderEvent
		}
		return c.User == user && c.Site == site && projects[c.Project] && c.State == hpcsera.Pending
	}
}

// look reads what the agent has not acknowledged, and whether there are new
// jobs that it has room for.
func (w *poll) look(ctx context.Context) (answer hpcsera.WorkAnswer, ready bool, err error) {
	err = w.s.cfg.Store.Read(ctx, func(r store.Reader) error {
		var row *store.Agent
		var unacked []*store.Job
		if answer, row, unacked, err = w.begin(r); err != nil || answer.Replay {
			return err
		}
		if err := w.tell(r, &answer, unacked); err != nil {
			return err
		}
		ready, err = w.hasReady(r, row, unacked)
		return err
	})
	return answer, ready, store.Failed("look for work", err)
}

// serves notes that the agent serves in an epoch: what its journal knew of
// those before is in the database.
func (w *poll) serves(ctx context.Context, epoch int64) error {
	err := w.s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		row, err := tx.Agent(w.agent.ID)
		if err != nil {
			return err
		}
		if err := fence(row, w.instance, w.term); err != nil {
			return err
		}
		row.Epoch = epoch
		return tx.UpdateAgent(*row)
	})
	w.told = false
	return store.Failed("note the epoch of "+w.agent.ID, err)
}

// begin begins an answer: it holds the request against the agent's row and the
// deployment's life, and reads the jobs that the agent has not acknowledged,
// none for one that is asked for its replay.
func (w *poll) begin(r store.Reader) (answer hpcsera.WorkAnswer, row *store.Agent, unacked []*store.Job, err error) {
	if row, err = r.Agent(w.agent.ID); err == nil {
		err = fence(row, w.instance, w.term)
	}
	if err == nil {
		answer.Epoch, err = r.Epoch()
	}
	if err != nil {
		return answer, nil, nil, err
	}
	last, err := r.LastSeq()
	if err != nil {
		return answer, nil, nil, err
	}
	answer.Term, answer.AppliedSeq, answer.Orders, answer.Reads = row.Term, row.AppliedSeq, []hpcsera.Order{}, []hpcsera.Read{}
	if answer.Replay, err = w.sameLife(answer.Epoch, last); err == nil && !answer.Replay {
		w.told = row.Epoch != answer.Epoch
		unacked, err = r.Orders(w.agent.ID, w.acked.seq, allOrders)
	}
	return answer, row, unacked, err
}

// tell fills an answer with orders for jobs.
func (w *poll) tell(r store.Reader, answer *hpcsera.WorkAnswer, jobs []*store.Job) error {
	last, err := r.LastSeq()
	if err != nil {
		return err
	}
	var upto int64
	if answer.Orders, upto, err = w.s.orders(r, jobs, w.acked.seq); err != nil {
		return err
	}
	answer.Cursor = w.s.cursors.make(w.agent.ID, position{epoch: answer.Epoch, seq: upto, last: last, term: answer.Term})
	answer.StatusList = w.s.cfg.StatusList()
	return nil
}

// room is how many new jobs the agent can take. It does not count those it
// was given and has not acknowledged: their answer may be lost.
func (w *poll) room(unacked []*store.Job) int {
	n := min(w.free, maxOrders-len(unacked))
	for _, j := range unacked {
		if j.Delivered > w.acked.seq {
			n--
		}
	}
	return n
}

func (w *poll) hasReady(r store.Reader, row *store.Agent, unacked []*store.Job) (bool, error) {
	if w.room(unacked) <= 0 {
		return false, nil
	}
	if site, err := r.Site(row.Site); err != nil || site.Disabled {
		return false, err
	}
	projects, err := auth.Serves(r, row)
	if err != nil {
		return false, err
	}
	jobs, err := r.Ready(row.User, row.Site, projects, 1)
	return len(jobs) > 0, err
}

// take gives ready jobs to the agent and answers with them. From then on they
// are its own: no clock ever moves them.
func (w *poll) take(ctx context.Context) (answer hpcsera.WorkAnswer, err error) {
	now := w.s.now()
	err = w.s.cfg.Store.Write(ctx, func(tx store.Tx) error {
		ledger, err := store.NewLedger(tx, now)
		if err != nil {
			return err
		}
		var row *store.Agent
		var jobs []*store.Job
		if answer, row, jobs, err = w.begin(tx); err != nil || answer.Replay {
			return err
		}
		given, err := w.give(tx, ledger, row, w.room(jobs))
		if err != nil {
			return err
		}
		return w.tell(tx, &answer, append(jobs, given...))
	})
	return answer, store.Failed("give jobs to "+w.agent.ID, err)
}

// give delivers as many ready jobs as there is room for, and returns them.
func (w *poll) give(tx store.Tx, ledger *store.Ledger, row *store.Agent, room int) (given []*store.Job, err error) {
	if room <= 0 {
		return nil, nil
	}
	projects, err := auth.Serves(tx, row)
	if err != nil {
		return nil, err
	}
	jobs, err := tx.Ready(row.User, row.Site, projects, room)
	if err != nil {
		return nil, err
	}
	memo := covers{}
	for _, j := range jobs {
		covered, err := w.s.deliver(tx, ledger, row, j, memo)
		if err != nil {
			return nil, err
		}
		if covered {
			given = append(given, j)
		}
	}
	return given, ledger.Order(given...)
}

// deliver makes one job an agent's, which is still to be stored, or lets it wait
// for an approval when the one it had does not hold any more or is not for this
// agent's key.
func (s *Service) deliver(tx store.Tx, ledger *store.Ledger, agent *store.Agent, j *store.Job, memo covers) (covered bool, err error) {
	found, err := s.cover(tx, j, agent, ledger.At(), memo)
	if err != nil && hpcsera.CodeOf(err) != hpcsera.LimitExceeded {
		return false, err
	}
	if found == nil {
		j.Ready, j.Reason, j.Code.Approval = false, hpcsera.WaitingForApproval, ""
		j.Message = "No approval for the agent with the key " + agent.Thumbprint + " covers this job."
		return false, ledger.Update(j, store.StateEvent)
	}
	at := ledger.At()
	j.Agent, j.Ready, j.Reason, j.Message, j.Code.Approval, j.Times.Delivered = agent.ID, false, "", "", found.ID, &at
	return true, nil
}

// orders writes orders for jobs, oldest first, as many as fit, and returns the
// seq up to which the agent then knows everything.
//
// A job counts from its delivery while the agent has not acknowledged that, and
// from its last order afterwards. So an order that changes before its job was
// ever heard of does not hide that the agent still needs the spec.
func (s *Service) orders(r store.Reader, jobs []*store.Job, acked int64) (list []hpcsera.Order, upto int64, err error) {
	since := func(j *store.Job) int64 {
		if j.Delivered > acked {
			return j.Delivered
		}
		return j.OrderSeq
	}
	slices.SortFunc(jobs, func(a, b *store.Job) int { return cmp.Compare(since(a), since(b)) })
	list, upto = []hpcsera.Order{}, acked
	specs := &specs{parts: map[string]*hpcsera.CodePart{}, approvals: map[string]*store.Approval{}, told: map[[2]string]string{}}
	for _, j := range jobs {
		order := hpcsera.Order{JobID: j.ID, Attempt: j.Attempt, Revision: j.Revision, Desired: j.Desired}
		if j.Delivered > acked {
			if order.Spec, err = s.orderSpec(r, j, specs); err != nil {
				return nil, acked, err
			}
		}
		if len(list) == maxOrders || specs.size > maxOrderBytes && len(list) > 0 {
			return list, since(j) - 1, nil // the rest comes with the next poll
		}
		list, upto = append(list, order), max(upto, j.OrderSeq)
	}
	return list, upto, nil
}

// specs are what the jobs of one answer have in common.
type specs struct {
	parts     map[string]*hpcsera.CodePart // by project and digest
	approvals map[string]*store.Approval
	told      map[[2]string]string // the first job of an approval and a digest
	size      int                  // of all orders as the agent writes them down: each whole
}

// orderSpec writes all that an agent needs to judge and run a job.
func (s *Service) orderSpec(r store.Reader, j *store.Job, known *specs) (_ *hpcsera.OrderSpec, err error) {
	part, a := known.parts[j.Project+" "+j.Code.Digest], known.approvals[j.Code.Approval]
	if part == nil {
		if part, err = s.cfg.Code.Part(r, j.Project, j.Code.Digest); err != nil {
			return nil, err
		}
		known.parts[j.Project+" "+j.Code.Digest] = part
	}
	if a == nil {
		if a, err = r.Approval(j.Code.Approval); err != nil {
			return nil, err
		}
		known.approvals[j.Code.Approval] = a
	}
	spec := &hpcsera.OrderSpec{
		Name: j.Name, User: j.User, Project: j.Project, Client: j.Client, Submitter: j.User, Site: j.Site,
		Idempotency: j.Idempotency, Digest: part.Digest, Run: j.Run, Created: j.Times.Created,
	}
	known.size += len(part.Canonical) + len(a.Statement) + len(a.Signature) + 4096
	signed := [2]string{j.Code.Approval, part.Digest}
	if spec.Like = known.told[signed]; spec.Like == "" {
		known.told[signed] = j.ID
		spec.Manifest, spec.Statement, spec.Signature = part.Canonical, a.Statement, a.Signature
	}
	return spec, nil
}
