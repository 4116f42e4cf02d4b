package agent

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/hpcsera/hpcsera"
	"github.com/hpcsera/hpcsera/internal/agent/journal"
	"github.com/hpcsera/hpcsera/internal/agent/spool"
	"github.com/hpcsera/hpcsera/internal/failpoint"
	"github.com/hpcsera/hpcsera/internal/scheduler"
)

// submit holds the job once more against signature, withdrawals and the site's
// policy, since it may have been held, or at earlier steps, for days; then it
// hands it in. One that was verified just now is verified with its submission
// only.
func (e *engine) submit(ctx context.Context, j *job) {
	if time.Since(j.verified) < time.Second {
		e.enter(ctx, j)
		return
	}
	e.work(j, func() func() {
		_, err := e.agent.verify(*j.spec)
		return func() {
			now := time.Now()
			switch {
			case ctx.Err() != nil: // the agent stops; decided again at the next start
			case err != nil:
				e.stageFailed(j, err)
			case j.decide(now, e.open(now), e.agent.patience).do == doSubmit: // still
				e.enter(ctx, j)
			}
		}
	})
}

// handIn journals the intent and then calls the submit command, once for all
// members. Three answers are possible: ids; a certain refusal; anything else,
// which leaves the intent standing and is settled by the start claims.
func (e *engine) handIn(ctx context.Context, members []*job) {
	tag := hpcsera.NewID("s")
	for i, j := range members {
		e.write(journal.Entry{Kind: journal.KindSubmit, Job: j.id, Step: j.step, N: j.n, Tag: tag, Member: i})
		j.looked = time.Now() // a new tag on a free start: nobody owns it yet
	}
	e.beginAll(members, func() func() {
		refs, errs := e.agent.handOver(ctx, members, tag)
		failpoint.Hit("agent.after-submit")
		return func() { e.handedOver(members, tag, refs, errs) }
	})
}

// handOver writes the submission and runs the submit command. A command that
// runs finishes even when the agent is told to stop: its answer is worth
// waiting for. There is an error for each member, or none at all.
func (a *Agent) handOver(ctx context.Context, members []*job, tag string) ([]scheduler.Ref, []error) {
	all := func(err error) []error { return slices.Repeat([]error{err}, len(members)) }
	select {
	case a.submitSlots <- struct{}{}:
		defer func() { <-a.submitSlots }()
	case <-ctx.Done():
		return nil, all(&notTried{ctx.Err()})
	}
	open := false
	if err := a.engine.read(ctx, func() { open = a.engine.open(time.Now()) }); err != nil || !open {
		return nil, all(&notTried{errors.New("the server did not answer lately")}) // it waited for long
	}
	if errs := a.verifyAll(members); errs != nil { // likewise
		return nil, errs
	}
	if err := spool.Mark(a.config.WorkRoot); err != nil { // a full disk is no reason to let jobs fail on the nodes
		return nil, all(&notTried{err})
	}
	sub, err := a.submission(members, tag)
	if err != nil {
		return nil, all(&notTried{err})
	}
	failpoint.Hit("agent.before-submit")
	refs, err := a.system(members[0].current()).Submit(context.WithoutCancel(ctx), sub)
	if err != nil {
		return nil, all(err)
	}
	return refs, nil
}

// submission lays out what the wrappers of these members read, and returns the
// call that submits them. They are like one another, so the first speaks for
// all.
func (a *Agent) submission(members []*job, tag string) (sub scheduler.Submission, err error) {
	j := members[0]
	s := j.current()
	system := a.system(s)
	env := system.Environment()
	paper := spool.Submission{Tag: tag, IDVariables: env.ID, ClusterVariable: env.Cluster, DirectoryVariables: env.Directory, Pass: env.Pass, Drop: env.Drop}
	tasks, errs := make([]spool.Task, len(members)), make([]error, len(members))
	inParts(len(members), func(from, to int) {
		for i := from; i < to; i++ {
			tasks[i], errs[i] = a.task(members[i])
		}
	})
	for _, err := range errs {
		if err != nil {
			return sub, err
		}
	}
	for _, j := range members {
		paper.Members = append(paper.Members, spool.Member{Job: j.id, Step: j.step, N: j.n, Attempt: j.attempt})
	}
	if len(members) > 1 {
		paper.IndexVariable, paper.FirstIndex, paper.MemberID = env.Index, env.First, env.Member
	}
	script, output, err := a.spool.PutSubmission(paper, tasks, a.binary)
	if err != nil {
		return sub, err
	}
	sub = scheduler.Submission{
		Tag: tag, Script: script, Directory: filepath.Dir(script), Output: output, Comment: j.spec.Name, Size: len(members),
		Requeue: j.spec.Run.Requeue, Resources: j.spec.Run.Resources, Attributes: j.spec.Run.Attributes,
		Custom: customAttributes(j.verdict.Manifest.CustomAttributes, system.System()),
	}
	if s.Resources != nil {
		sub.Resources = *s.Resources
	}
	if s.Type == hpcsera.LoginStep {
		sub.Resources, sub.Attributes, sub.Requeue, sub.Custom = hpcsera.Resources{}, hpcsera.Attributes{}, false, nil
	}
	return sub, nil
}

