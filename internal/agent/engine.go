package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/failpoint"
)

// engine owns every job. All its fields belong to the goroutine of run; other
// goroutines reach them through do and call.
type engine struct {
	agent *Agent
	log   *slog.Logger
	in    chan func()
	quit  chan struct{} // closed when run has returned

	memory
	granted bool      // this instance has a term; before, nothing is decided and nothing is done
	heard   time.Time // when the newest request that the server answered was sent
	cut     bool      // contact was lost since
	safe    string    // the cursor as it is on disk
	failing error

	touched  map[string]*job
	entries  []journal.Entry // to be written
	acts     []func()        // to be begun after that
	cancels  []func()        // native ones, begun even when that fails
	workers  sync.WaitGroup
	gates    map[string]*gate  // by likeness
	coming   map[string]int    // jobs that are being prepared, by likeness
	removals slots             // of leftovers
	entered  map[*gate]bool    // gates that somebody came to
	unstaged map[string][]*job // to be prepared, by likeness; each is busy
}

func newEngine(a *Agent) *engine {
	return &engine{agent: a, log: a.log, in: make(chan func(), 256), quit: make(chan struct{}), memory: newMemory(), touched: map[string]*job{}, gates: map[string]*gate{}, coming: map[string]int{}, entered: map[*gate]bool{}, unstaged: map[string][]*job{}, removals: removals}
}

// take makes this instance the one that acts, with what recall found in the
// journal. The user has cancelled calledOff in a life of the server's that this
// agent had not heard of. again says that the answer was made for an older cursor.
func (e *engine) take(m memory, answer hpcsera.WorkAnswer, calledOff []string) (again bool) {
	again = m.retell || answer.Replay || m.cursor != e.cursor
	if m.retell {
		m.cursor = "" // the server is to say all that it wants
	}
	m.retell = false
	e.memory, e.safe, e.granted = m, m.cursor, true
	e.touched = map[string]*job{}
	for _, j := range e.jobs {
		e.touch(j)
	}
	// Seq and cursor stand in this file too, so that older ones can go.
	e.write(journal.Entry{Kind: journal.KindTerm, Term: answer.Term, Epoch: answer.Epoch, Seq: e.seq})
	e.write(journal.Entry{Kind: journal.KindCursor, Cursor: e.cursor})
	for _, id := range calledOff {
		if j := e.jobs[id]; j != nil {
			e.write(journal.Entry{Kind: journal.KindOrder, Order: &hpcsera.Order{JobID: id, Revision: j.order.Revision + 1, Desired: hpcsera.DesiredCancel}})
		}
	}
	for _, j := range e.jobs {
		if j.late {
			e.fact(j.last)
		}
	}
	return again
}

// trusted is how long this instance leads after it sent a request that the
// server answered. It is shorter than the silence after which the server gives
// the term to another one, and longer than a poll.
const trusted = 75 * time.Second

// leads says whether nobody else can have the term. An instance that does not
// lead decides nothing and tells nothing, whatever it sees: another one may
// have read the journal by now, would find another end of the same job, and
// give its facts the same numbers. What is to be seen stays in spool and batch
// system until somebody leads.
func (e *engine) leads(now time.Time) bool {
	// The monotonic clock may stand still while a machine sleeps; the other one
	// may be set back. Whichever says more counts.
	silent := max(now.Sub(e.heard), now.Round(0).Sub(e.heard.Round(0)))
	return e.granted && silent < trusted
}

// open says whether this instance may submit: it leads, and contact was not
// lost since.
func (e *engine) open(now time.Time) bool { return e.leads(now) && !e.cut }

// do hands fn to the engine's goroutine. After the engine has ended it is
// dropped: what it would have told is read again at the next start.
func (e *engine) do(fn func()) {
	select {
	case e.in <- fn:
	case <-e.quit:
	}
}

// call runs fn in the engine's goroutine and returns after what it caused is
// in the journal.
func (e *engine) call(ctx context.Context, fn func()) error {
	done := make(chan struct{})
	e.do(func() {
		fn()
		e.acts = append(e.acts, func() { close(done) })
	})
	return e.await(ctx, done)
}

// read runs fn, which changes nothing, in the engine's goroutine. It returns
// also while the journal cannot be written.
func (e *engine) read(ctx context.Context, fn func()) error {
	done := make(chan struct{})
	e.do(func() {
		fn()
		close(done)
	})
	return e.await(ctx, done)
}

func (e *engine) await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.quit:
		return errors.New("the agent has stopped")
	}
}