// notTried marks an error of before the submit command: nothing is queued.
type notTried struct{ error }

func (e *engine) handedOver(members []*job, tag string, refs []scheduler.Ref, errs []error) {
	if errs != nil {
		var said *scheduler.Refused
		if errors.As(errs[0], &said) && !said.Throttled {
			e.refused(members, tag, said)
			return
		}
	}
	g, now := e.gates[members[0].likeness()], time.Now()
	if g != nil {
		g.learn(now, len(members), errs)
	}
	for i, j := range members {
		switch {
		case j.tag != tag: // another instance's submission started the job
			e.leave(place{tag, i}, leftover{since: time.Now(), login: j.current().Type == hpcsera.LoginStep})
		case errs == nil:
			e.queued(j, tag, refs[i])
		default:
			e.notHandedOver(j, tag, errs[i])
			if g != nil && now.Before(g.shut) {
				j.postpone(g.shut, g.said)
			}
		}
	}
}

// queued notes that the batch system took the job.
func (e *engine) queued(j *job, tag string, ref scheduler.Ref) {
	now := time.Now().UTC()
	native := &hpcsera.Native{System: e.agent.system(j.current()).System(), Cluster: ref.Cluster, ID: ref.ID, Submitted: &now}
	e.write(journal.Entry{Kind: journal.KindSubmitted, Job: j.id, Step: j.step, N: j.n, Tag: tag, Member: j.member, Native: native})
	e.log.Info("submitted", "job", j.id, "submission", tag, "native", ref.ID)
	e.agent.witness.start(j.id, ref.ID, j.judged())
	j.tries, j.trouble, j.waiting = 0, "", ""
	if j.step == len(j.plan)-1 {
		j.verdict = nil // a thousand of them are a MiB; a submission that is lost is judged anew
	}
	e.agent.asker.soon(2 * time.Second)
}

// notHandedOver notes that the batch system certainly did not take the job
// now, or that nobody knows.
func (e *engine) notHandedOver(j *job, tag string, err error) {
	var refused *scheduler.Refused
	var early *notTried
	if errors.As(err, &refused) || errors.As(err, &early) {
		e.write(journal.Entry{Kind: journal.KindRefused, Job: j.id, Step: j.step, N: j.n, Tag: tag})
	} else {
		e.log.Warn("submit command gave no clear answer", "job", j.id, "submission", tag, "error", err)
	}
	e.again(j, err) // where nobody knows, the claim is settled first
}

// again makes a job's next submission wait, longer each time.
func (e *engine) again(j *job, err error) {
	j.tries++
	j.postpone(time.Now().Add(retryDelay(j.tries, 2*time.Second, 5*time.Minute)), err)
}

// postpone puts a job's next submission off, and says why.
func (j *job) postpone(until time.Time, err error) {
	j.submitAt, j.trouble, j.waiting = until, err.Error(), ""
	var refused *scheduler.Refused
	if errors.As(err, &refused) && refused.Throttled {
		j.waiting = hpcsera.Throttled
		j.trouble += " (next attempt at " + until.UTC().Format(time.RFC3339) + ")"
	}
}

// customAttributes keeps those of one batch system, without its prefix.
func customAttributes(all map[string]string, system string) map[string]string {
	own := map[string]string{}
	prefix := system + "."
	for key, value := range all {
		if len(key) > len(prefix) && key[:len(prefix)] == prefix {
			own[key[len(prefix):]] = value
		}
	}
	return own
}