// run is the engine's goroutine. When ctx ends it waits for the workers, so
// that no answer of a batch system is lost, journals what they found, and
// returns.
func (e *engine) run(ctx context.Context) {
	defer close(e.quit)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	idle := make(chan struct{})
	stopping := ctx.Done()
	for {
		select {
		case fn := <-e.in:
			fn()
			e.drain()
		case now := <-tick.C:
			if stopping != nil { // else only what is under way is waited for
				e.wake(now)
			}
		case <-stopping:
			stopping = nil
			e.flush()
			e.acts = nil // not begun, so not done: decided again at the next start
			go func() { e.workers.Wait(); close(idle) }()
		case <-idle:
			e.drain()
			e.flush()
			return
		}
		e.advance(ctx)
		e.flush()
	}
}

// drain runs the closures that wait already, so that one fsync serves all.
func (e *engine) drain() {
	for range 1000 {
		select {
		case fn := <-e.in:
			fn()
		default:
			return
		}
	}
}

// wake touches the jobs whose next decision depends on the clock.
func (e *engine) wake(now time.Time) {
	if !e.granted {
		return
	}
	for _, j := range e.jobs {
		waits := !j.retryAt.IsZero() || !j.submitAt.IsZero() || !j.endedAt.IsZero() || j.order.Desired != hpcsera.DesiredRun || j.stopped || j.held || j.absent > 0
		if waits && !j.busy || j.last.State == "" {
			e.touch(j)
		}
	}
	e.searchLeftovers(now)
	e.forgetGates(now)
}

func (e *engine) touch(j *job) { e.touched[j.id] = j }

// write appends an entry for the next flush and folds it at once.
func (e *engine) write(entry journal.Entry) {
	entry.At = time.Now().UTC()
	e.entries = append(e.entries, entry)
	e.fold(entry)
}

// advance decides for every touched job and collects entries and acts. Without
// the lead the touched jobs wait.
func (e *engine) advance(ctx context.Context) {
	for e.leads(time.Now()) && len(e.touched)+len(e.entered) > 0 {
		batch := e.touched
		e.touched = map[string]*job{}
		for _, j := range batch {
			if e.jobs[j.id] != j {
				continue
			}
			if ctx.Err() == nil {
				now := time.Now()
				e.perform(ctx, j, j.decide(now, e.open(now), e.agent.patience))
			}
			e.tell(j)
		}
		e.prepare(ctx)
		for g := range e.entered {
			delete(e.entered, g)
			e.pass(ctx, g)
		}
	}
}

// perform starts an action. What takes time runs in a worker, begun only
// after the flush; its result comes back as a closure.
func (e *engine) perform(ctx context.Context, j *job, a action) {
	switch a.do {
	case doNothing:
	case doStage:
		j.busy = true
		e.unstaged[j.likeness()] = append(e.unstaged[j.likeness()], j)
	case doSubmit:
		e.submit(ctx, j)
	case doLook:
		e.begin(j, e.look(j))
	case doBlock:
		e.begin(j, e.block(j, outcomeEntry(j, a.outcome)))
	case doCancel:
		e.beginCancel(j, e.act(ctx, j, a.do))
	case doHold, doRelease:
		e.begin(j, e.act(ctx, j, a.do))
	case doRequeued:
		e.write(journal.Entry{Kind: journal.KindRequeued, Job: j.id, Tag: j.tag, N: j.start.N})
		e.touch(j)
	case doAdvance:
		e.close(j, &journal.Entry{Kind: journal.KindStep, Job: j.id, Step: j.step + 1, N: j.start.N})
	case doConclude:
		e.close(j, outcomeEntry(j, a.outcome))
	case doCollect:
		e.begin(j, e.collect(ctx, j))
	case doFinish:
		e.finish(j)
	}
}

// outcomeEntry is the entry for a job's outcome, nil without one.
func outcomeEntry(j *job, o *journal.Outcome) *journal.Entry {
	if o == nil {
		return nil
	}
	return &journal.Entry{Kind: journal.KindOutcome, Job: j.id, Outcome: o}
}

// close writes that a submission is over. What is said to have ended is not to
// run again, so the start that a requeue would take is taken first.
func (e *engine) close(j *job, then *journal.Entry) {
	if j.start != nil && j.spec.Run.Requeue && !j.start.End.Done() {
		e.begin(j, e.block(j, then))
		return
	}
	e.write(*then)
	e.touch(j)
}

// begin runs work in a worker after the next flush.
func (e *engine) begin(j *job, work func() func()) { e.beginAll([]*job{j}, work) }

// beginAll is begin for an act of several jobs.
func (e *engine) beginAll(jobs []*job, work func() func()) {
	for _, j := range jobs {
		j.busy = true
	}
	e.acts = append(e.acts, func() { e.workAll(jobs, work) })
}

// beginCancel runs the work of a native cancel in a worker after the next
// flush, whether that succeeds or not: a full disk is a reason to cancel what
// fills it. Nothing of it need be remembered, since the server repeats an order
// until it is acknowledged, and cancelling twice is no harm.
func (e *engine) beginCancel(j *job, work func() func()) {
	j.busy = true
	e.cancels = append(e.cancels, func() { e.work(j, work) })
}

// work runs work in a worker at once, for what can be done twice or for
// nothing. work must touch neither the engine nor what other closures change
// of the job; the closure it returns may.
func (e *engine) work(j *job, work func() func()) { e.workAll([]*job{j}, work) }

func (e *engine) workAll(jobs []*job, work func() func()) {
	for _, j := range jobs {
		j.busy, j.retryAt = true, time.Time{}
	}
	e.workers.Add(1)
	go func() {
		defer e.workers.Done()
		result := work()
		e.do(func() {
			for _, j := range jobs {
				j.busy = false
				e.touch(j)
			}
			if result != nil {
				result()
			}
		})
	}()
}

// tell makes a fact of what is new about a job.
func (e *engine) tell(j *job) {
	if j.final || j.outcome != nil && j.collected != nil {
		return
	}
	if r := j.view(); !j.passesBy(r, time.Now()) {
		e.tellThat(j, r)
	}
}

// tellThat makes a fact of r unless it says nothing new, or cannot follow.
func (e *engine) tellThat(j *job, r hpcsera.Report) {
	if !e.leads(time.Now()) {
		return
	}
	if r.State == hpcsera.Running && j.last.State != hpcsera.Running && j.start != nil {
		r.At = j.start.At
	}
	if differs(r, j.last) && hpcsera.CanFollow(position(j.last), position(r), j.spec.Run.Requeue) {
		e.fact(r)
	}
}

func position(r hpcsera.Report) hpcsera.Position {
	p := hpcsera.Position{State: r.State, Step: r.Step, Attempt: max(r.Attempt, 1)}
	if p.State == "" {
		p.State = hpcsera.Pending
	}
	return p
}

// fact gives a report its seq and writes it.
func (e *engine) fact(r hpcsera.Report) { e.factOf(r, time.Time{}) }

// factOf is fact for a job that is over. created is that of the order which it
// answers.
func (e *engine) factOf(r hpcsera.Report, created time.Time) {
	e.seq++
	r.Seq, r.Directory = e.seq, e.agent.jobDir(r.JobID)
	if r.At.IsZero() {
		r.At = time.Now().UTC()
	}
	e.write(journal.Entry{Kind: journal.KindFact, Fact: &r, Created: created})
	e.acts = append(e.acts, e.agent.report.wake)
}

// finish writes the final fact: the last thing ever said of a job.
func (e *engine) finish(j *job) {
	o, c := j.outcome, j.collected
	r := j.view()
	r.State, r.Reason, r.Message, r.At, r.Exit = o.State, o.Reason, o.Message, o.Ended, o.Exit
	r.Result, r.Artifacts, r.Warning, r.Estimated = c.result, c.artifacts, c.warning, nil
	if o.Nodes != "" {
		r.Nodes = o.Nodes
	}
	if c.failed != "" && o.State == hpcsera.Succeeded {
		r.State, r.Reason, r.Message = hpcsera.Failed, hpcsera.StageOutFailed, c.failed
	}
	e.fact(r)
}

// flush writes the entries in one fsync and then begins the acts. While the
// journal cannot be written (a full disk, a quota) nothing but cancels is begun
// and no new work is taken; it is tried again until it succeeds or the agent
// stops.
func (e *engine) flush() {
	defer func() {
		cancels := e.cancels
		e.cancels = nil
		for _, act := range cancels {
			act()
		}
	}()
	if len(e.entries) > 0 {
		hitEach("agent.before-journal", e.entries)
		if err := e.agent.journal.Append(e.entries...); err != nil {
			if e.failing == nil {
				e.log.Error("journal cannot be written; nothing is started until it can", "error", err)
			}
			e.failing = err
			return
		}
		hitEach("agent.after-journal", e.entries)
		e.entries, e.safe = nil, e.cursor // a thousand orders are some MiB
	}
	if e.failing != nil {
		e.log.Info("journal can be written again")
		e.failing = nil
	}
	acts := e.acts
	e.acts = nil
	for _, act := range acts {
		act()
	}
}

// hitEach passes a failpoint with each entry, so that a kill test can name the
// one that it means.
func hitEach(point string, entries []journal.Entry) {
	for i := range entries {
		failpoint.Hit(point, string(entries[i].Kind))
	}
}

// free is how many new jobs the agent can take.
func (e *engine) free() int {
	if e.failing != nil || e.agent.spoolFailing.Load() {
		return 0
	}
	return max(0, e.agent.config.MaxJobs-len(e.jobs))
}
